"""The caches of every slot: alone while their prompt is computed, joined in one batch while they decode.

A slot's cells lie in one of two places. Alone: a list of the library's caches, one per layer, for this slot only. In a
batch: a row of the library's batched caches, padded on the left to the longest row. Slots join and leave a batch as the
scheduler's feeds say; what leaves and still has cells is copied out.

Which caches can share a batch: those that the library can merge. Quantized ones it can't: `QuantizedBatch` can. Caches
that rotate with a kept beginning (`cache_type: rotating`) lose that beginning in the library's batched form, so such
slots are computed one at a time, inside the same step.
"""

import copy
import importlib
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Any, Final

mx: Any = importlib.import_module("mlx.core")
utils: Any = importlib.import_module("mlx.utils")
library: Any = importlib.import_module("mlx_lm.models.cache")

STEP_TOKENS: Final = 256
"""Cells by which a cache grows, as the library's do."""
ROTATING_KEEP_TOKENS: Final = 4
"""The beginning that a rotating cache keeps, as in the library's own generate()."""

Caches = list[Any]
"""One per layer."""


class Quantized(library.QuantizedKVCache):  # type: ignore[misc]  # the library is Any here
    """The library's quantized cache, that can join a batch."""

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
            for kind, part in enumerate(mx.quantize(new, group_size=self.group_size, bits=self.bits)):
                if self._end > held[kind].shape[2]:
                    room = -(-(self._end - start) // STEP_TOKENS) * STEP_TOKENS
                    whole = held[kind][..., :start, :]
                    held[kind] = mx.pad(whole, [(0, 0), (0, 0), (0, room), (0, 0)])
                held[kind][..., start : self._end, :] = part
        cut = slice(None, self._end)
        return tuple(part[..., cut, :] for part in self.keys), tuple(part[..., cut, :] for part in self.values)

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


class _Batch:
    """Slots that decode together; None marks a row whose slot was forgotten."""

    def __init__(self, slots: Seq[int] = (), caches: Seq[Any] = ()) -> None:
        self.slots: list[int | None] = list(slots)
        self.caches: Caches = list(caches)

    def extract(self, slot: int) -> Caches:
        """A copy of the slot's row, which becomes nobody's."""
        row = self.slots.index(slot)
        self.slots[row] = None
        return [cache.extract(row) for cache in self.caches]

    def drop(self, slot: int) -> None:
        """Forget the slot's row; the last one takes the memory of all with it."""
        self.slots[self.slots.index(slot)] = None
        if not any(other is not None for other in self.slots):
            self.slots, self.caches = [], []

    def keep(self, wanted: set[int]) -> None:
        """Only the rows of these slots."""
        rows = [row for row, slot in enumerate(self.slots) if slot in wanted]
        if len(rows) == len(self.slots):
            return
        self.slots = [self.slots[row] for row in rows]
        if not rows:
            self.caches = []
            return
        for cache in self.caches:
            cache.filter(mx.array(rows))

    def join(self, slots: list[int], alone: list[Caches]) -> None:
        """Append slots with their caches."""
        merged = [layers[0].merge(layers) for layers in zip(*alone, strict=True)]
        self.slots.extend(slots)
        if not self.caches:
            self.caches = merged
            return
        for cache, more in zip(self.caches, merged, strict=True):
            cache.extend(more)


class Memory:
    """Where each slot's cells are, and the forward passes that read and extend them."""

    def __init__(self, model: Any, new: Callable[[], Caches], slots: int, quantize: "Quantization | None") -> None:
        self._model = model
        self._new = new
        self._quantize = quantize
        self._lengths = [0] * slots
        self._alone: dict[int, Caches] = {}
        self._undone: set[int] = set()
        """Slots whose row in a batch has one cell more than they hold: it is dropped when the row is taken out."""
        self.can_undo = all(type(cache) is library.KVCache for cache in new())
        self._batches: dict[type, _Batch] = {}
        """By the kind of the first layer's cache: with quantization from a given length on there are two."""

    def length(self, slot: int) -> int:
        """Cells that the slot holds."""
        return self._lengths[slot]

    # ---- computing ---------------------------------------------------------------------------------------------------

    def prefill(self, slot: int, tokens: Seq[int]) -> None:
        """Compute tokens of one slot, without logits."""
        caches = self._taken_out(slot)
        self._model(mx.array([list(tokens)]), cache=caches)  # lazy: logits that nobody reads are never computed
        self._lengths[slot] += len(tokens)
        self._settle(slot, caches)
        mx.eval([cache.state for cache in self._alone[slot]])

    def prefill_together(self, parts: Seq[tuple[int, Seq[int]]]) -> None:
        """Compute tokens of several slots in one forward pass, padded on the right, as mlx_lm does; else one by one."""
        caches = [self._taken_out(slot) for slot, _ in parts]
        lengths = [len(tokens) for _, tokens in parts]
        padding = [max(lengths) - length for length in lengths]
        if sum(padding) > sum(lengths) or not all(map(_can_pad, caches)):
            for slot, tokens in parts:
                self.prefill(slot, tokens)
            return
        merged = [layers[0].merge(layers) for layers in zip(*caches, strict=True)]
        for cache in merged if any(padding) else ():
            cache.prepare(lengths=lengths, right_padding=padding)
        rows = [[*tokens, *[0] * more] for (_, tokens), more in zip(parts, padding, strict=True)]
        self._model(mx.array(rows), cache=merged)
        for cache in merged if any(padding) else ():
            cache.finalize()
        for row, (slot, tokens) in enumerate(parts):
            self._lengths[slot] += len(tokens)
            self._settle(slot, [cache.extract(row) for cache in merged])
        mx.eval([cache.state for slot, _ in parts for cache in self._alone[slot]])

    def decode(self, slots: Seq[int], tokens: Any) -> Any:
        """Compute one token of each slot; the logits after it, [slots, vocabulary], in the slots' order; lazy.

        `tokens` is an array, which may itself be lazy. Who decoded before and isn't among the slots leaves its batch.
        """
        return self._forward(self._groups(slots), slots, tokens)

    def decode_beside(self, slot: int, token: Any) -> Any:
        """The same for one slot that isn't in a batch, and leaves the batches as they are."""
        caches = self._taken_out(slot)
        return self._forward([_Batch([slot], caches)], [slot], token)

    def _forward(self, groups: list[_Batch], slots: Seq[int], tokens: Any) -> Any:
        place = {slot: at for at, slot in enumerate(slots)}
        order: list[int] = []
        logits: list[Any] = []
        for batch in groups:
            members = [place[slot] for slot in batch.slots if slot is not None]
            logits.append(self._model(picked(tokens, members)[:, None], cache=batch.caches)[:, -1, :])
            order.extend(members)
        for slot in slots:
            self._lengths[slot] += 1
        joined = logits[0] if len(logits) == 1 else mx.concatenate(logits)
        return picked(joined, [order.index(at) for at in range(len(order))])

    def undo(self, slots: Seq[int]) -> None:
        """Forget the newest cell of these slots. Only where `can_undo`."""
        for slot in slots:
            self._lengths[slot] -= 1
            for cache in self._alone.get(slot, ()):
                cache.trim(1)
        for batch in self._batches.values():
            members = {slot for slot in batch.slots if slot is not None}
            undone = members & set(slots)
            if undone == members and not undone & self._undone:
                for cache in batch.caches:
                    cache.trim(1)
            else:
                self._undone |= undone

    def _groups(self, slots: Seq[int]) -> list[_Batch]:
        """The batches of one decode. A slot that is alone, or can't share, is computed with its own caches."""
        self._leave(set(slots))
        joining: dict[type, list[int]] = {}
        single: list[int] = []
        batched = {slot for batch in self._batches.values() for slot in batch.slots}
        for slot in slots:
            if slot not in batched:
                caches = self._alone[slot] if slot in self._alone else self._alone.setdefault(slot, self._new())
                if can_merge(caches):
                    joining.setdefault(type(caches[0]), []).append(slot)
                else:
                    single.append(slot)
        for kind, members in joining.items():
            batch = self._batches.setdefault(kind, _Batch())
            if len(members) == 1 and not batch.slots:
                single += members
            else:
                batch.join(members, [self._alone.pop(slot) for slot in members])
        shared = [batch for batch in self._batches.values() if batch.slots]
        return [*shared, *(_Batch([slot], self._alone[slot]) for slot in single)]

    def _leave(self, wanted: set[int]) -> None:
        """Take out of the batches who isn't wanted there, has become long enough to be quantized, or is left alone."""
        for batch in self._batches.values():
            members = [slot for slot in batch.slots if slot is not None]
            lonely = sum(slot in wanted for slot in members) == 1
            for slot in members:
                if lonely or slot not in wanted or slot in self._undone or self._is_due(slot, batch.caches):
                    self._settle(slot, self._extracted(slot, batch))
            batch.keep(wanted)
        for slot in wanted & self._alone.keys():
            self._settle(slot, self._alone[slot])

    def _extracted(self, slot: int, batch: _Batch) -> Caches:
        caches = batch.extract(slot)
        if slot in self._undone:
            self._undone.remove(slot)
            for cache in caches:
                cache.trim(1)
        return caches

    def _settle(self, slot: int, caches: Caches) -> None:
        """The slot's caches, alone; quantized where it is time."""
        if self._is_due(slot, caches):
            assert self._quantize is not None
            caches = [self._quantize.of(cache) for cache in caches]
        self._alone[slot] = caches

    def _is_due(self, slot: int, caches: Caches) -> bool:
        quantize = self._quantize
        if quantize is None or self._lengths[slot] < quantize.start_tokens:
            return False
        return not hasattr(caches[0], "bits")

    def _taken_out(self, slot: int) -> Caches:
        """The slot's caches, alone."""
        for batch in self._batches.values():
            if slot in batch.slots:
                self._settle(slot, self._extracted(slot, batch))
        if slot not in self._alone:
            self._alone[slot] = self._new()
        return self._alone[slot]

    # ---- forgetting and sharing --------------------------------------------------------------------------------------

    def clear(self, slot: int) -> None:
        """Forget the slot's cells."""
        self._alone.pop(slot, None)
        self._undone.discard(slot)
        for batch in self._batches.values():
            if slot in batch.slots:
                batch.drop(slot)
        self._lengths[slot] = 0

    def cut(self, slot: int, length: int) -> bool:
        """Keep only the first cells of a slot. False: these caches can't go back."""
        count = self._lengths[slot] - length
        if count == 0:
            return True
        caches = self._taken_out(slot)
        if not can_go_back(caches):
            return False
        for cache in caches:
            cache.trim(count)
        self._lengths[slot] = length
        return True

    def share(self, source: int, target: int, length: int) -> bool:
        """Copy the first cells of a slot to an empty one. False: these caches can't be cut there."""
        caches = self._view(source)
        count = self._lengths[source] - length
        if count and not can_go_back(caches):
            return False
        copies = copied(caches)
        for cache in copies if count else ():
            cache.trim(count)
        self._alone[target] = copies
        self._lengths[target] = length
        return True

    def _view(self, slot: int) -> Caches:
        """The slot's caches for reading; a row of a batch is copied, and stays where it is."""
        for batch in self._batches.values():
            if slot in batch.slots:
                row = batch.slots.index(slot)
                caches = [cache.extract(row) for cache in batch.caches]
                for cache in caches if slot in self._undone else ():
                    cache.trim(1)
                return caches
        return self._alone[slot]

    # ---- states ------------------------------------------------------------------------------------------------------

    def take(self, slot: int) -> Caches:
        """Copies of the slot's caches."""
        return copied(self._view(slot))

    def put(self, slot: int, caches: Caches, length: int) -> None:
        """Give an empty slot these caches."""
        self._alone[slot] = caches
        self._lengths[slot] = length


class Quantization:
    """From which length on keys and values are quantized, and how."""

    def __init__(self, bits: int, group_size: int, start_tokens: int) -> None:
        self.bits = bits
        self.group_size = group_size
        self.start_tokens = start_tokens

    def of(self, cache: Any) -> Quantized:
        """A cache, quantized."""
        return Quantized.of(cache, self.group_size, self.bits)


def picked(rows: Any, places: list[int]) -> Any:
    """Rows in another order; the same array where they are in order."""
    return rows if places == list(range(rows.shape[0])) else rows[mx.array(places)]


def can_merge(caches: Caches) -> bool:
    """Whether such caches can share a batch."""
    return all(hasattr(cache, "merge") and not getattr(cache, "keep", 0) for cache in caches)


def _can_pad(caches: Caches) -> bool:
    """Whether such caches can be padded on the right. mlx_lm's Mamba, for one, reads the padding into its state."""
    return can_merge(caches) and all(type(cache) in (library.KVCache, library.RotatingKVCache) for cache in caches)


def can_go_back(caches: Caches) -> bool:
    """Whether the newest cells can be dropped: not of recurrent states, nor of a window that has moved on."""
    return all(_can_go_back(cache) for cache in caches)


def _can_go_back(cache: Any) -> bool:
    if isinstance(cache, library.CacheList):
        return all(map(_can_go_back, cache.caches))
    known = library.KVCache | library.QuantizedKVCache | library.RotatingKVCache
    return isinstance(cache, known) and bool(cache.is_trimmable())


def copied(caches: Caches) -> Caches:
    """Caches of the same content. Arrays are shared until one side writes: then the engine copies them."""
    return [_copied(cache) for cache in caches]


def _copied(cache: Any) -> Any:
    # A write into an array changes that Python object, so each cache needs objects of its own; a whole slice is one.
    made = copy.copy(cache)
    if isinstance(cache, library.CacheList):
        made.caches = tuple(_copied(one) for one in cache.caches)
        return made
    for name, value in vars(cache).items():
        setattr(made, name, utils.tree_map(lambda item: item[...] if isinstance(item, mx.array) else item, value))
    return made


def cell_bytes(caches: Caches) -> float:
    """Bytes of one token's cells over all layers, measured on caches that hold at least one."""
    arrays = [
        value for cache in _flat(caches) for value in (getattr(cache, "keys", None), getattr(cache, "values", None))
    ]
    parts = [
        part
        for value in arrays
        if value is not None
        for part in (value if isinstance(value, list | tuple) else [value])
    ]
    return float(sum(part.nbytes / max(1, part.shape[2]) for part in parts))


def _flat(caches: Seq[Any]) -> list[Any]:
    return [one for cache in caches for one in (_flat(cache.caches) if hasattr(cache, "caches") else [cache])]
