"""One choice of a Request as tokens: what is computed of it, what it may still become, and what happened to it when."""

import enum
from collections.abc import Sequence as Seq
from typing import Final, Literal

import msgspec

from heylook_llm import core
from heylook_llm.worker.decoded import Decoded
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.scores import Scores

End = Literal["stop", "length"]
KEEP_TOKENS: Final = 4
"""Ollama's default of num_keep."""


class State(enum.Enum):
    """Where a sequence stands; every one ends FINISHED."""

    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FINISHED = "finished"


class Stamps(msgspec.Struct):
    """The part of a Timeline that grows while the sequence lives; nanoseconds of the monotonic clock."""

    received_ns: int | None = None
    rendered_ns: int | None = None
    tokenized_ns: int | None = None
    queued_ns: int | None = None
    admitted_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    preemptions: int = 0
    dropped_tokens: int = 0
    steps: int = 0
    request_id: str = ""
    encoded_ns: int | None = None
    cached_from: core.CachedFrom | None = None
    shared_with: str = ""
    peak_bytes: int | None = None
    prompt_blocks: bytes = b""


class Sequence:
    """One choice. `tokens` is prompt and output so far; `computed` of them have their KV cells in `slot`.

    The scheduler is its only writer. After a context shift `tokens` is shorter than what was generated, so the counts
    of prompt and output tokens are kept apart.
    """

    __slots__ = (
        "accepted_tokens",
        "arrival",
        "awaited_tokens",
        "batch_sizes",
        "cached_tokens",
        "choice",
        "chunks",
        "computed",
        "decoded",
        "draft_limit",
        "draft_tokens",
        "drawing",
        "forced",
        "guessing",
        "guide",
        "keep_tokens",
        "leader",
        "limit_tokens",
        "max_tokens",
        "noted",
        "output_tokens",
        "prediction",
        "priority",
        "prompt_tokens",
        "request",
        "sampling",
        "scores",
        "seen",
        "shift",
        "shifted",
        "slot",
        "stamps",
        "state",
        "stop_tokens",
        "stops",
        "tokens",
    )

    def __init__(
        self,
        request: int,
        choice: int,
        prompt: Seq[int],
        sampling: core.Sampling,
        *,
        limit_tokens: int,
        priority: int = 0,
        shift: bool = False,
        stamps: Stamps | None = None,
        keep_tokens: int | None = None,
        draft_limit: int | None = None,
        prediction: tuple[int, ...] = (),
        guide: Guide | None = None,
        seen: tuple[object, ...] = (),
        noted: bool = False,
        scores: Scores | None = None,
    ) -> None:
        """`draft_limit`: most tokens guessed at once, 0: none, None: as configured; `prediction`: to guess from.

        `guide`: what a constraint allows of it; the provider asks and advances it. `seen`: what its images are computed
        from, kept as long as it lives. `noted`: each of its steps is told. `scores`: what its prompt's log
        probabilities are noted in.
        """
        self.request = request
        self.choice = choice
        self.tokens = list(prompt)
        self.prompt_tokens = len(self.tokens)
        self.sampling = sampling
        self.limit_tokens = limit_tokens
        self.priority = priority
        self.shift = shift
        self.guide = guide
        self.seen = seen
        self.noted = noted
        self.scores = scores
        self.stamps = stamps if stamps is not None else Stamps()
        self.max_tokens = sampling.max_tokens if sampling.max_tokens is not None else 1 << 62
        self.stop_tokens = frozenset(sampling.stop_tokens)
        keep = KEEP_TOKENS if keep_tokens is None else keep_tokens
        self.keep_tokens = self.prompt_tokens if keep < 0 else min(keep, self.prompt_tokens)
        """What a context shift leaves at the start."""
        self.shifted = False
        """Its cells were moved in place: not what computing its tokens would give, so not for others."""
        self.leader: Sequence | None = None
        """The running sequence whose prompt this one waits for, to share its first `awaited_tokens`."""
        self.awaited_tokens = 0
        self.stops: list[int] = []
        """Where the computation of its prompt pauses, because others' prompts part from it there; in order."""
        self.state = State.WAITING
        self.slot = -1
        self.computed = 0
        self.drawing: object = None
        """The sampler of a preempted sequence, so that its draws go on where they were."""
        self.cached_tokens = 0
        self.output_tokens = 0
        self.draft_limit = draft_limit
        self.prediction = prediction
        self.forced: tuple[int, ...] = ()
        """Tokens that are set to follow the last one."""
        self.guessing: object = None
        """What the speculation remembers of it."""
        self.draft_tokens = 0
        """Guesses that were computed, and how many of them turned out drawn."""
        self.accepted_tokens = 0
        self.arrival = 0
        self.chunks: list[core.PrefillChunk] = []
        self.batch_sizes: dict[int, int] = {}
        self.decoded = Decoded()

    @property
    def pending_tokens(self) -> int:
        """Tokens whose cells aren't computed; 1 while decoding."""
        return len(self.tokens) - self.computed

    @property
    def unscored(self) -> Scores | None:
        """Where its prompt's log probabilities are still to be noted."""
        return self.scores if self.scores is not None and not self.scores.complete else None

    @property
    def is_only_scored(self) -> bool:
        """Whether no token is wanted of it, so that its prompt's last one needn't be computed."""
        return not self.max_tokens

    @property
    def decoding(self) -> bool:
        """Whether its next step computes the token drawn last, rather than prompt."""
        return self.output_tokens > 0 and len(self.tokens) - self.computed == 1

    @property
    def most_drafts(self) -> int:
        """Guesses behind its last token that its limits leave a use for: each may bring a token, the step one more."""
        return max(0, min(self.limit_tokens - len(self.tokens), self.max_tokens - self.output_tokens) - 1)

    @property
    def order(self) -> tuple[int, int]:
        """Smaller goes first: higher priority, then earlier arrival."""
        return (-self.priority, self.arrival)

    def remaining_sampling(self) -> core.Sampling:
        """The sampling for what is still to come: after a preemption fewer tokens are left to force."""
        if not self.sampling.min_tokens or not self.output_tokens:
            return self.sampling
        left = max(0, self.sampling.min_tokens - self.output_tokens)
        return msgspec.structs.replace(self.sampling, min_tokens=left)

    def usage(self, reasoning_tokens: int = 0) -> core.Usage:
        """Its token counts."""
        return core.Usage(
            self.prompt_tokens,
            self.cached_tokens,
            self.output_tokens,
            reasoning_tokens,
            self.draft_tokens,
            self.accepted_tokens,
        )

    def times(self) -> core.Times | None:
        """When its steps were so far; None: there was none."""
        stamps = self.stamps
        at_ns = stamps.last_token_ns or (self.chunks[-1].end_ns if self.chunks else None)
        if at_ns is None:
            return None
        before = (stamps.rendered_ns, stamps.tokenized_ns, stamps.queued_ns)
        return core.Times(at_ns, stamps.admitted_ns, stamps.first_token_ns, self.output_tokens, *before)

    def timeline(self) -> core.Timeline:
        """What happened to it in the worker; the server adds its own stamps."""
        stamps = self.stamps
        return core.Timeline(
            received_ns=stamps.received_ns,
            rendered_ns=stamps.rendered_ns,
            tokenized_ns=stamps.tokenized_ns,
            queued_ns=stamps.queued_ns,
            admitted_ns=stamps.admitted_ns,
            prefill=tuple(self.chunks),
            first_token_ns=stamps.first_token_ns,
            last_token_ns=stamps.last_token_ns,
            preemptions=stamps.preemptions,
            dropped_tokens=stamps.dropped_tokens,
            steps=stamps.steps,
            batch_sizes_seen=self.batch_sizes,
            kv_cells=self.computed,
            draft_tokens=self.draft_tokens,
            accepted_tokens=self.accepted_tokens,
            cached_tokens=self.cached_tokens,
            cached_from=stamps.cached_from,
            shared_with=stamps.shared_with,
            decode=self.decoded.packed(stamps.first_token_ns),
            encoded_ns=stamps.encoded_ns,
            peak_bytes=stamps.peak_bytes,
            prompt_blocks=stamps.prompt_blocks,
        )

    def stats(self) -> core.SequenceStats:
        """Its place in WorkerStats."""
        state: Literal["waiting", "running", "preempted"] = "running"
        if self.state is State.WAITING:
            state = "waiting"
        elif self.state is State.PREEMPTED:
            state = "preempted"
        limit = self.sampling.max_tokens
        return core.SequenceStats(
            self.request,
            self.choice,
            state,
            self.prompt_tokens,
            self.computed,
            self.output_tokens,
            self.cached_tokens,
            None if limit is None else limit - self.output_tokens,
        )


def merged(sampling: core.Sampling, defaults: core.Sampling) -> core.Sampling:
    """A sampling with these defaults where it says nothing."""
    changes = {
        name: default
        for name in core.Sampling.__struct_fields__
        if getattr(sampling, name) is None and (default := getattr(defaults, name)) is not None
    }
    if defaults.stop and not sampling.stop:
        changes["stop"] = defaults.stop
    return msgspec.structs.replace(sampling, **changes) if changes else sampling
