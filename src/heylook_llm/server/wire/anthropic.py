"""The Anthropic dialect of /v1/messages: bodies to Requests, Events to its events and replies, errors to its errors."""

import base64
import hashlib
import json
from collections.abc import Collection
from typing import Any, Final, Literal, assert_never

import msgspec

from heylook_llm import core
from heylook_llm.errors import (
    BadRequest,
    ContextLengthExceeded,
    HeylookError,
    InvalidConstraint,
    Overloaded,
    UnsupportedFeature,
)
from heylook_llm.server.wire import anthropic_prompt, jsontext, table
from heylook_llm.server.wire.anthropic_body import CountBody, MessageBody, OutputFormat, PromptFields
from heylook_llm.server.wire.exchange import EVENT_STREAM, Arrival, Asked, Reply, retry_headers
from heylook_llm.server.wire.pictures import Picture
from heylook_llm.server.wire.samplers import samplers

BODIES: Final[dict[str, type[table.Body]]] = {
    "POST /v1/messages": MessageBody,
    "POST /v1/messages/count_tokens": CountBody,
}
OVERLOADED: Final = 529
"""Anthropic's own status of a full queue."""
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    499: "api_error",
    503: "overloaded_error",
}
_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'

BlockKind = Literal["text", "thinking", "tool_use"]


# ---- errors ----------------------------------------------------------------------------------------------------------


def error(problem: HeylookError, request_id: str = "") -> Reply:
    """The error as a whole reply."""
    status = OVERLOADED if isinstance(problem, Overloaded) else problem.status
    return Reply(jsontext.encode(error_object(problem, request_id)), status, headers=retry_headers(problem))


def error_object(problem: HeylookError, request_id: str = "") -> dict[str, Any]:
    """`{"type": "error", "error": {type, message, details}, "request_id"}`; the details are what SDKs show as code."""
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    told: dict[str, Any] = {"type": kind, "message": _message(problem)}
    if problem.code is not None:
        told["details"] = {"error_code": problem.code, "param": problem.param}
    return {"type": "error", "error": told, **({"request_id": request_id} if request_id else {})}


def _message(problem: HeylookError) -> str:
    """The error in words that Anthropic's clients look for."""
    match problem:
        case ContextLengthExceeded(limit_tokens=limit, prompt_tokens=tokens) if limit:
            return f"prompt is too long: {tokens} tokens > {limit} maximum"
        case InvalidConstraint(param=param) if param is not None and param.startswith("tools["):
            return f"{param.partition('.')[0]}.input_schema: invalid schema of the tool {problem.message}"
        case BadRequest(param=param, message=message) if param is not None and param not in message:
            return f"{param}: {message}"  # clients show nothing but the message
    return problem.message


# ---- models ----------------------------------------------------------------------------------------------------------


def model_capabilities(names: Collection[str]) -> dict[str, Any]:
    """What a model can do, of core.ModelInfo.capabilities, as Anthropic's clients read it."""
    chats, thinks = _supported("chat" in names), _supported("thinking" in names)
    no, off = _supported(False), {"supported": True}
    kinds = {"enabled": thinks, "adaptive": thinks, "disabled": off, "between_tools": off}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "context_management": no,
        "effort": {**thinks, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), thinks)},
        "image_input": _supported("vision" in names),
        "pdf_input": no,
        "server_tools": {**no, "code_execution": no, "web_search": no},
        "structured_outputs": chats,
        "thinking": {**thinks, "types": kinds},
    }


def _supported(value: bool) -> dict[str, Any]:
    return {"supported": value}


# ---- bodies ----------------------------------------------------------------------------------------------------------


def parse_message(body: bytes, arrival: Arrival) -> "Message":
    """A message's body as an exchange. Raises BadRequest, UnsupportedFeature."""
    fields = table.validate(MessageBody, jsontext.decode(body))
    asked = _asked(fields, arrival)
    request = msgspec.structs.replace(
        asked.request,
        sampling=_sampling(fields, arrival),
        constraint=_constraint(fields),
        priority=fields.priority,
        n_ctx=fields.num_ctx,
    )
    asked = msgspec.structs.replace(asked, request=request, stream=fields.stream, keep_alive=fields.keep_alive)
    return Message(asked, fields, arrival)


def parse_count(body: bytes, arrival: Arrival) -> "Count":
    """A count's body. Raises BadRequest, UnsupportedFeature."""
    return Count(_asked(table.validate(CountBody, jsontext.decode(body)), arrival))


def _asked(fields: PromptFields, arrival: Arrival) -> Asked:
    model = fields.model.strip()
    if not model:
        raise table.missing("model")
    album: list[Picture] = []
    prompt = anthropic_prompt.chat(fields, arrival.bounds, album)
    request = core.Request(id=arrival.id, model=model, prompts=(prompt,), received_ns=arrival.received_ns)
    needs = ("chat", *(need for need, asks in (("tools", prompt.tools), ("vision", album)) if asks))
    fields.messages.clear()  # images in base64 aren't kept while the answer streams
    ignored = (*table.told(fields), *anthropic_prompt.server_tools(fields.tools))
    return Asked(request, stream=False, ignored=ignored, needs=needs, pictures=tuple(album))


def _sampling(fields: MessageBody, arrival: Arrival) -> core.Sampling:
    return core.Sampling(
        max_tokens=max(1, fields.max_tokens),  # a prompt is computed for the sake of a token
        temperature=fields.temperature,
        top_k=None if fields.top_k is None else max(0, fields.top_k),
        top_p=fields.top_p,
        min_p=fields.min_p,
        seed=None if fields.seed == -1 else fields.seed,
        stop=arrival.bounds.stops(fields.stop_sequences or (), "stop_sequences"),
        **samplers(fields, _outside),
    )


def _outside(name: str, low: float, high: float) -> BadRequest:
    return BadRequest(f"Invalid value for '{name}': it must be from {low} to {high}.", param=name)


def _constraint(fields: PromptFields) -> core.Constraint | None:
    """A schema of the answer. What of one can't be followed is refused, as Anthropic does."""
    wanted = fields.output_config.format if fields.output_config is not None else None
    if wanted is not None and fields.output_format is not None:
        raise BadRequest("output_format and output_config.format exclude each other.", param="output_format")
    return _schema(wanted or fields.output_format)


def _schema(wanted: OutputFormat | None) -> core.Constraint | None:
    if wanted is None:
        return None
    return core.Constraint("json_schema", json.dumps(wanted.schema_, ensure_ascii=False), strict=True)


def _adapted(asked: Asked, info: core.ModelInfo) -> core.Request:
    """The Request for this model: one that can't think answers without. Raises UnsupportedFeature."""
    request = asked.request
    if not info.capabilities:
        return request
    for need in asked.needs:
        if need not in info.capabilities:
            param = "tools" if need == "tools" else "messages"
            raise UnsupportedFeature(f"The model '{request.model}' does not support {need}.", param=param)
    (prompt,) = request.prompts
    assert isinstance(prompt, core.ChatPrompt)
    if prompt.thinking in (None, False) or "thinking" in info.capabilities:
        return request
    plain = msgspec.structs.replace(prompt, thinking=None, thinking_budget=None)
    return msgspec.structs.replace(request, prompts=(plain,))


# ---- POST /v1/messages -----------------------------------------------------------------------------------------------


class Message:
    """One request and its answer."""

    stream_media_type = EVENT_STREAM

    def __init__(self, asked: Asked, fields: MessageBody, arrival: Arrival) -> None:
        self.asked = asked
        self.unheeded: tuple[str, ...] = ()
        self._id = "msg_" + arrival.random
        self._request_id = arrival.id
        self._max_tokens = fields.max_tokens
        self._stops = frozenset(asked.request.sampling.stop)
        self._omits_thinking = fields.thinking is not None and fields.thinking.display == "omitted"
        self._asks_for_thinking = "thinking" if fields.thinking is not None else "output_config.effort"
        self._prompt = core.Usage()
        self._started = False
        self._called = False
        self._blocks = _Blocks(omits_thinking=self._omits_thinking)

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model."""
        request = _adapted(self.asked, info)
        if request is not self.asked.request:
            self.unheeded = (self._asks_for_thinking,)
        return request

    # ---- a stream ----

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The events of an event, a message's start before the first."""
        match event:
            case core.Progress():
                self._prompt = core.Usage(event.total_tokens, event.cached_tokens)
                return b""
            case core.Failed():
                return b""
            case core.Done():
                return self._start(event.usage) + self._blocks.close() + self._delta(event)
            case core.Text() | core.Reasoning() | core.ToolCallStart() | core.ToolCallArgs():
                return self._start(self._prompt) + (self._blocks.feed(event) if self._max_tokens else b"")
            case _:
                assert_never(event)

    def _start(self, prompt: core.Usage) -> bytes:
        if self._started:
            return b""
        self._started = True
        usage = self._usage(msgspec.structs.replace(prompt, output_tokens=0))
        message = {**self._envelope([]), "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _event("message_start", message=message)

    def _delta(self, done: core.Done) -> bytes:
        reason, sequence = self._ending(done, self._blocks.called)
        ending = {"stop_reason": reason, "stop_sequence": sequence}
        return _event("message_delta", delta=ending, usage=self._usage(done.usage))

    def end(self) -> bytes:
        """The last event."""
        return _event("message_stop")

    def silence(self, wall_ns: int) -> bytes:
        """A ping; a message begins before it."""
        return self._start(self._prompt) + _PING

    def failure(self, problem: HeylookError) -> bytes:
        """The error as an event; nothing follows it."""
        return _frame("error", error_object(self._placed(problem), self._request_id))

    def error(self, problem: HeylookError) -> Reply:
        """The error object with its status."""
        return error(self._placed(problem), self._request_id)

    def _placed(self, problem: HeylookError) -> HeylookError:
        """The error with the field that it is about: whoever compiles schemas doesn't know whose they are."""
        if isinstance(problem, InvalidConstraint) and problem.param is None:
            constrained = self.asked.request.constraint is not None
            problem.param = "output_config.format.schema" if constrained else "tools"
        return problem

    # ---- a whole reply ----

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole message."""
        choice = result.choices[0]
        reason, sequence = self._ending(choice.done, bool(choice.tool_calls))
        content = self._content(choice) if self._max_tokens else []
        body = {**self._envelope(content), "stop_reason": reason, "stop_sequence": sequence}
        return jsontext.encode({**body, "usage": self._usage(choice.done.usage)})

    def _content(self, choice: core.ChoiceResult) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        if choice.reasoning:
            shown = "" if self._omits_thinking else choice.reasoning
            content.append({"type": "thinking", "thinking": shown, "signature": signature(choice.reasoning)})
        if choice.text:
            content.append({"type": "text", "text": choice.text})
        content += (_call(call) for call in choice.tool_calls)
        return content

    # ---- what both share ----

    def _envelope(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        model = self.asked.request.model
        return {"id": self._id, "type": "message", "role": "assistant", "model": model, "content": content}

    def _usage(self, total: core.Usage) -> dict[str, Any]:
        """Usage in Anthropic's words: `input_tokens` are those that were computed, beside those read from a cache."""
        return {
            "input_tokens": total.prompt_tokens - total.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": total.cached_tokens,
            "output_tokens": total.output_tokens if self._max_tokens else 0,
            "output_tokens_details": {"thinking_tokens": total.reasoning_tokens if self._max_tokens else 0},
            "service_tier": "standard",
        }

    def _ending(self, done: core.Done, called: bool) -> tuple[str, str | None]:
        """Why it ended, and the stop sequence that ended it."""
        if done.reason == "length":
            spent = done.usage.output_tokens >= self._max_tokens
            return ("max_tokens" if spent else "model_context_window_exceeded"), None
        if not self._max_tokens:
            return "max_tokens", None
        if called:
            return "tool_use", None
        return ("stop_sequence", done.stop) if done.stop in self._stops else ("end_turn", None)


class _Blocks:
    """The blocks of a streamed message: one open at a time, numbered from 0."""

    def __init__(self, *, omits_thinking: bool) -> None:
        self.called = False
        self._omits_thinking = omits_thinking
        self._open: BlockKind | None = None
        self._index = -1
        self._thought = hashlib.sha256()
        self._frames: tuple[bytes, bytes] = (b"", b"")

    def feed(self, event: core.Text | core.Reasoning | core.ToolCallStart | core.ToolCallArgs) -> bytes:
        """The events of a piece of the answer."""
        match event:
            case core.Text():
                return self._piece("text", event.text)
            case core.Reasoning():
                return self._piece("thinking", event.text)
            case core.ToolCallStart():
                self.called = True
                return self.close() + self._start("tool_use", _started_call(event))
            case core.ToolCallArgs():
                return self._quoted(event.text) if event.text else b""

    def _piece(self, kind: Literal["text", "thinking"], text: str) -> bytes:
        if not text:
            return b""
        begun = b"" if self._open == kind else self.close() + self._start(kind, _EMPTY[kind])
        if kind == "thinking":
            self._thought.update(text.encode("utf-8", "replace"))
            if self._omits_thinking:
                return begun
        return begun + self._quoted(text)

    def _start(self, kind: BlockKind, block: dict[str, Any]) -> bytes:
        self._index += 1
        self._open = kind
        name, field = _DELTAS[kind]
        head, _, tail = self._delta({"type": name, field: "\0"}).partition(b'"\\u0000"')
        self._frames = (head, tail)
        return _event("content_block_start", index=self._index, content_block=block)

    def _quoted(self, text: str) -> bytes:
        return self._frames[0] + jsontext.quoted(text) + self._frames[1]

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def close(self) -> bytes:
        """End the open block, if there is one."""
        if self._open is None:
            return b""
        signed = b""
        if self._open == "thinking":
            signed = self._delta({"type": "signature_delta", "signature": _encoded(self._thought.digest())})
            self._thought = hashlib.sha256()
        self._open = None
        return signed + _event("content_block_stop", index=self._index)


_EMPTY: Final[dict[str, dict[str, Any]]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
_DELTAS: Final[dict[BlockKind, tuple[str, str]]] = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


def signature(thought: str) -> str:
    """What stands for a signature: clients drop thinking without one. Any is accepted when it comes back."""
    return _encoded(hashlib.sha256(thought.encode("utf-8", "replace")).digest())


def _encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _call_id(identity: str) -> str:
    return "toolu_" + identity.removeprefix("call_")


def _started_call(event: core.ToolCallStart) -> dict[str, Any]:
    return {"type": "tool_use", "id": _call_id(event.id), "name": event.name, "input": {}}


def _call(call: core.ToolCall) -> dict[str, Any]:
    """A call with its arguments as an object; those of one that the output limit cut short are left out."""
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        value = {}
    return {"type": "tool_use", "id": _call_id(call.id), "name": call.name, "input": value}


def _event(kind: str, **fields: Any) -> bytes:
    return _frame(kind, {"type": kind, **fields})


def _frame(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + jsontext.encode(data) + b"\n\n"


# ---- POST /v1/messages/count_tokens ----------------------------------------------------------------------------------


class Count:
    """One request to count a prompt's tokens."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model. Raises UnsupportedFeature."""
        return _adapted(self.asked, info)

    def operation(self, info: core.ModelInfo) -> core.Tokenize:
        """What to ask the model. Raises UnsupportedFeature."""
        (prompt,) = self.adapt(info).prompts
        return core.Tokenize(prompt)

    def reply(self, answer: core.Tokens) -> Reply:
        """The count."""
        return Reply(jsontext.encode({"input_tokens": len(answer.tokens) + answer.image_tokens}))

    def error(self, problem: HeylookError) -> Reply:
        """The error object with its status."""
        return error(problem, self.asked.request.id)
