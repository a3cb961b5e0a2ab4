"""`heylookllm pull` and `/api/pull` against a stand-in hub, with the ollama client and by hand."""

import contextlib
import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import ollama
import pytest

from heylook_llm import config, registry
from tests.catalog.hub import Hub
from tests.commands_at_work import Home, Server

pytestmark = pytest.mark.integration
TINY = Path(config.BUNDLED).parent / "tiny"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    made = Hub()
    mlx = TINY / "heylook-tiny-mlx"
    made.repositories = {
        "org/tiny-GGUF": {"tiny-F16.gguf": (TINY / "heylook-tiny.gguf").read_bytes(), "README.md": b"x"},
        "org/tiny-mlx": {file.name: file.read_bytes() for file in mlx.iterdir()},
        "org/seeing-GGUF": {
            "mmproj-F16.gguf": (TINY / "heylook-tiny-vision-mmproj.gguf").read_bytes(),
            "seeing-F16.gguf": (TINY / "heylook-tiny-vision.gguf").read_bytes(),
        },
        "org/odd-eyes-GGUF": {
            "mmproj-F16.gguf": b"GGUF" + bytes(100),
            "odd-F16.gguf": (TINY / "heylook-tiny-vision.gguf").read_bytes(),
        },
        "org/broken": {"broken-Q4_K_M.gguf": b"GGUF" + bytes(100)},
    }
    with made.running():
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def server(home: Home, hub: Hub) -> Iterator[Server]:
    with home.serving("--port", "0", HF_ENDPOINT=hub.url) as it:
        yield it


@pytest.fixture(scope="module")
def shared(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For requests that leave nothing behind."""
    with Home(tmp_path_factory.mktemp("shared")).serving("--port", "0", HF_ENDPOINT=hub.url) as it:
        yield it


def models(home: Home) -> Path:
    return home.folder / ".local" / "share" / "heylookllm" / "models"


def test_a_pulled_model_answers_at_once_and_goes_again(home: Home, server: Server) -> None:
    client = ollama.Client(server.url)
    steps = [step.status for step in client.pull("hf.co/org/tiny-GGUF:F16", stream=True)]
    assert steps[0] == "pulling manifest"
    assert steps[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    answered = client.chat(
        "hf.co/org/tiny-GGUF:F16",
        [{"role": "user", "content": "What is the capital of France?"}],
        options={"temperature": 0},
        think=False,
    )
    assert answered.message.content == "The capital of France is Paris."
    file = models(home) / "org" / "tiny-GGUF" / "tiny-F16.gguf"
    assert (
        hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256((TINY / "heylook-tiny.gguf").read_bytes()).digest()
    )
    client.delete("hf.co/org/tiny-GGUF:F16")
    assert not file.exists()
    assert "hf.co/org/tiny-GGUF:F16" not in [model.model for model in client.list().models]
    assert client.pull("org/tiny-GGUF").status == "success", "gone and pulled again"


def test_a_projector_comes_along_and_goes_again(home: Home, server: Server, hub: Hub) -> None:
    client = ollama.Client(server.url)
    client.pull("org/seeing-GGUF")
    shown = client.show("org/seeing-GGUF")
    assert "vision" in (shown.capabilities or ())
    folder = models(home) / "org" / "seeing-GGUF"
    assert (folder / "mmproj-F16.gguf").is_file()
    client.delete("org/seeing-GGUF")
    assert not folder.exists()
    client.pull("org/odd-eyes-GGUF")
    assert "vision" not in (client.show("org/odd-eyes-GGUF").capabilities or ()), "eyes that fit no text are left out"


def test_a_model_that_was_pulled_without_its_eyes_gets_them(home: Home, hub: Hub) -> None:
    repository = hub.repositories["org/seeing-GGUF"]
    hub.repositories["org/late-GGUF"] = {"seeing-F16.gguf": repository["seeing-F16.gguf"]}
    assert home.run("pull", "org/late-GGUF", HF_ENDPOINT=hub.url).returncode == 0
    hub.repositories["org/late-GGUF"] = repository
    assert home.run("pull", "org/late-GGUF", HF_ENDPOINT=hub.url).returncode == 0
    spec = next(spec for spec in registry.load(home.models).models if spec.id == "org/late-GGUF")
    assert isinstance(spec.config, config.LlamaCppConfig)
    assert spec.config.mmproj_path == str(models(home) / "org" / "late-GGUF" / "mmproj-F16.gguf")


def test_the_command_pulls_by_the_server(home: Home, server: Server) -> None:
    done = home.run("pull", "org/tiny-mlx")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "success")
    assert "100 %" in done.stdout
    assert "org/tiny-mlx" in home.run("list").stdout
    assert home.run("rm", "org/tiny-mlx").returncode == 0
    assert not (models(home) / "org" / "tiny-mlx").exists()


def test_the_command_pulls_without_a_server(home: Home, hub: Hub) -> None:
    done = home.run("pull", "org/tiny-GGUF", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert [spec.id for spec in registry.load(home.models).models] == ["fake", "slow", "org/tiny-GGUF"]
    again = home.run("pull", "org/tiny-GGUF", HF_ENDPOINT=hub.url)
    assert "success: org/tiny-GGUF" in again.stdout


def post(server: Server, body: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Status and lines of /api/pull."""
    request = urllib.request.Request(
        f"{server.url}/api/pull", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answered:
            return answered.status, [json.loads(line) for line in answered]
    except urllib.error.HTTPError as error:
        return error.code, [json.load(error)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "model is required"),
        ({"model": "nope"}, 400, "names no model"),
        ({"model": "../../etc/passwd"}, 400, "names no model"),
        ({"model": "org/nothing"}, 502, "no such repository"),
        ({"model": "org/tiny-GGUF:Q2_K"}, 502, "it has: F16"),
        ({"model": 5}, 400, "model"),
        ({"model": "org/broken", "stream": False}, 502, "can't be served"),
    ],
)
def test_errors_before_the_first_byte_keep_their_status(
    shared: Server, body: dict[str, Any], status: int, words: str
) -> None:
    found, lines = post(shared, body)
    assert (found, list(lines[0])) == (status, ["error"])
    assert words in lines[0]["error"]


def test_a_late_error_is_a_line(shared: Server) -> None:
    status, lines = post(shared, {"model": "org/broken"})
    assert status == 200
    assert "can't be served" in lines[-1]["error"]
    assert lines[0]["status"] == "pulling manifest"


def test_a_client_that_leaves_cancels_and_the_next_resumes(home: Home, server: Server, hub: Hub) -> None:
    hub.gate = threading.Event()
    try:
        client = ollama.Client(server.url)
        with contextlib.closing(cast("Generator[Any]", client.pull("org/tiny-GGUF", stream=True))) as steps:
            assert next(steps).status == "pulling manifest"
    finally:
        hub.gate.set()
        hub.gate = None
    assert client.pull("org/tiny-GGUF").status == "success"
