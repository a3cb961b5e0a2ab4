"""Models with a projector as the server shows them, and one whose projector is damaged, beside others."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving import running
from tests.worker import random_gguf, random_projector

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama.cpp isn't installed"),
]

MODELS = """
prewarm: false
models:
  - {id: seeing, provider: llama_cpp, config: {model_path: text.gguf, mmproj_path: mmproj.gguf, n_ctx: 256}}
  - {id: blind, provider: llama_cpp, config: {model_path: text.gguf, n_ctx: 256}}
  - {id: hurt, provider: llama_cpp, config: {model_path: text.gguf, mmproj_path: hurt.gguf, n_ctx: 256}}
"""


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server over such models."""
    folder = tmp_path_factory.mktemp("vision")
    random_gguf.write(folder / "text.gguf", "llama")
    whole = random_projector.write(folder / "mmproj.gguf", "mlp")
    (folder / "hurt.gguf").write_bytes(whole.read_bytes()[:-500])
    with running(MODELS, folder) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def show(http: httpx.Client, model: str) -> Any:
    """What Ollama's API says of a model."""
    return http.post("/api/show", json={"model": model}).json()


def say(http: httpx.Client, model: str) -> httpx.Response:
    """A short answer to a text."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    return http.post("/v1/chat/completions", json=body)


def test_a_model_that_sees_says_so_before_and_after_it_is_loaded(http: httpx.Client) -> None:
    for _ in range(2):
        shown = show(http, "seeing")
        assert "vision" in shown["capabilities"]
        assert shown["projector_info"]["clip.vision.image_size"] == random_projector.SIDE
        assert shown["details"]["families"] == ["llama", "clip"]
        listed = {entry["id"]: entry for entry in http.get("/v1/models").json()["data"]}
        assert "vision" in listed["seeing"]["capabilities"]
        assert "vision" not in listed["blind"]["capabilities"]
        assert say(http, "seeing").status_code == 200
    assert "projector_info" not in show(http, "blind")


def test_a_projector_counts_in_sizes(http: httpx.Client) -> None:
    sizes = {entry["name"]: entry["size"] for entry in http.get("/api/tags").json()["models"]}
    assert sizes["seeing:latest"] - sizes["blind:latest"] > 50_000


def test_a_damaged_projector_is_a_typed_error_and_harms_nobody(http: httpx.Client) -> None:
    refused = say(http, "hurt")
    assert refused.status_code == 500
    error = refused.json()["error"]
    assert error["code"] == "model_file_invalid"
    assert "its `mmproj_path`" in error["message"]
    assert say(http, "seeing").status_code == 200
    assert http.get("/health").status_code == 200
