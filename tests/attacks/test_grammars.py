"""Schemas, regexes and grammars made to crash, hang or fill whoever compiles them, while a stream goes on beside."""

import contextlib
import json
import socket
from typing import Any

import httpx
import pytest

from tests.attacks.raw import connect, post, read_until
from tests.serving import Running
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

ASK = [{"role": "user", "content": "hello"}]


def nested(depth: int) -> Any:
    """Objects within objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def doubling(depth: int) -> Any:
    """Definitions each of which refers twice to the next: 2**depth paths."""
    definitions: dict[str, Any] = {
        f"d{at}": {"type": "object", "properties": {name: {"$ref": f"#/$defs/d{at + 1}"} for name in "ab"}}
        for at in range(depth)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{depth}": {"type": "string"}}}


ALTERNATIVES: dict[str, Any] = {
    "allOf": [{"anyOf": [{"properties": {f"p{at}": {"const": j}}} for j in range(3)]} for at in range(14)]
}
SCHEMAS: dict[str, Any] = {
    "deep": nested(200),
    "very deep": "[" * 100_000,
    "doubling": doubling(30),
    "a product of alternatives": ALTERNATIVES,
    "a huge enum": {"enum": [f"value {at}" for at in range(100_000)]},
    "a large enum": {"enum": [f"value {at}" for at in range(3_000)]},
    "huge counts": {"type": "array", "items": {"type": "string"}, "minItems": 2**64 - 1},
    "counts of counts": {"type": "array", "minItems": 9999, "items": {"type": "array", "minItems": 9999}},
    "a product of multiples": {"type": "integer", "allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]},
    "many properties": {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(256)}},
    "a pattern of patterns": {"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"},
    "a pattern that backtracks": {"type": "string", "pattern": "^(a+)+(a|aa)+$"},
    "look-behind": {"type": "string", "pattern": "(?<=a)b"},
    "itself": {"$ref": "#"},
    "itself in all": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "itself or nothing": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    "somewhere else": {"$ref": "http://127.0.0.1:1/schema.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "strange types": {"type": ["string", {}, 5], "pattern": {}, "minLength": "x"},
    "strange kinds": {"type": 5, "properties": [], "required": {}, "enum": {}},
}
GRAMMARS: dict[str, str] = {
    "nested": "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000,
    "left recursion": 'root ::= root "a" | "b"',
    "nothing but itself": "root ::= root",
    "an empty loop": 'root ::= (("")*)*',
    "endless": 'root ::= "a" root',
    "lark: a chain": "start: r0\n" + "".join(f"r{at}: r{at + 1}\n" for at in range(3000)) + 'r3000: "a"',
    "lark: doubling terminals": "start: A0\n"
    + "".join(f"A{at}: A{at + 1} A{at + 1}\n" for at in range(30))
    + 'A30: "a"',
    "lark: doubling rules": "start: a0\n" + "".join(f"a{at}: a{at + 1} a{at + 1}\n" for at in range(30)) + 'a30: "a"',
    "lark: repetitions": 'start: x{1000}\nx: y{1000}\ny: z{1000}\nz: "a"{1,1000}',
    "lark: ambiguous": 'start: start start | "a" | ""',
    "lark: intersections": "start: A\nA: /(a|b)*a(a|b){12}/ & /(a|b)*b(a|b){12}/ & ~/(a|b)*aa(a|b){11}/",
    "lark: a loop": "start: x\nx: y\ny: x",
}
REGEXES: dict[str, str] = {
    "groups": "(" * 60_000,
    "repetitions": "((a{1,1000}){1,1000}){1,1000}",
    "unicode": r"(\p{L}\p{N}\w){1,1000}",
    "states": r"(.*a.{24})*b",
}


def bodies() -> list[tuple[str, str, dict[str, Any]]]:
    """(name, path, body) of each, in each dialect that has a place for it; a commit's schemas in one each."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    for at, (name, schema) in enumerate(SCHEMAS.items()):
        ways = _ways(name, schema)
        found += ways if LONG else [ways[at % len(ways)]]
    found += [(f"grammar {name}", "/v1/chat/completions", {"grammar": text}) for name, text in GRAMMARS.items()]
    found += [(f"regex {name}", "/v1/chat/completions", {"guided_regex": text}) for name, text in REGEXES.items()]
    return found


def _ways(name: str, schema: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """The requests that bring a schema."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found: list[tuple[str, str, dict[str, Any]]] = [
        (f"schema {name}", "/v1/chat/completions", {"response_format": form})
    ]
    if isinstance(schema, dict):
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        fields = {"tools": [tool], "tool_choice": "required"}
        found.append((f"tool {name}", "/v1/chat/completions", fields))
        found.append((f"format {name}", "/api/chat", {"format": schema, "stream": False}))
    return found


def load(server: Running, model: str) -> tuple[int, int]:
    """Load a model; its worker's process, and how many crashed before it."""
    status = httpx.post(f"{server.url}/v1/models/{model}/load", timeout=60).json()
    return int(status["pid"]), int(status["crashes"])


@pytest.mark.timeout(400)
def test_each_is_answered_or_refused_while_a_stream_goes_on(fake_server: Running) -> None:
    ask = {"model": "fake", "messages": ASK, "max_tokens": 40, "options": {"num_predict": 40}, "think": False}
    load(fake_server, "slow")
    before = load(fake_server, "fake")
    beside = connect(fake_server)
    endless = {"model": "slow", "messages": [{"role": "user", "content": "[[count:9000]]"}], "stream": True}
    beside.sendall(post("/v1/chat/completions", json.dumps(endless).encode()))
    read_until(beside, b"1")
    refused = 0
    with httpx.Client(base_url=fake_server.url, timeout=90) as client:
        for name, path, fields in bodies():
            reply = client.post(path, json={**ask, **fields})
            assert reply.status_code in (200, 400), (name, reply.text)
            if reply.status_code == 400:
                refused += 1
                assert json.loads(reply.text)["error"], name
                assert "root:" not in reply.text, name
    assert refused > len(bodies()) // 3
    assert load(fake_server, "fake") == before
    goes_on(beside)
    beside.close()


def goes_on(stream: socket.socket) -> None:
    """Wait until a stream says what it hadn't said when it was asked, unless it has come to its end."""
    said = b""
    stream.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while piece := stream.recv(1 << 16):
            said += piece
    stream.settimeout(60)
    if b"[DONE]" not in said:
        read_until(stream, b"data: ")
