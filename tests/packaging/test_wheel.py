"""The built wheel: what it holds, and that it serves in an environment that has only what it declares."""

import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement

from tests.worker import random_llava

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
ENGINES = {
    "gguf": ("heylook-tiny", "heylook-tiny-vision", "heylook-tiny-mlx"),
    "mlx": ("heylook-tiny-mlx", "", "heylook-tiny"),
}
"""Extra -> the bundled models that it serves, and one that is left out without the other extra."""

SEEING = """
default_model: text
prewarm: false
models:
  - {id: seeing, provider: mlx, config: {model_path: llava}}
  - {id: text, provider: mlx, config: {model_path: llava, vision: false, n_ctx: 512}}
  - {id: auto, provider: mlx, enabled: auto, config: {model_path: llava, vision: true}}
"""


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
    pages = (source / "heylook_llm" / "server" / "ui").rglob("*")
    assert {str(path.relative_to(source)) for path in pages if path.is_file()} <= names
    assert "heylook_llm/tiny/heylook-tiny.gguf" in names
    assert "heylook_llm/tiny/heylook-tiny-mlx/model.safetensors" in names
    eyes = [name for name in names if name.startswith("heylook_llm/tiny/heylook-tiny-vision")]
    assert len(eyes) == 10, eyes
    strangers = {name for name in names if not name.startswith(("heylook_llm/", "heylookllm-"))}
    assert not strangers


def test_the_declared_dependencies_name_no_address(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    assert required
    assert not [line for line in required if "://" in line or "@" in line]


def declared_distributions(extra: str) -> Iterator[importlib.metadata.Distribution]:
    """What `heylookllm[EXTRA]` declares, and what that declares, as far as it applies here."""
    seen: set[str] = set()
    waiting = [("heylookllm", frozenset({extra}))]
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


class Environment(NamedTuple):
    """An environment with one engine."""

    folder: Path
    serves: str
    sees: str
    """Empty: none, since MLX sees by one extra more."""
    leaves_out: str


@pytest.fixture(scope="module", params=list(ENGINES))
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the wheel and the packages that one engine's extra declares alone.

    The packages are links to the ones installed here, so nothing is fetched and llama.cpp isn't compiled again.
    """
    folder = tmp_path_factory.mktemp("empty") / "env"
    venv.create(folder, with_pip=False)
    site = next((folder / "lib").glob("python3.*")) / "site-packages"
    if request.param == "mlx":
        pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed", exc_type=ImportError)
    for distribution in declared_distributions(request.param):
        tops = {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(str(distribution.locate_file(top)))
    target = ["--python", str(folder / "bin" / "python")]
    subprocess.run(
        [sys.executable, "-m", "pip", *target, "install", "-qq", "--no-index", "--no-deps", str(wheel)], check=True
    )
    return Environment(folder, *ENGINES[request.param])


def clean(home: Path) -> dict[str, str]:
    """An environment without ours."""
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


def ask(url: str, **fields: str) -> Any:
    """The reply to a greeting."""
    body = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8, **fields}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def serving(environment: Environment, folder: Path, *arguments: str) -> Iterator[str]:
    """The address of a server of that environment, which ends well."""
    process = subprocess.Popen(
        [environment.folder / "bin" / "heylookllm", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=clean(folder),
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


def test_the_wheel_serves_outside_the_checkout(environment: Environment, tmp_path: Path) -> None:
    """The model of the engine that is there, also where the default one is the other's; which isn't listed."""
    with serving(environment, tmp_path) as url:
        reply = ask(url)
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as answer:
            listed = [model["id"] for model in json.loads(answer.read())["data"]]
        with pytest.raises(urllib.error.HTTPError) as missing:
            ask(url, model=environment.leaves_out)
        problem = json.loads(missing.value.read())["error"]["message"]
    assert reply["usage"]["completion_tokens"] > 0
    assert reply["model"] == environment.serves
    assert listed == [name for name in (environment.serves, environment.sees) if name]
    assert missing.value.code == 404
    assert "isn't installed" in problem


def test_the_wheels_doctor_finds_everything_in_place(environment: Environment, tmp_path: Path) -> None:
    command = [str(environment.folder / "bin" / "heylookllm"), "doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean(tmp_path))
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert str(environment.folder) in findings["heylookllm"]["detail"]
    assert sorted(findings[engine]["verdict"] for engine in ("llama.cpp", "MLX")) == ["note", "ok"]
    assert findings[f"model {environment.serves}"]["verdict"] == "ok"
    assert findings[f"model {environment.leaves_out}"]["verdict"] == "note"
    assert "isn't installed" in findings[f"model {environment.leaves_out}"]["detail"]
    assert "bundled" in findings["config"]["detail"]


def test_without_mlx_vlm_a_model_that_sees_is_refused_with_what_to_install(
    environment: Environment, tmp_path: Path
) -> None:
    if environment.serves != "heylook-tiny-mlx":
        pytest.skip("it is MLX that needs more to see")
    pytest.importorskip("mlx_vlm", reason="the folder is written by mlx-vlm", exc_type=ImportError)
    random_llava.write(tmp_path / "llava")
    (tmp_path / "models.yaml").write_text(SEEING)
    command = [str(environment.folder / "bin" / "heylookllm"), "doctor", "--json", "--config", "models.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean(tmp_path))
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert "make vlm" in findings["MLX's eyes"]["advice"]
    assert "heylookllm[mlx,vlm]" in findings["model seeing"]["detail"]
    assert findings["model text"]["verdict"] == "ok"
    assert findings["model auto"]["verdict"] == "note"
    assert "mlx-vlm isn't installed" in findings["model auto"]["detail"]
    with serving(environment, tmp_path, "--config", "models.yaml") as url:
        assert ask(url, model="text")["usage"]["completion_tokens"] > 0
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(url, model="seeing")
        assert "make vlm" in json.loads(refused.value.read())["error"]["message"]
        with pytest.raises(urllib.error.HTTPError) as left_out:
            ask(url, model="auto")
        assert "mlx-vlm, isn't installed" in json.loads(left_out.value.read())["error"]["message"]
