"""Vectors and scores of llama.cpp on random BERTs and a random decoder, against numpy and torch."""

import contextlib
import ctypes
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from benchmarks import random_bert, random_model
from heylook_llm import core
from heylook_llm.catalog import gguf_header
from heylook_llm.config import ModelSpec
from heylook_llm.errors import ContextLengthExceeded, InsufficientMemory, UnsupportedFeature
from heylook_llm.server import measure
from heylook_llm.worker.providers import llama_cpp_embedding
from heylook_llm.worker.providers.base import Floats
from heylook_llm.worker.providers.llama_cpp import LlamaCpp, open_model
from heylook_llm.worker.providers.llama_cpp_load import Opening
from tests.worker import bert_reference
from tests.worker.client import Client, chat

pytestmark = pytest.mark.integration

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent.parent / "golden" / "bert_vectors.json").read_text())
SHAPE = random_bert.SHAPES["tiny"]
WEIGHTS = random_bert.weights(SHAPE)
TEXTS = [entry["text"] for entry in GOLDEN["texts"]]
WHOLE: dict[str, Any] = {"type_k": "f32", "type_v": "f32", "flash_attn": False}


def cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def floats(vector: bytes) -> Floats:
    return np.frombuffer(vector, dtype="<f4")


def embed(client: Client, *texts: str, **asked: Any) -> list[Floats]:
    answer = client.call(core.Embed(tuple(map(core.TextPrompt, texts)), **asked))
    assert isinstance(answer, core.Vectors)
    return [floats(vector) for vector in answer.vectors]


def rerank(client: Client, query: str, *documents: str) -> core.Scores:
    answer = client.call(core.Rerank(query, documents))
    assert isinstance(answer, core.Scores)
    return answer


def tokens_of(client: Client, text: str) -> tuple[int, ...]:
    answer = client.call(core.Tokenize(core.TextPrompt(text)))
    assert isinstance(answer, core.Tokens)
    return answer.tokens


def bert(folder: Path, pooling: random_bert.Pooling, *, whole: bool = False) -> Path:
    path = folder / f"{pooling}-{whole}.gguf"
    random_bert.write(path, SHAPE, pooling, whole=whole)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("berts")


@pytest.fixture(scope="module")
def meaning(folder: Path) -> Iterator[Client]:
    """A worker with a BERT in F16 that pools to the mean."""
    with Client("llama_cpp", str(bert(folder, "mean"))) as one:
        yield one


@pytest.fixture(scope="module")
def ranking(folder: Path) -> Iterator[Client]:
    """A worker with a BERT in F16 that ranks."""
    with Client("llama_cpp", str(bert(folder, "rank"))) as one:
        yield one


# ---- against torch ---------------------------------------------------------------------------------------------------


def test_the_tokens_are_those_of_the_tokenizer_that_torch_had(meaning: Client, ranking: Client) -> None:
    for entry in GOLDEN["texts"]:
        assert list(tokens_of(meaning, entry["text"])) == entry["tokens"]
    lengths = [len(entry["tokens"]) for entry in GOLDEN["documents"]]
    documents = [entry["text"] for entry in GOLDEN["documents"]]
    assert list(rerank(ranking, GOLDEN["query"], *documents).prompt_tokens) == lengths


def test_the_mean_is_torchs(meaning: Client) -> None:
    for found, expected in zip(embed(meaning, *TEXTS), GOLDEN["mean"], strict=True):
        assert cosine(found, np.array(expected, dtype=np.float32)) > 0.999


def test_the_first_tokens_state_is_torchs(folder: Path) -> None:
    with Client("llama_cpp", str(bert(folder, "cls"))) as one:
        for found, expected in zip(embed(one, *TEXTS), GOLDEN["cls"], strict=True):
            assert cosine(found, np.array(expected, dtype=np.float32)) > 0.999


def test_scores_are_torchs(ranking: Client) -> None:
    documents = [entry["text"] for entry in GOLDEN["documents"]]
    scores = np.array(rerank(ranking, GOLDEN["query"], *documents).scores, dtype=np.float32)
    expected = np.array(GOLDEN["scores"], dtype=np.float32)
    assert np.abs(scores - expected).max() < 0.02
    assert cosine(scores, expected) > 0.999
    assert list(np.argsort(scores)) == list(np.argsort(expected))


def test_the_numpy_reference_is_torchs_too() -> None:
    for pooling in ("mean", "cls"):
        for entry, expected in zip(GOLDEN["texts"], GOLDEN[pooling], strict=True):
            found = bert_reference.vector(WEIGHTS, SHAPE, entry["tokens"], pooling)
            assert np.allclose(found, expected, atol=1e-4)
    for entry, score in zip(GOLDEN["documents"], GOLDEN["scores"], strict=True):
        assert bert_reference.vector(WEIGHTS, SHAPE, entry["tokens"], "rank")[0] == pytest.approx(score, abs=1e-4)


# ---- against numpy ---------------------------------------------------------------------------------------------------


def test_many_texts_in_few_passes_are_what_each_is_alone(meaning: Client) -> None:
    texts = [" ".join(random_bert.WORDS[at % 7 : at % 7 + at % 11]) + f" {at}" for at in range(200)]
    steps = meaning.ping().steps
    together = embed(meaning, *texts)
    assert meaning.ping().steps - steps <= 50, "some ten on a quiet machine: a pass is bounded by its time, too"
    for text, found in list(zip(texts, together, strict=True))[::9]:
        expected = bert_reference.vector(WEIGHTS, SHAPE, tokens_of(meaning, text), "mean")
        assert cosine(found, expected) > 0.999


def test_the_last_tokens_state_where_it_is_configured_so(folder: Path) -> None:
    with Client("llama_cpp", str(bert(folder, "mean")), pooling="last") as one:
        assert one.info is not None
        assert one.info.pooling == "last"
        for text in TEXTS[:3]:
            expected = bert_reference.vector(WEIGHTS, SHAPE, tokens_of(one, text), "last")
            assert cosine(embed(one, text)[0], expected) > 0.999


def test_what_is_asked_of_a_vector(meaning: Client) -> None:
    [raw] = embed(meaning, "cat", normalize=False)
    [unit] = embed(meaning, "cat")
    [short] = embed(meaning, "cat", dimensions=8)
    assert np.linalg.norm(raw) > 1.5
    assert np.allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)
    assert np.allclose(short, raw[:8] / np.linalg.norm(raw[:8]), atol=1e-6)


# ---- a model that only embeds ----------------------------------------------------------------------------------------


def test_a_bert_says_what_it_is(meaning: Client, ranking: Client) -> None:
    info = meaning.info
    assert info is not None
    assert (info.architecture, info.capabilities, info.pooling) == ("bert", ("embedding",), "mean")
    assert (info.n_ctx, info.n_ctx_trained, info.n_embedding) == (SHAPE.context, SHAPE.context, SHAPE.width)
    assert (info.kv_tokens, info.kv_bytes, info.chat_template) == (None, None, "")
    assert ranking.info is not None
    assert (ranking.info.capabilities, ranking.info.pooling) == (("rerank",), "rank")


def test_it_answers_nothing(meaning: Client) -> None:
    with pytest.raises(UnsupportedFeature, match="does not support chat"):
        meaning.run(chat("Hi"))
    with pytest.raises(UnsupportedFeature, match="does not support completion"):
        meaning.run(core.TextPrompt("Hi"))
    with pytest.raises(UnsupportedFeature, match="does not support rerank"):
        rerank(meaning, "q", "d")


def test_a_text_beyond_its_positions_is_refused_or_cut(meaning: Client, ranking: Client) -> None:
    long = "cat " * 300
    with pytest.raises(ContextLengthExceeded, match=r"128 tokens.* resulted in 302"):
        embed(meaning, long)
    [cut] = embed(meaning, long, truncate=True)
    [same] = embed(meaning, "cat " * 126)
    assert cosine(cut, same) > 0.99999
    answer = ranking.call(core.Rerank("cat", (long,), truncate=True))
    assert isinstance(answer, core.Scores)
    assert answer.prompt_tokens == (128,)
    expected = bert_reference.vector(WEIGHTS, SHAPE, [2, 86, 3, *[86] * 124, 3], "rank")
    assert answer.scores[0] == pytest.approx(float(expected[0]), abs=0.02)


def test_a_larger_context_than_it_was_trained_for_is_not_taken(folder: Path) -> None:
    with Client("llama_cpp", str(bert(folder, "mean")), n_ctx=4096) as one:
        assert one.info is not None
        assert one.info.n_ctx == SHAPE.context


def test_the_memory_verdict_counts_its_weights_alone(folder: Path) -> None:
    path = bert(folder, "mean")
    entry = {"id": "b", "provider": "llama_cpp", "config": {"model_path": str(path)}}
    need = measure.need(ModelSpec.model_validate(entry))
    assert need.weights_bytes == gguf_header.read(path, "b").weights_bytes > 0
    assert (need.kv_bytes_per_token, need.n_ctx_trained) == (0, SHAPE.context)


# ---- a model that answers --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Path:
    path = folder / "decoder.gguf"
    random_model.write(path, random_model.SHAPES["tiny"], whole=True)
    return path


@contextlib.contextmanager
def provider_of(path: Path, **options: Any) -> Iterator[LlamaCpp]:
    one = open_model(
        core.Load("m", "llama_cpp", str(path), {"n_ctx": 1024, "n_parallel": 2, **options}), lambda _: None
    )
    try:
        yield one
    finally:
        one.close()


def pooled_by_llama_cpp(path: Path, tokens: list[int]) -> Floats:
    """llama.cpp's own mean, in a context that this test makes."""
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    model = native.llama_model_load_from_file(str(path).encode(), native.llama_model_default_params())
    params = native.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.embeddings, params.pooling_type, params.type_k, params.type_v = True, 1, 0, 0
    context = native.llama_init_from_model(model, params)
    array = (ctypes.c_int32 * len(tokens))(*tokens)
    assert native.llama_decode(context, native.llama_batch_get_one(array, len(tokens))) == 0
    width = native.llama_model_n_embd(model)
    pooled = np.ctypeslib.as_array(native.llama_get_embeddings_seq(context, 0), shape=(width,)).copy()
    native.llama_free(context)
    native.llama_model_free(model)
    return pooled


def test_a_decoder_embeds_by_the_mean_of_its_states(decoder: Path) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 8
    with Client("llama_cpp", str(decoder), n_ctx=1024, **WHOLE) as one:
        assert one.info is not None
        assert one.info.pooling == ""
        assert "embedding" not in one.info.capabilities
        [found] = embed(one, text, normalize=False)
        tokens = list(tokens_of(one, text))
    assert len(found) == 64
    assert np.allclose(found, pooled_by_llama_cpp(decoder, tokens), atol=1e-3)


def test_a_long_text_in_parts_is_the_same_text(decoder: Path) -> None:
    with provider_of(decoder, n_ubatch=32, **WHOLE) as one:
        assert one.embedding is not None
        assert (one.embedding.batch_tokens, one.embedding.whole) == (32, False)
        tokens = [10 + at % 200 for at in range(700)]
        parts = [one.embed([tokens[at : at + 32]], at, len(tokens))[0] for at in range(0, len(tokens), 32)]
        assert sum(map(len, parts)) == 700
        again = one.embed([tokens[:20], tokens[5:9]])
    with provider_of(decoder, n_ubatch=1024, **WHOLE) as other:
        [whole] = other.embed([tokens])
        assert np.allclose(np.concatenate(parts), whole, atol=1e-3)
        assert np.allclose(again[0], whole[:20], atol=1e-3)
        [alone] = other.embed([tokens[5:9]])
        assert np.allclose(again[1], alone, atol=1e-3)


def test_embedding_disturbs_no_answer(decoder: Path) -> None:
    greedy: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 120}
    with Client("llama_cpp", str(decoder), n_ctx=1024, **WHOLE) as one:
        alone = one.run(core.TextPrompt("once upon"), **greedy).choices[0].tokens
        number = one.submit(core.TextPrompt("once upon"), **greedy)
        one.send(core.Call(1000, core.Embed(tuple(core.TextPrompt(f"text {at} " * 9) for at in range(60)))))
        tokens: list[int] = []
        returned = done = False
        while not (returned and done):
            message = one.receive()
            if isinstance(message, core.Returned):
                returned = True
                continue
            assert isinstance(message, core.Step)
            for at, event in message.events:
                assert at == number
                done = done or isinstance(event, core.Done)
                tokens += event.tokens if isinstance(event, core.Text) else ()
    assert tuple(tokens) == alone


def test_a_decoder_can_be_configured_to_embed_only(decoder: Path) -> None:
    with Client("llama_cpp", str(decoder), pooling="last", n_ctx=512, **WHOLE) as one:
        assert one.info is not None
        assert (one.info.capabilities, one.info.kv_tokens) == (("embedding",), None)
        [found] = embed(one, "abc", normalize=False)
        tokens = list(tokens_of(one, "abc"))
    with provider_of(decoder, **WHOLE) as other:
        assert np.allclose(found, other.embed([tokens])[0][-1], atol=1e-4)


def test_the_logits_of_a_large_vocabulary_bound_a_pass(folder: Path) -> None:
    path = folder / "wide.gguf"
    random_model.write(path, random_model.SHAPES["tiny"]._replace(vocabulary=16_384, width=8, heads=1, kv_heads=1))
    with provider_of(path, n_ubatch=2048) as one:
        assert one.embedding is not None
        assert one.embedding.batch_tokens == llama_cpp_embedding.LOGITS_BYTES // (4 * 16_384) == 1024


def test_what_memory_does_not_hold_is_refused_with_numbers(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with provider_of(decoder, n_ubatch=32) as one:
        one.embed([[5] * 10])
        monkeypatch.setattr(Opening, "free_bytes", lambda self: 1 << 20)
        with pytest.raises(InsufficientMemory, match=r"1000 tokens need .* MiB beside the model, and 1 MiB are free"):
            one.embed([[5] * 32], 0, 1000)
        monkeypatch.undo()
        assert one.embed([[5] * 10])[0].shape == (10, 64)


# ---- a decoder that ranks --------------------------------------------------------------------------------------------


def write_ranking_decoder(path: Path) -> None:
    """A Qwen3 of random weights with a head for yes and no, and a template for ranking."""
    width, heads, random = 64, 2, np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(128)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_key_length(width // heads)
    writer.add_value_length(width // heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_classifier_output_labels(["yes", "no"])
    random_model.add_vocabulary(writer, 512)
    writer.add_string("tokenizer.chat_template.rerank", "<|im_start|>{query}\n{document}<|im_end|>")

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(name, random.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5))

    def vector(name: str, size: int) -> None:
        writer.add_tensor(name, np.ones(size, dtype=np.float32))

    matrix("token_embd.weight", 512, width)
    vector("output_norm.weight", width)
    matrix("cls.output.weight", 2, width)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        matrix(f"blk.0.{name}.weight", width, width)
    for name, size in (("attn_norm", width), ("ffn_norm", width), ("attn_q_norm", 32), ("attn_k_norm", 32)):
        vector(f"blk.0.{name}.weight", size)
    for name, rows, columns in (("ffn_gate", 128, width), ("ffn_up", 128, width), ("ffn_down", width, 128)):
        matrix(f"blk.0.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_decoder_ranks_by_its_own_template_and_head(folder: Path) -> None:
    path = folder / "ranker.gguf"
    write_ranking_decoder(path)
    with provider_of(path, n_ubatch=32, **WHOLE) as one:
        assert (one.info.capabilities, one.info.pooling) == (("rerank",), "rank")
        tokens = one.pair("a {document} b", "c")
        assert b"".join(map(one.piece, tokens)) == b"a {document} b\nc"
        assert (tokens[0], tokens[-1]) == (1, 2)
        long = one.pair("query", "document " * 20)
        parts = [one.embed([long[at : at + 32]], at, len(long))[-1] for at in range(0, len(long), 32)]
        [short] = one.embed([tokens])
    with provider_of(path, n_ubatch=512, **WHOLE) as other:
        assert np.allclose(parts[-1], other.embed([long])[0], atol=1e-3)
        native, embeddings = other._native, other._embeddings
        other.embed([tokens])
        shares = native.llama_get_embeddings_seq(embeddings._context, 0)
        assert shares[0] + shares[1] == pytest.approx(1, abs=1e-4)
        assert 1 / (1 + np.exp(-short[0, 0])) == pytest.approx(shares[0], abs=1e-4)
