"""What the OpenAI dialect and its local extensions say of the form of an answer, as core's constraint and choice."""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from heylook_llm import core
from heylook_llm.errors import BadRequest, InvalidConstraint, UnsupportedFeature
from heylook_llm.server.wire.openai_body import SamplingFields
from heylook_llm.server.wire.table import missing, wrong_type

_FORMATS: Final = "text, json_object, json_schema, regex or grammar"
_LARK: Final = re.compile(r"^\s*(?:%llguidance\b|[?!]?start\s*(?:\[[^\]]*\])?\s*:(?!:))", re.MULTILINE)
"""A grammar for llguidance; any other one is llama.cpp's GBNF."""


class Constrained(NamedTuple):
    """A constraint, the field that asked for it, and the name that the client gave its schema."""

    constraint: core.Constraint | None = None
    param: str = ""
    name: str = ""

    def worded(self, problem: InvalidConstraint) -> InvalidConstraint:
        """An error in compiling it or the tools' schemas, in OpenAI's words and with its field."""
        if problem.param is not None and problem.param.startswith("tools"):
            message = f"Invalid schema for function {problem.message}"
            return InvalidConstraint(message, code=problem.code, param=problem.param)
        if not self.param:
            return InvalidConstraint(_about("tools", problem), code=problem.code, param="tools")
        what = f"{self.param} '{self.name}'" if self.name else self.param
        return InvalidConstraint(_about(what, problem), code=problem.code, param=self.param)


def _about(what: str, problem: InvalidConstraint) -> str:
    kind = "schema for " if problem.code == "invalid_json_schema" else ""
    return f"Invalid {kind}{what}: {problem.message}"


def constrained(fields: SamplingFields) -> Constrained:
    """What a body asks for. Raises BadRequest for what is wrong or asked for twice, UnsupportedFeature."""
    given = ((name, read, getattr(fields, name)) for name, read in _FIELDS.items())
    found = [read(name, value) for name, read, value in given if value not in (None, "")]
    asked = [one for one in found if one.constraint is not None]
    if len(asked) > 1:
        names = " and ".join(one.param for one in asked[:2])
        raise BadRequest(f"{names} exclude each other: the answer can have only one form.", param=asked[1].param)
    return asked[0] if asked else Constrained()


# ---- the fields ------------------------------------------------------------------------------------------------------


def formatted(name: str, given: dict[str, Any]) -> Constrained:
    """What `response_format` asks for, or the Responses API's `text.format`. Raises as `constrained` does."""
    match given.get("type"):
        case None:
            raise missing(f"{name}.type")
        case "text":
            return Constrained()
        case "json_object":
            if given.get("schema") is None:
                return Constrained(core.Constraint("json_object"), name)
            return Constrained(_schema(f"{name}.schema", given["schema"]), name)
        case "json_schema":
            return _json_schema(name, given)
        case "regex":
            return Constrained(core.Constraint("regex", _text(f"{name}.pattern", given.get("pattern"))), name)
        case "grammar":
            return Constrained(_grammar(f"{name}.grammar", given.get("grammar")), name)
        case "structural_tag":
            raise UnsupportedFeature(f"'{name}' of type 'structural_tag' is not offered.", param=f"{name}.type")
    raise BadRequest(f"{name}.type must be {_FORMATS}.", param=f"{name}.type")


def _json_schema(name: str, given: dict[str, Any]) -> Constrained:
    holder = given.get("json_schema", given)
    place = f"{name}.json_schema" if holder is not given else name
    if not isinstance(holder, dict):
        raise wrong_type(place, "an object", holder)
    if holder.get("schema") is None:
        raise missing(f"{name}.json_schema" if holder is given and name == "response_format" else f"{place}.schema")
    strict = holder.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong_type(f"{place}.strict", "a boolean", strict)
    title = holder.get("name")
    if title is not None and not isinstance(title, str):
        raise wrong_type(f"{place}.name", "a string", title)
    return Constrained(_schema(f"{place}.schema", holder["schema"], strict=bool(strict)), name, (title or "")[:64])


def _structured_outputs(name: str, given: dict[str, Any]) -> Constrained:
    """vLLM's: one of several kinds."""
    kinds = [kind for kind in ("json", "regex", "choice", "grammar", "json_object") if given.get(kind)]
    if given.get("structural_tag"):
        raise UnsupportedFeature(f"{name}.structural_tag is not offered.", param=f"{name}.structural_tag")
    if len(kinds) != 1:
        raise BadRequest(f"{name} must hold one of json, regex, choice, grammar and json_object.", param=name)
    [kind] = kinds
    if kind == "json_object":
        return Constrained(core.Constraint("json_object"), name)
    return Constrained(_KINDS[kind](f"{name}.{kind}", given[kind]), name)


def _schema(param: str, given: object, *, strict: bool = False) -> core.Constraint:
    """A JSON schema, or text of one."""
    if isinstance(given, str):
        return core.Constraint("json_schema", given, strict)
    if not isinstance(given, dict | bool):
        raise wrong_type(param, "an object", given)
    return core.Constraint("json_schema", json.dumps(given, ensure_ascii=False), strict)


def _regex(param: str, given: object) -> core.Constraint:
    return core.Constraint("regex", _text(param, given))


def _choice(param: str, given: object) -> core.Constraint:
    if not isinstance(given, list):
        raise wrong_type(param, "an array", given)
    if not given or not all(isinstance(choice, str) for choice in given):
        raise BadRequest(f"{param} must be a list of strings, at least one.", param=param)
    return core.Constraint("choice", json.dumps(given, ensure_ascii=False))


def _grammar(param: str, given: object) -> core.Constraint:
    text = _text(param, given)
    return core.Constraint("lark" if _LARK.search(text) else "gbnf", text)


def _text(param: str, given: object) -> str:
    if given is None:
        raise missing(param)
    if not isinstance(given, str):
        raise wrong_type(param, "a string", given)
    return given


_KINDS: Final[dict[str, Callable[[str, object], core.Constraint]]] = {
    "json": _schema,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}


def _simple(read: Callable[[str, object], core.Constraint]) -> Callable[[str, Any], Constrained]:
    return lambda name, given: Constrained(read(name, given), name)


_FIELDS: Final[dict[str, Callable[[str, Any], Constrained]]] = {
    "response_format": formatted,
    "json_schema": _simple(_schema),
    "grammar": _simple(_grammar),
    "guided_json": _simple(_schema),
    "guided_regex": _simple(_regex),
    "guided_choice": _simple(_choice),
    "guided_grammar": _simple(_grammar),
    "structured_outputs": _structured_outputs,
}
