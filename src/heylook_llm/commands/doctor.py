"""`heylookllm doctor`: what works on this machine, and what to do about what doesn't."""

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import click

from heylook_llm import __version__, config, engines, hardware, registry
from heylook_llm.catalog import gguf_header, mlx_folder, mlx_vision
from heylook_llm.commands.models import size_text
from heylook_llm.commands.state import config_folder, log_folder, running_server, state_folder
from heylook_llm.errors import ConfigError, LoadFailed
from heylook_llm.hardware import apple, energy, inventory

Verdict = Literal["ok", "wrong", "note"]
_MARKS: Final[dict[Verdict, str]] = {"ok": "✓", "wrong": "✗", "note": "–"}
_PROBE_SECONDS: Final = 60.0
_GIB: Final = 1 << 30

LLAMA_CPP_PROBE: Final = """
import ctypes, json, os, sys
out = os.dup(1); os.dup2(2, 1)
import llama_cpp
folder = os.path.join(os.path.dirname(llama_cpp.__file__), "lib")
names = {"darwin": "libggml.dylib"}
ggml = ctypes.CDLL(os.path.join(folder, names.get(sys.platform, "libggml.so.0")))
ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
describe = ggml.ggml_backend_dev_description
describe.restype, describe.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
name = ggml.ggml_backend_dev_name
name.restype, name.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
llama_cpp.llama_backend_init()
devices = [ggml.ggml_backend_dev_get(i) for i in range(ggml.ggml_backend_dev_count())]
os.write(out, json.dumps({
    "version": llama_cpp.__version__,
    "gpu": bool(llama_cpp.llama_supports_gpu_offload()),
    "devices": [f"{name(d).decode()} ({describe(d).decode().strip()})" for d in devices],
    "cpu": llama_cpp.llama_print_system_info().decode(),
}).encode())
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do where it isn't as it should be."""

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""


def examine(config_path: str | None, ports: Iterable[int]) -> list[Finding]:
    """Everything, in the order a start needs it."""
    return [
        _python(),
        _compiler(),
        _llama_cpp(),
        _mlx(),
        _mlx_eyes(),
        _processor(),
        _memory(),
        _graphics(),
        _energy(),
        *_models(config_path),
        *(_port(port) for port in ports),
        _folders(),
        _descriptors(),
    ]


def report(findings: list[Finding], as_json: bool) -> int:
    """Print them; returns the exit status, 1 if something is wrong."""
    if as_json:
        click.echo(
            json.dumps({"version": __version__, "findings": [asdict(finding) for finding in findings]}, indent=2)
        )
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            click.echo(f"{_MARKS[finding.verdict]} {finding.name:<{width}}  {finding.detail}")
            if finding.advice:
                click.echo(f"  {'':<{width}}  → {finding.advice}")
    return 1 if any(finding.verdict == "wrong" for finding in findings) else 0


# ---- engines ---------------------------------------------------------------------------------------------------------


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("heylookllm", "ok", f"{__version__} on Python {version} ({sys.prefix})")


def _compiler() -> Finding:
    found = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    if found:
        return Finding("compiler", "ok", found)
    installed = engines.installed("llama_cpp") or engines.installed("mlx")
    return Finding(
        "compiler",
        "note" if installed else "wrong",
        "no C++ compiler on PATH",
        "needed to build llama.cpp (Debian: apt install build-essential; macOS: xcode-select --install)",
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _llama_cpp() -> Finding:
    """Loaded in a process of its own: a library that doesn't fit this processor ends the process that loads it."""
    if _version("llama-cpp-python") is None:
        advice = "make install (in a checkout), or pip install 'heylookllm[gguf]'; it compiles for some minutes"
        verdict: Verdict = "note" if engines.installed("mlx") else "wrong"
        return Finding("llama.cpp", verdict, "not installed: GGUF models can't be served", advice)
    try:
        probe = subprocess.run(
            [sys.executable, "-c", LLAMA_CPP_PROBE], check=True, capture_output=True, timeout=_PROBE_SECONDS
        )
        facts: dict[str, Any] = json.loads(probe.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        advice = "rebuild it: make install ACCEL=cpu (or cuda, vulkan, rocm, metal)"
        return Finding("llama.cpp", "wrong", f"doesn't load: {_last_line(error)}", advice)
    devices = ", ".join(facts["devices"]) or "no device"
    return Finding("llama.cpp", "ok", f"{facts['version']}, compiled for {devices}", _acceleration_advice(facts))


def _last_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with {error.returncode}"
    return type(error).__name__


def _acceleration_advice(facts: dict[str, Any]) -> str:
    if facts["gpu"] or not hardware.gpus():
        return ""
    return "a GPU is here that this build doesn't use: make install ACCEL=cuda"


def _mlx() -> Finding:
    version = _version("mlx-lm")
    if version is None:
        advice = (
            "only for MLX models: make install (in a checkout), or pip install 'heylookllm[mlx]'; "
            "it needs macOS 14 on Apple silicon, or Linux with glibc 2.35"
        )
        return Finding("MLX", "note", "not installed", advice)
    try:
        command = [sys.executable, "-c", "import mlx.core; print(mlx.core.default_device())"]
        probe = subprocess.run(command, check=True, capture_output=True, timeout=_PROBE_SECONDS)
    except subprocess.SubprocessError as error:
        return Finding("MLX", "wrong", f"doesn't load: {_last_line(error)}", "install it again: pip install -U mlx-lm")
    return Finding("MLX", "ok", f"mlx-lm {version}, {probe.stdout.decode().strip()}")


def _mlx_eyes() -> Finding:
    version = _version("mlx-vlm")
    if version is not None:
        return Finding("MLX's eyes", "ok", f"mlx-vlm {version}")
    advice = "only for MLX models that see: make vlm (in a checkout), or pip install 'heylookllm[mlx,vlm]'"
    return Finding("MLX's eyes", "note", "mlx-vlm is not installed", advice)


# ---- the machine -----------------------------------------------------------------------------------------------------


def _processor() -> Finding:
    processor = inventory.inventory().processor
    sets = ", ".join(processor.instruction_sets)
    usable = f"{processor.name}, {processor.available_cores:g} of {processor.logical_cores} cores usable"
    return Finding("processor", "ok", f"{usable}; {sets}" if sets else usable)


def _memory() -> Finding:
    memory = hardware.memory()
    detail = f"{memory.available_bytes / _GIB:.1f} of {memory.total_bytes / _GIB:.1f} GiB available"
    low = memory.available_bytes < _GIB
    advice = "close programs, or choose smaller models or a smaller n_ctx" if low else ""
    return Finding("memory", "wrong" if low else "ok", detail, advice)


def _graphics() -> Finding:
    gpus = hardware.gpus()
    if gpus:
        described = (
            f"{gpu.name}, {gpu.free_bytes / _GIB:.1f} of {gpu.total_bytes / _GIB:.1f} GiB free" for gpu in gpus
        )
        return Finding("GPU", "ok", "; ".join(described))
    if sys.platform == "darwin":
        return Finding("GPU", "ok", "Metal shares the machine's memory")
    if shutil.which("nvidia-smi") and _version("nvidia-ml-py") is None:
        return Finding("GPU", "note", "an NVIDIA driver is here", "pip install nvidia-ml-py shows its memory")
    return Finding("GPU", "note", "none found; models run on the processor")


def _energy() -> Finding:
    found = energy.open_energy(macmon=False)
    if found.counters:
        return Finding("energy", "ok", f"counted by {', '.join(found.names)}")
    if shutil.which(apple.MACMON):
        return Finding("energy", "ok", "counted by macmon")
    return Finding("energy", "note", "not counted, so requests have no joules", found.reason or "")


# ---- what is to be served --------------------------------------------------------------------------------------------


def _models(config_path: str | None) -> Iterable[Finding]:
    path = config.locate(config_path)
    place = f"{path}" + (" (the bundled one)" if path == config.BUNDLED else "")
    try:
        settings = registry.load(path)
    except ConfigError as error:
        yield Finding("config", "wrong", error.message, "mend that line, then run this again")
        return
    yield Finding("config", "ok", place, f"your own: ./models.yaml or {config_folder() / config.FILE_NAME}")
    for spec in settings.enabled:
        yield _model(spec)
    for spec in settings.left_out:
        yield Finding(f"model {spec.id}", "note", f"left out: {spec.missing} isn't installed", "see above")


def _model(spec: config.ModelSpec) -> Finding:
    name = f"model {spec.id}"
    if spec.provider == "fake":
        return Finding(name, "ok", "fake: no weights, for tests")
    if not spec.path.exists():
        return Finding(
            name, "wrong", f"no such file: {spec.path}", "correct model_path in models.yaml, or fetch the file"
        )
    size = size_text(_size_bytes(spec.path))
    if spec.missing:
        return Finding(name, "wrong", f"{size}, but {spec.missing} isn't installed", "see above, or set enabled: false")
    try:
        _read_header(spec)
    except LoadFailed as error:
        problem = error.message.removeprefix(f"Model '{spec.id}' can't be loaded: ")
        return Finding(
            name, "wrong", f"{spec.path}: {problem}", "correct model_path or provider, or fetch the file anew"
        )
    return Finding(name, "ok", f"{size}, {spec.path}")


def _read_header(spec: config.ModelSpec) -> None:
    if spec.provider == "mlx":
        folder = mlx_folder.Folder(spec.path, spec.id)
        mlx_vision.loads_eyes(folder, getattr(spec.config, "vision", None))
    else:
        gguf_header.read(spec.path, spec.id)


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _port(port: int) -> Finding:
    server = running_server()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if server is not None and server.url.endswith(f":{port}"):
                return Finding(f"port {port}", "ok", f"a heylookllm server listens (process {server.pid})")
            return Finding(f"port {port}", "note", error.strerror or str(error), "choose another with --port")
    return Finding(f"port {port}", "ok", "free")


def _folders() -> Finding:
    try:
        folders = (state_folder(), log_folder())
        if not all(os.access(folder, os.W_OK) for folder in folders):
            raise PermissionError(f"{folders[0]} can't be written")
    except OSError as error:
        return Finding("state folder", "note", str(error), "the server runs, without a log file")
    return Finding("state folder", "ok", str(folders[0]))


def _descriptors() -> Finding:
    import resource  # noqa: PLC0415 (not on every system)

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= hard < 1024:
        return Finding("open files", "note", f"at most {hard}", "raise it for many connections: ulimit -n 65536")
    return Finding("open files", "ok", "no limit" if hard < 0 else f"up to {hard}")
