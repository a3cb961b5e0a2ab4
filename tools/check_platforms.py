"""Resolve the dependencies for every platform we name, wheels only: what `make check-platforms` runs.

It proves that pip will find a wheel for each package there (FROM_SOURCE apart). It doesn't prove that the result runs
there.
"""

import os
import subprocess
import sys

PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_35", "aarch64-manylinux_2_35", "aarch64-apple-darwin")
EXTRAS = ("gguf", "mlx", "vlm", "dev", "docs")
FROM_SOURCE = ("llama-cpp-python", "miniaudio", "openapi-ui-bundles")
"""What has no wheel somewhere: llama.cpp and miniaudio compile anywhere, the pages' scripts are text."""
OLDEST_MACOS_OF_MLX = "14.0"


def main() -> None:
    """Prints a line for each pair; exit status 1 if one can't be resolved."""
    results = [_resolves(python, platform) for python in PYTHONS for platform in PLATFORMS]
    raise SystemExit(0 if all(results) else 1)


def _resolves(python: str, platform: str) -> bool:
    extras = [argument for extra in EXTRAS for argument in ("--extra", extra)]
    command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--python-version", python]
    command += ["--python-platform", platform, "--only-binary", ":all:", *extras]
    command += [argument for package in FROM_SOURCE for argument in ("--no-binary", package)]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS_OF_MLX}
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    print(f"{'✓' if result.returncode == 0 else '✗'} Python {python}, {platform}", flush=True)
    if result.returncode:
        print(result.stderr, file=sys.stderr)
    return result.returncode == 0


if __name__ == "__main__":
    main()
