"""The ImageReader of MLX: images become rows once, and stand in their tokens' places when a prompt is computed."""

import importlib
import threading
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any, Final

from heylook_llm import core
from heylook_llm.errors import EngineError
from heylook_llm.worker.images import Gallery, Seen, ids_of
from heylook_llm.worker.providers.base import Floats
from heylook_llm.worker.providers.mlx_eyes import Eyes

mx: Any = importlib.import_module("mlx.core")

KEPT_BYTES: Final = 64 << 20
"""Rows of images that nobody holds: some ten of a model that makes 576 rows of 4096 numbers of each."""


class Images:
    """Encodes in the caller's thread, beside the step loop; the rows wait outside of mlx until that puts them in.

    mlx computes for each thread in that thread's own stream, so the two only share the machine.
    """

    whole = False

    def __init__(self, eyes: Eyes, embed: Callable[[Any], Any]) -> None:
        """`embed`: ids as an array -> what the language model computes of them."""
        self.encoded = 0
        self._eyes = eyes
        self._embed = embed
        self._gallery: Gallery[Floats] = Gallery(KEPT_BYTES)
        self._encoding = threading.Lock()

    def read(self, image: core.ImagePart) -> tuple[int, ...]:
        """The ids of one run."""
        return ids_of(self._gallery.digest(image), self._eyes.count)

    def encode(self, image: core.ImagePart) -> object:
        """Its rows, computed or found. One image at a time, each within the memory of one."""
        digest = self._gallery.digest(image)
        with self._encoding:
            seen = self._gallery.find(digest)
            if seen is None:
                seen = Seen(ids_of(digest, self._eyes.count), *self._computed(image))
                self._gallery.put(digest, seen)
            return seen

    def _computed(self, image: core.ImagePart) -> tuple[Floats, int]:
        try:
            rows = self._eyes.rows(image)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EngineError(f"MLX could not encode an image: {error}") from error
        self.encoded += 1
        return rows, rows.nbytes

    def embedded(self, tokens: Seq[int]) -> Any:
        """What the language model computes of these tokens, [1, tokens, width]: an image's are its rows.

        Raises EngineError.
        """
        found = self._embed(mx.array([[max(0, token) for token in tokens]]))
        at = 0
        while at < len(tokens):
            if tokens[at] >= 0:
                at += 1
                continue
            rows = self._rows_from(tokens, at)
            found[:, at : at + len(rows)] = mx.array(rows).astype(found.dtype)
            at += len(rows)
        return found

    def _rows_from(self, tokens: Seq[int], start: int) -> Floats:
        """The rows of the image that goes on here, as far as these tokens go on with it."""
        seen = self._gallery.owner(tokens[start])
        if seen is None:
            raise EngineError("An image's rows were given up before they were computed.")
        first = end = seen.places[tokens[start]]
        while start + end - first < len(tokens) and seen.places.get(tokens[start + end - first]) == end:
            end += 1
        return seen.rows[first:end]
