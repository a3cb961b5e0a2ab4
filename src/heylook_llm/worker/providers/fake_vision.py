"""What the fake provider sees: an image is so many ids as configured, and `[[see]]` in a turn tells what it was."""

import hashlib
import json
import time
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Final

import numpy as np

from heylook_llm import core
from heylook_llm.errors import EngineError
from heylook_llm.worker.images import Gallery, Seen, begins_run, ids_of

KEPT_BYTES: Final = 1 << 20


class Look(dict[str, object]):
    """What is told of an image: width, height, mean colour, and the SHA-256 of its pixels."""


class FakeReader:
    """Its rows are what it tells; one that isn't held any more can't be fed."""

    def __init__(self, tokens: int, seconds: float, *, whole: bool) -> None:
        self.whole = whole
        self.encoded = 0
        self._tokens = tokens
        self._seconds = seconds
        self._gallery: Gallery[Look] = Gallery(KEPT_BYTES)

    def read(self, image: core.ImagePart) -> tuple[int, ...]:
        """The ids of one run."""
        return ids_of(self._gallery.digest(image), self._tokens)

    def encode(self, image: core.ImagePart) -> object:
        """Look at it, for as long as configured."""
        digest = self._gallery.digest(image)
        seen = self._gallery.find(digest)
        if seen is None:
            time.sleep(self._seconds)
            self.encoded += 1
            seen = Seen(ids_of(digest, self._tokens), _look(image), 256)
            self._gallery.put(digest, seen)
        return seen

    def check(self, tokens: Seq[int]) -> None:
        """Refuse ids whose image isn't there, as an engine would that has no rows for them. Raises EngineError."""
        for token in tokens:
            if token < 0 and self._gallery.owner(token) is None:
                raise EngineError("An image's rows were given up before they were computed.")

    def told(self, tokens: Seq[int]) -> str:
        """A JSON list of what is told of the images among these tokens, in order."""
        return json.dumps(list(self._looks(tokens)))

    def _looks(self, tokens: Seq[int]) -> Iterator[Look]:
        for token in tokens:
            if begins_run(token) and (seen := self._gallery.owner(token)) is not None:
                yield seen.rows


def _look(image: core.ImagePart) -> Look:
    pixels = np.frombuffer(image.rgb, dtype=np.uint8).reshape(-1, 3)
    mean = [round(float(value)) for value in pixels.mean(axis=0)]
    return Look(width=image.width, height=image.height, mean=mean, sha256=hashlib.sha256(image.rgb).hexdigest())
