"""Vectors and scores: which texts share a pass, what their rows come to, and the worker that computes them."""

import itertools
import math
import queue
from collections.abc import Sequence as Seq

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, EngineError, UnsupportedFeature
from heylook_llm.worker.chunks import ALONE_NS
from heylook_llm.worker.embedding import MAX_ANSWER_BYTES, Embedder, Job, check_size, pool
from heylook_llm.worker.providers import fake_embedding
from heylook_llm.worker.providers.base import EmbeddingBounds, Floats
from tests.worker.client import Client, WorkerGone, chat
from tests.worker.tiers import EXAMPLES

unit = pytest.mark.unit
integration = pytest.mark.integration

STAMPS = core.Timeline(received_ns=1, queued_ns=2)


def job_of(number: int, *texts: Seq[int], **asked: object) -> Job:
    return Job(number, core.Embed((), **asked), list(texts), STAMPS)  # type: ignore[arg-type]  # fields by name


def text_of(number: int, length: int) -> list[int]:
    return [(31 * number + 7 * at) % 400 for at in range(length)]


def states(tokens: Seq[int], start: int) -> Floats:
    """What a model whose rows hang on token and position would give."""
    return fake_embedding.rows([token + 1000 * (start + at) for at, token in enumerate(tokens)])


def drive(embedder: Embedder, *, beside: bool = False) -> dict[int, core.Vectors]:
    """Pass after pass until nothing is left."""
    ended: dict[int, core.Vectors] = {}
    clock = itertools.count(10, 5)
    while not embedder.idle:
        batch = embedder.plan(beside=beside)
        rows = [states(text, batch.start) for text in batch.texts]
        for job in embedder.commit(rows, next(clock), next(clock)):
            answer = job.answer()
            assert isinstance(answer, core.Vectors)
            ended[job.number] = answer
    return ended


def floats(vector: bytes) -> Floats:
    return np.frombuffer(vector, dtype="<f4")


def of_whole(pooling: str, tokens: Seq[int]) -> Floats:
    rows = states(tokens, 0)
    found: Floats = {"": rows.mean(axis=0), "mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1]}[pooling]
    return found / np.linalg.norm(found)


LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=4)
BOUNDS = st.builds(EmbeddingBounds, st.integers(3, 90), st.integers(1, 5), st.booleans())


@unit
@settings(max_examples=EXAMPLES // 4, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    lists=st.lists(LENGTHS, min_size=1, max_size=3),
    pooling=st.sampled_from(["", "mean", "cls", "last"]),
    bounds=BOUNDS,
    beside=st.booleans(),
)
def test_every_text_gets_the_vector_that_it_has_alone(
    lists: list[list[int]], pooling: core.Pooling, bounds: EmbeddingBounds, beside: bool
) -> None:
    embedder = Embedder(bounds, pooling)
    texts_of = [[text_of(number + at, length) for at, length in enumerate(one)] for number, one in enumerate(lists)]
    for number, texts in enumerate(texts_of):
        embedder.submit(job_of(number, *texts))
    ended = drive(embedder, beside=beside)
    assert set(ended) == set(range(len(lists)))
    for number, texts in enumerate(texts_of):
        assert ended[number].prompt_tokens == tuple(map(len, texts))
        for vector, tokens in zip(ended[number].vectors, texts, strict=True):
            assert np.allclose(floats(vector), of_whole(pooling, tokens), atol=1e-5)


@unit
@settings(max_examples=EXAMPLES // 4, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(lengths=LENGTHS, bounds=BOUNDS)
def test_a_pass_keeps_its_bounds(lengths: list[int], bounds: EmbeddingBounds) -> None:
    embedder = Embedder(bounds, "mean")
    embedder.submit(job_of(1, *(text_of(at, length) for at, length in enumerate(lengths))))
    while not embedder.idle:
        batch = embedder.plan(beside=False)
        assert 1 <= len(batch.parts) <= bounds.batch_inputs
        assert batch.tokens <= bounds.batch_tokens or (bounds.whole and len(batch.parts) == 1)
        assert batch.start == 0 or len(batch.parts) == 1
        embedder.commit([states(text, batch.start) for text in batch.texts], 0, 1)


@unit
def test_many_short_texts_take_few_passes() -> None:
    embedder = Embedder(EmbeddingBounds(512, 64), "mean")
    embedder.submit(job_of(1, *[[1, 2, 3, 4]] * 256))
    drive(embedder)
    assert embedder.steps <= 2 + 256 * 4 // 256
    assert embedder.tokens == 1024


@unit
def test_a_long_list_lets_others_have_their_turn() -> None:
    embedder = Embedder(EmbeddingBounds(40, 64), "mean")
    embedder.submit(job_of(1, *[[1] * 10] * 1000))
    embedder.commit([states(text, 0) for text in embedder.plan(beside=False).texts], 0, 1)
    embedder.submit(job_of(2, [5] * 10))
    embedder.submit(job_of(3, [6] * 10, [7] * 10))
    numbers = [part.job.number for part in embedder.plan(beside=False).parts]
    assert sorted(numbers[:3]) == [1, 2, 3]


@unit
def test_a_pass_takes_no_longer_than_a_chunk_and_less_beside_streams() -> None:
    embedder = Embedder(EmbeddingBounds(2048, 256), "mean")
    embedder.submit(job_of(1, [1] * 100_000))
    for duration_ns in (ALONE_NS // 8, ALONE_NS, 4 * ALONE_NS):
        batch = embedder.plan(beside=False)
        embedder.commit([states(text, batch.start) for text in batch.texts], 0, duration_ns)
    assert (batch.tokens, embedder.plan(beside=False).tokens) == (512, 128)
    fast = Embedder(EmbeddingBounds(2048, 256), "mean")
    fast.submit(job_of(1, [1] * 100_000))
    for _ in range(4):
        batch = fast.plan(beside=False)
        fast.commit([states(text, batch.start) for text in batch.texts], 0, 1)
    assert (fast.plan(beside=False).tokens, fast.plan(beside=True).tokens) == (2048, 512)


@unit
def test_a_cancelled_job_is_computed_no_further() -> None:
    embedder = Embedder(EmbeddingBounds(10, 4), "mean")
    embedder.submit(job_of(1, [1] * 100))
    embedder.submit(job_of(2, [2] * 5))
    batch = embedder.plan(beside=False)
    embedder.commit([states(text, 0) for text in batch.texts], 0, 1)
    embedder.cancel(1)
    assert {part.job.number for part in embedder.plan(beside=False).parts} == {2}
    embedder.cancel(2)
    assert embedder.idle


@unit
def test_a_failed_pass_ends_the_jobs_that_were_in_it() -> None:
    embedder = Embedder(EmbeddingBounds(10, 1), "mean")
    embedder.submit(job_of(1, [1] * 5))
    embedder.submit(job_of(2, [2] * 5))
    embedder.plan(beside=False)
    assert [job.number for job in embedder.failed()] == [1]
    assert set(drive(embedder)) == {2}


@unit
@settings(max_examples=EXAMPLES // 4, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    row=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    dimensions=st.none() | st.integers(1, 60),
    normalize=st.booleans(),
)
def test_dimensions_are_cut_before_the_length_becomes_one(
    row: list[float], dimensions: int | None, normalize: bool
) -> None:
    job = job_of(1, [1], dimensions=dimensions, normalize=normalize)
    job.results = [np.array(row, dtype=np.float32)]
    answer = job.answer()
    assert isinstance(answer, core.Vectors)
    vector = floats(answer.vectors[0])
    kept = np.array(row, dtype=np.float64)[:dimensions]
    assert len(vector) == min(len(row), dimensions or len(row))
    length = float(np.linalg.norm(kept))
    expected = kept / length if normalize and length else kept
    assert np.allclose(vector, expected, rtol=1e-5, atol=1e-6)


@unit
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_without_numbers_is_an_error(bad: float) -> None:
    job = job_of(1, [1])
    job.results = [np.array([1.0, bad], dtype=np.float32)]
    with pytest.raises(EngineError, match="NaN or Inf"):
        job.answer()


@unit
def test_an_answer_has_a_largest_size() -> None:
    check_size(core.Embed(()), 1000, 4096)
    check_size(core.Embed((), dimensions=8), 1_000_000, 4096)
    with pytest.raises(BadRequest, match="fewer texts"):
        check_size(core.Embed(()), MAX_ANSWER_BYTES // 4096, 4096)


@unit
def test_pooling_of_parts() -> None:
    rows = states([5, 6, 7], 0)
    assert np.array_equal(pool("cls", pool("cls", None, 0, rows[:1]), 1, rows[1:]), rows[0])
    assert np.array_equal(pool("last", pool("last", None, 0, rows[:1]), 1, rows[1:]), rows[2])
    assert np.allclose(pool("mean", pool("mean", None, 0, rows[:1]), 1, rows[1:]), rows.mean(axis=0), atol=1e-6)


# ---- the worker ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> object:
    with Client(n_ctx=256, n_batch=64) as one:
        yield one


def embed(client: Client, *texts: str, **asked: object) -> core.Vectors:
    operation = core.Embed(tuple(core.TextPrompt(text) for text in texts), **asked)  # type: ignore[arg-type]
    answer = client.call(operation)
    assert isinstance(answer, core.Vectors)
    return answer


@integration
def test_vectors_are_of_the_tokens_and_have_a_timeline(client: Client) -> None:
    answer = embed(client, "near", "near!", "wholly other", received_ns=5)
    near, nearer, other = map(floats, answer.vectors)
    assert len(near) == fake_embedding.WIDTH
    assert np.linalg.norm(near) == pytest.approx(1)
    assert near @ nearer > near @ other
    assert answer.prompt_tokens == (5, 6, 13)
    times = answer.timeline
    stamps = [times.received_ns, times.tokenized_ns, times.queued_ns, times.admitted_ns, times.last_token_ns]
    assert None not in stamps
    assert stamps == sorted(stamps)  # type: ignore[type-var]  # no None, as the line above says
    assert sum(chunk.tokens for chunk in times.prefill) == 24
    assert times.batch_sizes_seen == {3: 1}
    assert times.first_token_ns is None


@integration
def test_a_vector_does_not_hang_on_its_neighbours(client: Client) -> None:
    texts = [f"text number {at} " * (at % 7) + "end" for at in range(40)]
    together = embed(client, *texts)
    for text, vector in zip(texts, together.vectors, strict=True):
        assert np.allclose(floats(embed(client, text).vectors[0]), floats(vector), atol=1e-6)


@integration
def test_no_texts_have_no_vectors(client: Client) -> None:
    assert embed(client).vectors == ()


@integration
def test_a_text_beyond_the_context_is_refused_with_numbers_or_cut(client: Client) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"256 tokens.*input\[1\] resulted in 301") as refused:
        embed(client, "short", "x" * 300)
    assert (refused.value.limit_tokens, refused.value.prompt_tokens) == (256, 301)
    with pytest.raises(ContextLengthExceeded, match="resulted in 1000"):  # counted by its beginning
        embed(client, "x" * 1_000_000)
    cut = embed(client, "x" * 300, truncate=True)
    assert cut.prompt_tokens == (256,)
    assert cut.timeline.dropped_tokens == 45
    assert cut.vectors == embed(client, "x" * 255).vectors, "what ends each text of this model is kept"
    long = embed(client, "x" * 100_000, truncate=True)
    assert long.vectors == cut.vectors
    assert long.timeline.dropped_tokens == pytest.approx(99_745, rel=0.05)
    assert embed(client, "x" * 300, truncate=True, n_ctx=100).prompt_tokens == (100,)


@integration
def test_foreign_tokens_and_empty_prompts_are_refused(client: Client) -> None:
    with pytest.raises(BadRequest, match="Token 999"):
        client.call(core.Embed((core.TokenPrompt((999,)),)))
    with pytest.raises(BadRequest, match=r"input\[0\] is empty"):
        client.call(core.Embed((core.TokenPrompt(()),)))


@integration
def test_numbers_that_are_none_and_errors_of_the_engine_end_the_call_alone(client: Client) -> None:
    with pytest.raises(EngineError, match="NaN or Inf"):
        embed(client, "fine", "[[nan]]")
    with pytest.raises(EngineError, match="the log has the cause"):
        embed(client, "[[error]]")
    assert embed(client, "fine").vectors


@integration
def test_a_model_that_answers_ranks_nothing(client: Client) -> None:
    with pytest.raises(UnsupportedFeature, match="does not support rerank"):
        client.call(core.Rerank("q", ("a",)))


@integration
def test_a_crash_in_a_pass_ends_the_worker() -> None:
    with Client() as one, pytest.raises(WorkerGone):
        embed(one, "[[crash:SIGKILL]]")


@integration
def test_answers_flow_while_a_long_list_is_embedded() -> None:
    with Client(n_ctx=512, prefill_tokens_per_second=4000, decode_tokens_per_second=400) as one:
        stream = one.submit(chat("[[count:400]]"))
        one.send(core.Call(1000, core.Embed(tuple(core.TextPrompt("x" * 99) for _ in range(100)))))
        pieces = 0
        while not isinstance(message := one.receive(), core.Returned):
            assert isinstance(message, core.Step)
            pieces += len(message.events)
            assert {number for number, _ in message.events} == {stream}
    assert message.call == 1000
    assert pieces >= 10, "at least one step of the stream between two passes"


@integration
def test_a_cancelled_call_sends_nothing_and_leaves_the_engine_free() -> None:
    with Client(n_ctx=512, prefill_tokens_per_second=1000) as one:
        one.send(core.Call(1000, core.Embed(tuple(core.TextPrompt("x" * 400) for _ in range(10_000)))))
        while one.ping().steps < 2:
            continue
        one.send(core.Cancel(1000))
        while one.ping().running:
            continue
        with pytest.raises(queue.Empty):
            one.receive(0.1)
        assert embed(one, "free again").vectors


# ---- models that only embed or rank ----------------------------------------------------------------------------------


@integration
@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_a_model_that_embeds_answers_nothing(pooling: str) -> None:
    with Client(pooling=pooling) as one:
        assert one.info is not None
        assert (one.info.capabilities, one.info.pooling) == (("embedding",), pooling)
        rows = fake_embedding.rows([*b"ab", 259])
        expected = {"cls": rows[0], "last": rows[-1]}[pooling]
        vector = floats(embed(one, "ab", normalize=False).vectors[0])
        assert np.allclose(vector, expected, atol=1e-6)
        with pytest.raises(UnsupportedFeature, match="does not support chat"):
            one.call(core.Render(chat("Hi")))


@integration
def test_documents_are_scored() -> None:
    with Client(pooling="rank", n_ctx=64) as one:
        assert one.info is not None
        assert one.info.capabilities == ("rerank",)
        answer = one.call(core.Rerank("red apple", ("a red apple", "red", "blue")))
        assert isinstance(answer, core.Scores)
        assert answer.scores == (4.0, 0.0, -4.0)
        assert answer.prompt_tokens == (21, 13, 14)
        with pytest.raises(UnsupportedFeature, match="POST /v1/rerank"):
            embed(one, "x")


@integration
def test_documents_beyond_the_context_are_refused_or_cut() -> None:
    with Client(pooling="rank", n_ctx=64) as one:
        documents = ("red", "red " * 30)
        with pytest.raises(ContextLengthExceeded, match=r"documents\[1\] resulted in 126 tokens"):
            one.call(core.Rerank("apple", documents))
        with pytest.raises(ContextLengthExceeded, match=r"documents\[0\] resulted in 1000"):
            one.call(core.Rerank("apple", ("red " * 250_000,)))
        cut = one.call(core.Rerank("apple", documents, truncate=True))
        assert isinstance(cut, core.Scores)
        assert cut.prompt_tokens == (9, 64)
        assert cut.timeline.dropped_tokens == 62
        short = one.call(core.Rerank("apple", documents, document_tokens=2))
        assert isinstance(short, core.Scores)
        assert short.prompt_tokens == (8, 8)
        with pytest.raises(ContextLengthExceeded, match="your query"):
            one.call(core.Rerank("apple " * 20, documents, truncate=True))
