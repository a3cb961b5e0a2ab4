"""What a model takes of main memory and of the GPUs', and the largest context that fits into what is free.

Two budgets where a GPU has memory of its own; one where it shares the machine's (Apple silicon), where there is no GPU,
or where its memory can't be told. Pure.
"""

import math
from typing import Final

import msgspec

NOWHERE: Final = -1
"""The context of a model that doesn't fit at all."""


class Bytes(msgspec.Struct, frozen=True):
    """An amount of memory. `gpu` None: there is no such budget, all is main memory's."""

    main: int = 0
    gpu: int | None = None

    def plus(self, other: "Bytes") -> "Bytes":
        """Both together, in the budgets of this one."""
        if self.gpu is None:
            return Bytes(self.main + other.main + (other.gpu or 0))
        return Bytes(self.main + other.main, self.gpu + (other.gpu or 0))

    @property
    def total(self) -> int:
        """Of both budgets."""
        return self.main + (self.gpu or 0)


class Placement(msgspec.Struct, frozen=True):
    """Where a model lies, if there is a GPU with memory of its own: the share of its weights and of its cache there.

    `spills`: the engine puts as many whole layers there as fit, and the rest into main memory; the cache lies with its
    layer, unless its share is 0.
    """

    weights: float = 0.0
    cache: float = 0.0
    spills: bool = False
    layers: int = 1


class Need(msgspec.Struct, frozen=True):
    """What a model takes in memory, from its file: weights, and cache per token of one sequence."""

    weights_bytes: int
    kv_bytes_per_token: int = 0
    n_ctx_trained: int | None = None
    pool_tokens: int = 0
    """The shared pool's size where the configuration sets it; 0: the engine takes what is free."""
    kv_bytes: int = 0
    """Cache that doesn't grow with the context: sliding windows, recurrent states."""
    placement: Placement = Placement()

    def total_bytes(self, n_ctx: int) -> int:
        """Weights and the pool: at least one full sequence; the engine cuts what it takes beyond to what is free."""
        return self.weights_bytes + self.kv_bytes + self.kv_bytes_per_token * max(n_ctx, self.pool_tokens)

    def divided(self, n_ctx: int, free: Bytes) -> Bytes:
        """The same, in the budgets of what is free."""
        total = self.total_bytes(n_ctx)
        if free.gpu is None:
            return Bytes(total)
        placement, cache = self.placement, total - self.weights_bytes
        if not placement.spills:
            gpu = math.ceil(self.weights_bytes * placement.weights) + math.ceil(cache * placement.cache)
            return Bytes(total - gpu, gpu)
        movable = total if placement.cache else self.weights_bytes
        gpu = movable if movable <= free.gpu else _whole_layers(movable, placement.layers, free.gpu)
        return Bytes(total - gpu, gpu)

    def fits(self, n_ctx: int, free: Bytes) -> bool:
        """Whether it fits with this context."""
        taken = self.divided(n_ctx, free)
        return taken.main <= free.main and (taken.gpu or 0) <= (free.gpu or 0)

    def most_tokens(self, free: Bytes) -> int | None:
        """The largest context that fits; NOWHERE: none, or not the configured pool; None: any, the context is free."""
        if not self.fits(0, free):
            return NOWHERE
        if not self.kv_bytes_per_token:
            return None
        fitting, beyond = 0, max(0, free.total) // self.kv_bytes_per_token + 1
        while beyond - fitting > 1:
            middle = (fitting + beyond) // 2
            if self.fits(middle, free):
                fitting = middle
            else:
                beyond = middle
        return fitting


def _whole_layers(count: int, layers: int, free: int) -> int:
    """How much of so many bytes lies on a GPU that takes whole layers; one more holds what isn't a layer's."""
    layer = count / (layers + 1)
    return int(max(0, min(layers + 1, math.floor(free / layer))) * layer) if layer else 0
