"""Items, tools and settings of the Responses API as core's prompt."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest, UnsupportedFeature
from heylook_llm.server.wire import openai_prompt, pictures
from heylook_llm.server.wire.exchange import Bounds
from heylook_llm.server.wire.openai_body import DETAILS
from heylook_llm.server.wire.pictures import Picture
from heylook_llm.server.wire.responses_body import PromptFields, ResponseItem, ResponsePart, ResponseTool
from heylook_llm.server.wire.responses_items import unsealed
from heylook_llm.server.wire.table import kind_of, required, wrong_type
from heylook_llm.server.wire.turns import joined, texts

_ROLES: Final = ("user", "assistant", "system", "developer")
_CALLS: Final = ("function_call", "custom_tool_call")
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")
_HOSTED: Final = (
    *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call"),
    *("local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
    *("mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
    *("tool_search_call", "tool_search_output"),
)
"""What OpenAI's own tools did: nothing of it can be told to another model."""
_HOSTED_TOOL: Final = re.compile(
    r"(web_search|computer)\w*|file_search|code_interpreter|image_generation|mcp|(local_)?shell|apply_patch|tool_search"
)
"""Tools that OpenAI runs, or defines: agents send some of them always, whichever model they talk to."""
_TEXTS: Final = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
INPUT: Final = "input"
"""The one argument of a custom tool, as the model is told of it."""


class Origin(NamedTuple):
    """What a tool of the prompt is to the client."""

    name: str
    namespace: str | None = None
    custom: bool = False


class Declared(NamedTuple):
    """The tools of a body."""

    tools: tuple[core.Tool, ...]
    origins: dict[str, Origin]
    """By the names that the model knows."""
    told: tuple[str, ...]
    """What of them can't be enforced, and those that the model isn't told of."""


def _full_name(name: str, namespace: str | None) -> str:
    """What the model calls a tool."""
    return name if namespace is None else f"{namespace}.{name}"


def chat(
    fields: PromptFields,
    declared: Declared,
    before: Iterable[ResponseItem],
    given: Iterable[ResponseItem],
    album: list[Picture],
) -> tuple[core.ChatPrompt, tuple[str, ...]]:
    """The prompt of a body, and the items that it leaves out; its images go into `album`.

    `before`: the items of the responses that it goes on from. Raises BadRequest, UnsupportedFeature.
    """
    turns = _Turns(album)
    if fields.instructions:
        turns.add(core.Message("system", texts(fields.instructions)))
    for item in before:
        turns.read(item, "previous_response_id")
    for at, item in enumerate(given):
        turns.read(item, f"input[{at}]")
    if not turns.turns:
        raise BadRequest("There is nothing to answer: 'input' is empty.", param="input")
    arguments = openai_prompt.template_arguments(fields.chat_template_kwargs)
    prompt = core.ChatPrompt(
        messages=tuple(turns.turns),
        tools=declared.tools,
        tool_choice=tool_choice(fields.tool_choice, declared, parallel=fields.parallel_tool_calls),
        thinking=_thinking(fields, arguments),
        thinking_budget=_budget(fields, arguments),
        template_arguments=arguments,
    )
    return prompt, tuple(turns.left_out)


def _thinking(fields: PromptFields, arguments: dict[str, Any]) -> bool | str | None:
    if fields.reasoning is not None and fields.reasoning.effort is not None:
        return openai_prompt.level(fields.reasoning.effort, "reasoning.effort")
    switch = arguments.get("enable_thinking", arguments.get("thinking"))
    return switch if isinstance(switch, bool) else None


def _budget(fields: PromptFields, arguments: dict[str, Any]) -> int | None:
    budget = fields.reasoning.max_tokens if fields.reasoning is not None else None
    if budget is None:
        budget = arguments.get("thinking_budget")
    return budget if isinstance(budget, int) and budget >= 0 else None


# ---- items -----------------------------------------------------------------------------------------------------------


class _Turns:
    """The turns of a conversation: what an assistant thought, said and called in a row is one of them."""

    def __init__(self, album: list[Picture]) -> None:
        self.turns: list[core.Message] = []
        self.left_out: list[str] = []
        self._album = album
        self._called: dict[str, str] = {}
        """Names of the tools that were called, by the calls' ids."""

    def add(self, turn: core.Message) -> None:
        """Append a turn; an assistant's is joined to one that it stands behind, and so are instructions.

        Agents send instructions and developers' messages behind them, and many templates take one of both.
        """
        if self.turns and _speaker(self.turns[-1]) == _speaker(turn) != "":
            self.turns[-1] = joined(self.turns[-1], turn)
        else:
            self.turns.append(turn)

    def read(self, item: ResponseItem, place: str) -> None:
        """Append what an item holds. Raises BadRequest, UnsupportedFeature."""
        if item.type == "message":
            self.add(self._message(item, place))
        elif item.type == "reasoning":
            self.add(core.Message("assistant", reasoning=_reasoning(item)))
        elif item.type in _CALLS:
            self._read_call(item, place)
        elif item.type in _OUTPUTS:
            self.turns.append(self._output(item, place))
        elif item.type in _HOSTED:
            self.left_out.append(place)
        else:
            raise BadRequest(
                f"Invalid value for '{place}.type': '{item.type[:64]}' is not known here.", param=f"{place}.type"
            )

    def _message(self, item: ResponseItem, place: str) -> core.Message:
        role = required(item.role, f"{place}.role")
        if role not in _ROLES:
            known = ", ".join(_ROLES)
            raise BadRequest(f"Invalid value for '{place}.role': must be one of {known}.", param=f"{place}.role")
        content = required(item.content, f"{place}.content")
        if isinstance(content, str):
            return core.Message(role, texts(content))
        return core.Message(role, self._parts(content, f"{place}.content", sees=role == "user"))

    def _read_call(self, item: ResponseItem, place: str) -> None:
        identity, name = required(item.call_id, f"{place}.call_id"), required(item.name, f"{place}.name")
        name = _full_name(name, item.namespace)
        self._called[identity] = name
        if item.type == "custom_tool_call":
            arguments = json.dumps({INPUT: _text(item.input, f"{place}.input")}, ensure_ascii=False)
        else:
            arguments = _arguments(item, f"{place}.arguments")
        self.add(core.Message("assistant", tool_calls=(core.ToolCall(identity, name, arguments),)))

    def _output(self, item: ResponseItem, place: str) -> core.Message:
        identity = required(item.call_id, f"{place}.call_id")
        if identity not in self._called:
            raise BadRequest(f"No tool call found for function call output with call_id {identity[:64]}.", param=INPUT)
        output = required(item.output, f"{place}.output")
        parts = texts(output) if isinstance(output, str) else self._output_parts(output, f"{place}.output")
        return core.Message("tool", parts, tool_call_id=identity, name=self._called[identity])

    def _output_parts(self, output: object, place: str) -> tuple[core.Part, ...]:
        if not isinstance(output, list) or not all(isinstance(part, dict) for part in output):
            raise wrong_type(place, "text or a list of parts", output)
        return self._parts([ResponsePart.model_validate(part) for part in output], place, sees=True)

    # ---- parts ----

    def _parts(self, content: list[ResponsePart], place: str, *, sees: bool) -> tuple[core.Part, ...]:
        return tuple(self._part(part, f"{place}[{at}]", sees) for at, part in enumerate(content))

    def _part(self, part: ResponsePart, place: str, sees: bool) -> core.Part:
        if part.type in _TEXTS:
            return core.TextPart(required(part.text, f"{place}.text"))
        match part.type:
            case "refusal":
                return core.TextPart(required(part.refusal, f"{place}.refusal"))
            case "input_image":
                if not sees:
                    message = "images may stand in messages of the user and in outputs of tools only."
                    raise BadRequest(f"{place}: {message}", param=place)
                self._album.append(_picture(part, place))
                return pictures.UNREAD
            case "input_file":
                message = f"{place}: files are not read: send text, or a page as an image."
                raise UnsupportedFeature(message, param=place)
            case "input_audio":
                raise UnsupportedFeature(f"{place}: audio can't be read.", param=place)
        known = "input_text, input_image, output_text, refusal"
        raise BadRequest(f"Invalid value for '{place}.type': must be one of {known}.", param=f"{place}.type")


def _speaker(turn: core.Message) -> str:
    """Whose turns in a row are one; empty: nobody's."""
    if turn.role == "developer":
        return "system"
    return turn.role if turn.role in ("assistant", "system") else ""


def _text(value: object, place: str) -> str:
    given = required(value, place)
    if not isinstance(given, str):
        raise wrong_type(place, "text", given)
    return given


def _picture(part: ResponsePart, place: str) -> Picture:
    """An image by its URL; the object form of chat completions is taken too."""
    if part.file_id is not None:
        raise UnsupportedFeature(f"{place}: no files are stored here: send the image's URL or data.", param=place)
    held = part.image_url if isinstance(part.image_url, dict) else {"url": part.image_url, "detail": part.detail}
    url, detail = held.get("url"), held.get("detail")
    place += ".image_url"
    if not isinstance(url, str) or not url:
        raise BadRequest(f"'{place}' must be a URL.", code="missing_required_parameter", param=place)
    if detail not in (None, *DETAILS):
        raise BadRequest(f"The detail of '{place}' must be one of {', '.join(DETAILS)}.", param=place)
    return pictures.of_url(url, place, pictures.LOW_DETAIL if detail == "low" else None)


def _arguments(item: ResponseItem, place: str) -> str:
    """A call's arguments; of one that the output limit cut short there are none. Raises BadRequest."""
    text = _text(item.arguments, place) or "{}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if (item.model_extra or {}).get("status") == "incomplete":
            return "{}"
        raise BadRequest(f"'{place}' is not valid JSON.", param=place) from error
    if not isinstance(value, dict):
        raise BadRequest(f"'{place}' must be JSON text of an object, but it is {kind_of(value)}.", param=place)
    return text


def _reasoning(item: ResponseItem) -> str:
    """What was thought: as it was, else as it was sealed, else its summary. Another server's seal is left closed."""
    if isinstance(item.content, list) and (said := _joined_texts(item.content)):
        return said
    if item.encrypted_content and (found := unsealed(item.encrypted_content)):
        return found
    return _joined_texts(item.summary or [])


def _joined_texts(parts: Iterable[ResponsePart]) -> str:
    return "\n".join(part.text for part in parts if part.text)


# ---- tools -----------------------------------------------------------------------------------------------------------


def declared(given: list[ResponseTool] | None, bounds: Bounds) -> Declared:
    """The declared tools, without those that run at OpenAI. Raises BadRequest, UnsupportedFeature."""
    places = [(f"tools[{at}]", tool) for at, tool in enumerate(given or ())]
    found = [one for place, tool in places if not is_hosted(tool) for one in _tools(tool, place)]
    bounds.check_tools(tuple(one.tool for one in found))
    hosted = (f"{place}:{tool.type}" for place, tool in places if is_hosted(tool))
    return Declared(
        tuple(one.tool for one in found),
        {one.tool.name: one.origin for one in found},
        (*(one.told for one in found if one.told), *hosted),
    )


def is_hosted(tool: ResponseTool) -> bool:
    """Whether a tool is OpenAI's own: the model is told nothing of it, since nobody here could run it."""
    return _HOSTED_TOOL.fullmatch(tool.type) is not None


class _Found(NamedTuple):
    tool: core.Tool
    origin: Origin
    told: str = ""


def _tools(tool: ResponseTool, place: str, space: ResponseTool | None = None) -> list[_Found]:
    if tool.type == "namespace" and space is None:
        required(tool.name, f"{place}.name")
        members = enumerate(required(tool.tools, f"{place}.tools"))
        return [one for at, member in members for one in _tools(member, f"{place}.tools[{at}]", tool)]
    if tool.type not in ("function", "custom"):
        raise UnsupportedFeature(
            f"{place}: tools of type '{tool.type[:64]}' are not known here: declare a function, or a custom tool.",
            param=f"{place}.type",
        )
    origin = Origin(required(tool.name, f"{place}.name"), space.name if space else None, tool.type == "custom")
    name = _full_name(origin.name, origin.namespace)
    about = "\n\n".join(filter(None, (space.description if space else None, tool.description))) or None
    if origin.custom:
        return [_custom(tool, place, name, about, origin)]
    return [_Found(core.Tool(name, about, tool.parameters or {}, bool(tool.strict)), origin)]


def _custom(tool: ResponseTool, place: str, name: str, about: str | None, origin: Origin) -> _Found:
    """A tool whose input is text: to the model, a function of one argument."""
    form = tool.format or {"type": "text"}
    place += ".format"
    if form.get("type") == "text":
        return _Found(_of_text(name, about, {}), origin)
    syntax, definition = form.get("syntax"), form.get("definition")
    if form.get("type") != "grammar" or syntax not in ("regex", "lark") or not isinstance(definition, str):
        message = f"'{place}' must be of type text, or a grammar with a syntax (regex or lark) and a definition."
        raise BadRequest(message, param=place)
    if syntax == "regex":
        return _Found(_of_text(name, about, {"pattern": f"^(?:{definition})$"}, strict=True), origin)
    told = f"The input follows this Lark grammar:\n{definition}"
    return _Found(_of_text(name, "\n\n".join(filter(None, (about, told))), {}), origin, place)


def _of_text(name: str, about: str | None, held: dict[str, Any], *, strict: bool = False) -> core.Tool:
    schema = {
        "type": "object",
        "properties": {INPUT: {"type": "string", **held}},
        "required": [INPUT],
        "additionalProperties": False,
    }
    return core.Tool(name, about, schema, strict)


def tool_choice(given: str | dict[str, Any] | None, declared: Declared, *, parallel: bool) -> core.ToolChoice:
    """Which tools may or must be called. Raises BadRequest, UnsupportedFeature."""
    if given in (None, "auto", "none"):
        mode: Literal["auto", "none"] = "auto" if given != "none" and declared.tools else "none"
        return core.ToolChoice(mode, parallel=parallel)
    if not declared.tools:
        raise BadRequest("tool_choice may only be given with tools.", param="tool_choice")
    if given == "required":
        return core.ToolChoice("required", parallel=parallel)
    if not isinstance(given, dict):
        raise BadRequest("tool_choice must be none, auto, required, or name a tool.", param="tool_choice")
    if given.get("type") != "allowed_tools":
        return core.ToolChoice("required", (_chosen(given, declared, "tool_choice"),), parallel=False)
    return _allowed(given, declared, parallel=parallel)


def _allowed(given: dict[str, Any], declared: Declared, *, parallel: bool) -> core.ToolChoice:
    mode, tools = given.get("mode", "auto"), given.get("tools")
    if mode not in ("auto", "required"):
        raise BadRequest("tool_choice.mode must be auto or required.", param="tool_choice.mode")
    if not isinstance(tools, list) or not tools:
        raise BadRequest("tool_choice.tools must name at least one tool.", param="tool_choice.tools")
    names = (_chosen(tool, declared, f"tool_choice.tools[{at}]") for at, tool in enumerate(tools))
    return core.ToolChoice(mode, tuple(dict.fromkeys(names)), parallel=parallel)


def _chosen(given: object, declared: Declared, place: str) -> str:
    """The name of the tool that an object means."""
    held = given if isinstance(given, dict) else {}
    kind = held.get("type")
    if kind not in ("function", "custom"):
        named = f"'{kind[:64]}'" if isinstance(kind, str) else kind_of(kind)
        raise UnsupportedFeature(f"{place}: only functions and custom tools are offered, not {named}.", param=place)
    name, space = _text(held.get("name"), f"{place}.name"), held.get("namespace")
    known = _full_name(name, space if isinstance(space, str) else None)
    if known not in declared.origins:
        raise BadRequest(f"{place} names '{known[:128]}', which is not among the tools.", param=place)
    return known


def custom_input(arguments: str) -> str:
    """The text that a custom tool is called with, out of the arguments that the model wrote."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, ValueError):
        return arguments
    found = value.get(INPUT) if isinstance(value, dict) else None
    return found if isinstance(found, str) else arguments
