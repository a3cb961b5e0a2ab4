"""Grammars tried in a helper process: verdicts, what kills it, and that each thing is tried once."""

import asyncio
import json
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import process, starting, trying
from heylook_llm.server.precompile import Precompile

pytestmark = pytest.mark.integration


def asked(constraint: core.Constraint | None = None, *tools: core.Tool, **choice: Any) -> core.Request:
    """A request with that constraint, or with those tools and that choice among them."""
    prompt = core.ChatPrompt((), tools, core.ToolChoice(**choice))
    return core.Request("r", "m", (prompt,), constraint=constraint)


def by_schema(schema: object, *, strict: bool = False) -> core.Constraint:
    """A constraint by a schema."""
    return core.Constraint("json_schema", json.dumps(schema), strict)


class Counted(list[bytes]):
    """The inputs of the processes that are started from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self._run = process.run
        monkeypatch.setattr(process, "run", self.counting)

    async def counting(self, module: str, data: bytes) -> bytes:
        """Start one more."""
        self.append(data)
        self.begun.set()
        return await self._run(module, data)


async def test_what_is_sound_passes_and_what_cannot_be_followed_is_named() -> None:
    check = Precompile().check
    assert await check(asked(core.Constraint("regex", r"[a-z]{3}\d"))) == ()
    assert await check(asked(core.Constraint("gbnf", 'root ::= "a" root | "b"'))) == ()
    loose = {"type": "object", "not": {}, "properties": {"a": {"type": "string", "format": "shoe-size"}}}
    assert await check(asked(by_schema(loose))) == ("schema:not", "schema:format=shoe-size")
    with pytest.raises(InvalidConstraint, match="Unimplemented keys"):
        await check(asked(by_schema(loose, strict=True)))


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (by_schema({"type": "string", "pattern": "(?=a)b"}), "look-around"),
        (by_schema({"type": "nonsense", "minimum": 1}), "Invalid type"),
        (by_schema({"allOf": [{"type": "string"}], "$ref": "http://127.0.0.1/x"}), "retriev"),
        (core.Constraint("lark", "start: missing"), "unknown name"),
        (core.Constraint("regex", "(a"), "unclosed"),
        # These take more than they get: of time, of what follows them, of the stack.
        (by_schema({"type": "integer", "allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}), "takes too long"),
        (core.Constraint("lark", 'start: x{1000}\nx: y{1000}\ny: z{1000}\nz: "a"{1,1000}'), "too ambiguous"),
    ],
    ids=lambda value: value.source[:40] if isinstance(value, core.Constraint) else None,
)
async def test_what_is_refused_says_why(constraint: core.Constraint, reason: str) -> None:
    with pytest.raises(InvalidConstraint) as caught:
        await Precompile().check(asked(constraint))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.code == ("invalid_json_schema" if constraint.kind == "json_schema" else "invalid_value")


async def test_a_process_that_crashes_takes_nothing_along() -> None:
    # A million units of recursion without a bound of ours before it.
    chain = "start: r0\n" + "".join(f"r{at}: r{at + 1}\n" for at in range(60_000)) + 'r60000: "a"\n'
    whole = json.dumps({"grammars": [{"lark_grammar": chain}]})
    with pytest.raises((starting.Broken, starting.Exhausted)):
        await process.run(trying.MODULE, whole.encode())


async def test_each_thing_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Counted(monkeypatch)
    known = Precompile()
    constraint = core.Constraint("regex", "[a-f]+")
    await asyncio.gather(*(known.check(asked(constraint)) for _ in range(5)))
    await known.check(asked(constraint))
    wrong = core.Constraint("regex", "(a")
    for _ in range(2):
        with pytest.raises(InvalidConstraint):
            await known.check(asked(wrong))
    assert len(inputs) == 2


async def test_whoever_leaves_does_not_spoil_it_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Counted(monkeypatch)
    known = Precompile()
    constraint = core.Constraint("regex", "[a-f]+x")
    leaving = asyncio.create_task(known.check(asked(constraint)))
    staying = asyncio.create_task(known.check(asked(constraint)))
    await inputs.begun.wait()
    leaving.cancel()
    assert await staying == ()
    assert len(inputs) == 1


async def test_what_is_plain_and_small_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Counted(monkeypatch)
    known = Precompile()
    plain = by_schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, strict=True)
    for constraint in (plain, core.Constraint("json_object"), core.Constraint("choice", '["a", "b"]')):
        assert await known.check(asked(constraint)) == ()
    assert inputs == []


PATTERN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}


async def test_tools_are_tried_where_the_model_is_held_to_them() -> None:
    check = Precompile().check
    wrong = (core.Tool("f", None, {"type": "object"}), core.Tool("g", None, PATTERN))
    assert await check(asked(None, *wrong)) == ()
    for request in (
        asked(None, *wrong, mode="required"),
        asked(None, *wrong, core.Tool("h", strict=True)),
        asked(core.Constraint("json_object"), *wrong),
    ):
        with pytest.raises(InvalidConstraint, match=r"'g': .*unclosed group") as caught:
            await check(request)
        assert caught.value.param == "tools[1].function.parameters"
    many = [core.Tool(f"f{at}", None, {"description": "x" * 60_000}) for at in range(5)]
    with pytest.raises(InvalidConstraint, match="256 KiB"):
        await check(asked(None, *many, mode="required"))
