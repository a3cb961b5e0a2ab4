"""Vectors of the mlx provider: on random models of several architectures, and on the bundled one beside llama.cpp's."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heylook_llm import core, tiny
from heylook_llm.errors import LoadFailed, UnsupportedFeature

pytest.importorskip("mlx_lm")

from heylook_llm.worker.providers.mlx import Mlx, open_model
from heylook_llm.worker.providers.mlx_embedding import Embeddings
from tests.worker import random_mlx
from tests.worker.client import Client, chat

pytestmark = pytest.mark.integration

TINY = Path(tiny.__file__).parent
SHAPES = ["llama", "sliding", "recurrent"]


def opened(folder: Path, **options: Any) -> Mlx:
    return open_model(core.Load("m", "mlx", str(folder), {"n_ctx": 512, "n_parallel": 2, **options}), lambda _: None)


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A provider over random weights."""
    return opened(random_mlx.write(tmp_path_factory.mktemp("mlx") / request.param, request.param))


def tokens(count: int, first: int = 1) -> list[int]:
    return [(first + 37 * at) % 1000 for at in range(count)]


def test_states_are_what_the_head_makes_logits_of(model: Mlx) -> None:
    mx: Any = importlib.import_module("mlx.core")
    text = tokens(30)
    [states] = model.embed([text])
    weights = dict(model._model.parameters())
    body: Any = weights.get("model", weights.get("backbone"))
    head: Any = weights.get("lm_head") or body.get("embed_tokens") or body["embeddings"]
    table = np.array(head["weight"].astype(mx.float32))
    logits = np.array(model._model(mx.array([text])).astype(mx.float32))[0]
    assert np.allclose(states @ table.T, logits, atol=1e-2)


def test_a_text_in_parts_and_padded_beside_others_is_the_same_text(model: Mlx) -> None:
    text = tokens(90)
    [whole] = model.embed([text])
    parts = [model.embed([text[at : at + 32]], at, 90)[0] for at in range(0, 90, 32)]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-3)
    together = Embeddings(model._model, 64, together=True).embed([text, tokens(60, 5), tokens(80, 9)], 0)
    assert np.allclose(together[0], whole, atol=1e-3)
    assert np.allclose(together[1], model.embed([tokens(60, 5)])[0], atol=1e-3)
    assert [len(rows) for rows in together] == [90, 60, 80]


def test_the_bundled_models_vectors_are_near_on_both_engines() -> None:
    pytest.importorskip("llama_cpp")
    texts = tuple(map(core.TextPrompt, ["Paris is the capital of France.", "A cat.", "1, 2, 3, 4, 5"]))
    found = []
    for provider, path in (("mlx", TINY / "heylook-tiny-mlx"), ("llama_cpp", TINY / "heylook-tiny.gguf")):
        with Client(provider, str(path), n_ctx=512) as one:
            answer = one.call(core.Embed(texts))
        assert isinstance(answer, core.Vectors)
        found.append([np.frombuffer(vector, dtype="<f4") for vector in answer.vectors])
    for one_vector, other in zip(*found, strict=True):
        assert one_vector @ other > 0.99
    assert found[0][0] @ found[0][2] < 0.99


def test_a_folder_of_sentence_transformers_only_embeds(tmp_path: Path) -> None:
    folder = random_mlx.write(tmp_path / "embedder", "llama")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    with Client("mlx", str(folder), n_ctx=256) as one:
        assert one.info is not None
        assert (one.info.capabilities, one.info.pooling) == (("embedding",), "last")
        answer = one.call(core.Embed((core.TextPrompt("hello"),), normalize=False))
        assert isinstance(answer, core.Vectors)
        ids = one.call(core.Tokenize(core.TextPrompt("hello")))
        assert isinstance(ids, core.Tokens)
        with pytest.raises(UnsupportedFeature, match="does not support chat"):
            one.run(chat("Hi"))
        with pytest.raises(UnsupportedFeature, match="does not support rerank"):
            one.call(core.Rerank("q", ("d",)))
    [rows] = opened(folder).embed([ids.tokens])
    assert np.allclose(np.frombuffer(answer.vectors[0], dtype="<f4"), rows[-1], atol=1e-3)


def test_an_encoder_that_mlx_lm_does_not_know_is_refused(tmp_path: Path) -> None:
    folder = random_mlx.write(tmp_path / "bert", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(LoadFailed, match="bert"):
        opened(folder)
