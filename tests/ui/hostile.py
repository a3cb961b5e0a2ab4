"""A server that answers benchmarks with what would like to be a script, and how a page shows that it was none."""

import contextlib
import http.server
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any, Final

from playwright.sync_api import Page

SCRIPT: Final = (
    '<img src=x onerror="window.hacked=1"></p></script><script>window.hacked=1</script>'
    "<svg onload=window.hacked=1>&lt;b&gt;"
)
"""Markup of several kinds."""
NAME: Final = '<img src=x onerror="window.hacked=1"></p><svg onload=window.hacked=1>'
"""... as long as a name may be."""
EVIL: Final = SCRIPT + "\x1b[2J\x1b]0;owned\x07\u202ecod.exe\u202c [a](javascript:window.hacked=1) `x` |y|"
"""... and what terminals and readers of text take for orders."""
LARGE: Final = 10 << 20
"""Bytes of its largest token."""


class Hostile(http.server.BaseHTTPRequestHandler):
    """OpenAI's API: every third answer is an error, one has a token of ten megabytes."""

    protocol_version = "HTTP/1.1"
    server_version = "<script>window.hacked=1</script>"
    numbers: Iterator[int]

    def do_GET(self) -> None:
        """Its models, or a page of its own."""
        if self.path == "/v1/models":
            self._say(200, {"object": "list", "data": [{"id": EVIL, "object": "model", "owned_by": EVIL}]})
        else:
            self._say(404, {"error": {"message": EVIL, "type": EVIL, "code": EVIL}})

    def do_POST(self) -> None:
        """An answer."""
        self.rfile.read(int(self.headers["content-length"]))
        number = next(self.numbers)
        if number % 3 == 1:
            self._say(500, {"error": {"message": EVIL, "type": EVIL, "param": EVIL, "code": EVIL}})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("x-request-id", "<script>window.hacked=1</script>")
        self.send_header("connection", "close")
        self.end_headers()
        large = [EVIL * (LARGE // len(EVIL))] if number == 5 else []
        for delta in ({"role": EVIL, "content": EVIL}, {"reasoning_content": EVIL}, *({"content": it} for it in large)):
            self._event({"id": EVIL, "model": EVIL, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        self._event({"id": EVIL, "choices": [{"index": 0, "delta": {}, "finish_reason": EVIL}]})
        self._event({"id": EVIL, "choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 8}})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())

    def _say(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def hostile() -> Iterator[str]:
    """Such a server's address."""
    handler = type("Counted", (Hostile,), {"numbers": itertools.count()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


_MADE: Final = """() => [window.hacked, ...document.querySelectorAll(`
  body script:not([src^='/ui/']), iframe, object, embed, [onerror], [onload], a[href^='javascript'],
  main img:not([src^='blob:'], [src^='data:'])`)].filter(Boolean).map((one) => one.outerHTML ?? String(one))"""


def runs_nothing(page: Page) -> None:
    """Fail where a text became an element, or ran."""
    assert page.evaluate(_MADE) == []
