"""What a target is taken for that lists no models: what its user says it is."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from heylook_llm.bench.probe import Found, Probe, probing
from heylook_llm.bench.sample import Kind
from heylook_llm.errors import TargetFailed

pytestmark = pytest.mark.integration


class Mute(BaseHTTPRequestHandler):
    """Answers every GET with nothing, as mlx_lm.server lists its models where it has no folder of them."""

    def do_GET(self) -> None:
        """Well, and empty."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def mute() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Mute)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def identified(url: str, kind: Kind | None) -> Found:
    async def ask() -> Found:
        async with probing() as http:
            return await Probe(http, url, {}).identify(kind)

    return asyncio.run(ask())


def test_a_target_that_lists_no_models_is_what_its_user_says(mute: str) -> None:
    assert identified(mute, "openai") == Found("openai", "other")
    assert identified(mute, "anthropic") == Found("anthropic", "other")
    with pytest.raises(TargetFailed, match="speaks the API of OpenAI, Ollama or Anthropic"):
        identified(mute, None)
