"""Computes feeds that hold images: each run of ids from its rows, in a decode call of its own, in the feed's order."""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Any

import msgspec
import numpy as np

from heylook_llm.errors import EngineError
from heylook_llm.worker.images import begins_run, has_images
from heylook_llm.worker.providers.base import Feed, OutOfCells
from heylook_llm.worker.providers.llama_cpp_native import Batch, Integers, RowBatch
from heylook_llm.worker.providers.llama_cpp_places import Places
from heylook_llm.worker.providers.llama_cpp_vision import Eyes, Rows


class Looking:
    """The part of a step before its common batch, which can't hold rows beside tokens."""

    def __init__(self, native: Any, context: Any, eyes: Eyes, batch: Batch, places: Places | None) -> None:
        self._native = native
        self._context = context
        self._eyes = eyes
        self._batch = batch
        self._rows = RowBatch(native, batch.capacity)
        self._places = places

    def look(self, feed: Feed) -> Feed | None:
        """Compute a feed up to the end of its last image; the rest is text. Raises OutOfCells, EngineError."""
        for segment in _segments(feed):
            if segment.tokens[0] < 0:
                self._see(segment)
            elif segment.start + len(segment.tokens) == feed.start + len(feed.tokens):
                return msgspec.structs.replace(segment, sample=feed.sample, drafts=feed.drafts)
            else:
                self._batch.fill([self.placed(segment)])
                self._decode(self._batch.struct)
        return None

    def placed(self, feed: Feed) -> Feed:
        """A feed of text at the position where the engine counts it."""
        if self._places is None:
            return feed
        position = self._places.of(feed.slot, feed.start)
        assert position is not None, "text within an image"
        return msgspec.structs.replace(feed, start=position)

    def _see(self, segment: Feed) -> None:
        """Compute a run, or a part of it."""
        first, count = segment.tokens[0], len(segment.tokens)
        seen = self._eyes.gallery.owner(first)
        if seen is None:
            raise EngineError("An image's rows were given up before they were computed.")
        at = seen.places[first]
        positions = self._positions(segment, seen.rows, at)
        causal = not self._eyes.whole
        if not causal:
            self._native.llama_set_causal_attn(self._context, False)
        try:
            self._decode(self._rows.filled(segment.slot, seen.rows.values[at : at + count], positions))
        finally:
            if not causal:
                self._native.llama_set_causal_attn(self._context, True)

    def _positions(self, segment: Feed, rows: Rows, at: int) -> Integers:
        first, count = segment.tokens[0], len(segment.tokens)
        if self._places is None or rows.grid is None:
            return np.arange(segment.start, segment.start + count, dtype=np.int32)
        if begins_run(first):
            run = rows.runs[first]
            start = self._places.begin(segment.slot, segment.start, run.tokens, run.positions)
        else:
            start = self._places.within(segment.slot, segment.start)
        return np.ascontiguousarray(rows.grid[:, at : at + count] + start, dtype=np.int32)

    def _decode(self, batch: Any) -> None:
        status = self._native.llama_decode(self._context, batch)
        if status == 1:
            raise OutOfCells
        if status != 0:
            raise EngineError(f"llama.cpp could not compute an image (status {status}).")


def _segments(feed: Feed) -> Iterator[Feed]:
    """Its parts, each of text or of one run."""
    tokens = feed.tokens
    start = 0
    for at in range(1, len(tokens) + 1):
        if at == len(tokens) or (tokens[at] < 0) != (tokens[at - 1] < 0) or begins_run(tokens[at]):
            yield Feed(feed.slot, feed.start + start, tokens[start:at], False)
            start = at


def seeing(feeds: Seq[Feed]) -> bool:
    """Whether images are to be computed."""
    return any(has_images(feed.tokens) for feed in feeds)
