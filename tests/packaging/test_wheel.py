"""The built wheel: what it holds, and that it serves in an environment that has only what it declares."""

import importlib.metadata
import json
import os
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
EXTRAS = frozenset({"gguf"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make build` does, without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("heylookllm-*.whl"))


def test_the_wheel_holds_the_program_its_registry_and_the_tiny_models(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    modules = {str(path.relative_to(source)) for path in (source / "heylook_llm").rglob("*.py")}
    assert modules <= names
    assert "heylook_llm/models.yaml" in names
    assert "heylook_llm/tiny/heylook-tiny.gguf" in names
    assert "heylook_llm/tiny/heylook-tiny-mlx/model.safetensors" in names
    strangers = {name for name in names if not name.startswith(("heylook_llm/", "heylookllm-"))}
    assert not strangers


def test_the_declared_dependencies_name_no_address(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert required
    assert not [line for line in required if "://" in line or "@" in line]


def declared_distributions() -> Iterator[importlib.metadata.Distribution]:
    """What `heylookllm[gguf]` declares, and what that declares, as far as it applies here."""
    seen: set[str] = set()
    waiting = [("heylookllm", EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        distribution = importlib.metadata.distribution(name)
        if name != "heylookllm" and name not in seen:
            seen.add(name)
            yield distribution
        for text in distribution.requires or ():
            wanted = Requirement(text)
            markers = [{"extra": extra} for extra in extras or {""}]
            if wanted.name not in seen and any(not wanted.marker or wanted.marker.evaluate(m) for m in markers):
                waiting.append((wanted.name, frozenset(wanted.extras)))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """An environment with the wheel and the declared packages alone.

    The packages are links to the ones installed here, so nothing is fetched and llama.cpp isn't compiled again.
    """
    folder = tmp_path_factory.mktemp("empty") / "env"
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python3.*")) / "site-packages"
    for distribution in declared_distributions():
        tops = {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(str(distribution.locate_file(top)))
    target = ["--python", str(folder / "bin" / "python")]
    subprocess.run(
        [sys.executable, "-m", "pip", *target, "install", "-qq", "--no-index", "--no-deps", str(wheel)], check=True
    )
    return folder


def clean(home: Path) -> dict[str, str]:
    """An environment without ours."""
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


def test_the_wheel_serves_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [environment / "bin" / "heylookllm", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=clean(tmp_path),
    )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[-1]
        body = {"model": "heylook-tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply = json.loads(answer.read())
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()
    assert reply["usage"]["completion_tokens"] > 0


def test_the_wheels_doctor_finds_everything_in_place(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "bin" / "heylookllm"), "doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean(tmp_path))
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert str(environment) in findings["heylookllm"]["detail"]
    assert findings["llama.cpp"]["verdict"] == "ok"
    assert findings["model heylook-tiny"]["verdict"] == "ok"
    assert "bundled" in findings["config"]["detail"]
