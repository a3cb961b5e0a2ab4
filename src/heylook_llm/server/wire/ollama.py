"""The Ollama dialect of /api: bodies to Requests, Events to NDJSON and replies, errors to its error strings."""

import datetime
import json
import re
from typing import Any, Final, Literal, assert_never

import msgspec

from heylook_llm import core
from heylook_llm.errors import (
    BadRequest,
    Cancelled,
    ContextLengthExceeded,
    HeylookError,
    InvalidConstraint,
    ModelNotFound,
    Overloaded,
    UnsupportedFeature,
    WorkerDied,
)
from heylook_llm.server.wire import jsontext, ollama_prompt, table
from heylook_llm.server.wire.exchange import Arrival, Asked, Reply, retry_headers
from heylook_llm.server.wire.ollama_body import (
    ChatBody,
    CommonFields,
    CopyBody,
    CreateBody,
    DeleteBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    Options,
    PullBody,
    PushBody,
    ShowBody,
)
from heylook_llm.server.wire.pictures import Picture

BODIES: Final[dict[str, type[table.Body]]] = {
    "POST /api/chat": ChatBody,
    "POST /api/generate": GenerateBody,
    "POST /api/embed": EmbedBody,
    "POST /api/embeddings": EmbeddingsBody,
    "POST /api/show": ShowBody,
    "POST /api/pull": PullBody,
    "POST /api/push": PushBody,
    "POST /api/create": CreateBody,
    "POST /api/copy": CopyBody,
    "DELETE /api/delete": DeleteBody,
}
OPTIONS: Final = Options
VERSION: Final = "0.13.3"
"""Whose API this is: Copilot asks for 0.6.4 at least, and Open WebUI reads it as dotted integers."""
NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json; charset=utf-8"
_FAR_FUTURE: Final = 292 * 365.25 * 86400
"""What "forever" looks like in /api/ps; clients print Forever beyond 20 years."""
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,79}"
_NAME: Final = re.compile(rf"^(?:[A-Za-z0-9_][A-Za-z0-9_.:-]{{0,349}}/)?(?:{_PART}/)*{_PART}(?::{_PART})?$")

_ZERO: Final = re.compile(r"[+-]?(0+(\.0*)?|\.0+)(ns|us|µs|ms|s|m|h)?")

Action = Literal["generate", "load", "unload"]


# ---- errors ----------------------------------------------------------------------------------------------------------


def error(problem: HeylookError) -> Reply:
    """`{"error": "<text>"}` with the status of Ollama's catalogue."""
    body = jsontext.encode({"error": error_text(problem)})
    return Reply(body, _status(problem), JSON, retry_headers(problem))


def error_text(problem: HeylookError) -> str:  # noqa: PLR0911 (one for each kind of error)
    """The error in Ollama's words."""
    match problem:
        case Overloaded():
            return "server busy, please try again.  maximum pending requests exceeded"
        case Cancelled():
            return "request canceled"
        case WorkerDied():
            return f"model runner has unexpectedly stopped: {problem.message}"
        case InvalidConstraint():
            return f"invalid JSON schema in format: {problem.message}"
        case ModelNotFound() if problem.model:
            return f"model '{problem.model}' not found"
        case ContextLengthExceeded():
            return (
                f"the prompt is longer than the available context size ({problem.prompt_tokens} tokens, the context "
                f"has {problem.limit_tokens}): shorten it, or raise num_ctx"
            )
    return problem.message


def _status(problem: HeylookError) -> int:
    return 500 if isinstance(problem, WorkerDied) else problem.status


# ---- times -----------------------------------------------------------------------------------------------------------


def timestamp(wall_ns: int) -> str:
    """RFC 3339 in UTC with up to nine fractional digits, trailing zeros trimmed."""
    seconds, fraction = divmod(wall_ns, 1_000_000_000)
    whole = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


class _Clock:
    """Timestamps of a stream; the date is worked out once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._head = ""

    def stamp(self, wall_ns: int) -> bytes:
        second, fraction = divmod(wall_ns, 1_000_000_000)
        if second != self._second:
            self._second, self._head = second, timestamp(second * 1_000_000_000)[:-1]
        return f"{self._head}.{fraction:09d}Z".encode()


def local_time(seconds: float) -> str:
    """RFC 3339 with the server's offset; infinity is Ollama's "forever"."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="microseconds")


def forever(now: float) -> str:
    """The expiry of a model that never expires, seen from `now` (seconds since 1970)."""
    return (datetime.datetime.fromtimestamp(now).astimezone() + datetime.timedelta(seconds=_FAR_FUTURE)).isoformat()


# ---- names -----------------------------------------------------------------------------------------------------------


def display(name: str) -> str:
    """A model's name with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def check_name(name: str) -> str:
    """The name, trimmed. Raises BadRequest for one that can't be a model's."""
    name = name.strip()
    if len(name) > 400 or not _NAME.match(name):
        raise BadRequest("invalid model name", param="model")
    return name


# ---- bodies ----------------------------------------------------------------------------------------------------------


def document(body: bytes) -> dict[str, Any]:
    """The JSON object of a body: bytes after it are ignored, keys match in any case, an empty body is named."""
    if not body.strip():
        raise BadRequest("missing request body")
    value = jsontext.decode(body, trailing=True)
    if not isinstance(value, dict):
        raise BadRequest(f"the request body must be a JSON object, not {table.kind_of(value)}")
    lowered = {key.lower(): inner for key, inner in value.items() if key.lower() not in value}
    return value | lowered if lowered.keys() - value.keys() else value


def parse_chat(body: bytes, arrival: Arrival) -> "Chat":
    """A chat body as an exchange. Raises BadRequest, UnsupportedFeature."""
    fields = table.validate(ChatBody, document(body))
    if not fields.model.strip():
        raise BadRequest("model is required", param="model")
    model = check_name(fields.model)
    album: list[Picture] = []
    prompt = core.ChatPrompt(
        ollama_prompt.messages(fields.messages, album),
        ollama_prompt.tools(fields.tools, arrival.bounds),
        core.ToolChoice("auto" if fields.tools else "none"),
        thinking=ollama_prompt.thinking(fields.think),
        continue_last=bool(fields.messages) and fields.messages[-1].role.lower() == "assistant",
    )
    wanted = {"tools": prompt.tools, "vision": album}
    needs = ("chat", *(need for need, asks in wanted.items() if asks))
    asked = msgspec.structs.replace(_asked(fields, model, prompt, arrival), needs=needs, pictures=tuple(album))
    action = _action(bool(fields.messages), fields)
    fields.messages.clear()  # images in base64 aren't kept while the answer streams
    return Chat(asked, action, fields)


def parse_generate(body: bytes, arrival: Arrival) -> "Generate":
    """A generate body as an exchange. Raises BadRequest, UnsupportedFeature, ModelNotFound."""
    fields = table.validate(GenerateBody, document(body))
    if not fields.model.strip():
        raise ModelNotFound("model '' not found")
    model = check_name(fields.model)
    if fields.raw and (fields.template or fields.system or fields.context):
        raise BadRequest("raw mode does not support template, system, or context")
    if fields.images and (fields.raw or fields.suffix):
        raise BadRequest("images can't be combined with raw or suffix", param="images")
    album: list[Picture] = []
    asked = _asked(fields, model, _generate_prompt(fields, album), arrival)
    # The ids of the prompt come back as `context`, which raw mode leaves out.
    request = msgspec.structs.replace(asked.request, echo=not fields.raw, before=tuple(fields.context))
    wanted = {"insert": fields.suffix, "vision": album}
    needs = ("completion", *(need for need, asks in wanted.items() if asks))
    asked = msgspec.structs.replace(asked, request=request, needs=needs, pictures=tuple(album))
    fields.images.clear()  # as above
    return Generate(asked, _action(bool(fields.prompt), fields), fields)


def parse_show(body: bytes) -> ShowBody:
    """A show body with a valid name. Raises BadRequest."""
    fields = table.validate(ShowBody, document(body))
    if not (fields.model or fields.name).strip():
        raise BadRequest("model is required", param="model")
    check_name(fields.model or fields.name)
    return fields


def parse_pull(body: bytes) -> PullBody:
    """A pull body that names a model. Raises BadRequest."""
    fields = table.validate(PullBody, document(body))
    if not (fields.model or fields.name).strip():
        raise BadRequest("model is required", param="model")
    return fields


def parse_delete(body: bytes) -> str:
    """The name of the model to delete. Raises BadRequest."""
    fields = table.validate(DeleteBody, document(body))
    name = fields.model or fields.name
    if not name.strip():
        raise BadRequest("model is required", param="model")
    check_name(name)
    return name


def pull_line(status: str, digest: str = "", total: int = 0, completed: int = 0) -> bytes:
    """One line of a pull's progress; bytes only where they are known."""
    known = {"digest": digest, "total": total, "completed": completed} if digest else {}
    return jsontext.encode({"status": status} | known) + b"\n"


def _generate_prompt(fields: GenerateBody, album: list[Picture]) -> core.Prompt:
    if fields.raw or fields.suffix:
        return core.TextPrompt(fields.prompt, fields.suffix)
    system = (core.Message("system", (core.TextPart(fields.system),)),) if fields.system else ()
    user = core.Message("user", ollama_prompt.parts(fields.prompt, fields.images, "images", album))
    thinking = ollama_prompt.thinking(fields.think)
    return core.ChatPrompt((*system, user), thinking=thinking, template=fields.template)


def _action(speaks: bool, fields: CommonFields) -> Action:
    if speaks:
        return "generate"
    return "unload" if _is_zero(fields.keep_alive) else "load"


def _is_zero(duration: object) -> bool:
    if isinstance(duration, str):
        return _ZERO.fullmatch(duration.strip()) is not None
    return duration == 0 and not isinstance(duration, bool)


def _asked(fields: CommonFields, model: str, prompt: core.Prompt, arrival: Arrival) -> Asked:
    ollama_prompt.thinking(fields.think)
    chosen = ollama_prompt.options(fields.options)
    if not 0 <= fields.top_logprobs <= 20:
        raise BadRequest("top_logprobs must be between 0 and 20", param="top_logprobs")
    logprobs = fields.top_logprobs if fields.logprobs else None
    request = core.Request(
        id=arrival.id,
        model=model,
        prompts=(prompt,),
        sampling=ollama_prompt.sampling(chosen, logprobs, arrival.bounds),
        truncate="oldest" if fields.truncate else "refuse",
        shift=fields.shift,
        constraint=_constraint(fields.format),
        n_ctx=None if chosen.num_ctx is None or chosen.num_ctx <= 0 else max(4, chosen.num_ctx),
        received_ns=arrival.received_ns,
        fallback=ollama_prompt.FALLBACK,
        keep_tokens=chosen.num_keep,
        draft_limit=None
        if chosen.draft_num_predict is None or chosen.draft_num_predict < 0
        else chosen.draft_num_predict,
    )
    ignored = (*table.told(fields), *(f"options.{name}" for name in table.told(chosen)))
    return Asked(request, fields.stream, ignored, keep_alive=fields.keep_alive)


def _constraint(asked: object) -> core.Constraint | None:
    """What `format` asks for. Raises BadRequest."""
    if asked in (None, ""):
        return None
    if asked == "json":
        return core.Constraint("json_object")
    if isinstance(asked, dict):
        return core.Constraint("json_schema", json.dumps(asked, ensure_ascii=False))
    raise BadRequest(
        f'invalid format: {json.dumps(asked)[:64]}; expected "json" or a valid JSON Schema object', param="format"
    )


# ---- what both routes' answers share ---------------------------------------------------------------------------------


class _Exchange:
    """The parts of an answer that both routes word alike."""

    stream_media_type = NDJSON
    unheeded: tuple[str, ...] = ()

    def __init__(self, asked: Asked, action: Action, fields: CommonFields) -> None:
        self.asked = asked
        self.action = action
        self._fields = fields
        self._clock = _Clock()
        # `model` in the reply is the request's own string, not the canonical name.
        self._head = b'{"model":' + jsontext.encode(fields.model) + b',"created_at":"'
        self._calls: list[tuple[str, str, list[str]]] = []
        self._sent_calls = 0

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model: thinking is on where it can think and nothing else was said."""
        request, model = self.asked.request, self._fields.model
        can_think = "thinking" in info.capabilities or not info.capabilities
        lacks = [need for need in self.asked.needs if info.capabilities and need not in info.capabilities]
        words = {"completion": "generate"}
        if lacks:
            raise UnsupportedFeature(
                "\n".join(f'"{model}" does not support {words.get(need, need)}' for need in lacks), param="model"
            )
        if self._fields.think not in (None, False) and not can_think:
            raise UnsupportedFeature(f'"{model}" does not support thinking', param="think")
        (prompt,) = request.prompts
        if isinstance(prompt, core.ChatPrompt) and prompt.thinking is None and "thinking" in info.capabilities:
            request = msgspec.structs.replace(request, prompts=(msgspec.structs.replace(prompt, thinking=True),))
        return msgspec.structs.replace(request, sampling=_bounded(request.sampling, info, self._fields.options))

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The lines of an event. A tool call is one line, once it is whole."""
        match event:
            case core.Progress() | core.Failed():
                return b""
            case core.Text():
                return self._pending(wall_ns) + self._text(event.text, event.logprobs, wall_ns)
            case core.Reasoning():
                return self._pending(wall_ns) + self._thinking(event.text, event.logprobs, wall_ns)
            case core.ToolCallStart():
                before = self._pending(wall_ns)
                self._calls.append((event.id, event.name, []))
                return before
            case core.ToolCallArgs():
                self._calls[event.index][2].append(event.text)
                return b""
            case core.Done():
                return self._pending(wall_ns) + self._last(event, wall_ns)
            case _:
                assert_never(event)

    def end(self) -> bytes:
        """Nothing: the line with done:true was the last."""
        return b""

    def silence(self, wall_ns: int) -> bytes:
        """A line of empty content: blank lines break ollama-python."""
        return self._line(self._content(b'""'), wall_ns)

    def failure(self, problem: HeylookError) -> bytes:
        """The error as a line; no line with done:true follows."""
        return jsontext.encode({"error": error_text(problem)}) + b"\n"

    def error(self, problem: HeylookError) -> Reply:
        """The error with its status."""
        return error(problem)

    def idle_reply(self, wall_ns: int) -> bytes:
        """The reply of a load or an unload."""
        body: dict[str, Any] = {"model": self._fields.model, "created_at": timestamp(wall_ns)}
        body |= json.loads(b"{" + self._content(b'""') + b"}")
        return jsontext.encode(body | {"done": True, "done_reason": self.action})

    def _content(self, text: bytes) -> bytes:
        """The member of a line that carries answer text, given as JSON."""
        raise NotImplementedError

    def _thought(self, text: bytes) -> bytes:
        """The member, or members, of a line that carries reasoning."""
        raise NotImplementedError

    def _called(self, calls: list[dict[str, Any]]) -> bytes:
        """The members of a line that carries tool calls."""
        raise NotImplementedError

    def _line(self, members: bytes, wall_ns: int, logprobs: tuple[core.TokenLogprob, ...] = ()) -> bytes:
        tail = b',"logprobs":' + jsontext.encode(_logprobs(logprobs)) if logprobs else b""
        return self._head + self._clock.stamp(wall_ns) + b'",' + members + tail + b',"done":false}\n'

    def _text(self, text: str, logprobs: tuple[core.TokenLogprob, ...], wall_ns: int) -> bytes:
        if not text and not logprobs:
            return b""
        return self._line(self._content(jsontext.quoted(text)), wall_ns, logprobs)

    def _thinking(self, text: str, logprobs: tuple[core.TokenLogprob, ...], wall_ns: int) -> bytes:
        if not text and not logprobs:
            return b""
        return self._line(self._thought(jsontext.quoted(text)), wall_ns, logprobs)

    def _pending(self, wall_ns: int) -> bytes:
        """The line of the calls that are whole by now."""
        if self._sent_calls == len(self._calls):
            return b""
        fresh = [
            call(identity, at, name, "".join(pieces))
            for at, (identity, name, pieces) in enumerate(self._calls)
            if at >= self._sent_calls
        ]
        self._sent_calls = len(self._calls)
        return self._line(self._called(fresh), wall_ns)

    def _last(self, done: core.Done, wall_ns: int) -> bytes:
        tail = jsontext.encode(ending(done))[1:]
        return self._head + self._clock.stamp(wall_ns) + b'",' + self._content(b'""') + b"," + tail + b"\n"

    def _whole(self, result: core.Result, wall_ns: int) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._fields.model, "created_at": timestamp(wall_ns)}
        body |= self._message(result.choices[0])
        if result.choices[0].logprobs:
            body["logprobs"] = _logprobs(result.choices[0].logprobs)
        return body | ending(result.choices[0].done)

    def _message(self, choice: core.ChoiceResult) -> dict[str, Any]:
        raise NotImplementedError


def _bounded(sampling: core.Sampling, info: core.ModelInfo, options: dict[str, Any]) -> core.Sampling:
    """Open-ended generation ends after ten contexts, so that a loop ends."""
    if sampling.max_tokens is not None or options.get("num_predict") is None:
        return sampling
    return msgspec.structs.replace(sampling, max_tokens=10 * info.n_ctx)


def call(identity: str, index: int, name: str, arguments: str) -> dict[str, Any]:
    """A tool call with its arguments as an object."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):  # a call that the output limit cut short
        value = {}
    return {"id": identity, "function": {"index": index, "name": name, "arguments": value}}


def _logprobs(tokens: tuple[core.TokenLogprob, ...]) -> list[dict[str, Any]]:
    told = []
    for token in tokens:
        entry = _piece(token)
        if token.top:
            entry["top_logprobs"] = [_piece(other) for other in token.top]
        told.append(entry)
    return told


def _piece(token: core.TokenLogprob | core.TopLogprob) -> dict[str, Any]:
    text = token.piece.decode("utf-8", "replace")
    return {"token": text, "logprob": max(token.logprob, -9999.0), "bytes": list(token.piece)}


def ending(done: core.Done) -> dict[str, Any]:
    """`done`, its reason, and the six metrics from the Timeline; what did not happen is left out, not zero.

    `dropped_tokens` isn't Ollama's: what truncation and shifting left out.
    """
    times, counts = done.timeline, done.usage
    first = times.first_token_ns if times.first_token_ns is not None else times.last_token_ns
    ready = times.load_end_ns if times.load_end_ns is not None else times.submitted_ns
    last = times.last_token_ns if times.last_token_ns != first else times.closed_ns
    metrics = {
        "total_duration": span(times.received_ns, times.closed_ns),
        "load_duration": span(times.received_ns, ready),
        "prompt_eval_count": counts.prompt_tokens,
        "prompt_eval_duration": span(times.admitted_ns, first),
        "eval_count": counts.output_tokens,
        "eval_duration": span(first, last),
        "dropped_tokens": times.dropped_tokens,
    }
    told = {name: value for name, value in metrics.items() if value}
    return {"done": True, "done_reason": "length" if done.reason == "length" else "stop", **told}


def span(start: int | None, end: int | None) -> int | None:
    """Nanoseconds between two stamps; None where one is missing."""
    return None if start is None or end is None else end - start


# ---- POST /api/chat --------------------------------------------------------------------------------------------------


class Chat(_Exchange):
    """One chat request and its answer."""

    def _content(self, text: bytes) -> bytes:
        return b'"message":{"role":"assistant","content":' + text + b"}"

    def _thought(self, text: bytes) -> bytes:
        return b'"message":{"role":"assistant","content":"","thinking":' + text + b"}"

    def _called(self, calls: list[dict[str, Any]]) -> bytes:
        return b'"message":{"role":"assistant","content":"","tool_calls":' + jsontext.encode(calls) + b"}"

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole reply."""
        return jsontext.encode(self._whole(result, wall_ns))

    def _message(self, choice: core.ChoiceResult) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text}
        if choice.reasoning:
            message["thinking"] = choice.reasoning
        if choice.tool_calls:
            message["tool_calls"] = [call(c.id, at, c.name, c.arguments) for at, c in enumerate(choice.tool_calls)]
        return {"message": message}


# ---- POST /api/generate ----------------------------------------------------------------------------------------------


class Generate(_Exchange):
    """One generate request and its answer."""

    def __init__(self, asked: Asked, action: Action, fields: GenerateBody) -> None:
        super().__init__(asked, action, fields)
        self._raw = fields.raw
        self._tokens: list[int] = []

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The lines of an event; output ids are kept for `context`."""
        if not self._raw and isinstance(event, core.Text | core.Reasoning):
            self._tokens.extend(event.tokens)
        return super().feed(event, wall_ns)

    def _content(self, text: bytes) -> bytes:
        return b'"response":' + text

    def _thought(self, text: bytes) -> bytes:
        return b'"response":"","thinking":' + text

    def _called(self, calls: list[dict[str, Any]]) -> bytes:
        return b'"response":"","tool_calls":' + jsontext.encode(calls)

    def _last(self, done: core.Done, wall_ns: int) -> bytes:
        line = super()._last(done, wall_ns)
        if self._raw:
            return line
        context = jsontext.encode([*done.prompt_tokens, *self._tokens])
        return line[:-2] + b',"context":' + context + b"}\n"

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole reply."""
        body = self._whole(result, wall_ns)
        if not self._raw:
            body["context"] = [*result.choices[0].done.prompt_tokens, *result.choices[0].tokens]
        return jsontext.encode(body)

    def _message(self, choice: core.ChoiceResult) -> dict[str, Any]:
        message: dict[str, Any] = {"response": choice.text}
        if choice.reasoning:
            message["thinking"] = choice.reasoning
        if choice.tool_calls:
            message["tool_calls"] = [call(c.id, at, c.name, c.arguments) for at, c in enumerate(choice.tool_calls)]
        return message
