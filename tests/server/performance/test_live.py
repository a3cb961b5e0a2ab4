"""The live feed: every message reaches who listens, made once; a slow listener holds nobody up and loses its place."""

import asyncio
import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped,unused-ignore]  # comes with openapi-spec-validator, without types
import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.openapi import components
from heylook_llm.server.performance import live
from heylook_llm.server.performance.live import MOST_KEPT, MOST_WAITING, RESUME_SECONDS, Feed, text_frame
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend
from tests.serving import Running, running

COMPONENTS = components()


def holds(value: Any, name: str = "Performance.Live") -> None:
    """Raises where a message isn't what the OpenAPI document says."""
    schemas = {"components": {"schemas": COMPONENTS}}
    jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", **schemas}).validate(value)


# ---- the feed itself -------------------------------------------------------------------------------------------------


class Clock:
    """Time as a test sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(feed: Feed, count: int) -> None:
    for number in range(count):
        feed.publish("sample", lambda number=number: {"sample": {"n": number}})  # type: ignore[misc]  # its default is its value


@pytest.mark.unit
async def test_a_message_is_made_once_for_all() -> None:
    feed = Feed(lambda: {"n": 0})
    with feed.listen() as one, feed.listen() as other:
        told(feed, 1)
        (first, sample), (again, same) = [[await each.next(), await each.next()] for each in (one, other)]
        assert first is not None
        assert json.loads(first.text)["type"] == "snapshot"
        assert first is again
        assert sample is same


@pytest.mark.unit
async def test_nothing_is_made_while_nobody_listens() -> None:
    clock, asked = Clock(), list[int]()
    feed = Feed(dict, clock)

    def fields() -> dict[str, Any]:
        asked.append(1)
        return {}

    feed.publish("sample", fields)
    assert not asked
    with feed.listen():
        feed.publish("sample", fields)
    clock.now += RESUME_SECONDS
    feed.publish("sample", fields)
    assert len(asked) == 2
    clock.now += 0.1
    feed.publish("sample", fields)
    assert len(asked) == 2


@pytest.mark.unit
async def test_a_slow_listener_gets_a_snapshot_of_then_and_what_follows() -> None:
    state = {"n": 0}
    feed = Feed(lambda: dict(state))
    with feed.listen() as slow:
        await slow.next()
        told(feed, MOST_WAITING + 10)
        state["n"] = 7
        told(feed, 1)
        snapshot = await slow.next()
        told(feed, 1)
        following = await slow.next()
        assert snapshot is not None
        assert following is not None
        assert (json.loads(snapshot.text)["type"], json.loads(snapshot.text)["n"]) == ("snapshot", 7)
        assert following.number == snapshot.number + 1


@pytest.mark.unit
async def test_a_connection_that_broke_goes_on_where_it_was() -> None:
    feed = Feed(dict)
    with feed.listen() as listener:
        first = await listener.next()
    told(feed, 3)
    assert first is not None
    with feed.listen(json.loads(first.text)["id"]) as again:
        read = [await again.next() for _ in range(3)]
        assert [json.loads(message.text)["sample"]["n"] for message in read if message] == [0, 1, 2]


@pytest.mark.unit
@pytest.mark.parametrize("after", ["", "x", "1", "abc-1", "NAME-99999", "NAME--1", "NAME-1", "NAME-²"])
async def test_from_where_not_all_is_kept_a_snapshot_begins(after: str) -> None:
    feed = Feed(dict)
    with feed.listen() as listener:
        first = await listener.next()
        told(feed, MOST_KEPT + 5)
    assert first is not None
    name = json.loads(first.text)["id"].rpartition("-")[0]
    with feed.listen(after.replace("NAME", name)) as again:
        message = await again.next()
        assert message is not None
        assert json.loads(message.text)["type"] == "snapshot"


@pytest.mark.unit
async def test_who_listens_first_and_last_is_noticed() -> None:
    feed, seen = Feed(dict), list[str]()
    feed.on_first, feed.on_last = lambda: seen.append("first"), lambda: seen.append("last")
    with feed.listen(), feed.listen():
        assert seen == ["first"]
    assert seen == ["first", "last"]
    with feed.listen():
        assert seen[2:] == ["first"]


@pytest.mark.unit
async def test_a_feed_that_ends_ends_its_listeners() -> None:
    feed = Feed(dict)
    with feed.listen() as listener:
        feed.close()
        assert await listener.next() is None
    with feed.listen() as late:
        assert await late.next() is None


@pytest.mark.unit
async def test_what_waits_is_read_together() -> None:
    feed = Feed(lambda: {"n": 0})
    with feed.listen() as listener:
        told(feed, 3)
        assert [json.loads(message.text)["type"] for message in await listener.some()] == ["snapshot", *["sample"] * 3]
        told(feed, 1)
        assert [message.number for message in await listener.some()] == [4]
        told(feed, MOST_WAITING + 1)
        (snapshot,) = await listener.some()
        assert json.loads(snapshot.text)["type"] == "snapshot"
        told(feed, 1)
        assert len(await listener.some()) == 1
        feed.close()
        assert await listener.some() == []


class Wire:
    """A connection that is written to in place, and takes what it takes."""

    def __init__(self) -> None:
        self.takes = True
        self.written = b""
        self.writes = 0
        self.news = asyncio.Event()

    def write(self, frames: bytes) -> bool:
        if self.takes:
            self.written += frames
            self.writes += 1
            self.news.set()
        return self.takes

    def read(self) -> list[dict[str, Any]]:
        """The messages that came since it was last read."""
        client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
        client.receive_data(self.written)
        self.written = b""
        return [json.loads(bytes(frame.data)) for frame in client.events_received() if isinstance(frame, Frame)]


@pytest.mark.unit
async def test_readers_are_told_together_of_what_was_gathered() -> None:
    feed, one, other = Feed(lambda: {"n": 0}), Wire(), Wire()
    with feed.read(one.write, 60.0), feed.listen() as listener:
        assert [message["type"] for message in one.read()] == ["snapshot"]
        told(feed, 3)
        assert one.writes == 1, "nothing was written yet"
        with feed.read(other.write, 60.0):
            assert [message["type"] for message in other.read()] == ["snapshot"]
            assert [message["sample"]["n"] for message in one.read()] == [0, 1, 2]
            other.news.clear()
            told(feed, 2)
            await other.news.wait()
            same = one.read()
            assert same == other.read()
            assert [message["sample"]["n"] for message in same] == [0, 1]
            assert one.writes == 3, "both messages at once"
            heard = [await listener.next() for _ in range(6)]
            assert [json.loads(message.text)["id"] for message in heard[-2:] if message] == [one["id"] for one in same]
    assert feed.listeners == 0


@pytest.mark.unit
async def test_a_reader_that_was_full_gets_a_snapshot_and_one_that_stays_full_ends() -> None:
    clock, full, state = Clock(), Wire(), {"n": 0}
    feed = Feed(lambda: dict(state), clock)
    with feed.read(full.write, 60.0) as reader:
        full.read()
        full.takes = False
        told(feed, 1)
        feed.close()  # tells at once
        full.takes, state["n"] = True, 7
        told(feed, 1)
        feed.close()
        (snapshot,) = full.read()
        assert (snapshot["type"], snapshot["n"]) == ("snapshot", 7)
        told(feed, 1)
        feed.close()
        assert [message["type"] for message in full.read()] == ["sample"]
        full.takes = False
        for seconds in (0, 59.0, 1.0):
            clock.now += seconds
            assert not reader.stalled
            told(feed, 1)
            feed.close()
        assert reader.stalled
        assert reader.ended.is_set()


@pytest.mark.unit
@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_frame_is_what_a_websocket_client_reads_as_that_text(size: int) -> None:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(text_frame(b"x" * size))
    (frame,) = client.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, b"x" * size)


# ---- over HTTP, byte by byte -----------------------------------------------------------------------------------------

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}


def events(body: bytes) -> list[dict[str, Any]]:
    """The data of an event stream's events, comments left out."""
    blocks = [block.split("\n") for block in body.decode().split("\n\n") if block and not block.startswith(":")]
    return [json.loads(line.removeprefix("data: ")) for block in blocks for line in block if line.startswith("data: ")]


@pytest.mark.unit
async def test_a_reader_that_stops_reading_holds_nobody_up() -> None:
    app = create_app(ScriptedBackend())
    listening = Client(app, "GET", "/v1/performance/stream")
    await listening.until(b"snapshot")
    listening.reading.clear()
    for _ in range(MOST_WAITING):  # two messages each
        assert (await call(app, "POST", "/v1/chat/completions", CHAT)).status == 200
    listening.reading.set()
    await listening.until(b"event: snapshot", 2)
    last = await call(app, "POST", "/v1/chat/completions", CHAT)
    await listening.until(b'"request.finished","id"')
    await listening.until(last.headers["x-request-id"].encode())
    read = events(listening.body)
    assert len(read) <= MOST_WAITING + 8
    assert [event["type"] for event in read].count("snapshot") == 2
    numbers = [int(event["id"].rpartition("-")[2]) for event in read]
    assert numbers == sorted(numbers)
    listening.leave()
    await listening.end()


@pytest.mark.unit
async def test_a_stream_ends_when_the_server_does() -> None:
    app = create_app(ScriptedBackend())
    listening = Client(app, "GET", "/v1/performance/stream")
    await listening.until(b"snapshot")
    app.state.server.place.live.close()
    await listening.end()
    assert listening.complete


@pytest.mark.unit
async def test_only_so_many_may_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 8)
    app = create_app(ScriptedBackend())
    waiting = [Client(app, "GET", "/v1/performance/stream") for _ in range(8)]
    for each in waiting:
        await each.until(b"snapshot")
    refused = await call(app, "GET", "/v1/performance/stream")
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")
    waiting[0].leave()
    await waiting[0].end()
    another = Client(app, "GET", "/v1/performance/stream")
    await another.until(b"snapshot")
    app.state.server.place.live.close()
    await asyncio.gather(*(each.end() for each in [*waiting[1:], another]))


@pytest.mark.unit
async def test_a_reader_that_reads_nothing_is_dropped() -> None:
    from heylook_llm.server.generate import Pace

    app = create_app(ScriptedBackend(), Options(pace=Pace(stall_seconds=0.05)))
    listening = Client(app, "GET", "/v1/performance/stream")
    await listening.until(b"snapshot")
    listening.reading.clear()
    assert (await call(app, "POST", "/v1/chat/completions", CHAT)).status == 200
    await listening.end()
    assert listening.aborted
    assert app.state.server.place.live.listeners == 0


# ---- over a real server ----------------------------------------------------------------------------------------------

MODELS = """
default_model: fake
max_loaded_models: 1
models:
  - {id: fake, provider: fake, config: {n_ctx: 2048, n_parallel: 4, decode_tokens_per_second: 100}}
  - {id: other, provider: fake, config: {n_ctx: 2048}}
  - {id: broken, provider: fake, config: {load_error: the file is damaged}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a key."""
    with running(MODELS, tmp_path_factory.mktemp("live"), guard={"api_key": "secret"}) as it:
        yield it


KEY = {"authorization": "Bearer secret"}


class Stream:
    """An event stream, read as it comes."""

    def __init__(self, server: Running, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("GET", "/v1/performance/stream", headers={**KEY, **named})
        self.reply = self.connection.getresponse()

    def next(self) -> dict[str, Any]:
        """The next event's data."""
        while True:
            line = self.reply.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                found: dict[str, Any] = json.loads(line[6:])
                return found

    def until(self, kind: str) -> list[dict[str, Any]]:
        """All events up to one of a kind."""
        seen = [self.next()]
        while seen[-1]["type"] != kind:
            seen.append(self.next())
        return seen


def chat(server: Running, model: str = "fake", text: str = "Hello, world") -> str:
    """The id of a request that was answered, or not."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    headers = {**KEY, "X-Client-Tag": "test", "content-type": "application/json"}
    request = urllib.request.Request(f"{server.url}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return str(reply.headers["x-request-id"])
    except urllib.error.HTTPError as error:
        return str(error.headers["x-request-id"])


def socket(server: Running, **headers: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/v1/performance/ws", additional_headers={**KEY, **headers})


@pytest.mark.integration
def test_what_happens_is_told_both_ways_alike(server: Running) -> None:
    chat(server)
    stream = Stream(server)
    with socket(server) as web:
        assert stream.next()["type"] == json.loads(web.recv(30))["type"] == "snapshot"
        identity = chat(server)
        heard = stream.until("request.finished")
        same = [json.loads(web.recv(30)) for _ in heard]
    started, finished = [event for event in heard if event["type"].startswith("request.")]
    assert [event for event in heard if event["type"] != "sample"] == [
        event for event in same if event["type"] != "sample"
    ]
    assert started["type"] == "request.started"
    assert started["request"]["id"] == finished["request"]["id"] == identity
    assert (started["request"]["client"], finished["request"]["outcome"]) == ("test", "done")
    assert finished["request"]["output_tokens"] == len("Hello, world") + 1
    for event in heard:
        holds(event)


@pytest.mark.integration
def test_models_that_come_and_go_are_told(server: Running) -> None:
    chat(server)
    stream = Stream(server)
    holds(stream.next())
    chat(server, "other")
    heard = stream.until("request.finished")
    changes = [event["model"] for event in heard if event["type"].startswith("model.")]
    assert [(change["id"], change["change"]) for change in changes] == [
        ("fake", "evicted"),
        ("other", "loading"),
        ("other", "loaded"),
    ]
    assert changes[0]["reason"] == "place"
    assert changes[0]["seconds"] > 0
    assert changes[2]["seconds"] > 0
    assert changes[2]["resident_bytes"] > 1 << 20
    chat(server, "broken")
    failed = [event for event in stream.until("request.finished") if event["type"] == "model.failed"]
    assert "the file is damaged" in failed[0]["model"]["reason"]
    for event in [*heard, *failed]:
        holds(event)


@pytest.mark.integration
def test_samples_say_how_fast_it_is(server: Running) -> None:
    chat(server)
    asking = threading.Thread(target=chat, args=(server, "fake", "x" * 400))
    asking.start()
    stream, seen = Stream(server), list[dict[str, Any]]()
    while not (seen and seen[-1]["tokens_per_second"]):
        event = stream.until("sample")[-1]
        holds(event)
        seen.append(event["sample"])
    busy = seen[-1]
    assert 0 < busy["tokens_per_second"] <= 150, "one stream of 100 tokens per second"
    assert busy["models"]["fake"]["running"] == busy["batch_size"] == 1
    assert busy["in_flight"] == 1
    assert 0 < busy["memory_used_bytes"] < busy["memory_total_bytes"]
    assert 0 <= busy["cpu_percent"] <= 100
    listing = urllib.request.Request(f"{server.url}/v1/requests", headers=KEY)
    with urllib.request.urlopen(listing) as reply:
        (running,) = json.load(reply)["data"]
    cancelling = urllib.request.Request(f"{server.url}/v1/requests/{running['id']}", headers=KEY, method="DELETE")
    urllib.request.urlopen(cancelling).close()
    asking.join()


@pytest.mark.integration
def test_a_stream_goes_on_after_a_break(server: Running) -> None:
    broken = Stream(server)
    last = broken.next()["id"]
    broken.connection.close()
    identity = chat(server)
    heard = Stream(server, Last_Event_ID=last).until("request.finished")
    kinds = [event["type"] for event in heard if event["type"].startswith(("request.", "snapshot"))]
    assert kinds == ["request.started", "request.finished"]
    assert heard[-1]["request"]["id"] == identity


@pytest.mark.integration
@pytest.mark.parametrize(
    ("headers", "status", "named"),
    [
        ({"Origin": "https://evil.example"}, 403, b"--allow-origin"),
        ({"authorization": "Bearer wrong"}, 401, b"API key"),
    ],
)
def test_strangers_hear_nothing(server: Running, headers: dict[str, str], status: int, named: bytes) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        socket(server, **headers)
    assert refusal.value.response.status_code == status
    assert named in (refusal.value.response.body or b"")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/v1/performance/stream", headers={**KEY, **headers})
    reply = connection.getresponse()
    assert (reply.status, named in reply.read()) == (status, True)
