"""What a reader must know before trusting a row's numbers, each with what to do about it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from heylook_llm.bench.absent import SKIPPED
from heylook_llm.bench.measures import input_tokens
from heylook_llm.bench.sample import CLIENT_LIMITED, Sample
from heylook_llm.bench.statistics import percentile

if TYPE_CHECKING:
    from heylook_llm.bench.metrics import Row

SHARED: Final = "dataset_shared"
"""Of a manifest: the share of a trace's prompt tokens that stood in an earlier prompt."""
LATE_MS: Final = 2.0
"""Schedule lag, p99: beyond it the sender, not the server, decided when requests came."""
HELD_UP_MS: Final = 1.0
"""The sender's loop, in the mean at its alarms: beyond it readers are told."""
IDLE_SHARE: Final = 0.05
"""Of a closed loop's time, that its clients waited for the bench to have their next request."""
SLOW_START: Final = 5.0
"""The first measured answer took so many times the median: the warm-up was too short."""
UNLIKE_REPEATS: Final = 0.2
LEAST_CACHED: Final = 32
"""Tokens: a chat template's first words are cached for everyone."""
CACHED_SHARE: Final = 0.1
LONGEST_TOLD: Final = 200
"""Characters of a target's error."""


class Remark(msgspec.Struct, frozen=True):
    """A word for programs, a sentence for readers."""

    code: str
    text: str


def remarks(
    row: "Row", measured: Sequence[Sample], mismatched: int, clocks: int, spec: Mapping[str, Any]
) -> list[Remark]:
    """All that there are of a row. `spec` is the run's."""
    found = [
        *_of_counts(row, measured),
        *_of_tokens(row),
        *_of_lengths(row, spec.get("count") == "engine"),
        *_of_load(row),
        *_of_cache(row, measured, spec.get(SHARED)),
        *_of_time(row, measured),
        *_of_client(row),
    ]
    if mismatched:
        text = f"What the server says of its times for {counted(mismatched, 'request')} can't be; it was left out."
        found.append(Remark("pairs-mismatched", text))
    if clocks > 1:
        text = "Samples of one cell have stamps of different clocks, as after a restart of the machine: no rates."
        found.append(Remark("clocks", text))
    return found


def counted(number: int, name: str) -> str:
    """So many of something: 1 request, 2 requests."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def _of_counts(row: "Row", measured: Sequence[Sample]) -> Iterator[Remark]:
    counts = row.counts
    yield from (Remark("skipped", f"{why.capitalize()}.") for flag, why in SKIPPED.items() if flag in row.flags)
    if counts.missing:
        yield Remark("missing", f"{counts.missing} of {counts.planned} planned requests were never sent.")
    if counts.error or counts.timeout:
        classes = ", ".join(f"{name} {count}" for name, count in sorted(row.errors.items(), key=lambda one: -one[1]))
        said = f' It was told: "{told}"' if (told := _told(measured)) else ""
        text = f"{counts.error + counts.timeout} of {counts.measured} requests failed: {classes}.{said}"
        yield Remark("errors", text)
    if counts.cut:
        yield Remark(
            "cut",
            f"{_were(counts.cut)} still in flight at the end and in no latency, though the slowest; a longer "
            "drain_seconds lets such requests end.",
        )
    if counts.cancelled:
        yield Remark("cancelled", f"{_were(counts.cancelled)} cancelled with the run, and in no latency.")
    if counts.disordered:
        yield Remark("disordered", f"{_were(counts.disordered)} left out of every number: their stamps can't be.")
    if counts.loading:
        yield Remark(
            "loading",
            f"{_were(counts.loading)} waiting for their model's load, and in no latency of this warm row.",
        )
    if counts.ready:
        yield Remark(
            "ready",
            f"{_were(counts.ready)} answered by a model that was loaded already, and in no latency of this cold row.",
        )
    if row.measures and (n := row.measures["e2e"].n if "e2e" in row.measures else 0) < 20:
        yield Remark("few", f"{counted(n, 'request')}: p90 and p95 need 20, p99 needs 100.")


def _told(measured: Sequence[Sample]) -> str:
    """What the first target's error that came with words says."""
    for sample in measured:
        if sample.outcome == "error" and sample.extra_json:
            try:
                told = msgspec.json.decode(sample.extra_json.encode())
            except (msgspec.MsgspecError, UnicodeEncodeError):
                continue
            if isinstance(told, dict) and isinstance(told.get("error"), str):
                return " ".join(told["error"].split())[:LONGEST_TOLD]
    return ""


def _were(requests: int) -> str:
    return f"{counted(requests, 'request')} {'was' if requests == 1 else 'were'}"


def _of_tokens(row: "Row") -> Iterator[Remark]:
    tokens = row.tokens
    for names, count in tokens.disagree.items():
        one, other = names.split("/")
        yield Remark("tokens-disagree", f"{one} and {other} differ in {count} of {tokens.requests} requests.")
    if tokens.unmapped:
        yield Remark(
            "unmapped",
            f"Nobody says how many tokens the chunks of {counted(tokens.unmapped, 'answer')} hold, and there are not "
            "as many chunks as tokens (tags of reasoning and halves of characters are tokens without a text): no ITL.",
        )
    if tokens.short:
        yield Remark("short", f"{tokens.short} of {tokens.requests} answers are shorter than asked.")
    if tokens.beyond:
        text = f"{tokens.beyond} of {tokens.requests} answers have more tokens than asked"
        yield Remark("beyond", f"{text}: the target doesn't keep to max_tokens, or counts wrongly.")
    if "ignore-eos" in row.flags and tokens.out_asked:
        yield Remark(
            "forced-length",
            "Answers were held to their length (ignore_eos): what a model says beyond its own end tells little of "
            "speculative decoding, and breaks formats that end by a token.",
        )


def _of_lengths(row: "Row", engine: bool) -> Iterator[Remark]:
    """Whether the prompts were as long as planned, by what the engine saw."""
    seen = row.tokens.template_overhead
    if "inexact-length" in row.flags:
        text = "The target's tokenizer can't be asked, or its words don't add up: a word counted as a token."
        yield Remark("inexact-length", text)
    if seen.least is None or seen.most is None or row.task == "image-text":
        return
    if engine and (seen.least or seen.most):
        text = f"{_tokens(seen.least, seen.most)} more than planned were computed of a prompt, though count is engine."
        yield Remark("inexact-length", text)
    elif not engine and seen.least != seen.most and not row.scenario.startswith("T("):
        yield Remark(
            "inexact-length",
            f"{_tokens(seen.least, seen.most)} were computed beside a prompt's own: its template adds always as many, "
            "so prompts weren't as long as planned, or the target leaves cached tokens out of its count.",
        )


def _tokens(least: float, most: float) -> str:
    return f"{least:.0f} tokens" if least == most else f"From {least:.0f} to {most:.0f} tokens"


def _of_load(row: "Row") -> Iterator[Remark]:
    """Whether a cold row was cold."""
    if row.cache != "cold" or "e2e" not in row.measures:
        return
    if loaded := row.where.get("load"):
        n = row.measures["e2e"].n
        yield Remark("cold", f"{counted(n, 'request')} waited for the model's load, {loaded:.0f} ms in the mean.")
    else:
        text = "The target doesn't say what its loads took: that the model was unloaded before, is its own word."
        yield Remark("cold-unproved", text)


def _of_cache(row: "Row", measured: Sequence[Sample], shared: Any) -> Iterator[Remark]:
    cached = [
        (sample.cached, tokens)
        for sample in measured
        if sample.cached is not None and (tokens := input_tokens(sample)) and sample.outcome == "ok"
    ]
    if not cached:
        return
    share = sum(found for found, _ in cached) / sum(tokens for _, tokens in cached)
    if row.turns:
        text = f"{share * 100:.0f} % of the prompts' tokens were cached: of conversations, what was said before."
        yield Remark("said-before", text)
        return
    if row.scenario == "dataset" and isinstance(shared, float):
        before = f"{shared * 100:.0f} % of the trace's stood in it before."
        yield Remark("trace", f"{share * 100:.0f} % of the prompts' tokens were cached; {before}")
        return
    planned = int(row.cache.removeprefix("prefix")) / 100 if row.cache.startswith("prefix") else 0.0
    beyond = [found for found, tokens in cached if found - planned * tokens > max(LEAST_CACHED, CACHED_SHARE * tokens)]
    if beyond:
        yield Remark(
            "cached",
            f"{len(beyond)} of {len(cached)} prompts were cached beyond the {planned * 100:.0f} % that this row plans "
            f"({share * 100:.0f} % of all their tokens): their prefill wasn't measured.",
        )
    elif planned and share < planned - CACHED_SHARE:
        text = f"{share * 100:.0f} % of the prompts' tokens were cached, not the {planned * 100:.0f} % planned."
        yield Remark("not-cached", text)
    elif planned:
        text = f"{share * 100:.0f} % of the prompts' tokens were cached; {planned * 100:.0f} % were planned."
        yield Remark("prefix", text)


def _of_time(row: "Row", measured: Sequence[Sample]) -> Iterator[Remark]:
    lag = row.measures.get("lag")
    if lag is not None and row.load != "closed":
        worst = lag.p99 if lag.p99 is not None else lag.most
        if worst is not None and worst > LATE_MS:
            yield Remark(
                "late",
                f"Requests went out up to {worst:.1f} ms after they were due: the client couldn't keep this rate.",
            )
    opened = row.measures.get("connect")
    if opened is not None:
        yield Remark(
            "connected",
            f"{counted(opened.n, 'measured request')} opened their connection; that time is in E2E, never in TTFT.",
        )
    yield from _of_start(measured)
    yield from _of_repeats(row)


def _of_client(row: "Row") -> Iterator[Remark]:
    """Whether the bench itself was in the way."""
    found = row.meanwhile
    late = 0.0 if found is None else found.sender_late_ms or 0.0
    worst = "" if found is None or found.sender_worst_ms is None else f", {found.sender_worst_ms:.0f} ms at most"
    held = f"the sender's loop was late by {late:.1f} ms in the mean{worst}"
    if CLIENT_LIMITED in row.flags:
        text = f"These are the bench's own limits, not the target's: {held}. Ask for less, or leave it more of a core."
        yield Remark(CLIENT_LIMITED, text)
    elif late > HELD_UP_MS:
        yield Remark("client-late", f"{held[0].upper()}{held[1:]}; times here hold that, too.")
    lag, whole = row.measures.get("lag"), row.measures.get("e2e")
    if row.load != "closed" or row.cache == "cold" or lag is None or whole is None or not lag.mean or not whole.mean:
        return
    share = lag.mean / (lag.mean + whole.mean)
    if share > IDLE_SHARE:
        text = f"Clients waited {share * 100:.0f} % of the time for the bench to make their next request: the load was "
        yield Remark("client-idle", f"{text}less than asked.")


def _of_start(measured: Sequence[Sample]) -> Iterator[Remark]:
    took = [
        (sample.t_start, sample.t_first_token - sample.t_start)
        for sample in measured
        if sample.outcome == "ok" and sample.t_start is not None and sample.t_first_token is not None
    ]
    if len(took) < 10:
        return
    first = min(took)[1]
    median = percentile(sorted(spent for _, spent in took), 0.5)
    if first > SLOW_START * median and first - median > 10_000_000:
        yield Remark(
            "cold-start",
            f"The first measured answer began after {first / 1e6:.0f} ms, the median after {median / 1e6:.0f} ms: more "
            "warm-up (warmup_requests) is needed.",
        )


def _of_repeats(row: "Row") -> Iterator[Remark]:
    for name in ("ttft", "tpot"):
        medians = [repeat[name] for repeat in row.per_repeat if repeat.get(name)]
        if len(medians) > 1 and max(medians) > (1 + UNLIKE_REPEATS) * min(medians):
            yield Remark(
                "unlike-repeats",
                f"The median {name} of repeats lies between {min(medians):.1f} and {max(medians):.1f} ms: something "
                "else than the server changed, as heat or other work.",
            )
