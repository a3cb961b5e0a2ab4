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
from typing import Any

from heylook_llm.worker.images import has_images
from heylook_llm.worker.providers.base import Sharing
from heylook_llm.worker.providers.mlx_quantized import Quantization

mx: Any = importlib.import_module("mlx.core")
utils: Any = importlib.import_module("mlx.utils")
library: Any = importlib.import_module("mlx_lm.models.cache")

Caches = list[Any]
"""One per layer."""


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

    def __init__(
        self,
        model: Any,
        new: Callable[[], Caches],
        slots: int,
        quantize: Quantization | None,
        embedded: Callable[[Seq[int]], Any] | None = None,
    ) -> None:
        """`embedded`: what the model computes of tokens some of which are images'."""
        self._model = model
        self._embedded = embedded
        self._new = new
        self._quantize = quantize
        self._lengths = [0] * slots
        self._alone: dict[int, Caches] = {}
        self._undone: set[int] = set()
        """Slots whose row in a batch has one cell more than they hold: it is dropped when the row is taken out."""
        caches = new()
        self.can_undo = all(type(cache) is library.KVCache for cache in caches)
        """Whether the newest cells can always be dropped: not of recurrent states, nor of a window that moved on."""
        self.sharing: Sharing = "any" if self.can_undo else "whole"
        self._batches: dict[type, _Batch] = {}
        """By the kind of the first layer's cache: with quantization from a given length on there are two."""

    def length(self, slot: int) -> int:
        """Cells that the slot holds."""
        return self._lengths[slot]

    # ---- computing ---------------------------------------------------------------------------------------------------

    def prefill(self, slot: int, tokens: Seq[int]) -> None:
        """Compute tokens of one slot, without logits."""
        caches = self._taken_out(slot)
        self._read(tokens, caches)  # lazy: logits that nobody reads are never computed
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

    def verify(self, slot: int, tokens: Seq[int]) -> Any:
        """Compute several tokens of one slot in a pass of their own; the logits after each, [tokens, vocabulary]."""
        caches = self._taken_out(slot)
        logits = self._read(tokens, caches)[0]
        self._lengths[slot] += len(tokens)
        self._settle(slot, caches)
        return logits

    def _read(self, tokens: Seq[int], caches: Caches) -> Any:
        """The logits of one slot's tokens, [1, tokens, vocabulary]."""
        if not has_images(tokens):
            return self._model(mx.array([list(tokens)]), cache=caches)
        assert self._embedded is not None, "who reads no images is fed none"
        ids = mx.array([[max(0, token) for token in tokens]])
        return self._model(ids, cache=caches, input_embeddings=self._embedded(tokens))

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

    def state_bytes(self, slot: int) -> int:
        """What the slot's caches hold."""
        parts = utils.tree_flatten([cache.state for cache in self._view(slot)])
        return sum(int(part.nbytes) for _, part in parts if isinstance(part, mx.array))

    def take(self, slot: int) -> Caches:
        """Copies of the slot's caches."""
        return copied(self._view(slot))

    def put(self, slot: int, caches: Caches, length: int) -> None:
        """Give an empty slot these caches."""
        self._alone[slot] = caches
        self._lengths[slot] = length


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
