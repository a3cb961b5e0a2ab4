"""Messages, tools and prompts of the OpenAI dialect as core's prompts."""

import json
from typing import Any, Final, Literal

import msgspec

from heylook_llm import core
from heylook_llm.errors import BadRequest, UnsupportedFeature
from heylook_llm.server.wire import openai_body as body
from heylook_llm.server.wire import pictures
from heylook_llm.server.wire.exchange import Bounds
from heylook_llm.server.wire.pictures import Picture
from heylook_llm.server.wire.table import kind_of, missing

_ROLES: Final = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_LEVELS: Final[dict[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
    "ultra": "max",
}


# ---- POST /v1/chat/completions ---------------------------------------------------------------------------------------


def chat(fields: body.ChatBody, model: str, bounds: Bounds, album: list[Picture]) -> core.ChatPrompt:
    """The prompt of a chat body; its images go into `album`. Raises BadRequest, UnsupportedFeature."""
    declared = tools(fields.tools, fields.functions, bounds)
    turns = messages(fields.messages, model, album)
    if fields.continue_final_message and turns[-1].role != "assistant":
        raise BadRequest("The last message must be the assistant's.", param="continue_final_message")
    arguments = template_arguments(fields.chat_template_kwargs)
    return core.ChatPrompt(
        messages=turns,
        tools=declared,
        tool_choice=_tool_choice(fields, declared),
        thinking=_thinking(fields, arguments),
        thinking_budget=_thinking_budget(fields, arguments),
        template_arguments=arguments,
        continue_last=fields.continue_final_message,
    )


def messages(given: list[body.Message], model: str, album: list[Picture]) -> tuple[core.Message, ...]:
    """The turns of a conversation, parts of one message joined into one turn; its images go into `album`."""
    names: dict[str, str] = {}
    turns: list[core.Message] = []
    for at, message in enumerate(given):
        turn = _message(message, f"messages[{at}]", model, album)
        names |= {call.id: call.name for call in turn.tool_calls}
        if turn.role == "tool" and not turn.name:
            turn = msgspec.structs.replace(turn, name=names.get(turn.tool_call_id, ""))
        turns.append(turn)
    return tuple(turns)


def _message(message: body.Message, place: str, model: str, album: list[Picture]) -> core.Message:
    role = _ROLES.get(message.role)
    if role is None:
        known = ", ".join(_ROLES)
        raise BadRequest(f"Invalid value for '{place}.role': must be one of {known}.", param=f"{place}.role")
    if message.role == "tool" and not message.tool_call_id:
        raise missing(f"{place}.tool_call_id")
    calls = _calls(message, place) if role == "assistant" else ()
    parts = _parts(message, place, model, album)
    if message.content is None and not (role == "assistant" and (calls or parts or _reasoning(message))):
        raise BadRequest(
            f"Invalid type for '{place}.content': expected text, but it is null.",
            code="invalid_type",
            param=f"{place}.content",
        )
    return core.Message(
        role=role,
        parts=parts,
        reasoning=_reasoning(message) if role == "assistant" else "",
        tool_calls=calls,
        tool_call_id=message.tool_call_id or "",
        name=message.name or "",
    )


def _reasoning(message: body.Message) -> str:
    return message.reasoning_content or message.reasoning or message.thinking or ""


def _parts(message: body.Message, place: str, model: str, album: list[Picture]) -> tuple[core.Part, ...]:
    content = message.content
    if content is None:
        content = message.refusal or ""
    if isinstance(content, str):
        return (core.TextPart(content),) if content else ()
    parts: list[core.Part] = []
    for at, part in enumerate(content):
        here = f"{place}.content[{at}]"
        if part.type == "image_url":
            album.append(_picture(part, here, message.role))
            parts.append(pictures.UNREAD)
        else:
            parts.append(_part(part, here, model))
    return tuple(parts)


def _picture(part: body.ContentPart, place: str, role: str) -> Picture:
    """An image; its URL alone is taken too, as other servers do."""
    if role not in ("user", "tool"):
        raise BadRequest(f"{place}: images may stand in messages of the user and of tools only.", param=place)
    place += ".image_url"
    given = part.image_url if isinstance(part.image_url, dict) else {"url": part.image_url}
    url, detail = given.get("url"), given.get("detail")
    if not isinstance(url, str) or not url:
        raise BadRequest(f"'{place}.url' must be a URL.", code="missing_required_parameter", param=f"{place}.url")
    if detail not in (None, *body.DETAILS):
        raise BadRequest(f"'{place}.detail' must be one of {', '.join(body.DETAILS)}.", param=f"{place}.detail")
    return pictures.of_url(url, place, pictures.LOW_DETAIL if detail == "low" else None)


def _part(part: body.ContentPart, place: str, model: str) -> core.TextPart:
    match part.type:
        case "text" | "input_text" | "output_text" if part.text is not None:
            return core.TextPart(part.text)
        case "refusal" if part.refusal is not None:
            return core.TextPart(part.refusal)
        case "text" | "refusal":
            raise BadRequest(
                f"Missing required parameter: '{place}.{part.type}'.", code="missing_required_parameter", param=place
            )
        case "input_audio":
            raise UnsupportedFeature(f"The model '{model}' does not hear: audio can't be read.", param=place)
        case "file":
            message = f"The model '{model}' does not read files: send text, or a page as an image."
            raise UnsupportedFeature(message, param=place)
    known = "text, image_url, input_audio, file, refusal"
    raise BadRequest(f"Invalid value for '{place}.type': must be one of {known}.", param=place)


def _calls(message: body.Message, place: str) -> tuple[core.ToolCall, ...]:
    calls = [_call(call, at, place) for at, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None and not calls:
        calls = [core.ToolCall("call_0", message.function_call.name, _arguments(message.function_call, place))]
    return tuple(calls)


def _call(call: body.ToolCall, at: int, place: str) -> core.ToolCall:
    identity = call.id or f"call_{at}"
    if call.function is not None:
        return core.ToolCall(identity, call.function.name, _arguments(call.function, place))
    custom = (call.model_extra or {}).get("custom")
    if call.type == "custom" and isinstance(custom, dict) and isinstance(custom.get("name"), str):
        return core.ToolCall(identity, custom["name"], json.dumps({"input": custom.get("input")}, ensure_ascii=False))
    raise BadRequest(
        f"Missing required parameter: '{place}.tool_calls[{at}].function'.",
        code="missing_required_parameter",
        param=f"{place}.tool_calls",
    )


def _arguments(call: body.FunctionCall, place: str) -> str:
    if isinstance(call.arguments, dict):
        return json.dumps(call.arguments, ensure_ascii=False)
    text = call.arguments or "{}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("invalid tool call arguments: not valid JSON.", param=f"{place}.tool_calls") from error
    if not isinstance(value, dict):
        raise BadRequest(
            f"invalid tool call arguments: expected an object, but it is {kind_of(value)}.", param=f"{place}.tool_calls"
        )
    return text


def tools(
    given: list[body.ToolSpec] | None, functions: list[body.FunctionSpec] | None, bounds: Bounds
) -> tuple[core.Tool, ...]:
    """The declared functions; `functions` is the deprecated form."""
    declared = (*(_tool(tool, at) for at, tool in enumerate(given or ())), *(_function(f) for f in functions or ()))
    bounds.check_tools(declared)
    return declared


def _tool(tool: body.ToolSpec, at: int) -> core.Tool:
    if tool.type != "function":
        raise UnsupportedFeature(f"Tools of type '{tool.type}' are not offered; functions are.", param=f"tools[{at}]")
    if tool.function is None:
        raise missing(f"tools[{at}].function")
    return _function(tool.function)


def _function(function: body.FunctionSpec) -> core.Tool:
    return core.Tool(function.name, function.description, function.parameters or {}, bool(function.strict))


def _tool_choice(fields: body.ChatBody, declared: tuple[core.Tool, ...]) -> core.ToolChoice:
    choice, param = fields.tool_choice, "tool_choice"
    if choice is None and fields.function_call is not None:
        choice, param = fields.function_call, "function_call"
    if choice is None:
        return core.ToolChoice("auto" if declared else "none", parallel=fields.parallel_tool_calls)
    if not declared:
        raise BadRequest(f"{param} is only allowed when tools are given.", param=param)
    if choice in ("auto", "none"):
        mode = "auto" if choice == "auto" else "none"
        return core.ToolChoice(mode, parallel=fields.parallel_tool_calls)  # type: ignore[arg-type]  # one of two literals
    return _forced(choice, declared, param, parallel=fields.parallel_tool_calls)


def _forced(
    choice: str | dict[str, Any], declared: tuple[core.Tool, ...], param: str, *, parallel: bool
) -> core.ToolChoice:
    if choice == "required":
        return core.ToolChoice("required", parallel=parallel)
    if not isinstance(choice, dict):
        raise BadRequest(f"{param} must be none, auto, required, or name a tool.", param=param)
    names = tuple(dict.fromkeys(_named(choice, param)))
    for name in names:
        if name not in {tool.name for tool in declared}:
            raise BadRequest(f"{param} names '{name}', which is not among the tools.", param=param)
    if not names:
        raise BadRequest(f"{param} allows no tool: name at least one.", param=param)
    if choice.get("type") != "allowed_tools":
        return core.ToolChoice("required", names, parallel=False)
    return core.ToolChoice(_allowed_mode(choice, param), names, parallel=parallel)


def _allowed_mode(choice: dict[str, Any], param: str) -> Literal["auto", "required"]:
    mode = _allowed(choice).get("mode", "auto")
    if mode in ("auto", "required"):
        return mode  # type: ignore[no-any-return]  # one of two literals
    raise BadRequest(f"{param}.allowed_tools.mode must be auto or required.", param=param)


def _allowed(choice: dict[str, Any]) -> dict[str, Any]:
    """What holds the mode and the tools: chat completions nest it, responses don't."""
    nested = choice.get("allowed_tools")
    return nested if isinstance(nested, dict) else choice


def _named(choice: dict[str, Any], param: str) -> list[str]:
    """The names in any of the object forms."""
    allowed = _allowed(choice)
    if choice.get("type") == "allowed_tools" or allowed is not choice:
        tools = allowed.get("tools")
        return [name for tool in tools if isinstance(tool, dict) for name in _named(tool, param)] if tools else []
    holder = choice.get("function", choice.get("custom", choice))
    name = holder.get("name") if isinstance(holder, dict) else None
    if not isinstance(name, str):
        raise BadRequest(f"{param} must be none, auto, required, or name a tool.", param=param)
    return [name]


def _thinking(fields: body.ChatBody, arguments: dict[str, Any]) -> bool | str | None:
    effort: object = fields.reasoning_effort
    param = "reasoning_effort"
    if effort is None and fields.reasoning is not None:
        effort, param = fields.reasoning.get("effort"), "reasoning.effort"
    if effort is None and isinstance(fields.think, str):
        effort, param = fields.think, "think"
    if effort is not None:
        return level(effort, param)
    if isinstance(fields.think, bool):
        return fields.think
    enabled = (fields.reasoning or {}).get("enabled")
    if isinstance(enabled, bool):
        return enabled
    switch = arguments.get("enable_thinking", arguments.get("thinking"))
    return switch if isinstance(switch, bool) else None


def _thinking_budget(fields: body.ChatBody, arguments: dict[str, Any]) -> int | None:
    """The first budget that is given; below 0 it has none. Raises BadRequest for another kind of value."""
    named = {
        "reasoning_budget": fields.reasoning_budget,
        "reasoning_budget_tokens": fields.reasoning_budget_tokens,
        "thinking_budget_tokens": fields.thinking_budget_tokens,
        "thinking_token_budget": fields.thinking_token_budget,
        "reasoning.max_tokens": (fields.reasoning or {}).get("max_tokens"),
        "chat_template_kwargs.thinking_budget": arguments.get("thinking_budget"),
    }
    place, budget = next(((place, value) for place, value in named.items() if value is not None), ("", None))
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int)):
        raise BadRequest(f"Invalid type for '{place}': it is {kind_of(budget)}.", code="invalid_type", param=place)
    return budget if budget is not None and budget >= 0 else None


def level(effort: object, param: str) -> bool | str:
    """How much to reason. Raises BadRequest."""
    if not isinstance(effort, str) or effort not in _LEVELS:
        raise BadRequest(f"{param} must be one of {', '.join(_LEVELS)}.", param=param)
    return _LEVELS[effort]


def prediction(given: body.Prediction | None) -> str:
    """The text of a predicted answer. Raises BadRequest, UnsupportedFeature."""
    if given is None:
        return ""
    if given.type != "content":
        raise BadRequest("prediction.type must be content.", param="prediction.type")
    if isinstance(given.content, str):
        return given.content
    for at, part in enumerate(given.content):
        if part.type != "text" or part.text is None:
            raise BadRequest("A predicted part must be text.", param=f"prediction.content[{at}]")
    return "".join(part.text or "" for part in given.content)


def template_arguments(given: dict[str, Any] | None) -> dict[str, Any]:
    """The allowed variables for the template. Raises BadRequest for any other name."""
    for name, value in (given or {}).items():
        place = f"chat_template_kwargs.{name}"
        if name not in body.TEMPLATE_ARGUMENTS:
            raise UnsupportedFeature(
                f"chat_template_kwargs may only hold {', '.join(body.TEMPLATE_ARGUMENTS)}.", param=place[:128]
            )
        if not isinstance(value, bool | int | float | str):
            raise BadRequest(f"Invalid type for '{place}': it is {kind_of(value)}.", code="invalid_type", param=place)
    return dict(given or {})


# ---- POST /v1/completions --------------------------------------------------------------------------------------------


def completion(fields: body.CompletionBody, bounds: Bounds) -> tuple[core.Prompt, ...]:
    """The prompts of a legacy body, one for each text or list of tokens."""
    prompts = tuple(_prompt(one, fields) for one in _batch(fields.prompt))
    if not prompts:
        raise BadRequest("prompt is empty.", param="prompt")
    if len(prompts) * fields.n > bounds.max_prompts:
        raise BadRequest(f"prompts times n may be at most {bounds.max_prompts}.", param="prompt")
    if fields.suffix and len(prompts) > 1:
        raise BadRequest("suffix takes a single prompt.", param="suffix")
    return prompts


def _batch(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [one for one in prompt if not isinstance(one, int)]


def _prompt(one: str | list[int], fields: body.CompletionBody) -> core.Prompt:
    if isinstance(one, str):
        return core.TextPrompt(one, fields.suffix or "", add_special=fields.add_special_tokens)
    if not one:
        raise BadRequest("A prompt of token ids is empty.", param="prompt")
    if fields.suffix:
        raise BadRequest("suffix takes a text prompt.", param="suffix")
    if any(not 0 <= token < 2**31 for token in one):
        raise BadRequest("Token ids must be from 0 to 2147483647.", param="prompt")
    return core.TokenPrompt(tuple(one))
