"""The OpenAI dialect of /v1: bodies to Requests, Events to chunks and replies, errors to its error object."""

from collections.abc import Iterable
from typing import Any, Final, assert_never

import msgspec

from heylook_llm import core
from heylook_llm.errors import (
    BadRequest,
    ContextLengthExceeded,
    HeylookError,
    InvalidConstraint,
    UnsupportedFeature,
)
from heylook_llm.server.wire import jsontext, openai_prompt, table
from heylook_llm.server.wire.exchange import EVENT_STREAM, Arrival, Asked, Reply
from heylook_llm.server.wire.openai_body import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingBody,
    RerankBody,
    SamplingFields,
    TemplateBody,
    TokenizeBody,
)
from heylook_llm.server.wire.openai_constraint import Constrained, constrained
from heylook_llm.server.wire.openai_progress import Watched
from heylook_llm.server.wire.openai_words import (
    error,
    error_object,
    fingerprint,
    lacking,
    logprob,
    named,
    outside,
    performance,
    timings,
    token_logprob,
)
from heylook_llm.server.wire.pictures import Picture, Sizing
from heylook_llm.server.wire.samplers import samplers

BODIES: Final[dict[str, type[table.Body]]] = {
    "POST /v1/chat/completions": ChatBody,
    "POST /v1/completions": CompletionBody,
    "POST /v1/embeddings": EmbeddingBody,
    "POST /v1/rerank": RerankBody,
    "POST /tokenize": TokenizeBody,
    "POST /detokenize": DetokenizeBody,
    "POST /apply-template": TemplateBody,
}
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_DONE: Final = b"data: [DONE]\n\n"

Scored = tuple[core.TokenLogprob, ...]
"""A prompt's tokens."""


# ---- bodies ----------------------------------------------------------------------------------------------------------


def parse_chat(body: bytes, arrival: Arrival) -> "Chat":
    """A chat body as an exchange. Raises BadRequest."""
    return chat_of(table.validate(ChatBody, jsontext.decode(body)), arrival)


def chat_of(fields: ChatBody, arrival: Arrival) -> "Chat":
    """A chat body's fields as an exchange. Raises BadRequest."""
    model = named(fields.model, arrival)
    if fields.processing_mode != "conversation":
        raise UnsupportedFeature("Only POST /v1/chat/completions takes it, as JSON.", param="processing_mode")
    album: list[Picture] = []
    prompt = openai_prompt.chat(fields, model, arrival.bounds, album)
    sampling = msgspec.structs.replace(
        sampling_of(fields, arrival, _first(fields.max_completion_tokens, fields.max_tokens)),
        logprobs=_chat_logprobs(fields),
    )
    form = constrained(fields)
    asked = asked_of(fields, arrival, model, (prompt,), sampling)
    request = msgspec.structs.replace(
        asked.request, constraint=form.constraint, prediction=openai_prompt.prediction(fields.prediction)
    )
    wanted = {"tools": prompt.tools, "thinking": prompt.thinking, "vision": album}
    watched = Watched(fields, ids=fields.return_token_ids)
    request = msgspec.structs.replace(
        request,
        echo=fields.return_token_ids,
        note_progress=watched.wanted,
        prompt_logprobs=_prompt_logprobs(fields),
    )
    asked = msgspec.structs.replace(
        asked,
        request=request,
        needs=("chat", *(need for need, asks in wanted.items() if asks)),
        pictures=tuple(album),
        sizing=Sizing(fields.resize_width, fields.resize_height, fields.resize_max),
    )
    fields.messages.clear()  # images in base64 aren't kept while the answer streams
    return Chat(asked, fields, arrival, form, watched)


def parse_completion(body: bytes, arrival: Arrival) -> "Completion":
    """A legacy completion's body as an exchange. Raises BadRequest."""
    fields = table.validate(CompletionBody, jsontext.decode(body))
    model = named(fields.model, arrival)
    _check_best_of(fields)
    prompts = openai_prompt.completion(fields, arrival.bounds)
    sampling = msgspec.structs.replace(
        sampling_of(fields, arrival, _first(fields.max_tokens, fields.max_completion_tokens)), logprobs=fields.logprobs
    )
    asked = asked_of(fields, arrival, model, prompts, sampling)
    form = constrained(fields)
    watched = Watched(fields, ids=fields.return_token_ids, echo=fields.echo)
    request = msgspec.structs.replace(
        asked.request,
        constraint=form.constraint,
        echo=fields.echo or fields.return_token_ids,
        note_progress=watched.wanted,
        prompt_logprobs=_most(fields.logprobs if fields.echo else None, _prompt_logprobs(fields)),
    )
    needs = ("completion", *(("insert",) if fields.suffix else ()))
    return Completion(msgspec.structs.replace(asked, request=request, needs=needs), fields, arrival, form, watched)


def asked_of(
    fields: SamplingFields, arrival: Arrival, model: str, prompts: tuple[core.Prompt, ...], sampling: core.Sampling
) -> Asked:
    """What a body asks of its model. Raises BadRequest."""
    if fields.n > arrival.bounds.max_n:
        raise BadRequest(f"n is {fields.n}, but this server answers at most {arrival.bounds.max_n} at once.", param="n")
    request = core.Request(
        id=arrival.id,
        model=model,
        prompts=prompts,
        sampling=sampling,
        n=fields.n,
        priority=fields.priority,
        n_ctx=fields.num_ctx,
        received_ns=arrival.received_ns,
        draft_limit=_first(fields.draft_limit, fields.num_draft_tokens),
    )
    return Asked(request, fields.stream, table.told(fields), keep_alive=fields.keep_alive)


def _prompt_logprobs(fields: ChatBody | CompletionBody) -> int | None:
    if fields.prompt_logprobs is not None and fields.stream:
        raise UnsupportedFeature("prompt_logprobs can't be streamed.", param="prompt_logprobs")
    return fields.prompt_logprobs


def _most(*counts: int | None) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _chat_logprobs(fields: ChatBody) -> int | None:
    if fields.top_logprobs is not None and not fields.logprobs:
        raise BadRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    return (fields.top_logprobs or 0) if fields.logprobs else None


def _check_best_of(fields: CompletionBody) -> None:
    if fields.best_of not in (None, 1, fields.n):
        raise UnsupportedFeature("best_of is offered only as 1 or as n: nothing is ranked here.", param="best_of")
    if fields.best_of not in (None, 1) and fields.stream:
        raise UnsupportedFeature("best_of can't be streamed.", param="best_of")


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def sampling_of(fields: SamplingFields, arrival: Arrival, max_tokens: int | None) -> core.Sampling:
    """How a body wants its tokens chosen. Raises BadRequest."""
    if max_tokens is None and fields.n_predict is not None and fields.n_predict >= 0:
        max_tokens = fields.n_predict
    return core.Sampling(
        max_tokens=max_tokens,
        temperature=fields.temperature,
        top_k=None if fields.top_k is None else max(0, fields.top_k),
        top_p=fields.top_p,
        min_p=fields.min_p,
        typical_p=fields.typical_p,
        repeat_penalty=fields.repeat_penalty if fields.repeat_penalty is not None else fields.repetition_penalty,
        repeat_last_tokens=_first(fields.repeat_last_n, fields.penalty_last_n, fields.repetition_context_size),
        presence_penalty=fields.presence_penalty,
        frequency_penalty=fields.frequency_penalty,
        seed=None if fields.seed == -1 else fields.seed,
        logit_bias=_logit_bias(fields.logit_bias, arrival),
        stop=arrival.bounds.stops([fields.stop] if isinstance(fields.stop, str) else fields.stop or (), "stop"),
        stop_tokens=tuple(fields.stop_token_ids or ()),
        include_stop=fields.include_stop_str_in_output,
        ignore_eos=fields.ignore_eos,
        min_tokens=fields.min_tokens,
        **samplers(fields, outside),
    )


def _logit_bias(given: dict[str, float] | None, arrival: Arrival) -> dict[int, float]:
    if not given:
        return {}
    if len(given) > arrival.bounds.max_logit_bias:
        raise BadRequest(f"logit_bias has more than {arrival.bounds.max_logit_bias} entries.", param="logit_bias")
    bias: dict[int, float] = {}
    for token, value in given.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise BadRequest("The keys of logit_bias must be token ids.", param="logit_bias")
        bias[int(token)] = value
    return bias


def refuse_foreign_tokens(request: core.Request, info: core.ModelInfo) -> None:
    """Raises BadRequest for a biased token that the model's vocabulary lacks."""
    largest = max(request.sampling.logit_bias, default=0)
    if info.n_vocab is not None and largest >= info.n_vocab:
        raise BadRequest(
            f"Invalid key in 'logit_bias': {largest}. The model '{request.model}' has {info.n_vocab} tokens, "
            f"from 0 to {info.n_vocab - 1}.",
            param="logit_bias",
        )


# ---- what both routes' answers share ---------------------------------------------------------------------------------


class _Exchange:
    """The parts of an answer that both routes word alike."""

    stream_media_type = EVENT_STREAM
    unheeded: tuple[str, ...] = ()
    prefix: str
    object: str
    prompt_field: str

    def __init__(
        self, asked: Asked, fields: SamplingFields, arrival: Arrival, form: Constrained, watched: Watched
    ) -> None:
        self.asked = asked
        self._watched = watched
        self._form = form
        self._fields = fields
        self._arrival = arrival
        self._fingerprint = "fp_heylookllm"
        self._usage_wanted = bool(fields.stream_options and fields.stream_options.include_usage)
        self._usages: dict[int, core.Usage] = {}
        self._timeline = core.Timeline()

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model."""
        if info.capabilities:
            lacking(self.asked.request.model, self.asked.needs, info)
        refuse_foreign_tokens(self.asked.request, info)
        self._fingerprint = fingerprint(info)
        return self.asked.request

    def silence(self, wall_ns: int) -> bytes:
        """An SSE comment."""
        return _KEEP_ALIVE

    def failure(self, problem: HeylookError) -> bytes:
        """The error object as an event; no [DONE] follows."""
        return b"data: " + jsontext.encode(error_object(self._placed(problem))) + b"\n\n"

    def error(self, problem: HeylookError) -> Reply:
        """The error object with its status."""
        return error(self._placed(problem))

    def _placed(self, problem: HeylookError) -> HeylookError:
        """The error with the field that it is about: the model doesn't know what this dialect calls a prompt."""
        if isinstance(problem, ContextLengthExceeded):
            problem.param = self.prompt_field
        return self._form.worded(problem) if isinstance(problem, InvalidConstraint) else problem

    def end(self) -> bytes:
        """The usage chunk, if asked for, and [DONE]."""
        if not self._usage_wanted:
            return _DONE
        total = core.total_usage([self._usages[at] for at in sorted(self._usages)], self.asked.request.n)
        return self._event({**self._envelope(self.object), "choices": [], "usage": usage(total)}) + _DONE

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.prefix + self._arrival.random,
            "object": kind,
            "created": self._arrival.created,
            "model": self.asked.request.model,
            "system_fingerprint": self._fingerprint,
        }

    def _event(self, chunk: dict[str, Any]) -> bytes:
        return b"data: " + jsontext.encode(chunk) + b"\n\n"

    def _chunk(self, choice: dict[str, Any], **extra: Any) -> bytes:
        chunk = {**self._envelope(self.object), "choices": [choice], **self._watched.times(choice["index"]), **extra}
        if self._usage_wanted:
            chunk["usage"] = None
        return self._event(chunk)

    def _frame(self, choice: dict[str, Any]) -> tuple[bytes, bytes]:
        """A chunk cut at the text "\\0", so that a stream only has to put its text between the two parts."""
        head, _, tail = self._chunk(choice).partition(b'"\\u0000"')
        return head, tail

    def _measures(self, done: core.Done) -> dict[str, Any]:
        """What the last chunk of a choice, or the whole reply, adds on speed."""
        extra: dict[str, Any] = {"timings": timings(done)}
        if self._fields.include_performance:
            extra["performance"] = performance(done)
        return extra


def usage(total: core.Usage) -> dict[str, Any]:
    """Usage in OpenAI's words."""
    return {
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.prompt_tokens + total.output_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": total.reasoning_tokens,
            "accepted_prediction_tokens": total.accepted_tokens,
            "rejected_prediction_tokens": max(0, total.draft_tokens - total.accepted_tokens),
        },
    }


def chat_logprobs(tokens: Iterable[core.TokenLogprob]) -> dict[str, Any]:
    """`{content: [...], refusal: null}`."""
    return {"content": [token_logprob(token) for token in tokens], "refusal": None}


# ---- POST /v1/chat/completions ---------------------------------------------------------------------------------------


class Chat(_Exchange):
    """One chat request and its answer."""

    prefix = "chatcmpl-"
    object = "chat.completion.chunk"
    prompt_field = "messages"

    def __init__(self, asked: Asked, fields: ChatBody, arrival: Arrival, form: Constrained, watched: Watched) -> None:
        super().__init__(asked, fields, arrival, form, watched)
        self._names_the_tool = _names_the_tool(fields)
        self._deprecated = bool(fields.functions)
        self._reasoning_wanted = fields.include_reasoning
        self._frames: dict[tuple[int, str], tuple[bytes, bytes]] = {}
        self._called: set[int] = set()
        self._opened = False

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The chunks of an event; before the first, the role of every choice in order."""
        match event:
            case core.Failed():
                return b""
            case core.Progress():
                told = self._watched.see(event)
                if not told:
                    return b""
                chunks = self._chunk(_delta_choice(event.choice, {}), **told)
            case core.Text():
                chunks = self._text(event, "content")
            case core.Reasoning():
                chunks = self._text(event, "reasoning_content") if self._reasoning_wanted else b""
            case core.ToolCallStart():
                chunks = self._delta(event, self._call_start(event))
            case core.ToolCallArgs():
                chunks = self._delta(event, self._call_arguments(event))
            case core.Done():
                chunks = self._done(event)
            case _:
                assert_never(event)
        return chunks if self._opened else self._open() + chunks

    def _open(self) -> bytes:
        # SDKs index their list of choices by first appearance, and join repeated roles: so once each, in order.
        self._opened = True
        return b"".join(
            self._chunk(_delta_choice(index, {"role": "assistant", "content": ""}), **self._watched.prompt_ids(index))
            for index in range(self.asked.request.n)
        )

    def _text(self, event: core.Text | core.Reasoning, key: str) -> bytes:
        if event.logprobs or self._watched.ids:
            return self._delta(event, {key: event.text})
        if not event.text:
            return b""
        if not self._watched.plain:
            return self._delta(event, {key: event.text})
        frame = self._frames.get((event.choice, key))
        if frame is None:
            frame = self._frames[event.choice, key] = self._frame(_delta_choice(event.choice, {key: "\0"}))
        return frame[0] + jsontext.quoted(event.text) + frame[1]

    def _delta(
        self, event: core.Text | core.Reasoning | core.ToolCallStart | core.ToolCallArgs, delta: dict[str, Any]
    ) -> bytes:
        choice = _delta_choice(event.choice, delta)
        if event.logprobs:
            choice["logprobs"] = chat_logprobs(event.logprobs)
        return self._chunk(choice | self._watched.token_ids(event))

    def _call_start(self, event: core.ToolCallStart) -> dict[str, Any]:
        self._called.add(event.choice)
        function = {"name": event.name, "arguments": ""}
        if self._deprecated:
            return {"function_call": function}
        return {"tool_calls": [{"index": event.index, "id": event.id, "type": "function", "function": function}]}

    def _call_arguments(self, event: core.ToolCallArgs) -> dict[str, Any]:
        if self._deprecated:
            return {"function_call": {"arguments": event.text}}
        return {"tool_calls": [{"index": event.index, "function": {"arguments": event.text}}]}

    def _done(self, event: core.Done) -> bytes:
        self._usages[event.choice] = event.usage
        choice = _delta_choice(event.choice, {})
        choice["finish_reason"] = self._reason(event, event.choice in self._called)
        return self._chunk(choice, **self._measures(event))

    def _reason(self, done: core.Done, called: bool) -> str:
        reason = "tool_calls" if called and done.reason == "stop" else done.reason
        if reason == "tool_calls" and self._names_the_tool:
            return "stop"
        return "function_call" if reason == "tool_calls" and self._deprecated else reason

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole completion."""
        done = result.choices[0].done
        body = self._envelope("chat.completion")
        body["choices"] = [self._choice(choice) for choice in result.choices]
        body["usage"] = usage(result.usage)
        if self.asked.request.prompt_logprobs is not None:
            body["prompt_logprobs"] = scores_by_id(done.prompt_logprobs)
        if self._watched.ids:
            body["prompt_token_ids"] = list(done.prompt_tokens)
        return jsontext.encode({**body, **self._measures(done)})

    def _choice(self, choice: core.ChoiceResult) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if choice.reasoning and self._reasoning_wanted:
            message["reasoning_content"] = choice.reasoning
        if choice.tool_calls:
            message["content"] = choice.text or None
            message |= self._calls(choice.tool_calls)
        wanted = self.asked.request.sampling.logprobs is not None
        return {
            "index": choice.index,
            "message": message,
            "logprobs": chat_logprobs(choice.logprobs) if wanted else None,
            "finish_reason": self._reason(choice.done, bool(choice.tool_calls)),
            **({"token_ids": list(choice.tokens)} if self._watched.ids else {}),
        }

    def _calls(self, calls: tuple[core.ToolCall, ...]) -> dict[str, Any]:
        functions = [{"name": call.name, "arguments": call.arguments} for call in calls]
        if self._deprecated:
            return {"function_call": functions[0]}
        return {
            "tool_calls": [
                {"id": call.id, "type": "function", "function": function}
                for call, function in zip(calls, functions, strict=True)
            ]
        }


def _names_the_tool(fields: ChatBody) -> bool:
    """Whether the one tool to call was named: OpenAI's reason is "stop" then."""
    choice = fields.tool_choice
    return isinstance(choice, dict) and choice.get("type") != "allowed_tools" and "allowed_tools" not in choice


def _delta_choice(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


# ---- POST /v1/completions --------------------------------------------------------------------------------------------


class Completion(_Exchange):
    """One legacy completion request and its answer."""

    prefix = "cmpl-"
    object = "text_completion"
    prompt_field = "prompt"

    def __init__(
        self, asked: Asked, fields: CompletionBody, arrival: Arrival, form: Constrained, watched: Watched
    ) -> None:
        super().__init__(asked, fields, arrival, form, watched)
        self._frames: dict[int, tuple[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}
        self._echoed = fields.echo
        self._begun: set[int] = set()
        self._wants_scores = fields.prompt_logprobs is not None
        self._held: dict[int, list[core.Event]] = {}
        """By prompt: what came before its log probabilities did, which go first."""

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The chunks of an event; with `echo`, the prompts first, and with them what is wanted of their tokens."""
        if isinstance(event, core.Progress):
            told = self._watched.see(event)
            chunk = self._chunk(_text_choice(event.choice, "", None), **told) if told else b""
            held = self._held.pop(self._prompt_of(event.choice), []) if event.prompt_logprobs else []
            return chunk + b"".join(self.feed(one, wall_ns) for one in held)
        if isinstance(event, core.Failed):
            return b""
        prompt = self._prompt_of(event.choice)
        if self.asked.request.prompt_logprobs is not None and self._scores(event.choice) is None:
            self._held.setdefault(prompt, []).append(event)
            return b""
        return self._beginnings(event.choice) + self._chunks(event)

    def _prompt_of(self, choice: int) -> int:
        return choice // self.asked.request.n

    def _scores(self, choice: int) -> Scored | None:
        """The log probabilities of a choice's prompt, which come with its first choice."""
        n = self.asked.request.n
        return self._watched.scored.get(choice // n * n)

    def _beginnings(self, choice: int) -> bytes:
        """What a choice's first chunk comes behind: all prompts; where they are scored, as they come."""
        if not self._echoed and not self._watched.ids:
            return b""
        request = self.asked.request
        every = range(len(request.prompts) * request.n) if request.prompt_logprobs is None else (choice,)
        return b"".join(self._beginning(one) for one in every if one not in self._begun)

    def _beginning(self, choice: int) -> bytes:
        self._begun.add(choice)
        text = self._prompt_text(choice, self._watched.prompts.get(choice)) if self._echoed else ""
        told = _text_choice(choice, text, None) | self._watched.prompt_ids(choice)
        if (scores := self._scores(choice)) is not None:
            told["logprobs"] = prompt_logprobs(scores, text, self.asked.request.prompt_logprobs or 0)
        self._offsets[choice] = len(text)
        return self._chunk(told)

    def _chunks(self, event: core.Event) -> bytes:
        match event:
            case core.Text() | core.Reasoning():
                return self._text(event)
            case core.Done():
                self._usages[event.choice] = event.usage
                return self._chunk(_text_choice(event.choice, "", event.reason), **self._measures(event))
            case core.Progress() | core.Failed() | core.ToolCallStart() | core.ToolCallArgs():
                return b""
            case _:
                assert_never(event)

    def _text(self, event: core.Text | core.Reasoning) -> bytes:
        if event.logprobs or self._watched.ids or (event.text and not self._watched.plain):
            return self._detailed(event)
        if not event.text:
            return b""
        frame = self._frames.get(event.choice)
        if frame is None:
            frame = self._frames[event.choice] = self._frame(_text_choice(event.choice, "\0", None))
        return frame[0] + jsontext.quoted(event.text) + frame[1]

    def _detailed(self, event: core.Text | core.Reasoning) -> bytes:
        choice = _text_choice(event.choice, event.text, None) | self._watched.token_ids(event)
        if event.logprobs:
            start = self._offsets.get(event.choice, 0)
            choice["logprobs"] = legacy_logprobs(event.logprobs, start)
            self._offsets[event.choice] = start + len(event.text)
        return self._chunk(choice)

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole completion."""
        body = self._envelope("text_completion")
        scores = [one.done.prompt_logprobs for one in result.choices[:: self.asked.request.n]]
        body["choices"] = [self._choice(one, scores[self._prompt_of(one.index)]) for one in result.choices]
        body["usage"] = usage(result.usage)
        return jsontext.encode({**body, **self._measures(result.choices[0].done)})

    def _choice(self, choice: core.ChoiceResult, scores: Scored) -> dict[str, Any]:
        prompt = self._prompt_text(choice.index, choice.done) if self._echoed else ""
        told = _text_choice(choice.index, prompt + choice.reasoning + choice.text, choice.done.reason)
        top = self.asked.request.sampling.logprobs
        if top is not None:
            found = legacy_logprobs(choice.logprobs, len(prompt))
            told["logprobs"] = _joined(prompt_logprobs(scores, prompt, top), found) if self._echoed else found
        if self._wants_scores:
            told["prompt_logprobs"] = scores_by_id(scores)
        if self._watched.ids:
            told |= {"prompt_token_ids": list(choice.done.prompt_tokens), "token_ids": list(choice.tokens)}
        return told

    def _prompt_text(self, choice: int, known: core.Done | core.Progress | None) -> str:
        """The text of a choice's prompt: as it was asked, or as its tokens say."""
        asked = self.asked.request.prompts[self._prompt_of(choice)]
        if isinstance(asked, core.TextPrompt):
            return asked.text
        return known.prompt_text if known is not None else ""


def _text_choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def legacy_logprobs(tokens: Iterable[core.TokenLogprob], start: int) -> dict[str, list[Any]]:
    """The legacy form: parallel lists; `start` is the offset of the first token in the text, in characters."""
    told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        text = token.piece.decode("utf-8", "replace")
        told["tokens"].append(text)
        told["token_logprobs"].append(logprob(token.logprob))
        likeliest: dict[str, float] = {}
        for other in token.top:  # of those that read the same, parts of characters say, the likelier one
            likeliest.setdefault(other.piece.decode("utf-8", "replace"), logprob(other.logprob))
        told["top_logprobs"].append(likeliest or None)
        told["text_offset"].append(start)
        start += len(text)
    return told


def prompt_logprobs(tokens: Scored, text: str, top: int) -> dict[str, list[Any]]:
    """The same of a prompt whose tokens say this text: of the first nothing is known.

    What a vocabulary puts before a text, a token that begins it or a space, takes no place in it.
    """
    added = max(0, sum(len(token.piece.decode("utf-8", "replace")) for token in tokens) - len(text))
    told = legacy_logprobs((msgspec.structs.replace(token, top=token.top[:top]) for token in tokens), -added)
    told["text_offset"] = [max(0, offset) for offset in told["text_offset"]]
    told["token_logprobs"][0] = told["top_logprobs"][0] = None
    return told


def scores_by_id(tokens: Scored) -> list[dict[str, Any] | None]:
    """vLLM's form: of each token but the first, itself and the likeliest, by their ids."""
    return [None, *(_by_id(token) for token in tokens[1:])]


def _by_id(token: core.TokenLogprob) -> dict[str, Any]:
    ranked = [(other.token, other.piece, other.logprob, rank) for rank, other in enumerate(token.top, 1)]
    return {
        str(number): {"logprob": logprob(value), "rank": rank, "decoded_token": piece.decode("utf-8", "replace")}
        for number, piece, value, rank in ((token.token, token.piece, token.logprob, token.rank), *ranked)
    }


def _joined(first: dict[str, list[Any]], then: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: found + then[name] for name, found in first.items()}
