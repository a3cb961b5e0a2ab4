"""A target that keeps what it was asked, and answers each route with what its API says."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """One request."""

    path: str
    body: dict[str, Any]


class Recording:
    """The running target."""

    def __init__(self, url: str, asked: list[Asked]) -> None:
        self.url = url
        self.asked = asked


def _chat(body: dict[str, Any], number: int) -> bytes:
    usage = {"prompt_tokens": _words(body["messages"]) + 3, "completion_tokens": 2}
    events = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        *({"choices": [{"delta": {"content": part}, "finish_reason": None}]} for part in ("answer", f" {number}")),
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def _words(messages: list[dict[str, Any]]) -> int:
    """A word is a token here; that of an image none."""
    texts = []
    for message in messages:
        content = message["content"]
        texts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return sum(len(text.split()) for text in texts)


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    vectors = [{"object": "embedding", "index": place, "embedding": [0.5, 1.5]} for place in range(len(body["input"]))]
    return {"object": "list", "data": vectors, "usage": {"prompt_tokens": sum(len(t.split()) for t in body["input"])}}


def _rerank(body: dict[str, Any]) -> dict[str, Any]:
    results = [{"index": place, "relevance_score": 0.5} for place in range(len(body["documents"]))]
    return {"results": results[:-1] if body["model"] == "forgetful" else results, "usage": {"total_tokens": 7}}


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Serve until the block ends."""
    asked: list[Asked] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.path == "/v1/models"
            self._send(200 if known else 404, b'{"data": [{"id": "m"}, {"id": "forgetful"}]}' if known else b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                asked.append(Asked(self.path, body))
                number = len(asked) - 1
            match self.path:
                case "/v1/chat/completions":
                    self._send(200, _chat(body, number), "text/event-stream")
                case "/v1/embeddings":
                    self._send(200, json.dumps(_embeddings(body)).encode())
                case "/v1/rerank":
                    self._send(200, json.dumps(_rerank(body)).encode())
                case _:
                    self._send(404, b"{}")

        def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Recording(f"http://127.0.0.1:{server.server_address[1]}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
