"""Calls between tags as rules of a grammar: texts as they are, up to the tag that ends them; other values as JSON."""

import json
from collections.abc import Iterator
from typing import Final

from heylook_llm.worker.formats.literal_grammar import LiteralRules, json_without
from heylook_llm.worker.formats.schema_rules import (
    TEXT,
    Arguments,
    Rules,
    held_text,
    literal,
    quoted,
    without,
)
from heylook_llm.worker.formats.tagged_calls import TaggedCalls
from heylook_llm.worker.formats.values import as_json, kinds_of

OTHER_KINDS: Final = ("number", "boolean", "null", "array", "object")
_SPACE: Final = r"[\s\x1c-\x1f]*"
AS_VALUES: Final = (
    rf"~/(?s:{_SPACE}[-+.\d\[(\{{].*)/ & ~/{_SPACE}(true|True|false|False|null|None){_SPACE}/"
)  # fmt: skip
"""Not what may be read as a value of another type than a text."""
KEY: Final = "/[A-Za-z_][A-Za-z0-9_.-]{0,63}/"
"""The name of a property that a schema doesn't name."""


class TaggedRules:
    """Writes the rules of calls to tools."""

    def __init__(self, form: TaggedCalls, rules: Rules) -> None:
        self._form = form
        self._rules = rules
        self._written: dict[str, LiteralRules] = {}
        """By the name of the tool."""

    def call(self, arguments: Arguments) -> str:
        """A call, from behind what stands before a function's name, to what stands behind its end."""
        form, schema = self._form, arguments.whole()
        parts = [f"/{literal(arguments.tool.name + form.name_end)}\\n?/"]
        for key, part in arguments.members(schema).items():
            required = arguments.is_required(schema, key)
            if self._can_write(key):
                parts.append(self._parameter(arguments, key, part) + ("" if required else "?"))
            elif required:
                raise arguments.failed(f"the property {key!r} can't be written, in the syntax of this model's calls.")
        others = arguments.others(schema, named=bool(arguments.members(schema)))
        if others is not False:
            parts.append(f"{self._other(arguments, list(arguments.members(schema)), others)}*")
        return self._rules.rule(" ".join((*parts, quoted(form.function_end))))

    def _can_write(self, key: str) -> bool:
        return bool(key) and key == key.strip() and self._form.key_end not in key

    def _parameter(self, arguments: Arguments, key: str, schema: object) -> str:
        head = literal(self._form.parameter + key + self._form.key_end)
        kinds = kinds_of(arguments.root, key)
        return self._rules.rule(" | ".join(self._valued(arguments, f"/{head}", schema, kinds)))

    def _other(self, arguments: Arguments, known: list[str], schema: object) -> str:
        """A parameter that the schema doesn't name."""
        form = self._form
        taken = f" & ~/{'|'.join(map(literal, known))}/" if known else ""
        key = self._rules.terminal(f"{quoted(form.parameter)} ({KEY}{taken})")
        head = f"{key} /{literal(form.key_end)}"
        return self._rules.rule(" | ".join(self._valued(arguments, head, schema, frozenset())))

    def _valued(self, arguments: Arguments, head: str, schema: object, kinds: frozenset[str]) -> Iterator[str]:
        """The ways to write a parameter whose tag ends the open regex `head`."""
        form = self._form
        typed = bool(form.kind_end)
        rest = rf"\n?{literal(form.value_start)}" if form.value_start else ""
        text_head, value_head = (
            f"{head}{literal(one + form.kind_end) if typed else ''}{rest}{literal(form.line)}/"
            for one in ("true", "false")
        )
        end = f"/{literal(form.line)}{'?' if form.line else ''}{literal(form.value_end)}\\n?/"
        text, values = self._text(arguments, schema, kinds), self._values(arguments, schema, kinds)
        if text:
            yield f"{text_head} {text}"
        if values:
            yield f"{value_head} ({' | '.join(values)}) {end}"

    # ---- values ------------------------------------------------------------------------------------------------------

    def _values(self, arguments: Arguments, schema: object, kinds: frozenset[str]) -> list[str]:
        """What isn't a text."""
        values = self._as_json(arguments)
        if schema == {"type": "boolean"}:
            return [quoted(word) for word in ("true", "false", "True", "False")]
        if kinds and "string" not in kinds:
            return [values.value(schema)]
        found: list[str] = []
        for branch in arguments.branches(schema):
            match branch.get("type"):
                case "string":
                    continue
                case "null" if kinds == {"string", "null"} and not self._form.kind_end:
                    found.append(quoted("null"))
                case None if self._form.kind_end:
                    found.append(values.value({"type": list(OTHER_KINDS)}))
                case None:  # any text, which is read as a value where it looks like one
                    continue
                case _:
                    found.append(values.value(branch))
        return found

    def _as_json(self, arguments: Arguments) -> LiteralRules:
        found = self._written.get(arguments.tool.name)
        if found is None:
            syntax = json_without(self._form.value_end)
            found = self._written[arguments.tool.name] = LiteralRules(syntax, arguments, self._rules)
        return found

    # ---- texts -------------------------------------------------------------------------------------------------------

    def _text(self, arguments: Arguments, schema: object, kinds: frozenset[str]) -> str:
        """A text with its closing tag, as a terminal; empty: it can't be one."""
        if kinds and "string" not in kinds:
            return ""
        base = without(self._form.value_end)
        if not self._form.kind_end and kinds != {"string"}:
            base += f" & ~/null|None/ & {TEXT}" if kinds == {"string", "null"} else f" & {AS_VALUES} & {TEXT}"
        found: list[str] = []
        for branch in arguments.branches(schema):
            if branch.get("type", "string") != "string":
                continue
            if "enum" in branch:
                listed = [text for text in branch["enum"] if self._is_read(text, kinds)]
                found += [f"({quoted(text)})" for text in listed]
            elif not branch and not kinds:
                found.append(without(self._form.value_end))
            else:
                found.append(held_text(arguments, branch, base))
        return self._closed(found)

    def _is_read(self, text: str, kinds: frozenset[str]) -> bool:
        """Whether a text that is written as it is will be read as itself."""
        if self._form.value_end in text:
            return False
        if self._form.kind_end or kinds == {"string"}:
            return True
        if kinds == {"string", "null"}:
            return text not in ("null", "None")
        return bool(json.loads(as_json(text, kinds)) == text)

    def _closed(self, texts: list[str]) -> str:
        """One of the texts and the tag that ends it. A line break before that tag isn't the text's."""
        if not texts:
            return ""
        one, form = self._rules.terminal(" | ".join(f"({text})" for text in texts)), self._form
        end = f"/{literal(form.value_end)}\\n?/"
        if not form.line:
            return self._rules.terminal(f"{one} {end}")
        broken = f"/(?s:.*){literal(form.line)}/"
        return self._rules.terminal(f"{one} {quoted(form.line)} {end} | ({one} & ~{broken} & {TEXT}) {end}")
