"""Texts to vectors and scores, beside the step loop: which texts share a pass, and what becomes of their rows.

The Embedder decides and keeps the books, as the Scheduler does for answers; it reads no clock. One pass of its driver:

    batch = embedder.plan(beside)                  whole texts of all jobs in turn, or the next part of a long one
    rows = provider.embed(batch.texts, batch.start, batch.longest)
    ended = embedder.commit(rows, start, now)      the jobs that are complete

A pass takes no longer than a prompt's chunk (chunks.py), for the sake of cancels and of the streams of the same model.
Only a text that can't be cut, because its tokens look both ways, may take longer.
"""

from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple

import numpy as np

from heylook_llm import core
from heylook_llm.errors import BadRequest, EngineError
from heylook_llm.worker.chunks import Chunks
from heylook_llm.worker.providers.base import EmbeddingBounds, Floats

MAX_ANSWER_BYTES: Final = 256 << 20
"""Of all vectors of one answer: the process that sends them to the client holds them as text, too."""
NOT_FINITE: Final = "embedding_not_finite"
"""The code of the error for a model whose numbers overflow."""


class Job:
    """One operation: its texts as tokens, and what is known of their vectors so far."""

    def __init__(self, number: int, operation: core.Embed | core.Rerank, texts: Seq[Seq[int]], stamps: core.Timeline):
        self.number = number
        self.operation = operation
        self.texts = texts
        self.results: list[Floats | None] = [None] * len(texts)
        self.next = 0
        """The first text that no pass has begun."""
        self.open = len(texts)
        self._stamps = stamps
        self._admitted_ns: int | None = None
        self._last_ns: int | None = None
        self._chunks: list[core.PrefillChunk] = []
        self._batch_sizes: dict[int, int] = {}

    def computed(self, tokens: int, batch: int, start_ns: int, now_ns: int) -> None:
        """Take note of a pass that held so many tokens of it, among `batch` texts."""
        self._admitted_ns = start_ns if self._admitted_ns is None else self._admitted_ns
        self._last_ns = now_ns
        self._chunks.append(core.PrefillChunk(start_ns, now_ns, tokens))
        self._batch_sizes[batch] = self._batch_sizes.get(batch, 0) + 1

    def answer(self) -> core.Vectors | core.Scores:
        """What it asked for. Raises EngineError where the model's numbers overflowed."""
        rows = [row for row in self.results if row is not None]
        if not all(np.isfinite(row).all() for row in rows):
            raise EngineError("embedding contains NaN or Inf values", code=NOT_FINITE)
        tokens = tuple(map(len, self.texts))
        timeline = self._timeline()
        if isinstance(self.operation, core.Rerank):
            return core.Scores(tuple(float(row[0]) for row in rows), tokens, timeline)
        vectors = tuple(_finished(row, self.operation) for row in rows)
        return core.Vectors(vectors, tokens, timeline)

    def _timeline(self) -> core.Timeline:
        stamps = self._stamps
        return core.Timeline(
            received_ns=stamps.received_ns,
            rendered_ns=stamps.rendered_ns,
            tokenized_ns=stamps.tokenized_ns,
            queued_ns=stamps.queued_ns,
            admitted_ns=self._admitted_ns,
            prefill=tuple(self._chunks),
            last_token_ns=self._last_ns,
            dropped_tokens=stamps.dropped_tokens,
            steps=len(self._chunks),
            batch_sizes_seen=self._batch_sizes,
        )


class Part(NamedTuple):
    """Tokens of one text of a job, from `start` on."""

    job: Job
    text: int
    start: int
    tokens: Seq[int]

    @property
    def ends(self) -> bool:
        """Whether nothing of its text comes after it."""
        return self.start + len(self.tokens) == len(self.job.texts[self.text])


class Batch(NamedTuple):
    """What one pass computes: whole texts, or a part of one."""

    parts: tuple[Part, ...]

    @property
    def texts(self) -> list[Seq[int]]:
        """The tokens of each."""
        return [part.tokens for part in self.parts]

    @property
    def start(self) -> int:
        """Tokens of its only text that the pass before computed."""
        return self.parts[0].start

    @property
    def longest(self) -> int:
        """Tokens of the longest text, all its parts together."""
        return max(len(part.job.texts[part.text]) for part in self.parts)

    @property
    def tokens(self) -> int:
        """All tokens of the pass."""
        return sum(len(part.tokens) for part in self.parts)


class Embedder:
    """The jobs of one model, oldest first but in turns, so that a long list holds up nobody's single text."""

    def __init__(self, bounds: EmbeddingBounds | None, pooling: core.Pooling) -> None:
        self.jobs: deque[Job] = deque()
        self.steps = 0
        self.tokens = 0
        self._bounds = bounds if bounds is not None else EmbeddingBounds(1, 1, whole=True)
        self._pooling = pooling
        self._rest: Part | None = None
        """What is left of the text whose first part the last pass computed."""
        self._pooled: Floats | None = None
        """What its parts so far come to."""
        self._batch = Batch(())
        self._chunks = Chunks(self._bounds.batch_tokens)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not self.jobs

    def submit(self, job: Job) -> None:
        """Queue a job, which has texts."""
        self.jobs.append(job)

    def cancel(self, number: int) -> None:
        """Forget the job of this number, if it is one."""
        self.jobs = deque(job for job in self.jobs if job.number != number)
        if self._rest is not None and self._rest.job.number == number:
            self._rest = self._pooled = None

    # ---- one pass ----------------------------------------------------------------------------------------------------

    def plan(self, *, beside: bool) -> Batch:
        """What the next pass computes; `beside`: streams of the same model wait for it."""
        limit = self._chunks.limit(int(beside))
        if self._rest is not None:
            job, text, start, tokens = self._rest
            parts = [Part(job, text, start, tokens[:limit])]
        else:
            parts = list(self._turns(limit))
            if len(parts) == 1 and not self._bounds.whole:
                parts = [parts[0]._replace(tokens=parts[0].tokens[:limit])]
        self._batch = Batch(tuple(parts))
        return self._batch

    def _turns(self, room: int) -> Iterator[Part]:
        """The next text of each job in turn while they fit; the first fits always. Who is next begins the next pass."""
        taken = 0
        waiting = sum(len(job.texts) - job.next for job in self.jobs)
        while waiting and taken < self._bounds.batch_inputs:
            job = self.jobs[0]
            if job.next < len(job.texts):
                tokens = job.texts[job.next]
                if taken and len(tokens) > room:
                    return
                yield Part(job, job.next, 0, tokens)
                job.next += 1
                room -= len(tokens)
                taken += 1
                waiting -= 1
            self.jobs.rotate(-1)

    def commit(self, rows: Seq[Floats], start_ns: int, now_ns: int) -> list[Job]:
        """Book a computed pass: its rows pooled. `start_ns` and `now_ns` enclose it. Returns the jobs that ended."""
        batch = self._batch
        self.steps += 1
        self.tokens += batch.tokens
        self._chunks.measure(batch.tokens, now_ns - start_ns)
        for job in {part.job.number: part.job for part in batch.parts}.values():
            tokens = sum(len(part.tokens) for part in batch.parts if part.job is job)
            job.computed(tokens, len(batch.parts), start_ns, now_ns)
        for part, found in zip(batch.parts, rows, strict=True):
            self._take(part, found)
        ended = [job for job in self.jobs if not job.open]
        if ended:
            self.jobs = deque(job for job in self.jobs if job.open)
        return ended

    def failed(self) -> list[Job]:
        """Forget the jobs of a pass that couldn't be computed; returns them."""
        jobs = list({part.job.number: part.job for part in self._batch.parts}.values())
        for job in jobs:
            self.cancel(job.number)
        return jobs

    def _take(self, part: Part, rows: Floats) -> None:
        before = None if part.start == 0 else self._pooled
        pooled = pool(self._pooling, before, part.start, rows)
        if part.ends:
            part.job.results[part.text] = pooled
            part.job.open -= 1
            self._rest = self._pooled = None
            return
        start = part.start + len(part.tokens)
        self._rest = Part(part.job, part.text, start, part.job.texts[part.text][start:])
        self._pooled = pooled


def pool(pooling: core.Pooling, before: Floats | None, count: int, rows: Floats) -> Floats:
    """What `count` tokens that came to `before`, and these rows after them, come to."""
    if pooling == "cls":
        return rows[0] if before is None else before
    if pooling in ("last", "rank"):
        last: Floats = rows[-1]
        return last
    total: Any = rows.sum(axis=0, dtype=np.float64)
    if before is not None:
        total = total + before.astype(np.float64) * count
    mean: Floats = (total / (count + len(rows))).astype(np.float32)
    return mean


def _finished(vector: Floats, asked: core.Embed) -> bytes:
    """The vector as it was asked for, as bytes."""
    kept = vector[: asked.dimensions].astype(np.float64)
    length = float(np.sqrt(kept @ kept)) if asked.normalize else 1.0
    return bytes((kept / (length or 1.0)).astype("<f4").tobytes())


def check_size(operation: core.Embed | core.Rerank, count: int, width: int | None) -> None:
    """Refuse what would make an answer beyond MAX_ANSWER_BYTES. Raises BadRequest."""
    if not isinstance(operation, core.Embed) or width is None:
        return
    size = 4 * count * min(width, operation.dimensions or width)
    if size > MAX_ANSWER_BYTES:
        raise BadRequest(
            f"The vectors of {count} texts are {size >> 20} MiB, and one answer may have {MAX_ANSWER_BYTES >> 20} MiB: "
            "send fewer texts at once.",
            param="input",
        )
