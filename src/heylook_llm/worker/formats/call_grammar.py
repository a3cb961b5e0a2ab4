"""How a family's calls to given tools are written, as rules that force a model to write them."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from heylook_llm import core
from heylook_llm.helper.grammar import with_options
from heylook_llm.worker.formats.calls import ToolFormat
from heylook_llm.worker.formats.json_calls import JsonCalls


class CallGrammar(NamedTuple):
    """Rules in llguidance's Lark. Arguments are `%json` by each tool's own schema, within which its references lie."""

    opening: str
    """What opens a call; what follows it isn't free any more."""
    rules: str
    """A rule `call`: what follows the opening, up to and with what closes the call."""
    between: str | None
    """What stands between a call and the opening of the next; None: there is only one."""

    def lark(self, *, parallel: bool) -> str:
        """Rules whose `calls` is one call or, where `parallel`, any number from one."""
        opening = json.dumps(self.opening, ensure_ascii=False)
        calls = f"calls: {opening} call"
        if parallel and self.between is not None:
            calls += f" ({json.dumps(self.between + self.opening, ensure_ascii=False)} call)*"
        return f"{calls}\n{self.rules}"


def call_grammar(form: ToolFormat | None, tools: Sequence[core.Tool]) -> CallGrammar | None:
    """The grammar of calls to these tools; None: calls of this family can't be forced."""
    match form:
        case JsonCalls() if form.openings and form.closings and not form.openings[0].endswith(("[", "{")):
            return _json_calls(form, tools)
    return None


def parameters(tool: core.Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, an object, with our options; a tool that names none takes none."""
    given = tool.parameters or {"additionalProperties": False}
    return with_options({"type": "object", **given}, strict=tool.strict)


def _json_calls(form: JsonCalls, tools: Sequence[core.Tool]) -> CallGrammar:
    r"""`\n{"name": "f", "arguments": {...}}\n`, as models of this family are taught to space it."""
    name_key, arguments_key = form.name_keys[0], form.argument_keys[0]
    rules = [f"call: ({' | '.join(f'call_{at}' for at in range(len(tools)))}) {json.dumps(chr(10) + form.closings[0])}"]
    for at, tool in enumerate(tools):
        head = f'\n{{"{name_key}": {json.dumps(tool.name)}, "{arguments_key}": '
        rules.append(f'call_{at}: {json.dumps(head)} arguments_{at} "}}"')
        rules.append(f"arguments_{at}: %json {json.dumps(parameters(tool))}")
    return CallGrammar(form.openings[0], "\n".join(rules) + "\n", "\n")
