"""llama-server's own dialect: bodies of /completion and /infill to Requests, Events to its replies, its errors."""

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
from heylook_llm.server.wire import jsontext, openai, openai_words, table
from heylook_llm.server.wire.exchange import EVENT_STREAM, Arrival, Asked, Bounds, Reply, retry_headers
from heylook_llm.server.wire.llama_server_body import InfillBody, NativeBody, NativeEmbeddingBody, NativeFields
from heylook_llm.server.wire.openai_constraint import Constrained, constrained
from heylook_llm.server.wire.openai_progress import Watched

BODIES: Final[dict[str, type[table.Body]]] = {
    "POST /completion": NativeBody,
    "POST /infill": InfillBody,
    "POST /embedding": NativeEmbeddingBody,
}
NO_SLOT: Final = -1
"""Places in a batch aren't numbered for clients; at llama-server this means any."""
RANDOM_SEED: Final = 0xFFFFFFFF
_ABSENT: Final = object()
_KEEP_ALIVE: Final = b":\n\n"
_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}
_SETTINGS: Final[dict[str, tuple[str, Any]]] = {
    "temperature": ("temperature", 1.0),
    "dynatemp_range": ("dynatemp_range", 0.0),
    "dynatemp_exponent": ("dynatemp_exponent", 1.0),
    "top_k": ("top_k", 0),
    "top_p": ("top_p", 1.0),
    "min_p": ("min_p", 0.0),
    "top_n_sigma": ("top_n_sigma", -1.0),
    "xtc_probability": ("xtc_probability", 0.0),
    "xtc_threshold": ("xtc_threshold", 0.1),
    "typical_p": ("typical_p", 1.0),
    "repeat_last_n": ("repeat_last_tokens", 64),
    "repeat_penalty": ("repeat_penalty", 1.0),
    "presence_penalty": ("presence_penalty", 0.0),
    "frequency_penalty": ("frequency_penalty", 0.0),
    "dry_multiplier": ("dry_multiplier", 0.0),
    "dry_base": ("dry_base", 1.75),
    "dry_allowed_length": ("dry_allowed_length", 2),
    "dry_penalty_last_n": ("dry_penalty_last_n", -1),
    "mirostat": ("mirostat", 0),
    "mirostat_tau": ("mirostat_tau", 5.0),
    "mirostat_eta": ("mirostat_eta", 0.1),
    "adaptive_target": ("adaptive_target", -1.0),
    "adaptive_decay": ("adaptive_decay", 0.9),
}
"""llama-server's name -> the field of Sampling, and the value that switches it off or that it has unset."""


# ---- errors ----------------------------------------------------------------------------------------------------------


def error(problem: HeylookError) -> Reply:
    """The error as a whole reply."""
    return Reply(jsontext.encode(error_object(problem)), problem.status, headers=retry_headers(problem))


def error_object(problem: HeylookError) -> dict[str, Any]:
    """`{"error": {code, message, type}}`, where the code is the status; the field and our own code beside them."""
    kind = _KINDS.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    told: dict[str, Any] = {"code": problem.status, "message": problem.message, "type": kind, "param": problem.param}
    match problem:
        case ContextLengthExceeded():
            told["type"] = "exceed_context_size_error"
            told |= {"n_prompt_tokens": problem.prompt_tokens, "n_ctx": problem.limit_tokens}
        case UnsupportedFeature():
            told["type"] = "not_supported_error"
    return {"error": told}


# ---- bodies ----------------------------------------------------------------------------------------------------------


def parse_completion(body: bytes, arrival: Arrival) -> "Native":
    """A body of /completion as an exchange. Raises BadRequest."""
    fields = table.validate(NativeBody, jsontext.decode(body))
    return _native(fields, arrival, _prompts(fields.prompt, fields, arrival.bounds), "prompt")


def parse_infill(body: bytes, arrival: Arrival) -> "Native":
    """A body of /infill as an exchange. Raises BadRequest."""
    fields = table.validate(InfillBody, jsontext.decode(body))
    files = tuple((file.filename, file.text) for file in fields.input_extra or ())
    prompt = core.InfillPrompt(fields.input_prefix, fields.input_suffix, fields.prompt, files)
    return _native(fields, arrival, (prompt,), "input_prefix")


def _native(fields: NativeFields, arrival: Arrival, prompts: tuple[core.Prompt, ...], place: str) -> "Native":
    fields.n = fields.n_cmpl or fields.n
    model = openai_words.named(fields.model, arrival)
    asked = openai.asked_of(fields, arrival, model, prompts, _sampling(fields, arrival))
    form = constrained(fields)
    watched = Watched(fields)
    shown = fields.response_fields is None or "prompt" in fields.response_fields
    request = msgspec.structs.replace(
        asked.request,
        constraint=form.constraint,
        echo=shown and not all(isinstance(prompt, core.TextPrompt) for prompt in prompts),
        note_progress=watched.wanted,
    )
    needs = ("completion", *(("insert",) if isinstance(fields, InfillBody) else ()))
    return Native(msgspec.structs.replace(asked, request=request, needs=needs), fields, form, place, watched)


def _sampling(fields: NativeFields, arrival: Arrival) -> core.Sampling:
    limits = (fields.n_predict, fields.max_completion_tokens, fields.max_tokens)
    most = next((limit for limit in limits if limit is not None), -1)
    patience = fields.t_max_predict_ms
    return msgspec.structs.replace(
        openai.sampling_of(fields, arrival, most if most >= 0 else None),
        logprobs=fields.n_probs or fields.logprobs or None,
        time_limit_seconds=patience / 1000 if patience is not None and patience > 0 else None,
        least_indent=fields.n_indent,
    )


def _prompts(given: Any, fields: NativeBody, bounds: Bounds) -> tuple[core.Prompt, ...]:
    """One prompt, or a list of them: a list without a number in it."""
    many = isinstance(given, list) and not any(_is_token(one) for one in given)
    prompts = (
        tuple(_prompt(one, f"prompt[{at}]") for at, one in enumerate(given)) if many else (_prompt(given, "prompt"),)
    )
    if not prompts:
        raise BadRequest("prompt is empty.", param="prompt")
    if len(prompts) * (fields.n_cmpl or fields.n) > bounds.max_prompts:
        raise BadRequest(f"prompts times n may be at most {bounds.max_prompts}.", param="prompt")
    return prompts


def _prompt(given: Any, place: str) -> core.Prompt:
    match given:
        case str():
            return core.TextPrompt(given)
        case list() if given and all(map(_is_token, given)):
            return core.TokenPrompt(tuple(given))
        case list() if given and all(_is_token(one) or isinstance(one, str) for one in given):
            return core.MixedPrompt(tuple(given))
        case {"prompt_string": text, **rest} if not isinstance(text, dict):
            if rest.get("multimodal_data"):
                raise UnsupportedFeature(
                    "Images stand in messages here: send them to POST /v1/chat/completions.",
                    param=f"{place}.multimodal_data",
                )
            return _prompt(text, f"{place}.prompt_string")
    raise BadRequest(
        f"'{place}' must be a text, a list of token ids, a list of both, or an object with a prompt_string; it is "
        f"{table.kind_of(given)}.",
        code="invalid_type",
        param=place,
    )


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


# ---- what it is sampled with -----------------------------------------------------------------------------------------


def settings(sampling: core.Sampling, defaults: core.Sampling) -> dict[str, Any]:
    """What decides of tokens, by llama-server's names: a request's sampling, over the model's defaults."""

    def found(field: str, unset: Any) -> Any:
        value = getattr(sampling, field)
        value = getattr(defaults, field) if value is None else value
        return unset if value is None else value

    most = found("max_tokens", -1)
    return {
        "seed": found("seed", RANDOM_SEED),
        **{name: found(field, unset) for name, (field, unset) in _SETTINGS.items()},
        "max_tokens": most,
        "n_predict": most,
        "ignore_eos": sampling.ignore_eos,
        "n_probs": sampling.logprobs or 0,
        "stop": list(sampling.stop or defaults.stop),
    }


# ---- the answer ------------------------------------------------------------------------------------------------------


class Native:
    """One request of llama-server's own form, and its answer."""

    stream_media_type = EVENT_STREAM
    unheeded: tuple[str, ...] = ()

    def __init__(self, asked: Asked, fields: NativeFields, form: Constrained, place: str, watched: Watched) -> None:
        self.asked = asked
        self._watched = watched
        self._fields = fields
        self._form = form
        self._place = place
        self._defaults = core.Sampling()
        self._prompt_tokens: dict[int, int] = {}
        self._output_tokens: dict[int, int] = {}
        self._with_line: set[int] = set()

    def adapt(self, info: core.ModelInfo) -> core.Request:
        """The Request for this model."""
        request = self.asked.request
        if info.capabilities:
            self._refuse_lacking(request.model, info)
        openai.refuse_foreign_tokens(request, info)
        self._defaults = info.defaults
        return request

    def _refuse_lacking(self, model: str, info: core.ModelInfo) -> None:
        if "insert" in self.asked.needs and "insert" not in info.capabilities:
            raise UnsupportedFeature(
                f"Infill is not supported by this model: '{model}' has no tokens for it.", param="model"
            )
        openai_words.lacking(model, self.asked.needs, info)

    def feed(self, event: core.Event, wall_ns: int) -> bytes:
        """The chunk of an event."""
        match event:
            case core.Text() | core.Reasoning():
                return self._text(event)
            case core.Progress():
                self._prompt_tokens[event.choice] = event.total_tokens
                told = self._watched.see(event)
                return _event({**self._partial(event.choice, "", ()), **told}) if told else b""
            case core.Done():
                self._prompt_tokens[event.choice] = event.usage.prompt_tokens
                return _event(self._final(event, "", (), has_line=event.choice in self._with_line))
            case core.Failed() | core.ToolCallStart() | core.ToolCallArgs():
                return b""
            case _:
                assert_never(event)

    def _text(self, event: core.Text | core.Reasoning) -> bytes:
        choice = event.choice
        self._output_tokens[choice] = self._output_tokens.get(choice, 0) + len(event.tokens)
        if "\n" in event.text:
            self._with_line.add(choice)
        if not (event.text or event.tokens):
            return b""
        chunk = self._partial(choice, event.text, event.tokens)
        if event.logprobs:
            chunk["completion_probabilities"] = [_probability(token) for token in event.logprobs]
        return _event(chunk)

    def _partial(self, choice: int, text: str, tokens: tuple[int, ...]) -> dict[str, Any]:
        return {
            "index": choice,
            "content": text,
            "tokens": list(tokens),
            "stop": False,
            "id_slot": NO_SLOT,
            "tokens_predicted": self._output_tokens.get(choice, 0),
            "tokens_evaluated": self._prompt_tokens.get(choice, 0),
            **self._watched.times(choice),
        }

    def reply(self, result: core.Result, wall_ns: int) -> bytes:
        """The whole reply; a list where several answers were asked for."""
        told = [self._whole(choice) for choice in result.choices]
        return jsontext.encode(told[0] if len(told) == 1 else told)

    def _whole(self, choice: core.ChoiceResult) -> dict[str, Any]:
        text = choice.reasoning + choice.text
        tokens = choice.tokens if self._fields.return_tokens else ()
        return self._final(choice.done, text, tokens, has_line="\n" in text, probabilities=choice.logprobs)

    def _final(
        self,
        done: core.Done,
        text: str,
        tokens: tuple[int, ...],
        *,
        has_line: bool,
        probabilities: tuple[core.TokenLogprob, ...] = (),
    ) -> dict[str, Any]:
        request, usage = self.asked.request, done.usage
        told: dict[str, Any] = {
            "index": done.choice,
            "content": text,
            "tokens": list(tokens),
            "id_slot": NO_SLOT,
            "stop": True,
            "model": request.model,
            "tokens_predicted": usage.output_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": {**settings(request.sampling, self._defaults), "stream": self.asked.stream},
            "prompt": _prompt_text(request, done),
            "has_new_line": has_line,
            "truncated": done.timeline.dropped_tokens > 0,
            "stop_type": _stop_type(done),
            "stopping_word": done.stop or "",
            "tokens_cached": usage.prompt_tokens + max(0, usage.output_tokens - 1),
            "timings": openai_words.timings(done),
        }
        if probabilities:
            told["completion_probabilities"] = [_probability(token) for token in probabilities]
        wanted = self._fields.response_fields
        return told if not wanted else _selected(told, wanted)

    def end(self) -> bytes:
        """Nothing follows."""
        return b""

    def silence(self, wall_ns: int) -> bytes:
        """An SSE comment."""
        return _KEEP_ALIVE

    def failure(self, problem: HeylookError) -> bytes:
        """The error as the stream's last event."""
        return _event(error_object(self._placed(problem)))

    def error(self, problem: HeylookError) -> Reply:
        """The error with its status."""
        return error(self._placed(problem))

    def _placed(self, problem: HeylookError) -> HeylookError:
        if isinstance(problem, ContextLengthExceeded):
            problem.param = self._place
        return self._form.worded(problem) if isinstance(problem, InvalidConstraint) else problem


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + jsontext.encode(value) + b"\n\n"


def _prompt_text(request: core.Request, done: core.Done) -> str:
    prompt = request.prompts[done.choice // request.n]
    return prompt.text if isinstance(prompt, core.TextPrompt) else done.prompt_text


def _stop_type(done: core.Done) -> str:
    if done.reason == "length":
        return "limit"
    return "eos" if done.stop is None else "word"


def _probability(token: core.TokenLogprob) -> dict[str, Any]:
    return {**_piece(token), "top_logprobs": [_piece(other) for other in token.top]}


def _piece(token: core.TokenLogprob | core.TopLogprob) -> dict[str, Any]:
    return {
        "id": token.token,
        "token": token.piece.decode("utf-8", "ignore"),
        "bytes": list(token.piece),
        "logprob": openai_words.logprob(token.logprob),
    }


def _selected(told: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Only these fields, under the names they were asked by: `a/b` is b in a. Those that don't exist are left out."""
    found: dict[str, Any] = {}
    for path in wanted:
        value: Any = told
        for name in path.split("/"):
            value = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
        if value is not _ABSENT:
            found[path] = value
    return found
