"""Where a model is computed and what it takes, by what engines say."""

import pytest

from heylook_llm import core
from heylook_llm.config import ModelSpec
from heylook_llm.server.backend import ModelStatus
from heylook_llm.server.placement import Compute, compute_mode, sizes

pytestmark = pytest.mark.unit

GIB = 1 << 30
SPEC = ModelSpec.model_validate({"id": "m", "provider": "fake", "config": {}})


def info(**fields: int | None) -> core.ModelInfo:
    return core.ModelInfo("llama_cpp", "llama", 4096, **fields)  # type: ignore[arg-type]  # of each its type


@pytest.mark.parametrize(
    ("layers", "on_gpu", "mode"),
    [(32, 0, "cpu"), (32, 12, "hybrid"), (32, 32, "gpu"), (32, 33, "gpu"), (32, None, None), (None, 5, "hybrid")],
)
def test_the_engines_layers_decide(layers: int | None, on_gpu: int | None, mode: Compute | None) -> None:
    assert compute_mode(info(n_layers=layers, n_layers_gpu=on_gpu)) == mode


@pytest.mark.parametrize(
    ("found", "resident", "expected"),
    [
        (info(weights_bytes=4 * GIB, kv_bytes=GIB, gpu_bytes=0), 6 * GIB, (5 * GIB, 0)),
        (info(weights_bytes=4 * GIB, kv_bytes=GIB, gpu_bytes=0), None, (5 * GIB, 0)),
        (info(weights_bytes=4 * GIB, kv_bytes=GIB, gpu_bytes=2 * GIB), 7 * GIB, (5 * GIB, 2 * GIB)),
        (info(weights_bytes=4 * GIB, kv_bytes=GIB, gpu_bytes=6 * GIB), GIB, (6 * GIB, 6 * GIB)),
        (info(gpu_bytes=None), None, (9, 0)),
        (None, None, (9, 0)),
        (None, 7, (7, 0)),
    ],
)
def test_what_lies_on_the_gpu_is_part_of_all(
    found: core.ModelInfo | None, resident: int | None, expected: tuple[int, int]
) -> None:
    assert sizes(ModelStatus(SPEC, "ready", found, resident_bytes=resident), found, 9) == expected
