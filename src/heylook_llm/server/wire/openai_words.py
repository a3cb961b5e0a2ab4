"""What all of OpenAI's routes say alike: errors, a missing model, measures, log probabilities."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from heylook_llm import core
from heylook_llm.errors import BadRequest, HeylookError, UnsupportedFeature
from heylook_llm.server.wire import jsontext, table
from heylook_llm.server.wire.exchange import Arrival, Reply, retry_headers

FLOOR: Final = -9999.0
"""What OpenAI says for a token that is all but impossible; JSON has no infinity."""


# ---- errors ----------------------------------------------------------------------------------------------------------


def error(problem: HeylookError) -> Reply:
    """The error as a whole reply."""
    return Reply(jsontext.encode(error_object(problem)), problem.status, headers=retry_headers(problem))


def error_object(problem: HeylookError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`, all four keys."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    code = "model_overloaded" if problem.code == "overloaded" else problem.code
    return {"error": {"message": problem.message, "type": kind, "param": problem.param, "code": code}}


def outside(name: str, low: float, high: float) -> BadRequest:
    """The error of a number beyond its bounds."""
    return BadRequest(f"Invalid value for '{name}': it must be from {low} to {high}.", code="invalid_value", param=name)


# ---- models ----------------------------------------------------------------------------------------------------------


def named(given: str, arrival: Arrival) -> str:
    """The model that a body names, or the server's default. Raises BadRequest without either."""
    model = given.strip() or arrival.default_model
    if model:
        return model
    raise table.missing("model")


_FIELDS: Final = {
    "tools": "tools",
    "thinking": "reasoning_effort",
    "insert": "suffix",
    "chat": "messages",
    "vision": "messages",
}
"""Which field of a body asks for a capability."""


def lacking(model: str, needs: Iterable[str], info: core.ModelInfo, fields: Mapping[str, str] = _FIELDS) -> None:
    """Raises UnsupportedFeature for the first capability that the model lacks, with the field that asks for it."""
    for need in needs:
        if need not in info.capabilities:
            message = f"The model '{model}' does not support {need}."
            raise UnsupportedFeature(message, param=fields.get(need, "model"))


def fingerprint(info: core.ModelInfo) -> str:
    """Stable for one engine, file and context."""
    parts = (info.provider, info.architecture, info.quantization or "", str(info.n_ctx))
    return "fp_" + "_".join("".join(c if c.isalnum() else "-" for c in part) for part in parts if part)


# ---- measures --------------------------------------------------------------------------------------------------------


def timings(done: core.Done) -> dict[str, Any]:
    """llama.cpp's `timings`: milliseconds, and tokens per second; null where it did not happen."""
    times, counts = done.timeline, done.usage
    told = _timings(counts, times.admitted_ns, times.first_token_ns, times.last_token_ns)
    if counts.draft_tokens:
        told |= {"draft_n": counts.draft_tokens, "draft_n_accepted": counts.accepted_tokens}
    return told


def timings_so_far(progress: core.Progress) -> dict[str, Any]:
    """The same while the answer is being made."""
    times = progress.times
    assert times is not None
    counts = core.Usage(progress.total_tokens, progress.cached_tokens, times.output_tokens)
    return _timings(counts, times.admitted_ns, times.first_token_ns, times.at_ns)


def prompt_progress(progress: core.Progress) -> dict[str, Any]:
    """llama.cpp's `prompt_progress`: tokens, and milliseconds since the first of them was computed."""
    times = progress.times
    end_ns = None if times is None else times.first_token_ns or times.at_ns
    return {
        "total": progress.total_tokens,
        "cache": progress.cached_tokens,
        "processed": progress.processed_tokens,
        "time_ms": None if times is None else _milliseconds(times.admitted_ns, end_ns),
    }


def _timings(
    counts: core.Usage, admitted_ns: int | None, first_token_ns: int | None, last_token_ns: int | None
) -> dict[str, Any]:
    computed = counts.prompt_tokens - counts.cached_tokens
    prompt_ms = _milliseconds(admitted_ns, first_token_ns)
    predicted_ms = _milliseconds(first_token_ns, last_token_ns)
    return {
        "cache_n": counts.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": _ratio(prompt_ms, computed),
        "prompt_per_second": _rate(computed, prompt_ms),
        "predicted_n": counts.output_tokens,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": _ratio(predicted_ms, counts.output_tokens - 1),
        "predicted_per_second": _rate(counts.output_tokens - 1, predicted_ms),
    }


def performance(done: core.Done) -> dict[str, Any]:
    """The Timeline of a choice as durations in milliseconds from its reception; null where it did not happen."""
    times = done.timeline
    start = times.received_ns
    return {
        "queued_ms": _milliseconds(times.queued_ns, times.admitted_ns),
        "load_ms": _milliseconds(times.load_start_ns, times.load_end_ns),
        "parsed_ms": _milliseconds(start, times.parsed_ns),
        "tokenized_ms": _milliseconds(start, times.tokenized_ns),
        "encoded_ms": _milliseconds(start, times.encoded_ns),
        "admitted_ms": _milliseconds(start, times.admitted_ns),
        "first_token_ms": _milliseconds(start, times.first_token_ns),
        "first_byte_ms": _milliseconds(start, times.first_byte_ns),
        "last_token_ms": _milliseconds(start, times.last_token_ns),
        "total_ms": _milliseconds(start, times.closed_ns),
        "preemptions": times.preemptions,
        "dropped_tokens": times.dropped_tokens,
        "draft_tokens": times.draft_tokens,
        "accepted_tokens": times.accepted_tokens,
        "cached_tokens": times.cached_tokens,
        "cached_from": times.cached_from,
        "steps": times.steps,
        "batch_sizes_seen": {str(size): count for size, count in sorted(times.batch_sizes_seen.items())},
    }


def _milliseconds(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else round((end - start) / 1e6, 3)


def _ratio(milliseconds: float | None, tokens: int) -> float | None:
    return None if milliseconds is None or tokens <= 0 else round(milliseconds / tokens, 4)


def _rate(tokens: int, milliseconds: float | None) -> float | None:
    return None if not milliseconds or tokens <= 0 else round(tokens * 1e3 / milliseconds, 3)


def logprob(value: float) -> float:
    """A logarithm that JSON can hold."""
    return value if value > FLOOR else FLOOR


def token_logprob(token: core.TokenLogprob) -> dict[str, Any]:
    """A token of an answer, as the lists of log probabilities have it."""
    return {**_piece(token), "top_logprobs": [_piece(other) for other in token.top]}


def _piece(token: core.TokenLogprob | core.TopLogprob) -> dict[str, Any]:
    text = token.piece.decode("utf-8", "replace")
    return {"token": text, "logprob": logprob(token.logprob), "bytes": list(token.piece)}
