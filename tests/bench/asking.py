"""Asking a server's bench routes, as a client does."""

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from websockets.sync.client import ClientConnection, connect


class Asking:
    """Asks one server, with its key."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. A dict is sent as JSON, bytes as they stand."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, data, {**self._headers, **named}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, dict(reply.headers), reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """What it says, as JSON."""
        found, _, content = self.raw(method, path, body, **headers)
        assert found == status, content
        return json.loads(content)

    def refused(self, method: str, path: str, status: int, body: Any = None, **headers: str) -> dict[str, Any]:
        """The error, in OpenAI's words."""
        error: dict[str, Any] = self.ask(method, path, body, status, **headers)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @contextlib.contextmanager
    def events(self, path: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a stream, until it is left."""
        host = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers={**self._headers, **named})
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        assert (reply.headers["content-type"] or "").startswith("text/event-stream")
        try:
            yield _events(reply)
        finally:
            connection.close()

    def socket(self, path: str, **headers: str) -> ClientConnection:
        """The same by WebSocket."""
        return connect(self.url.replace("http", "ws", 1) + path, additional_headers={**self._headers, **headers})

    def until(self, run: str, *states: str) -> dict[str, Any]:
        """The run, once it is in one of these states."""
        with self.events(f"/v1/bench/runs/{run}/events") as events:
            next(one for one in events if one["type"] == "run.state" and one["state"] in states)
        found: dict[str, Any] = self.ask("GET", f"/v1/bench/runs/{run}")
        return found


def _events(reply: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    event: dict[str, str] = {}
    while line := reply.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if not name:
            if event:
                told = json.loads(event["data"])
                assert (event["id"], event["event"]) == (told["id"], told["type"])
                yield told
            event = {}
        else:
            event[name] = value
