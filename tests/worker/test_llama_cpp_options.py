"""Each load option of llama.cpp, read back from the engine: its log, its memory, or what it computes."""

import logging
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil
import pytest

from benchmarks import random_model
from heylook_llm import config, core
from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers import llama_cpp_pages
from heylook_llm.worker.providers.base import Feed
from heylook_llm.worker.providers.llama_cpp import open_model
from heylook_llm.worker.providers.llama_cpp_load import SPARE_SLOTS, tensor_overrides
from heylook_llm.worker.providers.llama_cpp_pages import has_large_pages
from tests.worker import lora_file
from tests.worker.client import Client

pytestmark = pytest.mark.integration

PROMPT = tuple(range(10, 60))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-shaped GGUF of 140,000 random parameters."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    # Heads of 32 numbers: what quantized context memory comes in.
    random_model.write(path, random_model.SHAPES["tiny"]._replace(heads=2, kv_heads=1), whole=True)
    return path


class Loaded:
    """What a load left behind."""

    def __init__(self, log: str, tokens: list[int], row: Any, locked_kib: int) -> None:
        self.log = log
        self.tokens = tokens
        self.row = row
        self.locked_kib = locked_kib


@pytest.fixture(scope="module")
def kept() -> dict[str, Loaded]:
    """What loads left behind, by their options."""
    return {}


@pytest.fixture
def loaded(file: Path, caplog: pytest.LogCaptureFixture, kept: dict[str, Loaded]) -> Callable[..., Loaded]:
    """Loads the file with these options, validated as models.yaml's, and draws a few tokens greedily; each once."""

    def load(path: Path = file, **options: Any) -> Loaded:
        name = repr((path, sorted(options.items())))
        if name not in kept:
            kept[name] = opened(path, **options)
        return kept[name]

    def opened(path: Path, **options: Any) -> Loaded:
        caplog.clear()
        whole = config.LlamaCppConfig(model_path=str(path), **{"n_ctx": 256, "n_parallel": 2, **options})
        given = whole.model_dump(exclude_unset=True)
        with caplog.at_level(logging.DEBUG, "heylook_llm.worker.llama_cpp"):
            one = open_model(core.Load("random", "llama_cpp", str(path), given), lambda fraction: None)
        status = Path("/proc/self/status")
        locked = re.search(r"VmLck:\s+(\d+) kB", status.read_text()) if status.exists() else None
        one.add(0, core.Sampling(temperature=0.0), PROMPT)
        tokens = list(PROMPT)
        row = None
        for at in range(8):
            fed = PROMPT if not at else (tokens[-1],)
            [drawn] = one.step([Feed(0, len(tokens) - len(fed), fed, True)])
            if not at:
                row = one.logits(1)[0].copy()
            tokens.append(drawn.token)
        one.close()
        return Loaded(caplog.text, tokens[len(PROMPT) :], row, int(locked.group(1)) if locked else 0)

    return load


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"n_ctx": 300, "n_parallel": 2}, r"n_ctx +=  *768"),
        ({"kv_tokens": 1024}, r"n_ctx +=  *1024"),
        ({"n_parallel": 3}, rf"n_seq_max +=  *{3 + SPARE_SLOTS}"),
        ({"n_batch": 64}, r"n_batch +=  *64"),
        ({"n_ubatch": 32}, r"n_ubatch +=  *32"),
        ({"flash_attn": True}, r"flash_attn +=  *enabled"),
        ({"flash_attn": False}, r"flash_attn +=  *disabled"),
        ({}, r"flash_attn +=  *auto"),
        ({"use_mmap": False}, r"load_mode = none"),
        ({"use_mmap": True}, r"load_mode = mmap\)"),
        ({}, r"load_mode = none" if has_large_pages() else r"load_mode = mmap\)"),
        ({"use_direct_io": True}, r"load_mode = (dio|direct)"),
        ({"type_k": "q8_0"}, r"K \(q8_0\)"),
        ({"type_k": "iq4_nl"}, r"K \(iq4_nl\)"),
        ({"type_v": "q4_1", "flash_attn": True}, r"V \(q4_1\)"),
        ({"type_k": "bf16", "type_v": "f32"}, r"K \(bf16\).*V \(f32\)"),
        ({"rope_freq_base": 5000.0}, r"freq_base +=  *5000\.0"),
        ({"rope_freq_scale": 0.25}, r"freq_scale +=  *0\.25"),
        ({"override_kv": {"qwen2.context_length": 777}}, r"n_ctx_train +=  *777"),
        ({"override_kv": {"qwen2.rope.freq_base": 123.0}}, r"freq_base_train +=  *123\.0"),
        ({"override_kv": {"tokenizer.ggml.add_bos_token": True}}, r"override.*add_bos_token.*\n?.*true"),
        ({"override_kv": {"general.name": "another"}}, r"override.*general\.name"),
        ({"override_tensor": {r"blk\.1\.ffn_.*": "CPU"}}, r"tensor blk\.1\.ffn_down\.weight.* overridden to CPU"),
        ({"n_cpu_moe": 2, "override_tensor": {"output": "CPU"}}, r"tensor output\.weight.* overridden to CPU"),
    ],
)
def test_the_engine_says_what_it_took(loaded: Callable[..., Loaded], options: dict[str, Any], line: str) -> None:
    assert re.search(line, loaded(**options).log)


@pytest.mark.parametrize(
    "options",
    [
        {"rope_freq_base": 100.0},
        {"rope_scaling_type": "linear", "rope_freq_scale": 0.1},
        {"rope_scaling_type": "yarn", "rope_freq_scale": 0.1, "yarn_orig_ctx": 32},
        {"rope_scaling_type": "yarn", "rope_freq_scale": 0.1, "yarn_ext_factor": 0.0},
        {"rope_scaling_type": "yarn", "rope_freq_scale": 0.1, "yarn_ext_factor": 0.0, "yarn_attn_factor": 3.0},
        {"rope_scaling_type": "yarn", "rope_freq_scale": 0.1, "yarn_beta_fast": 1.0},
        {"rope_scaling_type": "yarn", "rope_freq_scale": 0.1, "yarn_beta_slow": 0.01},
        {"type_v": "f32", "type_k": "q4_0"},
        {"type_k": "f32", "flash_attn": True, "type_v": "q4_0"},
        {"override_kv": {"qwen2.attention.layer_norm_rms_epsilon": 0.5}},
    ],
)
def test_what_is_computed_changes(loaded: Callable[..., Loaded], options: dict[str, Any]) -> None:
    """Against the same without the last of the options."""
    last = list(options)[-1]
    rest = {key: value for key, value in options.items() if key != last}
    assert not np.allclose(loaded(**options).row, loaded(**rest).row, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"use_mmap": False},
        {"use_direct_io": True},
        {"check_tensors": True},
        {"repack": False},
        {"no_host": True},
        {"op_offload": False},
        {"offload_kqv": False},
        {"numa": "isolate"},
        {"split_mode": "none"},
        {"split_mode": "row"},
        {"tensor_split": (3.0, 1.0)},
        {"devices": ("none",)},
        {"n_threads": 1, "n_threads_batch": 2},
        {"swa_full": False},
    ],
)
def test_what_is_computed_stays_the_same(loaded: Callable[..., Loaded], options: dict[str, Any]) -> None:
    """Where and how it is computed isn't what: nothing of these may change an answer."""
    whole = {"type_k": "f32", "type_v": "f32", "flash_attn": False}
    plain, found = loaded(**whole), loaded(**whole, **options)
    assert found.tokens == plain.tokens
    assert np.allclose(found.row, plain.row, atol=1e-3)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists() or -1 < resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] < 8 << 20,
    reason="this machine locks no memory, or doesn't say how much",
)
def test_locked_weights_stay_in_memory(loaded: Callable[..., Loaded]) -> None:
    before = loaded().locked_kib
    assert loaded(use_mlock=True).locked_kib > before
    assert loaded(use_mlock=True, use_mmap=False).locked_kib > before


def test_a_file_is_read_where_that_pays_and_fits(tmp_path: Path) -> None:
    """Sparse files, sized by this machine's memory."""

    def maps(*gibibytes: int, wanted: object = "auto", on_gpu: bool = False) -> bool:
        paths = [tmp_path / f"m-{number:05}-of-{len(gibibytes):05}.gguf" for number in range(1, len(gibibytes) + 1)]
        for path, size in zip(paths, gibibytes, strict=True):
            with path.open("wb") as part:
                part.truncate(size << 30)
        return llama_cpp_pages.maps(wanted, paths[0], on_gpu=on_gpu)

    whole = psutil.virtual_memory().total >> 30
    assert maps(0) is not has_large_pages()
    assert maps(whole + 1)
    assert maps(0, 0, whole + 1), "all parts of a split file count"
    assert maps(0, on_gpu=True)
    assert maps(0, wanted=True)
    assert not maps(whole + 1, wanted=False)
    assert not maps(whole + 1, wanted=False, on_gpu=True)


def test_weights_are_laid_out_for_the_processor_where_asked(
    loaded: Callable[..., Loaded], file: Path, tmp_path: Path
) -> None:
    """Of a kind of weights that ggml has such layouts for, if this processor is one of them."""
    quantized = tmp_path / "quantized.gguf"
    random_model.quantize(file, quantized, "Q4_K_M")
    assert "REPACK" in loaded(quantized).log, "it says at least why it doesn't"
    assert "REPACK" not in loaded(quantized, repack=False).log


def test_a_file_with_a_number_that_is_none_is_refused_where_asked(
    loaded: Callable[..., Loaded], file: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "nan.gguf"
    data = bytearray(file.read_bytes())
    [tensor] = [one for one in gguf.GGUFReader(file).tensors if one.name == "blk.0.ffn_up.weight"]
    data[tensor.data_offset : tensor.data_offset + 4] = np.float32("nan").tobytes()
    damaged.write_bytes(data)
    loaded(damaged)
    with pytest.raises(LoadFailed, match="can't be loaded"):
        loaded(damaged, check_tensors=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"type_v": "q8_0", "flash_attn": False}, "V cache"),
        ({"devices": ("GPU9",)}, "`devices` names 'GPU9'"),
        ({"override_tensor": {"ffn": "NOWHERE"}}, "`override_tensor` names 'NOWHERE'; there are: .*CPU"),
        ({"override_kv": {"qwen2.block_count": 5}}, "can't be loaded"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(
    loaded: Callable[..., Loaded], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LoadFailed, match=reason):
        loaded(**options)


@pytest.mark.unit
def test_experts_are_found_by_their_names() -> None:
    def on_processor(name: str, **options: Any) -> bool:
        return any(kind == "CPU" and re.search(pattern, name) for pattern, kind in tensor_overrides(options).items())

    names = ["blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight", "blk.11.ffn_gate_exps.weight"]
    assert [on_processor(name, n_cpu_moe=2) for name in names] == [True, True, False]
    assert [on_processor(name, n_cpu_moe=-1) for name in names] == [True, True, True]
    assert not any(on_processor(name) for name in names)
    assert not on_processor("blk.0.ffn_up.weight", n_cpu_moe=-1)
    assert next(iter(tensor_overrides({"n_cpu_moe": 1, "override_tensor": {"exps": "X"}}))) == "exps"


# ---- LoRA adapters ---------------------------------------------------------------------------------------------------


def test_an_adapter_that_adds_nothing_changes_nothing(loaded: Callable[..., Loaded], tmp_path: Path) -> None:
    path = lora_file.write(tmp_path / "zero.gguf", up=0.0)
    plain, found = loaded(), loaded(lora=[{"path": str(path)}])
    assert found.tokens == plain.tokens
    assert np.allclose(found.row, plain.row, atol=1e-5)


def test_an_adapter_acts_by_its_scale(loaded: Callable[..., Loaded], tmp_path: Path) -> None:
    path = lora_file.write(tmp_path / "strong.gguf", up=2.0)
    plain, full = loaded(), loaded(lora=[{"path": str(path)}])
    assert full.tokens != plain.tokens
    none = loaded(lora=[{"path": str(path), "scale": 0.0}])
    assert np.allclose(none.row, plain.row, atol=1e-5)
    twice_half = loaded(lora=[{"path": str(path), "scale": 0.5}, {"path": str(path), "scale": 0.5}])
    assert np.allclose(twice_half.row, full.row, atol=1e-2)
    assert not np.allclose(loaded(lora=[{"path": str(path), "scale": 0.5}]).row, full.row, atol=1e-2)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architecture": "llama"}, "doesn't fit the model: .*arch"),
        ({"width": 32}, "doesn't fit the model: .*shape"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_nothing_crashes(
    file: Path, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    path = lora_file.write(tmp_path / "wrong.gguf", up=1.0, **fields)
    with Client(load=False) as client:
        client.load("llama_cpp", str(file), n_ctx=256, lora=[{"path": str(path), "scale": 1.0}])
        refused = client.ready()
    assert isinstance(refused, core.Refused)
    assert re.search(f"the LoRA adapter wrong.gguf {reason}", refused.error.message)
    assert str(tmp_path) not in refused.error.message


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tensor": "blk.9.attn_output.weight"}, "doesn't fit the model"),
        ({"general_type": "model"}, "is no LoRA adapter"),
        ({"adapter_type": "other"}, "is no LoRA adapter"),
        ({"whole_alpha": 4}, "is damaged: its adapter.lora.alpha"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    loaded: Callable[..., Loaded], tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    path = lora_file.write(tmp_path / "wrong.gguf", up=1.0, **fields)
    with pytest.raises(LoadFailed, match=f"the LoRA adapter wrong.gguf {reason}") as refused:
        loaded(lora=[{"path": str(path)}])
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_a_damaged_adapter_is_refused(loaded: Callable[..., Loaded], tmp_path: Path, damage: str) -> None:
    path = lora_file.write(tmp_path / "adapter.gguf", up=1.0)
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LoadFailed, match=r"the LoRA adapter adapter\.gguf can't be read"):
        loaded(lora=[{"path": str(path)}])
