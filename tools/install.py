"""Build the project's environment: what `make install` runs, with nothing but Python's standard library.

Dependencies come from requirements/*.txt, each file checked by its hash. Of the two engines MLX comes first, because
it comes in wheels: from then on its models can be served. llama.cpp has no wheel on PyPI, so it is compiled, once for
each accelerator; the compile is announced and shown moving. A finished part leaves a stamp file, so that make doesn't
come here again until a requirement or the accelerator changes.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
PROJECT = REQUIREMENTS.parent
ENGINE = "llama-cpp-python"
MLX = "mlx"
OLDEST_GLIBC_OF_MLX = (2, 35)
OLDEST_MACOS_OF_MLX = (14, 0)
CMAKE_FLAGS = {
    "default": "",
    "cpu": "-DGGML_METAL=OFF" if sys.platform == "darwin" else "",
    "metal": "-DGGML_METAL=ON",
    "cuda": "-DGGML_CUDA=ON",
    "vulkan": "-DGGML_VULKAN=ON",
    "rocm": "-DGGML_HIP=ON",
}
TOOLCHAINS = {
    "cuda": ("nvcc", "the CUDA toolkit"),
    "vulkan": ("glslc", "the Vulkan SDK (Debian: apt install libvulkan-dev glslc)"),
    "rocm": ("hipcc", "ROCm's HIP SDK"),
}
COMPILERS = ("c++", "g++", "clang++")
TICK_SECONDS_TERMINAL = 1.0
TICK_SECONDS_LOG = 20.0


def main() -> None:
    """Install what is missing, in order: environment, libraries, ourselves, MLX, llama.cpp, the asked part."""
    options = _options()
    environment = Path(options.environment)
    _create(environment)
    _install_mlx(environment)
    if options.engine != "mlx":
        _install_llama_cpp(environment, options.accelerator)
    if options.part:
        parts = _parts(options.part)
        _install(environment, *parts)
        for part in parts:
            _stamp(environment, part).touch()


def _install_mlx(environment: Path) -> None:
    """The libraries, ourselves, and MLX where it has wheels: what `installed-mlx` stands for."""
    stamp = _stamp(environment, MLX)
    if not _outdated(stamp):
        return
    problem = _mlx_problem_here()
    _install(environment, "build", "runtime", *(() if problem else (MLX,)))
    _install_ourselves(environment)
    if problem:
        say(f"MLX, the second engine, is left out: {problem}. GGUF models are served by llama.cpp.")
    stamp.touch()


def _install_llama_cpp(environment: Path, asked: str) -> None:
    """llama.cpp for an accelerator: what `installed-ACCELERATOR` stands for."""
    accelerator = asked if asked != "default" else _default_accelerator()
    outdated = _outdated(_stamp(environment, accelerator))
    _compile(environment, accelerator)
    if outdated:
        run([*_pip(environment), "install", "-qq", "--require-hashes", "-r", str(REQUIREMENTS / "gguf.txt")])
    _remember(environment, accelerator)
    _stamp(environment, asked).touch()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", default=".venv")
    parser.add_argument("--accelerator", choices=sorted(CMAKE_FLAGS), default="default")
    parser.add_argument("--engine", choices=["all", MLX], default="all", help="mlx: without llama.cpp")
    parser.add_argument("--with", dest="part", choices=["dev", "docs", "vlm"])
    return parser.parse_args()


def _default_accelerator() -> str:
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return "metal" if apple else "cpu"


def _parts(asked: str) -> tuple[str, ...]:
    """What is installed of requirements/: the tests ask MLX models to see, where there is MLX."""
    problem = _mlx_problem_here() if asked in ("dev", "vlm") else ""
    if asked == "vlm" and problem:
        fail(f"MLX isn't to be had here: {problem}.")
    return ("dev", "vlm") if asked == "dev" and not problem else (asked,)


def _mlx_problem_here() -> str:
    return mlx_problem(platform.system(), platform.machine(), platform.mac_ver()[0], platform.libc_ver())


def mlx_problem(system: str, machine: str, macos: str, libc: tuple[str, str]) -> str:
    """Why MLX has no wheel for such a machine; empty: it has one. The values are `platform`'s."""
    if system == "Darwin":
        if machine != "arm64":
            return "on a Mac it needs Apple silicon"
        return "" if _version(macos) >= OLDEST_MACOS_OF_MLX else "it needs macOS 14"
    library, version = libc
    if system != "Linux" or library != "glibc":
        return "it has no packages for this system"
    if _version(version) < OLDEST_GLIBC_OF_MLX:
        return f"it needs glibc 2.35, and this is {version}"
    return "" if machine in ("x86_64", "aarch64") else f"it has no packages for {machine}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


# ---- stamps ----------------------------------------------------------------------------------------------------------


def _stamp(environment: Path, part: str) -> Path:
    return environment / f"installed-{part}"


def _outdated(stamp: Path) -> bool:
    if not stamp.exists():
        return True
    inputs = [*REQUIREMENTS.glob("*.txt"), PROJECT / "pyproject.toml", Path(__file__)]
    return any(path.stat().st_mtime > stamp.stat().st_mtime for path in inputs)


def _remember(environment: Path, accelerator: str) -> None:
    """One accelerator at a time."""
    _withdraw_stamps(environment)
    (environment / "accelerator").write_text(accelerator + "\n")
    _stamp(environment, accelerator).touch()


def _withdraw_stamps(environment: Path) -> None:
    for accelerator in CMAKE_FLAGS:
        _stamp(environment, accelerator).unlink(missing_ok=True)


# ---- the steps -------------------------------------------------------------------------------------------------------


def _create(environment: Path) -> None:
    if _works(environment):
        return
    if environment.exists():
        say(f"{environment} doesn't start (moved, or its Python is gone); it is built anew.")
        shutil.rmtree(environment)
    say(f"Building {environment} with Python {platform.python_version()} ...")
    if uv := shutil.which("uv"):
        run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)])
        return
    try:
        import ensurepip  # noqa: F401, PLC0415 (Debian splits it off)
        import venv  # noqa: F401, PLC0415
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fail(f"this Python has no venv module. Install it (Debian: apt install python{version}-venv) and try again.")
    run([sys.executable, "-m", "venv", str(environment)])


def _works(environment: Path) -> bool:
    python = _python(environment)
    return python.exists() and subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0


def _install(environment: Path, *parts: str) -> None:
    """The locked packages of these parts, by uv if it is there."""
    files = [argument for part in parts for argument in ("-r", str(REQUIREMENTS / f"{part}.txt"))]
    say(f"Installing the {' and '.join(parts)} packages ...")
    if uv := shutil.which("uv"):
        run([uv, "pip", "install", "--quiet", "--python", str(_python(environment)), "--require-hashes", *files])
    else:
        run([*_pip(environment), "install", "-qq", "--require-hashes", *files])


def _compile(environment: Path, accelerator: str) -> None:
    """llama.cpp for this accelerator. pip's cache doesn't know CMake flags, so with flags it isn't asked."""
    flags = " ".join(part for part in (CMAKE_FLAGS[accelerator], os.environ.get("CMAKE_ARGS", "")) if part)
    lock = REQUIREMENTS / "gguf.txt"
    version = re.search(rf"^{ENGINE}==(\S+)", lock.read_text(), re.MULTILINE)
    wanted = f"{version[1] if version else ''} {accelerator} {flags}\n"
    built = environment / "engine"
    if built.exists() and built.read_text() == wanted:
        return
    _check_toolchain(accelerator)
    _withdraw_stamps(environment)
    if built.exists():
        run([*_pip(environment), "uninstall", "--quiet", "--yes", ENGINE])
        built.unlink()
    cores = os.cpu_count() or 1
    say(
        f"Installing llama.cpp for {accelerator}{f' ({flags})' if flags else ''}. Unless pip has it "
        f"cached it compiles now: this happens once and takes some minutes (about 8 on 2 cores; here are {cores})."
    )
    command = [*_pip(environment), "install", "--verbose", "--require-hashes", "-r", str(lock)]
    cache = ["--no-cache-dir"] if flags else []
    _run_with_progress([*command, *cache], {**os.environ, "CMAKE_ARGS": flags}, environment / "llama-cpp-build.log")
    built.write_text(wanted)


def _check_toolchain(accelerator: str) -> None:
    compiler = os.environ.get("CXX", "").split(" ")[0]
    if not any(shutil.which(name) for name in (compiler, *COMPILERS) if name):
        fail(
            "no C++ compiler on PATH; llama.cpp needs one to be built. Install it and try again "
            "(Debian: apt install build-essential; Fedora: dnf install gcc-c++; macOS: xcode-select --install)."
        )
    tool, name = TOOLCHAINS.get(accelerator, ("", ""))
    if tool and not shutil.which(tool):
        fail(f"ACCEL={accelerator} needs {name}: {tool} is not on PATH. Install it, or say ACCEL=cpu.")


def _install_ourselves(environment: Path) -> None:
    run([*_pip(environment), "install", "-qq", "--no-deps", "--no-build-isolation", "--editable", str(PROJECT)])


# ---- running ---------------------------------------------------------------------------------------------------------


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _pip(environment: Path) -> list[str]:
    return [str(_python(environment)), "-m", "pip", "--disable-pip-version-check"]


def run(command: list[str]) -> None:
    """Run it with its output shown; end with a line of ours if it fails."""
    if subprocess.run(command, check=False).returncode:
        fail(f"this step failed: {' '.join(command)}")


def _run_with_progress(command: list[str], variables: dict[str, str], log: Path) -> None:
    """Run it into the log, and show that it moves: on a terminal one line that changes, else a line now and then."""
    started = time.monotonic()
    terminal = sys.stdout.isatty()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=variables, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        while True:
            try:
                process.wait(TICK_SECONDS_TERMINAL if terminal else TICK_SECONDS_LOG)
                break
            except subprocess.TimeoutExpired:
                line = f"  {_elapsed(started)}{_compiled(log)}"
                print(f"\r{line}\033[K" if terminal else line, end="" if terminal else "\n", flush=True)
            except KeyboardInterrupt:
                process.terminate()
                process.wait()
                fail("interrupted; the next make begins this step again.")
    if terminal:
        print("\r\033[K", end="")
    if process.returncode:
        tail = log.read_text(errors="replace").splitlines()[-30:]
        print("\n".join(tail), file=sys.stderr)
        fail(f"llama.cpp could not be built; the whole log is {log}.")
    say(f"llama.cpp stands after {_elapsed(started)}.")


def _compiled(log: Path) -> str:
    """How far ninja is, from the tail of the log; nothing before it starts."""
    with log.open("rb") as text:
        text.seek(max(0, log.stat().st_size - 20_000))
        steps = re.findall(rb"\[(\d+)/(\d+)\]", text.read())
    return f", step {steps[-1][0].decode()} of {steps[-1][1].decode()}" if steps else ""


def _elapsed(started: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    return f"{minutes} min {seconds:02d} s"


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


def fail(text: str) -> None:
    """One line that says what to do, and exit status 1."""
    print(f"make: {text}", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
