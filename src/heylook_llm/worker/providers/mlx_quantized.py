"""Quantized keys and values that can share a batch: the library's quantized cache can't."""

import importlib
from collections.abc import Sequence as Seq
from typing import Any, Final

mx: Any = importlib.import_module("mlx.core")
library: Any = importlib.import_module("mlx_lm.models.cache")

STEP_TOKENS: Final = 256
"""Cells by which a cache grows, as the library's do."""


class Quantized(library.QuantizedKVCache):  # type: ignore[misc]  # the library is Any here
    """The library's quantized cache, that can join a batch; and with any number of bits that mlx packs."""

    offset: int

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append tokens; all keys and values. It has content: `of` has made it."""
        start = int(self.offset)
        self.offset = start + keys.shape[2]
        for held, new in ((self.keys, keys), (self.values, values)):
            _append(held, new, start, self.group_size, self.bits)
        return _first(self.keys, self.offset), _first(self.values, self.offset)

    def size(self) -> int:
        """Tokens held."""
        return int(self.offset)

    @classmethod
    def of(cls, cache: Any, group_size: int, bits: int) -> "Quantized":
        """A KVCache's content, quantized."""
        made = cls(group_size, bits)
        made.offset = cache.offset
        if cache.keys is not None:
            made.keys = list(mx.quantize(cache.keys, group_size=group_size, bits=bits))
            made.values = list(mx.quantize(cache.values, group_size=group_size, bits=bits))
        return made

    @classmethod
    def merge(cls, caches: Seq["Quantized"]) -> "QuantizedBatch":
        """One batch of several."""
        return QuantizedBatch(caches)


class QuantizedBatch:
    """Quantized caches of several sequences, padded on the left: what the library's BatchKVCache is to its KVCache.

    `keys` and `values` are lists of three arrays (packed numbers, scales, biases) of the shape [rows, heads, cells, *].
    Its `bits` makes the library's attention choose the quantized form.
    """

    def __init__(self, caches: Seq[Quantized]) -> None:
        self.bits = caches[0].bits
        self.group_size = caches[0].group_size
        lengths = [cache.size() for cache in caches]
        self._end = max(lengths)
        padding = [self._end - length for length in lengths]
        self.left_padding = mx.array(padding)
        self.offset = mx.array(lengths)
        self.keys = self._joined([cache.keys for cache in caches], padding, lengths)
        self.values = self._joined([cache.values for cache in caches], padding, lengths)

    @staticmethod
    def _joined(parts: list[Any], padding: list[int], lengths: list[int]) -> Any:
        """Rows of several caches, right-justified."""
        return [
            mx.concatenate(
                [
                    mx.pad(part[kind][..., :length, :], [(0, 0), (0, 0), (left, 0), (0, 0)])
                    for part, left, length in zip(parts, padding, lengths, strict=True)
                ]
            )
            for kind in range(3)
        ]

    def update_and_fetch(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Append tokens to every row; all of a row's keys and values."""
        start, self._end = self._end, self._end + keys.shape[2]
        self.offset = self.offset + keys.shape[2]
        for held, new in ((self.keys, keys), (self.values, values)):
            _append(held, new, start, self.group_size, self.bits)
        return _first(self.keys, self._end), _first(self.values, self._end)

    def make_mask(self, n: int, return_array: bool = False, **options: Any) -> Any:
        """Causal, without the padding."""
        return library.create_causal_mask(n, offset=self._end, left_padding=self.left_padding, **options)

    def filter(self, rows: Any) -> None:
        """Keep only these rows."""
        padding = self.left_padding[rows]
        least = int(padding.min().item())
        for held in (self.keys, self.values):
            for kind, part in enumerate(held):
                held[kind] = part[rows][..., least:, :]
        self.offset = self.offset[rows]
        self.left_padding = padding - least
        self._end -= least

    def extend(self, other: "QuantizedBatch") -> None:
        """Append another batch's rows."""
        end = max(self._end, other._end)
        for held, others in ((self.keys, other.keys), (self.values, other.values)):
            for kind in range(3):
                held[kind] = mx.concatenate([self._padded(held[kind], end), other._padded(others[kind], end)])
        self.left_padding = mx.concatenate(
            [self.left_padding + (end - self._end), other.left_padding + (end - other._end)]
        )
        self.offset = mx.concatenate([self.offset, other.offset])
        self._end = end

    def _padded(self, part: Any, end: int) -> Any:
        return mx.pad(part[..., : self._end, :], [(0, 0), (0, 0), (end - self._end, 0), (0, 0)])

    def extract(self, row: int) -> Quantized:
        """A row as a cache of its own."""
        made = Quantized(self.group_size, self.bits)
        start = int(self.left_padding[row].item())
        made.keys = [mx.contiguous(part[row : row + 1, :, start : self._end]) for part in self.keys]
        made.values = [mx.contiguous(part[row : row + 1, :, start : self._end]) for part in self.values]
        made.offset = self._end - start
        return made

    def trim(self, count: int) -> int:
        """Drop the newest cells of every row."""
        self._end -= count
        self.offset = self.offset - count
        return count

    @property
    def state(self) -> tuple[Any, Any, Any, Any]:
        """Its arrays."""
        return self.keys, self.values, self.offset, self.left_padding


class Quantization:
    """From which length on keys and values are quantized, and how."""

    def __init__(self, bits: int, group_size: int, start_tokens: int) -> None:
        self.bits = bits
        self.group_size = group_size
        self.start_tokens = start_tokens

    def of(self, cache: Any) -> Quantized:
        """A cache, quantized."""
        return Quantized.of(cache, self.group_size, self.bits)


def _append(held: list[Any], new: Any, start: int, group_size: int, bits: int) -> None:
    """Put the new tokens' numbers at `start`, making room where there is none."""
    end = start + new.shape[2]
    for kind, part in enumerate(mx.quantize(new, group_size=group_size, bits=bits)):
        if end > held[kind].shape[2]:
            room = -(-(end - start) // STEP_TOKENS) * STEP_TOKENS
            held[kind] = mx.pad(held[kind][..., :start, :], [(0, 0), (0, 0), (0, room), (0, 0)])
        held[kind][..., start:end, :] = part


def _first(held: list[Any], count: int) -> tuple[Any, ...]:
    return tuple(part[..., :count, :] for part in held)
