"""Clients' schemas and grammars, tried in a process of their own before any model sees them; verdicts are kept.

Whatever crashes, hangs or eats memory over one of them does so there. A worker compiles only what came through it, and
what is small and plain enough to be sure.
"""

import asyncio
import hashlib
import json
import os
from collections import OrderedDict
from typing import Final

import msgspec

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import grammar, process, starting, trying

KEPT: Final = 1024
CORES_OF_A_PROCESS: Final = 2
MOST_PROCESSES: Final = 4
"""At a time, and of how many cores one: a flood of grammars waits for itself, not for the streams."""
MAX_TOOLS_BYTES: Final = 256 << 10
ON_LOOP_BYTES: Final = 2 << 10
"""Of text that is read on the event loop, at some 0.5 microseconds each."""


class Trial(msgspec.Struct, frozen=True):
    """A grammar to be tried, and whose it is."""

    source: str
    code: str
    tool: str = ""
    param: str | None = None

    def failed(self, reason: str) -> InvalidConstraint:
        """The error that says so."""
        message = f"'{self.tool}': {reason}" if self.tool else reason
        return InvalidConstraint(message, code=self.code, param=self.param)


class Verdict(msgspec.Struct, frozen=True):
    """What trying a grammar showed."""

    error: str | None = None
    ignored: tuple[str, ...] = ()
    """Keywords of a schema that can't be followed."""


class Precompile:
    """Tries what requests bring, each thing once."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[bytes, asyncio.Task[Verdict]] = OrderedDict()
        self._places = asyncio.Semaphore(_processes(os.cpu_count() or 1))

    async def check(self, request: core.Request) -> tuple[str, ...]:
        """The keywords that the answers won't follow. Raises InvalidConstraint, Overloaded."""
        constraint, tools = request.constraint, _guided_tools(request)
        if constraint is None and not tools:
            return ()
        size = len(constraint.source) if constraint is not None else 0
        if size <= ON_LOOP_BYTES and not tools:
            trials = _trials(constraint, tools)
        else:
            trials = await asyncio.to_thread(_trials, constraint, tools)
        ignored: list[str] = []
        for trial in trials:
            verdict = await self._verdict(trial.source)
            if verdict.error is not None:
                raise trial.failed(verdict.error)
            ignored += (f"schema:{keyword}" for keyword in verdict.ignored)
        return tuple(dict.fromkeys(ignored))

    async def _verdict(self, source: str) -> Verdict:
        key = hashlib.sha256(source.encode("utf-8", "replace")).digest()
        task = self._verdicts.get(key)
        if task is None:
            task = self._verdicts[key] = asyncio.create_task(self._try(source))
            task.add_done_callback(lambda ended: self._settle(key, ended))
        self._verdicts.move_to_end(key)
        return await asyncio.shield(task)  # others may wait for it too

    async def _try(self, source: str) -> Verdict:
        async with self._places:
            try:
                output = await process.run(trying.MODULE, source.encode("utf-8", "replace"))
            except starting.Exhausted:
                return Verdict(trying.TOO_LONG)
            except starting.Broken:
                return Verdict(trying.UNABLE)
        found = msgspec.json.decode(output, type=Verdict)
        return msgspec.structs.replace(found, error=found.error and trying.shortened(found.error))

    def _settle(self, key: bytes, task: "asyncio.Task[Verdict]") -> None:
        """Keep verdicts, but not what says nothing about the grammar."""
        if task.cancelled() or task.exception() is not None:
            self._verdicts.pop(key, None)
        while len(self._verdicts) > KEPT:
            self._verdicts.popitem(last=False)


def _guided_tools(request: core.Request) -> tuple[core.Tool, ...]:
    """The tools to whose schemas the model will be held."""
    chats = [prompt for prompt in request.prompts if isinstance(prompt, core.ChatPrompt)]
    return tuple(
        tool
        for chat in chats
        if request.constraint is not None
        or chat.tool_choice.mode == "required"
        or any(tool.strict for tool in chat.tools)
        for tool in chat.tools
    )


def _trials(constraint: core.Constraint | None, tools: tuple[core.Tool, ...]) -> list[Trial]:
    """What of it isn't sure to be cheap. Raises InvalidConstraint for what exceeds a bound."""
    trials: list[Trial] = []
    if constraint is not None:
        kind, source = constraint.kind, constraint.source
        whole = grammar.answer(kind, source, strict=constraint.strict)
        if not grammar.is_cheap(kind, source):
            code = "invalid_json_schema" if kind == "json_schema" else "invalid_value"
            trials.append(Trial(grammar.text(whole), code))
    sources = [json.dumps({"type": "object", **tool.parameters}, ensure_ascii=False) for tool in tools]
    if sum(map(len, sources)) > MAX_TOOLS_BYTES:
        raise InvalidConstraint(f"the tools' schemas together are larger than {MAX_TOOLS_BYTES >> 10} KiB.")
    for at, (tool, source) in enumerate(zip(tools, sources, strict=True)):
        trial = Trial(source, "invalid_json_schema", tool.name, f"tools[{at}].function.parameters")
        try:
            schema = grammar.answer("json_schema", source, strict=tool.strict)
        except InvalidConstraint as error:
            raise trial.failed(error.message) from error
        if not grammar.is_cheap("json_schema", source):
            trials.append(msgspec.structs.replace(trial, source=grammar.text(schema)))
    return trials


def _processes(cores: int) -> int:
    """How many may run at a time."""
    return max(1, min(cores // CORES_OF_A_PROCESS, MOST_PROCESSES))
