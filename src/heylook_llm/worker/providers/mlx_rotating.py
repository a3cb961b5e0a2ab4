"""A cache that keeps its first cells and its latest ones, and computes the same however a prompt is cut into chunks."""

import importlib
from typing import Any, Self

mx: Any = importlib.import_module("mlx.core")
library: Any = importlib.import_module("mlx_lm.models.cache")


class Rotating(library.RotatingKVCache):  # type: ignore[misc]
    """mlx_lm's, but a token of a chunk sees what it would see if it came alone: the kept beginning, and its window.

    The library's own mask for several tokens is a plain window, which leaves the kept beginning out.
    """

    @classmethod
    def of(cls, cache: Any) -> Self:
        """A cache of the library's with the same cells."""
        made = cls(cache.max_size, cache.keep)
        made.state = cache.state
        return made

    def plain(self) -> Any:
        """A cache of the library's own class with the same cells."""
        made = library.RotatingKVCache(self.max_size, self.keep)
        made.state = self.state
        return made

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:  # noqa: N803
        """What each of N new tokens sees of the cells before them and of themselves: [N, cells + N], or a name of it.

        The cells stand in the order of their tokens then, one less than fit, so that the first new token has room.
        """
        before = min(self.max_size - 1, self.offset)
        if N == 1 or window_size is not None or before + N <= self.max_size:
            return super().make_mask(N, window_size=window_size, return_array=return_array)
        cells = mx.arange(before + N)[None]
        own = mx.arange(before, before + N)[:, None]
        latest = cells > own - (self.max_size - self.keep)
        return (cells <= own) & (latest | (cells < self.keep))
