"""What the null target wrote when, and what a tool that stamped everything at once would say of it. Pure."""

import json
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

NS_IN_MS = 1e6


class Answer(NamedTuple):
    """One answer, by the target's own log; stamps of the monotonic clock."""

    identity: str
    received: int
    """The request's last byte was read."""
    asked: int
    tokens: tuple[int, ...]
    """When each was written."""
    end: int | None
    """When the stream's end was written; None: the client left before."""

    @property
    def ttft_ms(self) -> float:
        """From the request to the first token."""
        return (self.tokens[0] - self.received) / NS_IN_MS

    @property
    def e2e_ms(self) -> float:
        """From the request to the stream's end."""
        assert self.end is not None
        return (self.end - self.received) / NS_IN_MS

    @property
    def gap_ms(self) -> float:
        """The mean gap between its tokens."""
        return (self.tokens[-1] - self.tokens[0]) / NS_IN_MS / (len(self.tokens) - 1)

    @property
    def gap_to_end_ms(self) -> float:
        """The same where the last gap goes on to the stream's end."""
        assert self.end is not None
        return (self.end - self.tokens[0]) / NS_IN_MS / (len(self.tokens) - 1)


class Said(NamedTuple):
    """What is said of the requests of one cell: by a tool, or by the target's log. None: it says nothing of that."""

    requests: float | None
    """That ended well."""
    tokens: float | None
    """Of their answers."""
    ttft_p50: float | None
    """Milliseconds, as all that follow."""
    ttft_p95: float | None
    e2e_p50: float | None
    e2e_p95: float | None
    gap: float | None
    """Between tokens (TPOT, ITL), the mean."""
    tokens_per_second: float | None
    """Of all answers, over the time that they took together."""


Percentile = Callable[[Sequence[float], float], float]


def answers(log: str) -> list[Answer]:
    """The lines of a target's log."""
    return [_answer(json.loads(line)) for line in log.splitlines()]


def _answer(row: dict[str, object]) -> Answer:
    written = row["written"]
    assert isinstance(written, list)
    cut = bool(row["cut"])
    tokens, end = (written, None) if cut else (written[:-1], written[-1])
    return Answer(str(row["id"]), int(str(row["received"])), int(str(row["asked"])), tuple(tokens), end)


def truth(ended: Sequence[Answer], percentile: Percentile, gap: Callable[[Answer], float]) -> Said:
    """What a tool would say of these answers that stamped everything when it was written, with its own formulas."""
    if not ended:
        return Said(0, 0, None, None, None, None, None, None)
    tokens = sum(len(answer.tokens) for answer in ended)
    seconds = (max(answer.end or 0 for answer in ended) - min(answer.received for answer in ended)) / 1e9
    ttft, e2e = [answer.ttft_ms for answer in ended], [answer.e2e_ms for answer in ended]
    return Said(
        requests=len(ended),
        tokens=tokens,
        ttft_p50=percentile(ttft, 0.5),
        ttft_p95=percentile(ttft, 0.95),
        e2e_p50=percentile(e2e, 0.5),
        e2e_p95=percentile(e2e, 0.95),
        gap=sum(map(gap, ended)) / len(ended),
        tokens_per_second=tokens / seconds,
    )


def errors(said: Said, true: Said) -> Said:
    """How much more was said than is true; of `gap` and `tokens_per_second` as a part of what is true."""
    apart = [None if one is None or other is None else one - other for one, other in zip(said, true, strict=True)]
    found = Said(*apart)
    return found._replace(
        gap=_part(found.gap, true.gap), tokens_per_second=_part(found.tokens_per_second, true.tokens_per_second)
    )


def _part(apart: float | None, true: float | None) -> float | None:
    return None if apart is None or not true else apart / true


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The value that so large a share of all doesn't exceed; one of those that were measured."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def interpolated(values: Sequence[float], share: float) -> float:
    """Between the two nearest values, in proportion, as numpy does."""
    return float(np.quantile(values, share))
