"""Quantized context memory in a batch: each row attends to what it would alone, whatever the number of bits."""

import importlib
from typing import Any

import pytest

pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed: pip install 'heylookllm[mlx]'", exc_type=ImportError)
quantized = pytest.importorskip("heylook_llm.worker.providers.mlx_quantized", exc_type=ImportError)
mx: Any = importlib.import_module("mlx.core")
library: Any = importlib.import_module("mlx_lm.models.cache")
attend: Any = importlib.import_module("mlx_lm.models.base").scaled_dot_product_attention

pytestmark = pytest.mark.unit

LENGTHS = (5, 250, 31)
WIDTH = 32


def held(tokens: int, seed: int) -> Any:
    """A plain cache of so many random tokens."""
    mx.random.seed(seed)
    cache = library.KVCache()
    cache.update_and_fetch(*(mx.random.normal((1, 2, tokens, WIDTH)) for _ in range(2)))
    return cache


def attended(cache: Any, queries: Any, keys: Any, values: Any) -> Any:
    """The attention of one more token of each row. The library scales the queries in place."""
    mask = cache.make_mask(1, return_array=False, window_size=None)
    found = cache.update_and_fetch(keys, values)
    return attend(queries + 0, *found, cache=cache, scale=0.2, mask=mask)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group_size", [32])
def test_a_row_of_a_batch_is_as_alone(bits: int, group_size: int) -> None:
    alone = [quantized.Quantized.of(held(n, at), group_size, bits) for at, n in enumerate(LENGTHS)]
    batch = quantized.Quantized.merge(
        [quantized.Quantized.of(held(n, at), group_size, bits) for at, n in enumerate(LENGTHS)]
    )
    for step in range(24):  # beyond the 256 cells that a cache grows by
        mx.random.seed(100 + step)
        queries, keys, values = (mx.random.normal((3, heads, 1, WIDTH)) for heads in (4, 2, 2))
        together = attended(batch, queries, keys, values)
        apart = [
            attended(one, queries[at : at + 1], keys[at : at + 1], values[at : at + 1]) for at, one in enumerate(alone)
        ]
        assert mx.allclose(together, mx.concatenate(apart), atol=1e-5).item()
        if step == 12:
            batch.filter(mx.array([0, 2]))
            batch.extend(quantized.Quantized.merge([alone[1]]))
            alone = [alone[0], alone[2], alone[1]]
