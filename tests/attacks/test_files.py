"""Model files that aren't what they should be, in models.yaml of a running server."""

import os
from collections.abc import Iterator

import httpx
import pytest

from tests.serving import Running, running

pytestmark = pytest.mark.integration

MODELS = """
prewarm: false
models:
  - {id: fake, provider: fake}
  - {id: pipe, provider: llama_cpp, config: {model_path: pipe.gguf}}
  - {id: folder, provider: llama_cpp, config: {model_path: .}}
  - {id: device, provider: llama_cpp, config: {model_path: /dev/zero}}
"""


@pytest.fixture(scope="module")
def odd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("odd")
    os.mkfifo(folder / "pipe.gguf")
    with running(MODELS, folder) as it:
        yield it


@pytest.mark.parametrize("model", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(odd_server: Running, model: str) -> None:
    """Opening a named pipe for reading waits for a writer, for ever."""
    with httpx.Client(base_url=odd_server.url, timeout=5) as client:
        assert len(client.get("/api/tags").json()["models"]) == 4
        assert client.post("/api/show", json={"model": model}).status_code == 200
        asked = {"model": model, "messages": [{"role": "user", "content": "x"}]}
        reply = client.post("/v1/chat/completions", json=asked)
        assert reply.json()["error"]["code"] == "model_file_invalid"
        assert client.post("/v1/chat/completions", json=asked | {"model": "fake"}).status_code == 200
