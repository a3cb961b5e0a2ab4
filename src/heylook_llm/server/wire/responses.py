"""OpenAI's Responses API: bodies to Requests, Events to its events and response objects."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, assert_never

import msgspec

from heylook_llm import core
from heylook_llm.errors import (
    BadRequest,
    Cancelled,
    ContextLengthExceeded,
    HeylookError,
    InvalidConstraint,
    Overloaded,
)
from heylook_llm.server.wire import jsontext, openai_words, responses_prompt, table
from heylook_llm.server.wire.exchange import EVENT_STREAM, Arrival, Asked, Reply
from heylook_llm.server.wire.openai_constraint import Constrained, formatted
from heylook_llm.server.wire.pictures import Picture
from heylook_llm.server.wire.responses_body import (
    ENCRYPTED,
    INCLUDABLE,
    LOGPROBS,
    MAX_METADATA,
    MAX_METADATA_KEY,
    MAX_METADATA_VALUE,
    InputTokensBody,
    PromptFields,
    ResponseBody,
    ResponseItem,
)
from heylook_llm.server.wire.responses_items import Item, given_items, kept_items
from heylook_llm.server.wire.responses_output import Events, Manner, Output
from heylook_llm.server.wire.samplers import samplers

BODIES: Final[dict[str, type[table.Body]]] = {
    "POST /v1/responses": ResponseBody,
    "POST /v1/responses/input_tokens": InputTokensBody,
}
_FIELDS: Final = {"tools": "tools", "thinking": "reasoning.effort", "chat": "input", "vision": "input"}
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_GIVEN_BACK: Final = (
    *("background", "instructions", "max_output_tokens", "max_tool_calls", "parallel_tool_calls"),
    *("previous_response_id", "prompt_cache_key", "safety_identifier", "store", "temperature", "top_p"),
    *("truncation", "user"),
)
"""Fields of the body that the response repeats."""


class Known(msgspec.Struct, frozen=True):
    """What is kept that a body refers to."""

    before: tuple[Item, ...] = ()
    """The items of the responses that it goes on from, oldest first."""
    found: Mapping[str, Item] = {}
    """Single items, by their ids."""


# ---- bodies ----------------------------------------------------------------------------------------------------------


def read(body: bytes) -> ResponseBody:
    """A response's body. Raises BadRequest, UnsupportedFeature."""
    fields = table.validate(ResponseBody, jsontext.decode(body))
    if fields.background and not fields.store:
        raise BadRequest("background needs store to be true.", param="background")
    _check_metadata(fields.metadata or {})
    return fields


def _check_metadata(given: dict[str, str]) -> None:
    if len(given) > MAX_METADATA:
        raise BadRequest(f"metadata has {len(given)} keys; the limit is {MAX_METADATA}.", param="metadata")
    for key, value in given.items():
        if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
            limits = f"{MAX_METADATA_KEY} characters and their values {MAX_METADATA_VALUE}"
            raise BadRequest(f"Keys of metadata may have {limits}.", param="metadata")


def parse(fields: ResponseBody, known: Known, arrival: Arrival, keep: Callable[["Answer"], None]) -> "Answer":
    """A response's body as an exchange; `keep` is called with it once it has ended, before its client knows.

    Raises BadRequest, NotFound, UnsupportedFeature.
    """
    given = given_items(fields.input, known.found)
    asked, declared = _asked(fields, [item for item, _ in given], known, arrival)
    form = formatted("text.format", fields.text.format) if fields.text and fields.text.format else Constrained()
    request = msgspec.structs.replace(
        asked.request,
        sampling=_sampling(fields, arrival),
        constraint=form.constraint,
        priority=fields.priority,
        n_ctx=fields.num_ctx,
        truncate="oldest" if fields.truncation == "auto" else "refuse",
    )
    ignored = (*asked.ignored, *(f"include.{name}" for name in fields.include or () if name not in INCLUDABLE))
    asked = msgspec.structs.replace(
        asked, request=request, stream=fields.stream, ignored=ignored, keep_alive=fields.keep_alive
    )
    items = kept_items(given, arrival.random) if fields.store else []
    fields.input = ""  # images in base64 aren't kept twice while the answer streams
    return Answer(asked, arrival, Understood(fields, form, declared.origins, items), keep)


def read_count(body: bytes) -> InputTokensBody:
    """A count's body. Raises BadRequest, UnsupportedFeature."""
    return table.validate(InputTokensBody, jsontext.decode(body))


def parse_count(fields: InputTokensBody, known: Known, arrival: Arrival) -> "Count":
    """A count's body as a question. Raises BadRequest, NotFound, UnsupportedFeature."""
    given = given_items(fields.input, known.found)
    return Count(_asked(fields, [item for item, _ in given], known, arrival)[0])


def _asked(
    fields: PromptFields, given: list[ResponseItem], known: Known, arrival: Arrival
) -> tuple[Asked, responses_prompt.Declared]:
    """What a body asks of its model, without how it is sampled; and its tools."""
    model = openai_words.named(fields.model, arrival)
    declared = responses_prompt.declared(fields.tools, arrival.bounds)
    album: list[Picture] = []
    before = [ResponseItem.model_validate(item) for item in known.before]
    prompt, left_out = responses_prompt.chat(fields, declared, before, given, album)
    request = core.Request(id=arrival.id, model=model, prompts=(prompt,), received_ns=arrival.received_ns)
    wanted = {"tools": prompt.tools, "thinking": prompt.thinking, "vision": album}
    needs = ("chat", *(need for need, asks in wanted.items() if asks))
    ignored = (*table.told(fields), *declared.told, *left_out)
    return Asked(request, stream=False, ignored=ignored, needs=needs, pictures=tuple(album)), declared


def _sampling(fields: ResponseBody, arrival: Arrival) -> core.Sampling:
    wanted = fields.top_logprobs or LOGPROBS in (fields.include or ())
    return core.Sampling(
        max_tokens=fields.max_output_tokens,
        temperature=fields.temperature,
        top_k=None if fields.top_k is None else max(0, fields.top_k),
        top_p=fields.top_p,
        min_p=fields.min_p,
        repeat_penalty=fields.repeat_penalty,
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        seed=None if fields.seed == -1 else fields.seed,
        stop=arrival.bounds.stops([fields.stop] if isinstance(fields.stop, str) else fields.stop or (), "stop"),
        logprobs=(fields.top_logprobs or 0) if wanted else None,
        **samplers(fields, openai_words.outside),
    )


def _placed(problem: HeylookError, form: Constrained) -> HeylookError:
    """The error with the field that it is about: the model doesn't know what this dialect calls a prompt."""
    if isinstance(problem, ContextLengthExceeded) or problem.param == "messages":
        problem.param = "input"
    return form.worded(problem) if isinstance(problem, InvalidConstraint) else problem


# ---- POST /v1/responses ----------------------------------------------------------------------------------------------


class Understood(NamedTuple):
    """A body, and what of it the answer needs."""

    fields: ResponseBody
    form: Constrained
    origins: Mapping[str, responses_prompt.Origin]
    items: list[Item]


class Answer:
    """One request and its response."""

    stream_media_type = EVENT_STREAM
    unheeded: tuple[str, ...] = ()

    def __init__(
        self,
        asked: Asked,
        arrival: Arrival,
        understood: Understood,
        keep: Callable[["Answer"], None],
    ) -> None:
        fields = understood.fields
        self.asked = asked
        self.id = "resp_" + arrival.random
        self.created = arrival.created
        self.previous = fields.previous_response_id
        self.store = fields.store
        self.background = fields.background
        self.items = understood.items
        """Those of the input, as they are kept."""
        self.whole: dict[str, Any] | None = None
        """The response object, once it has ended."""
        self.last_words = b""
        """Of one in the background that ended before its first event: what its stream ends with."""
        self._keep = keep
        self._fields = fields
        self._form = understood.form
        self._envelope = _envelope(fields, self.id, self.created, asked.request.model)
        reasoning = fields.reasoning
        manner = Manner(
            arrival.random,
            understood.origins,
            summary=bool(reasoning and (reasoning.summary or reasoning.generate_summary)),
            sealed=ENCRYPTED in (fields.include or ()),
        )
        self._events = Events()
        self._output = Output(self._events, manner)
        self._announced = False
        self._started = False

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model. Raises UnsupportedFeature."""
        if info.capabilities:
            openai_words.lacking(self.asked.request.model, self.asked.needs, info, _FIELDS)
        return self.asked.request

    def without_store(self) -> None:
        """Nothing of it is kept, and the response says so."""
        self.store, self.items = False, []
        self._envelope["store"] = False

    # ---- a stream ----

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The events of an event; before the first, those that say that the response is being made."""
        match event:
            case core.Progress() | core.Failed():
                return b""
            case core.Done():
                return self._start() + self._done(event, wall_ns)
            case core.Text() | core.Reasoning() | core.ToolCallStart() | core.ToolCallArgs():
                return self._start() + self._output.feed(event)
            case _:
                assert_never(event)

    def announce(self) -> bytes:
        """The events of a response that waits, in the background."""
        self._announced = True
        waiting = self.waiting("queued")
        return self._events.tell("response.created", response=waiting) + self._events.tell(
            "response.queued", response=waiting
        )

    def waiting(self, status: str) -> dict[str, Any]:
        """The response object before there is anything of the answer."""
        return self._response(status)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        begun = self.waiting("in_progress")
        created = b"" if self._announced else self._events.tell("response.created", response=begun)
        return created + self._events.tell("response.in_progress", response=begun)

    def _done(self, done: core.Done, wall_ns: int) -> bytes:
        cut = done.reason == "length"
        closed = self._output.close("incomplete" if cut else "completed")
        whole = self._whole(done, wall_ns)
        return closed + self._events.tell(f"response.{whole['status']}", response=whole)

    def end(self) -> bytes:
        """Nothing: the last event has said it."""
        return b""

    def silence(self, wall_ns: int) -> bytes:
        """An SSE comment."""
        return _KEEP_ALIVE

    def failure(self, problem: HeylookError) -> bytes:
        """The error as an event, and the response that failed; nothing follows it."""
        begun = self._start()
        failed = self._failed(problem)
        told = openai_words.error_object(_placed(problem, self._form))["error"]
        about = {name: told[name] for name in ("code", "message", "param")}
        return begun + self._events.tell("error", **about) + self._events.tell("response.failed", response=failed)

    def error(self, problem: HeylookError) -> Reply:
        """The error object with its status."""
        if self.background:  # nobody waits for this reply
            self.last_words = self.failure(problem)
        return openai_words.error(_placed(problem, self._form))

    def _failed(self, problem: HeylookError) -> dict[str, Any]:
        """The response object of an answer that an error ended; one that was cancelled has no error."""
        if isinstance(problem, Cancelled):
            return self._ended("cancelled")
        return self._ended("failed", error={"code": _code(problem), "message": problem.message})

    # ---- a whole reply ----

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole response: its items are what the stream's events come to."""
        choice = result.choices[0]
        for piece in choice.pieces:
            self._output.feed(piece)
        self._output.close("incomplete" if choice.done.reason == "length" else "completed")
        return jsontext.encode(self._whole(choice.done, wall_ns))

    # ---- what both share ----

    def _whole(self, done: core.Done, wall_ns: int) -> dict[str, Any]:
        cut = done.reason == "length"
        more: dict[str, Any] = {"usage": usage(done.usage), "timings": openai_words.timings(done)}
        if cut:
            more["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            more["completed_at"] = wall_ns // 1_000_000_000
        if self._fields.include_performance:
            more["performance"] = openai_words.performance(done)
        return self._ended("incomplete" if cut else "completed", **more)

    def _ended(self, status: str, **more: Any) -> dict[str, Any]:
        self.whole = self._response(status, output=self._output.items(), **more)
        self._keep(self)
        return self.whole

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        return {**self._envelope, "status": status, **more}


def _envelope(fields: ResponseBody, identity: str, created: int, model: str) -> dict[str, Any]:
    """The response object, empty: what of the body it repeats."""
    given = {name: getattr(fields, name) for name in _GIVEN_BACK}
    text, reasoning = fields.text, fields.reasoning
    verbosity = {} if text is None or text.verbosity is None else {"verbosity": text.verbosity}
    summary = None if reasoning is None else reasoning.summary or reasoning.generate_summary
    return {
        "id": identity,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        **given,
        "metadata": fields.metadata or {},
        "reasoning": {"effort": None if reasoning is None else reasoning.effort, "summary": summary},
        "service_tier": "default",
        "text": {"format": (text and text.format) or {"type": "text"}, **verbosity},
        "tool_choice": fields.tool_choice or "auto",
        "tools": [
            tool.model_dump(exclude_unset=True) for tool in fields.tools or () if not responses_prompt.is_hosted(tool)
        ],
        "top_logprobs": fields.top_logprobs or 0,
        "usage": None,
    }


def usage(total: core.Usage) -> dict[str, Any]:
    """Usage in the words of this API."""
    return {
        "input_tokens": total.prompt_tokens,
        "input_tokens_details": {"cached_tokens": total.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": total.output_tokens,
        "output_tokens_details": {"reasoning_tokens": total.reasoning_tokens},
        "total_tokens": total.prompt_tokens + total.output_tokens,
    }


def _code(problem: HeylookError) -> str:
    """One of the few codes that a failed response may have."""
    if isinstance(problem, Overloaded):
        return "rate_limit_exceeded"
    if problem.code == "invalid_image":
        return "invalid_image"
    return "server_error" if problem.status >= 500 else "invalid_prompt"


# ---- POST /v1/responses/input_tokens ---------------------------------------------------------------------------------


class Count:
    """One request to count a prompt's tokens."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model. Raises UnsupportedFeature."""
        if info.capabilities:
            openai_words.lacking(self.asked.request.model, self.asked.needs, info, _FIELDS)
        return self.asked.request

    def operation(self, info: core.ModelInfo) -> core.Tokenize:
        """What to ask the model. Raises UnsupportedFeature."""
        (prompt,) = self.adapt(info).prompts
        return core.Tokenize(prompt)

    def reply(self, answer: core.Tokens) -> Reply:
        """The count."""
        count = len(answer.tokens) + answer.image_tokens
        return Reply(jsontext.encode({"object": "response.input_tokens", "input_tokens": count}))

    def error(self, problem: HeylookError) -> Reply:
        """The error object with its status."""
        return openai_words.error(_placed(problem, Constrained()))


# ---- what is kept ----------------------------------------------------------------------------------------------------


def deleted(identity: str) -> dict[str, Any]:
    """The reply to a deletion."""
    return {"id": identity, "object": "response", "deleted": True}
