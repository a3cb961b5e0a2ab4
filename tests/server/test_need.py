"""What a model will need in memory, from its files alone: also what is loaded beside it."""

from pathlib import Path

import pytest

from heylook_llm import config, tiny
from heylook_llm.catalog import projector
from heylook_llm.errors import LoadFailed
from heylook_llm.server.measure import need
from tests.worker import random_gguf, random_projector

pytestmark = pytest.mark.unit

BUNDLED = Path(tiny.__file__).parent
GGUF, MLX = BUNDLED / "heylook-tiny.gguf", BUNDLED / "heylook-tiny-mlx"


def spec(provider: str, **fields: object) -> config.ModelSpec:
    """An entry with that config."""
    kind = config.PROVIDERS[provider]
    return config.ModelSpec.model_validate({"id": "m", "provider": provider, "config": kind.model_validate(fields)})


def test_a_small_model_and_adapters_count(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"x" * 1000)
    plain = need(spec("llama_cpp", model_path=str(GGUF)))
    lora = [{"path": str(adapter)}, {"path": str(tmp_path / "missing.gguf")}]
    more = need(spec("llama_cpp", model_path=str(GGUF), draft_model_path=str(GGUF), lora=lora))
    assert more.weights_bytes == 2 * plain.weights_bytes + 1000
    assert more.kv_bytes_per_token == 2 * plain.kv_bytes_per_token
    assert more.n_ctx_trained == plain.n_ctx_trained


def test_a_projector_counts_with_what_encoding_takes(tmp_path: Path) -> None:
    model = random_gguf.write(tmp_path / "text.gguf", "llama")
    eyes = random_projector.write(tmp_path / "mmproj.gguf", "mlp")
    plain = need(spec("llama_cpp", model_path=str(model)))
    seeing = need(spec("llama_cpp", model_path=str(model), mmproj_path=str(eyes)))
    found = projector.read(eyes, "m")
    assert seeing.weights_bytes == plain.weights_bytes + found.header.weights_bytes + found.compute_bytes(flash=True)
    assert seeing.kv_bytes_per_token == plain.kv_bytes_per_token
    other = random_projector.write(tmp_path / "other.gguf", "mlp", width=128)
    with pytest.raises(LoadFailed, match="fits models that are 128 wide"):
        need(spec("llama_cpp", model_path=str(model), mmproj_path=str(other)))
    eyes.write_bytes(eyes.read_bytes()[:-100])
    with pytest.raises(LoadFailed, match="`mmproj_path`"):
        need(spec("llama_cpp", model_path=str(model), mmproj_path=str(eyes)))


def test_a_small_model_and_an_adapter_of_mlx_count(tmp_path: Path) -> None:
    (tmp_path / "adapters.safetensors").write_bytes(b"x" * 1000)
    plain = need(spec("mlx", model_path=str(MLX)))
    more = need(spec("mlx", model_path=str(MLX), draft_model_path=str(MLX), adapter_path=str(tmp_path)))
    assert more.weights_bytes == 2 * plain.weights_bytes + 1000


@pytest.mark.parametrize("provider", ["llama_cpp", "mlx"])
def test_a_small_model_that_is_missing_is_refused_before_a_load(provider: str, tmp_path: Path) -> None:
    path = str(GGUF if provider == "llama_cpp" else MLX)
    with pytest.raises(LoadFailed):
        need(spec(provider, model_path=path, draft_model_path=str(tmp_path / "none")))
