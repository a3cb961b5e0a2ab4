"""Turns, tools and thinking of the Anthropic dialect as core's prompt."""

import json
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest, UnsupportedFeature
from heylook_llm.server.wire import anthropic_body as body
from heylook_llm.server.wire import pictures
from heylook_llm.server.wire.exchange import Bounds
from heylook_llm.server.wire.pictures import Picture
from heylook_llm.server.wire.table import kind_of, required
from heylook_llm.server.wire.turns import joined, texts

_ROLES: Final = ("user", "assistant", "system")
_LEVELS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
_SERVER_RESULT: Final = re.compile(r"(?!tool_result$)\w+_tool_result")
"""What one of Anthropic's own tools answered; it stands in the assistant's turn."""
_SERVER_TOOL: Final = re.compile(r"(web_search|web_fetch|code_execution|tool_search_tool_\w+|mcp_toolset)(_\d{8})?")
"""Tools that Anthropic runs. Those of its types that a client runs (bash, text_editor) aren't among them."""
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def chat(fields: body.PromptFields, bounds: Bounds, album: list[Picture]) -> core.ChatPrompt:
    """The prompt of a body; its images go into `album`. Raises BadRequest, UnsupportedFeature."""
    declared = tools(fields.tools, bounds)
    turns = _Turns(album)
    if fields.system:
        turns.add(core.Message("system", _system(fields.system)))
    for at, message in enumerate(fields.messages):
        turns.read(message, f"messages[{at}]")
    messages = turns.whole(last_role=fields.messages[-1].role)
    return core.ChatPrompt(
        messages=messages,
        tools=declared,
        tool_choice=_tool_choice(fields.tool_choice, declared),
        thinking=_thinking(fields),
        thinking_budget=fields.thinking.budget_tokens if fields.thinking is not None else None,
        continue_last=messages[-1].role == "assistant",
    )


def _system(given: str | list[body.Block]) -> tuple[core.Part, ...]:
    if isinstance(given, str):
        return (core.TextPart(given),)
    texts = [_text_of(block, f"system[{at}]") for at, block in enumerate(given)]
    return (core.TextPart("\n\n".join(filter(None, texts))),)


def _text_of(block: body.Block, place: str) -> str:
    if block.type != "text":
        raise BadRequest(f"Invalid value for '{place}.type': only text may stand here.", param=f"{place}.type")
    return str(required(block.text, f"{place}.text"))


# ---- turns -----------------------------------------------------------------------------------------------------------


class _Turns:
    """The turns of a conversation, as templates want them: a tool's answers apart, nobody twice in a row."""

    def __init__(self, album: list[Picture]) -> None:
        self._album = album
        self._turns: list[core.Message] = []
        self._names: dict[str, str] = {}
        """Of the tools that were called, by the calls' ids."""

    def add(self, turn: core.Message) -> None:
        """Append a turn; one more of the same speaker's is joined to it."""
        if self._turns and turn.role in ("user", "assistant") and self._turns[-1].role == turn.role:
            self._turns[-1] = joined(self._turns[-1], turn)
        elif turn.parts or turn.reasoning or turn.tool_calls or turn.role != "assistant":
            self._turns.append(turn)

    def read(self, message: body.Message, place: str) -> None:
        """Append what a message holds. Raises BadRequest, UnsupportedFeature."""
        if message.role not in _ROLES:
            raise BadRequest(
                f"Invalid value for '{place}.role': must be one of {', '.join(_ROLES)}.", param=f"{place}.role"
            )
        if isinstance(message.content, str):
            self.add(core.Message(message.role, texts(message.content)))
            return
        blocks = _placed(message.content, f"{place}.content")
        match message.role:
            case "assistant":
                self._read_assistant(blocks)
            case "user":
                self._read_user(blocks)
            case _:
                self.add(core.Message("system", _system(message.content)))

    def _read_user(self, blocks: list[tuple[str, body.Block]]) -> None:
        """A user's turn: what tools answered goes before what was said beside it."""
        for place, block in blocks:
            if block.type == "tool_result":
                self._turns.append(self._tool_answer(block, place))
        said = [(place, block) for place, block in blocks if block.type != "tool_result"]
        if said or not blocks:
            self.add(core.Message("user", self._parts(said)))

    def _tool_answer(self, block: body.Block, place: str) -> core.Message:
        identity = str(required(block.tool_use_id, f"{place}.tool_use_id"))
        parts = self._answer_parts(block.content, f"{place}.content")
        if block.is_error and not _text(parts).casefold().startswith("error"):
            parts = (core.TextPart("Error: "), *parts)
        return core.Message("tool", parts, tool_call_id=identity, name=self._names.get(identity, ""))

    def _answer_parts(self, content: object, place: str) -> tuple[core.Part, ...]:
        if content is None or isinstance(content, str):
            return texts(content or "")
        return self._parts(_placed(content, place))

    def _read_assistant(self, blocks: list[tuple[str, body.Block]]) -> None:
        """An assistant's turn; where one of Anthropic's own tools answered within it, it is two turns and an answer."""
        turn = core.Message("assistant")
        for place, block in blocks:
            if _SERVER_RESULT.fullmatch(block.type):
                identity = str(required(block.tool_use_id, f"{place}.tool_use_id"))
                self.add(turn)
                answer = json.dumps(block.model_dump(exclude_unset=True).get("content"), ensure_ascii=False)
                name = self._names.get(identity, "")
                self._turns.append(core.Message("tool", texts(answer), tool_call_id=identity, name=name))
                turn = core.Message("assistant")
            else:
                turn = self._with(turn, block, place)
        self.add(turn)

    def _with(self, turn: core.Message, block: body.Block, place: str) -> core.Message:
        match block.type:
            case "thinking":
                thought = turn.reasoning + str(required(block.thinking, f"{place}.thinking"))
                return msgspec.structs.replace(turn, reasoning=thought)
            case "redacted_thinking":  # nobody but Anthropic can read it
                return turn
            case "tool_use" | "server_tool_use":
                return msgspec.structs.replace(turn, tool_calls=(*turn.tool_calls, self._call(block, place)))
        if block.type == "image":
            raise BadRequest(f"{place}: images may stand in turns of the user and in tools' results.", param=place)
        return msgspec.structs.replace(turn, parts=(*turn.parts, *self._parts([(place, block)])))

    def _call(self, block: body.Block, place: str) -> core.ToolCall:
        identity, name = str(required(block.id, f"{place}.id")), str(required(block.name, f"{place}.name"))
        self._names[identity] = name
        return core.ToolCall(identity, name, json.dumps(required(block.input, f"{place}.input"), ensure_ascii=False))

    # ---- blocks ----

    def _parts(self, blocks: Iterable[tuple[str, body.Block]]) -> tuple[core.Part, ...]:
        return tuple(part for place, block in blocks for part in self._part(block, place))

    def _part(self, block: body.Block, place: str) -> tuple[core.Part, ...]:
        match block.type:
            case "text":
                return texts(required(block.text, f"{place}.text"))
            case "image":
                self._album.append(_picture(block, f"{place}.source"))
                return (pictures.UNREAD,)
            case "document":
                return texts(_document(block, place))
            case "search_result":
                return texts(_search_result(block, place))
            case "tool_result" | "tool_use" | "thinking" | "redacted_thinking" | "server_tool_use":
                raise BadRequest(f"{place}: a block of type '{block.type}' can't stand here.", param=f"{place}.type")
            case "container_upload":
                raise UnsupportedFeature("There is no code execution: send the file's text.", param=place)
        raise BadRequest(
            f"Invalid value for '{place}.type': '{block.type[:64]}' is not known here.", param=f"{place}.type"
        )

    # ---- the end ----

    def whole(self, last_role: str) -> tuple[core.Message, ...]:
        """All of them. Raises BadRequest where the last one can be neither answered nor continued."""
        if not self._turns:
            raise BadRequest("messages: there is nothing to answer.", param="messages")
        last = self._turns[-1]
        if last_role == "assistant" and last.role == "assistant" and last.tool_calls:
            raise BadRequest(
                "The last turn can't be continued, because it calls tools: send their results as tool_result blocks.",
                param="messages",
            )
        return tuple(self._turns)


def _text(parts: Iterable[core.Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, core.TextPart))


def _placed(content: object, place: str) -> list[tuple[str, body.Block]]:
    """Blocks within a block, each with its place. Raises BadRequest."""
    if not isinstance(content, list):
        raise BadRequest(
            f"Invalid type for '{place}': expected text or blocks, but it is {kind_of(content)}.",
            code="invalid_type",
            param=place,
        )
    return [(f"{place}[{at}]", block) for at, block in enumerate(content)]


def _picture(block: body.Block, place: str) -> Picture:
    source = block.source
    if isinstance(source, body.Source) and source.type == "base64":
        return pictures.of_base64(str(required(source.data, f"{place}.data")), f"{place}.data")
    if isinstance(source, body.Source) and source.type == "url":
        return pictures.of_url(str(required(source.url, f"{place}.url")), f"{place}.url")
    if isinstance(source, body.Source) and source.type == "file":
        raise UnsupportedFeature("No files are stored here: send the image as base64 or by its URL.", param=place)
    raise BadRequest(f"'{place}' must be of type base64 or url.", param=place)


def _document(block: body.Block, place: str) -> str:
    """A document's text; one that must be read by a program is refused."""
    source, text = block.source, None
    if isinstance(source, body.Source) and source.type in ("base64", "url", "file"):
        raise UnsupportedFeature("Documents are read as text only: send what they say as text.", param=place)
    if isinstance(source, body.Source) and source.type == "text":
        text = str(required(source.data, f"{place}.source.data"))
    if isinstance(source, body.Source) and source.type == "content":
        text = _content(source.content, f"{place}.source.content")
    if text is None:
        raise BadRequest(f"'{place}.source' must be of type text or content.", param=f"{place}.source")
    return "\n".join((*filter(None, (block.title, block.context)), text))


def _search_result(block: body.Block, place: str) -> str:
    source = block.source if isinstance(block.source, str) else None
    text = _content(block.content, f"{place}.content")
    return "\n".join((*filter(None, (block.title, source)), text))


def _content(content: object, place: str) -> str:
    """Text, or the text of text blocks."""
    given = required(content, place)
    if isinstance(given, str):
        return given
    return "\n".join(_text_of(block, where) for where, block in _placed(given, place))


# ---- tools -----------------------------------------------------------------------------------------------------------


def tools(given: list[body.ToolSpec] | None, bounds: Bounds) -> tuple[core.Tool, ...]:
    """The declared tools, without those that run at Anthropic. Raises BadRequest, UnsupportedFeature."""
    places = [(f"tools[{at}]", tool) for at, tool in enumerate(given or ())]
    declared = tuple(_tool(tool, place) for place, tool in places if not _is_server_tool(tool))
    bounds.check_tools(declared)
    return declared


def server_tools(given: list[body.ToolSpec] | None) -> tuple[str, ...]:
    """Where those stand that run at Anthropic: the model is told nothing of them, since nobody here could run them."""
    return tuple(f"tools[{at}]:{tool.type}" for at, tool in enumerate(given or ()) if _is_server_tool(tool))


def _is_server_tool(tool: body.ToolSpec) -> bool:
    return tool.type is not None and _SERVER_TOOL.fullmatch(tool.type) is not None


def _tool(tool: body.ToolSpec, place: str) -> core.Tool:
    if tool.type not in (None, "custom"):
        raise UnsupportedFeature(
            f"{place}: tools of type '{tool.type[:64]}' are Anthropic's own and not offered here; declare one of your "
            "own with a name and an input_schema.",
            param=f"{place}.type",
        )
    name = required(tool.name, f"{place}.name")
    if not _TOOL_NAME.fullmatch(name):
        raise BadRequest(
            f"Invalid value for '{place}.name': 1 to 128 letters, digits, dots, dashes and underscores.",
            param=f"{place}.name",
        )
    schema = required(tool.input_schema, f"{place}.input_schema")
    return core.Tool(name, tool.description, schema, bool(tool.strict))


def _tool_choice(choice: body.ToolChoice | None, declared: tuple[core.Tool, ...]) -> core.ToolChoice:
    if choice is None or choice.type == "none":
        return core.ToolChoice("auto" if declared and choice is None else "none")
    if not declared:
        raise BadRequest("tool_choice may only be given with tools.", param="tool_choice")
    parallel = not choice.disable_parallel_tool_use
    if choice.type != "tool":
        return core.ToolChoice("auto" if choice.type == "auto" else "required", parallel=parallel)
    name = required(choice.name, "tool_choice.name")
    if name not in {tool.name for tool in declared}:
        raise BadRequest(f"tool_choice names '{name[:128]}', which is not among the tools.", param="tool_choice.name")
    return core.ToolChoice("required", (name,), parallel=False)


# ---- thinking --------------------------------------------------------------------------------------------------------


def _thinking(fields: body.PromptFields) -> bool | str | None:
    """Off, on, on at a level, or the model's own default. Raises BadRequest."""
    given = fields.thinking
    if given is not None and given.type in ("disabled", "between_tools"):
        return False
    if given is not None and given.type == "enabled":
        required(given.budget_tokens, "thinking.budget_tokens")
    effort = fields.output_config.effort if fields.output_config is not None else None
    if effort is not None:
        return _LEVELS[effort]
    return None if given is None else True
