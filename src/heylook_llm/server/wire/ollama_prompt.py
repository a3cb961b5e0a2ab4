"""Messages, tools and options of the Ollama dialect as core's prompts and Sampling."""

import json
from typing import Any, Final, TypeVar

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest
from heylook_llm.server.wire import ollama_body as body
from heylook_llm.server.wire import pictures, table
from heylook_llm.server.wire.exchange import Bounds
from heylook_llm.server.wire.pictures import Picture
from heylook_llm.server.wire.samplers import BOUNDS, samplers
from heylook_llm.server.wire.table import kind_of

N = TypeVar("N", int, float)

FALLBACK: Final = core.Sampling(
    temperature=0.8, top_k=40, top_p=0.9, min_p=0.0, repeat_last_tokens=64, repeat_penalty=1.0
)
"""Ollama's own defaults, which stand below what the model's configuration and file say."""
_THINK_VALUES = '"high", "medium", "low", "max", true, or false'
_FLOATS = frozenset(
    {"top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"}
    | BOUNDS.keys() - {"mirostat", "dry_allowed_length", "dry_penalty_last_n"}
)


def messages(given: list[body.Message], album: list[Picture]) -> tuple[core.Message, ...]:
    """The turns of a conversation; its images go into `album`.

    A tool's answer finds its name by the call's id, else by its position.
    """
    turns: list[core.Message] = []
    names: dict[str, str] = {}
    unanswered: list[core.ToolCall] = []
    for at, message in enumerate(given):
        turn = _message(message, f"messages[{at}]", album)
        if turn.tool_calls:
            names |= {call.id: call.name for call in turn.tool_calls}
            unanswered = list(turn.tool_calls)
        if turn.role == "tool":
            turn = _answer(turn, names, unanswered)
        turns.append(turn)
    return tuple(turns)


def _answer(turn: core.Message, names: dict[str, str], unanswered: list[core.ToolCall]) -> core.Message:
    """The turn with the name and id of the call it answers: LangChain and litellm invent ids of their own."""
    call = next((c for c in unanswered if turn.tool_call_id == c.id or (turn.name and turn.name == c.name)), None)
    if call is None and not turn.name and turn.tool_call_id not in names and unanswered:
        call = unanswered[0]
    if call is None:
        return msgspec.structs.replace(turn, name=turn.name or names.get(turn.tool_call_id, ""))
    unanswered.remove(call)
    return msgspec.structs.replace(turn, name=call.name, tool_call_id=call.id)


def _message(message: body.Message, place: str, album: list[Picture]) -> core.Message:
    role = message.role.lower()
    if message.images and role not in ("user", "tool"):
        raise BadRequest(f"{place}.images: images may stand in messages of the user and of tools only", param=place)
    return core.Message(
        role=role,
        parts=parts(message.content, message.images, f"{place}.images", album),
        reasoning=message.thinking or "",
        tool_calls=tuple(_call(call, at, place) for at, call in enumerate(message.tool_calls or ())),
        tool_call_id=message.tool_call_id or "",
        name=message.tool_name or "",
    )


def parts(text: str | None, images: list[str] | None, place: str, album: list[Picture]) -> tuple[core.Part, ...]:
    """A turn's images, which stand before its text, as Ollama puts them; they go into `album` too."""
    album += (pictures.of_base64(image, f"{place}[{at}]") for at, image in enumerate(images or ()))
    return (*(pictures.UNREAD for _ in images or ()), *((core.TextPart(text),) if text else ()))


def _call(call: body.ToolCall, at: int, place: str) -> core.ToolCall:
    return core.ToolCall(call.id or f"call_{at}", call.function.name, _arguments(call.function.arguments, place))


def _arguments(given: dict[str, Any] | str | None, place: str) -> str:
    if isinstance(given, str):
        try:
            value = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{place}.tool_calls: arguments must be an object", param=place) from error
        if not isinstance(value, dict):
            raise BadRequest(f"{place}.tool_calls: arguments must be an object", param=place)
        return given
    return json.dumps(given or {}, ensure_ascii=False)


def tools(given: list[body.ToolSpec], bounds: Bounds) -> tuple[core.Tool, ...]:
    """The declared functions."""
    if len(given) > bounds.max_tools:
        raise BadRequest(f"{len(given)} tools are more than the limit of {bounds.max_tools}", param="tools")
    return tuple(
        core.Tool(tool.function.name, tool.function.description, tool.function.parameters or {}) for tool in given
    )


def options(given: dict[str, Any]) -> body.Options:
    """The options, with Ollama's rules: null is absent, a number for an integer is cut, a wrong type is named."""
    plain = {key: _cut(key, value) for key, value in given.items() if value is not None}
    try:
        chosen = table.validate(body.Options, plain)
    except BadRequest as error:
        name = (error.param or "").partition("[")[0]
        raise BadRequest(f'option "{name}" must be of type {_type_name(name)}', param=f"options.{name}") from error
    if chosen.num_ctx is not None and chosen.num_ctx > core.MOST_CONTEXT_TOKENS:
        raise BadRequest(f'option "num_ctx" must be at most {core.MOST_CONTEXT_TOKENS}', param="options.num_ctx")
    return chosen


def _cut(key: str, value: Any) -> Any:
    integer = key in body.Options.model_fields and _type_name(key) == "integer"
    return int(value) if integer and isinstance(value, float) and abs(value) < 2**63 else value


def _type_name(name: str) -> str:
    if name in _FLOATS:
        return "float32"
    if name in ("stop", "dry_sequence_breakers"):
        return "an array of strings"
    return "boolean" if name == "use_mmap" else "integer"


def sampling(chosen: body.Options, logprobs: int | None, bounds: Bounds) -> core.Sampling:
    """The options as a Sampling; out-of-range values are refused by name."""
    stops = (chosen.stop,) if isinstance(chosen.stop, str) else tuple(chosen.stop or ())
    stops = tuple(stop for stop in stops if stop)
    if len(stops) > bounds.max_stop or any(len(stop.encode()) > bounds.max_stop_bytes for stop in stops):
        raise BadRequest(f"stop takes {bounds.max_stop} strings of {bounds.max_stop_bytes} bytes", param="options.stop")
    return core.Sampling(
        max_tokens=None if chosen.num_predict is None or chosen.num_predict < 0 else chosen.num_predict,
        temperature=_within(chosen.temperature, "temperature", 0, 100),
        top_k=None if chosen.top_k is None else max(0, _within(chosen.top_k, "top_k", -1, 1_000_000) or 0),
        top_p=_within(chosen.top_p, "top_p", 0, 1),
        min_p=_within(chosen.min_p, "min_p", 0, 1),
        typical_p=_within(chosen.typical_p, "typical_p", 0, 1),
        repeat_penalty=_within(chosen.repeat_penalty, "repeat_penalty", 0, 100),
        repeat_last_tokens=_within(chosen.repeat_last_n, "repeat_last_n", -1, 2**31 - 1),
        presence_penalty=_within(chosen.presence_penalty, "presence_penalty", -100, 100),
        frequency_penalty=_within(chosen.frequency_penalty, "frequency_penalty", -100, 100),
        seed=None if chosen.seed == -1 else chosen.seed,
        stop=stops,
        logprobs=logprobs,
        **samplers(chosen, _outside),
    )


def _within(value: N | None, name: str, low: float, high: float) -> N | None:
    if value is not None and not low <= value <= high:
        raise _outside(name, low, high)
    return value


def _outside(name: str, low: float, high: float) -> BadRequest:
    return BadRequest(f'option "{name}" must be from {low} to {high}', param=f"options.{name}")


def thinking(given: object) -> bool | str | None:
    """The `think` field: None is absent. Raises BadRequest in Ollama's words."""
    match given:
        case None | bool():
            return given
        case str() if given in body.THINK_VALUES:
            return given
        case str():
            shown = given[:64]
            raise BadRequest(
                f'invalid think value: "{shown}" (must be "high", "medium", "low", "max", true, or false)',
                param="think",
            )
    raise BadRequest(f"think must be a boolean or string ({_THINK_VALUES}), not {kind_of(given)}", param="think")
