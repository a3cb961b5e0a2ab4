"""Vectors by mlx: the states that a text model's last norm gives, before its head makes logits of them.

The caches of a text that comes in parts are its own, apart from all slots'. Texts of one pass are padded on the right:
what comes behind a token changes nothing before it, in attention and in recurrent layers alike.
"""

import importlib
from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm.worker.providers.base import EmbeddingBounds, Floats

mx: Any = importlib.import_module("mlx.core")
library: Any = importlib.import_module("mlx_lm.models.cache")

BATCH_TOKENS: Final = 512
MAX_TEXTS: Final = 32
_BODIES: Final = ("model", "backbone", "transformer")
"""What mlx_lm's architectures call what lies below their head."""


class Embeddings:
    """The vectors of one model. All calls come from the thread that loaded it."""

    def __init__(self, model: Any, width: int | None, *, together: bool) -> None:
        """`together`: texts fill the device only together; else each is computed by itself."""
        self._model = model
        self._body = _body_of(model, width)
        self._together = together
        self._caches: list[Any] = []
        self.bounds = EmbeddingBounds(BATCH_TOKENS, MAX_TEXTS) if self._body is not None else None

    def embed(self, texts: Seq[Seq[int]], start: int) -> list[Floats]:
        """The rows of each text's tokens."""
        if len(texts) > 1 and self._together and _fill_well(texts):
            return self._padded(texts)
        return [self._rows(text, start) for text in texts]

    def _rows(self, text: Seq[int], start: int) -> Floats:
        if start == 0:
            self._caches = library.make_prompt_cache(self._model)
        states = self._states([list(text)], self._caches)
        mx.eval([cache.state for cache in self._caches])
        rows: Floats = states[0]
        return rows

    def _padded(self, texts: Seq[Seq[int]]) -> list[Floats]:
        longest = max(map(len, texts))
        rows = [[*text, *[0] * (longest - len(text))] for text in texts]
        states = self._states(rows, library.make_prompt_cache(self._model))
        return [states[at, : len(text)] for at, text in enumerate(texts)]

    def _states(self, rows: list[list[int]], caches: list[Any]) -> Floats:
        assert self._body is not None
        found: Floats = np.array(self._body(mx.array(rows), cache=caches).astype(mx.float32))
        return found


def _fill_well(texts: Seq[Seq[int]]) -> bool:
    """Whether less than half of what is computed would be padding."""
    return 2 * sum(map(len, texts)) > len(texts) * max(map(len, texts))


def _body_of(model: Any, width: int | None) -> Any:
    """What gives a model's states; None: it isn't built as the others are."""
    while hasattr(model, "language_model"):
        model = model.language_model
    body = next((getattr(model, name) for name in _BODIES if hasattr(model, name)), None)
    if body is None:
        return None
    try:
        states = body(mx.array([[0]]), cache=library.make_prompt_cache(model))
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return None
    return body if isinstance(states, mx.array) and states.shape == (1, 1, width) else None
