"""Masks of a step's guided slots, computed in a thread of their own while the engine computes the logits."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from heylook_llm.worker.guidance import Mask
from heylook_llm.worker.guide import Guide

Masks = dict[int, list[Mask | None]]
"""Slot -> what it may draw, and what behind each guess; None: anything."""


class Guided(NamedTuple):
    """A slot's guide, and the guesses that stand behind its last token."""

    guide: Guide
    guessed: tuple[int, ...]


class MaskThread:
    """Computes masks beside the thread that waits for the engine; neither holds the interpreter meanwhile."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")

    def start(self, guided: Mapping[int, Guided]) -> "Future[Masks] | None":
        """Begin to compute the masks of each slot; None: there are none to compute."""
        return self._pool.submit(_masks, guided) if guided else None

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()


def _masks(guided: Mapping[int, Guided]) -> Masks:
    return {slot: guide.masks(guessed) for slot, (guide, guessed) in guided.items()}
