"""Every task against our own server, as a user measures it: what the model can't do is said, what it can is paired."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.test_runs import LONG, bench, samples_of
from tests.bench.test_tasks import report_of
from tests.commands_at_work import Home
from tests.serving import Running, running

pytestmark = [LONG, pytest.mark.integration, pytest.mark.timeout(300)]

TINY = Path(__file__).parents[2] / "src" / "heylook_llm" / "tiny"
MODELS = f"""
models:
  - {{id: fake, provider: fake}}
  - {{id: ranks, provider: fake, config: {{pooling: rank}}}}
  - {{id: embeds, provider: fake, config: {{pooling: mean}}}}
  - {{id: thinks, provider: llama_cpp, config: {{model_path: {TINY / "heylook-tiny.gguf"}}}}}
  - id: sees
    provider: llama_cpp
    config:
      model_path: {TINY / "heylook-tiny-vision.gguf"}
      mmproj_path: {TINY / "heylook-tiny-vision-mmproj.gguf"}
      n_ctx: 4096
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(MODELS, tmp_path_factory.mktemp("tasks")) as it:
        yield it


def measured(home: Home, server: Running, *options: str) -> dict[str, Any]:
    """The only row of a run of four requests."""
    bench(home, "run", "--target", server.url, *options, "--requests", "4")
    (row,) = report_of(home)["rows"]
    assert (row["counts"]["ok"], row["paired"]) == (4, 4)
    found: dict[str, Any] = row
    return found


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_vectors(home: Home, server: Running, kind: str) -> None:
    row = measured(home, server, "--model", "embeds", "--scenario", "E(30,4)", "--kind", kind)
    assert row["task"] == "embeddings"
    tokens = row["tokens"]
    assert (tokens["in_planned"], tokens["in_usage"] or tokens["in_engine"]) == (480, 480 + 16), (
        "one more for each text"
    )
    assert row["tokens"]["template_overhead"]["least"] == row["tokens"]["template_overhead"]["most"]
    assert set(row["where"]) >= {"parse", "prefill", "flush"}


def test_scores(home: Home, server: Running) -> None:
    row = measured(home, server, "--model", "ranks", "--task", "rerank")
    assert (row["task"], row["scenario"]) == ("rerank", "R(256,32,8)")
    assert row["measures"]["e2e"]["n"] == 4
    assert set(row["where"]) >= {"parse", "prefill", "flush"}


def test_images_beside_a_text(home: Home, server: Running) -> None:
    row = measured(home, server, "--model", "sees", "--scenario", "I(64,64,2)/(10,5)")
    assert (row["task"], row["tokens"]["out_usage"]) == ("image-text", 20)
    assert "ttft" in row["measures"]
    samples = [one for one in samples_of(home) if one.phase == "measure"]
    assert all((one.in_usage or 0) > (one.in_planned or 0) for one in samples), "images are tokens, too"


def test_conversations(home: Home, server: Running) -> None:
    row = measured(home, server, "--model", "fake", "--scenario", "T(2)*D(40,8)")
    assert [turn["turn"] for turn in row["turns"]] == [1, 2]
    assert row["turns"][1]["cached"] > row["turns"][0]["cached"], "what was said before is known"


def test_what_a_model_cannot_do_is_said_in_its_servers_words(home: Home, server: Running) -> None:
    done = home.run("bench", "run", "--no-calibrate", "--target", server.url, "--model", "fake", "--task", "rerank",
                    "--requests", "2")  # fmt: skip
    assert done.returncode == 4
    assert "does not support rerank" in done.stdout
    told = json.loads(home.run("bench", "show", "--json").stdout)
    assert told["cells"][0]["state"] == "failed"


def test_every_token_of_answers_that_think_has_its_gap(home: Home, server: Running) -> None:
    """Their tags are tokens without a text, so there are fewer chunks than tokens."""
    row = measured(home, server, "--model", "thinks", "--scenario", "D(100,50)")
    assert row["tokens"]["unmapped"] == 0
