"""Tasks beside chat, conversations and datasets, through the command: what a target is asked, and what is kept."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from heylook_llm.bench.sample import Sample
from tests.bench.recording import Recording, recording
from tests.bench.test_runs import LONG, bench, samples_of, store_of
from tests.commands_at_work import Home
from tests.serving import Running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def target() -> Iterator[Recording]:
    with recording() as it:
        yield it


def asked_by(home: Home, target: Recording, *options: str, status: int = 0) -> list[dict[str, Any]]:
    """The bodies of one run's requests."""
    before = len(target.asked)
    bench(home, "run", "--target", target.url, "--model", "m", "--warmup", "0", *options, status=status)
    return [one.body for one in target.asked[before:]]


def report_of(home: Home) -> dict[str, Any]:
    found = home.run("bench", "report", "last", "--format", "json")
    assert found.returncode == 0, found.stderr
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def test_the_next_turn_carries_the_real_former_answers(home: Home, target: Recording) -> None:
    bodies = asked_by(home, target, "--scenario", "T(3)*D(12,2)", "--requests", "8", "--concurrency", "2")
    assert len(bodies) == 8
    talks: dict[str, list[list[dict[str, str]]]] = {}
    for body in bodies:
        talks.setdefault(body["messages"][0]["content"], []).append(body["messages"])
    assert sorted(len(turns) for turns in talks.values()) == [2, 3, 3], "the last conversation ends with the requests"
    for turns in talks.values():
        for place, messages in enumerate(turns):
            assert [message["role"] for message in messages] == ["user", "assistant"] * place + ["user"]
            assert messages[: 2 * place - 1] == turns[place - 1] if place else True
            assert all(len(message["content"].split()) == 12 for message in messages[::2])
            assert all(message["content"].startswith("answer") for message in messages[1::2])
    samples = samples_of(home)
    answers = [json.loads(one.extra_json or "{}") for one in samples]
    assert [one["turn"] for one in answers] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [one.in_planned for one in samples] == [12, 26, 40, 12, 26, 40, 12, 26]
    assert all(one.in_usage == (one.in_planned or 0) + 3 for one in samples)


@LONG
def test_conversations_of_an_open_loop_begin_when_planned_and_go_on_at_once(home: Home, target: Recording) -> None:
    options = ("--rate", "20", "--arrival", "constant", "--scenario", "T(2)*D(5,2)", "--requests", "6")
    assert len(asked_by(home, target, *options)) == 6
    samples = samples_of(home)
    first, later = samples[::2], samples[1::2]
    dues = [one.t_due or 0 for one in first]
    assert [due - dues[0] for due in dues] == [0, 50_000_000, 100_000_000]
    assert all((b.t_start or 0) >= (a.t_end or 0) for a, b in zip(first, later, strict=True))


def test_vectors_and_scores_have_no_tokens_and_say_so(home: Home, target: Recording) -> None:
    (embedded, *_) = asked_by(home, target, "--scenario", "E(20,3)", "--requests", "2")
    assert sorted(embedded) == ["input", "model"]
    assert [len(text.split()) for text in embedded["input"]] == [20, 20, 20]
    assert len(set(embedded["input"])) == 3
    assert {one.outcome for one in samples_of(home)} == {"ok"}
    (row,) = report_of(home)["rows"]
    assert (row["task"], row["measures"]["e2e"]["n"], row["tokens"]["in_usage"]) == ("embeddings", 2, 120)
    assert set(row["measures"]).isdisjoint({"ttft", "tpot", "itl", "icl", "stall", "speed"})
    for name in ("ttft", "tpot", "itl", "icl", "stall", "speed", "output"):
        assert row["absent"][name] == "an answer of embeddings comes whole and holds no tokens"
    assert row["absent"]["goodput"] == "the run states no limits (slo)"
    assert row["rates"]["input"] > 0


@LONG
def test_an_answer_with_too_few_results_is_no_answer(home: Home, target: Recording) -> None:
    (ranked,) = asked_by(home, target, "--scenario", "R(20,5,4)", "--requests", "1")
    assert (len(ranked["documents"]), len(ranked["query"].split())) == (4, 5)
    options = ("--model", "forgetful", "--scenario", "R(20,5,4)", "--requests", "2")
    bench(home, "run", "--target", target.url, *options, status=4)
    assert {(one.outcome, one.error_class) for one in samples_of(home)} == {("error", "results")}
    bench(home, "resume", status=4)  # what failed isn't sent again, and stays failed
    assert [one.phase for one in samples_of(home)].count("measure") == 2


@LONG
def test_images_are_of_their_size_and_like_no_other(home: Home, target: Recording) -> None:
    bodies = asked_by(home, target, "--scenario", "I(40,30,2)/(10,2)", "--requests", "2")
    images = []
    for body in bodies:
        (message,) = body["messages"]
        text, *parts = message["content"]
        assert (len(text["text"].split()), len(parts)) == (10, 2)
        images += [base64.b64decode(part["image_url"]["url"].partition("base64,")[2]) for part in parts]
    assert len(set(images)) == 4
    for image in images:
        assert image.startswith(b"\x89PNG")
        assert [int.from_bytes(image[place : place + 4]) for place in (16, 20)] == [40, 30]


@LONG
def test_a_file_of_the_users_is_sent_as_it_stands(home: Home, target: Recording) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": "one"}, {"from": "gpt", "value": "not this"},
                           {"from": "human", "value": "two"}]},
        {"prompt": "three", "max_tokens": 7},
    ]  # fmt: skip
    path = home.folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    bodies = asked_by(home, target, "--dataset", str(path), "--requests", "3")
    said = {body["messages"][-1]["content"]: body for body in bodies}
    assert set(said) == {"one", "two", "three"}
    assert said["two"]["messages"][1]["content"].startswith("answer")
    assert (said["three"]["max_tokens"], "max_tokens" in said["one"]) == (7, False)
    assert {one.in_planned for one in samples_of(home)} == {None}
    path.write_text("{}")
    assert home.run("bench", "resume", "last").returncode == 2, "another file than that of the run"


@LONG
def test_lengths_of_the_engine_are_its_own(home: Home, target: Recording) -> None:
    bodies = asked_by(home, target, "--scenario", "D(30,2)", "--requests", "3", "--count", "engine")
    assert len(bodies[0]["messages"][0]["content"].split()) == 16, "it is asked once what a template adds"
    assert {len(body["messages"][0]["content"].split()) for body in bodies[1:]} == {27}
    assert {(one.in_planned, one.in_usage) for one in samples_of(home)} == {(30, 30)}


@LONG
def test_a_cool_down_keeps_the_last_measured_ones_company(home: Home, target: Recording) -> None:
    asked_by(home, target, "--requests", "4", "--cooldown", "3", "--scenario", "D(5,2)")
    phases = [one.phase for one in samples_of(home)]
    assert phases == ["measure"] * 4 + ["cooldown"] * 3
    asked_by(home, target, "--duration", "0.3", "--cooldown", "2", "--scenario", "D(5,2)", "--concurrency", "2")
    samples = samples_of(home)
    assert [one.phase for one in samples].count("cooldown") == 2
    assert _is_last(samples, "cooldown")


def _is_last(samples: list[Sample], phase: str) -> bool:
    theirs = [one.t_start or 0 for one in samples if one.phase == phase]
    return min(theirs) >= max(one.t_start or 0 for one in samples if one.phase != phase)


@LONG
def test_what_does_not_fit_the_models_context_is_skipped(home: Home, fake_server: Running) -> None:
    options = ("--scenario", "D(2000,100)", "--scenario", "D(20,4)", "--requests", "2", "--model", "fake")
    told = bench(home, "run", "--target", fake_server.url, *options)
    assert [cell["state"] for cell in told["cells"]] == ["skipped", "done"]
    assert told["cells"][0]["flags"] == ["beyond-context"]
    assert "takes 2100 tokens, fake holds 2048" in told["warnings"][0]
    row = report_of(home)["rows"][0]
    assert row["absent"]["ttft"] == "the cell was skipped: its requests are longer than the model's context"


@LONG
def test_each_request_of_a_cold_cell_waits_for_its_load(home: Home, fake_server: Running) -> None:
    options = ("--scenario", "D(20,4)", "--requests", "3", "--model", "fake", "--cache", "cold")
    bench(home, "run", "--target", fake_server.url, *options)
    (row,) = report_of(home)["rows"]
    assert (row["counts"]["ok"], row["counts"]["ready"], row["measures"]["ttft"]["n"]) == (3, 0, 3)
    assert row["where"]["load"] > 1
    assert "cold" in {remark["code"] for remark in row["remarks"]}


@LONG
def test_a_sweep_goes_from_one_client_to_what_can_be_done(home: Home, fake_server: Running) -> None:
    options = ("--model", "slow", "--sweep", "4", "--requests", "6", "--scenario", "D(20,10)", "--warmup", "1")
    told = bench(home, "run", "--target", fake_server.url, *options)
    loads = [(cell["load"], cell["level"]) for cell in told["cells"]]
    assert loads[:2] == [("closed", 1), ("closed", 32)]
    assert [load for load, _ in loads[2:]] == ["poisson", "poisson"]
    assert 0 < loads[2][1] < loads[3][1]
    assert [cell["outcomes"] for cell in told["cells"]] == [{"ok": 6}] * 4


@LONG
@pytest.mark.parametrize(("parallel", "senders"), [("all", 2), ("none", 1)])
def test_targets_are_measured_side_by_side_or_in_turn(
    home: Home, target: Recording, parallel: str, senders: int
) -> None:
    with recording() as other:
        options = ("--target", other.url, "--requests", "30", "--scenario", "D(5,2)", "--parallel", parallel)
        asked_by(home, target, *options)
    with store_of(home) as store:
        cells = store.cells(store.run("last").id)
        sent = {one.sender for cell in cells for one in store.samples(cell.run_id, cell.id)}
    assert len(sent) == senders
    spans = [(cell.window_start or 0, cell.window_end or 0) for cell in cells]
    overlap = min(end for _, end in spans) - max(start for start, _ in spans)
    assert (overlap > 0) == (senders == 2)
