"""Log probabilities of a prompt's tokens from the rows of logits before them, many at once."""

from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm import core
from heylook_llm.worker.providers.base import Feed, Floats, Provider, shown

LEAST_LOGPROB: Final = -9999.0
"""Stands for a token that is impossible: JSON has no infinity."""

Ids = np.ndarray[Any, np.dtype[np.intp]]


def note_scores(provider: Provider, feed: Feed, rows: Floats) -> None:
    """Note what these rows, [tokens of the feed, vocabulary], say of the tokens behind them."""
    scores = feed.scores
    if scores is None:
        return
    following = scores.following(feed.start, len(feed.tokens))
    found = _scored(provider, rows[: len(following)], following, scores.top) if following else []
    scores.note(feed.start, found)


def _scored(provider: Provider, rows: Floats, following: Seq[int], top: int) -> list[core.TokenLogprob]:
    logprobs = rows - rows.max(axis=1, keepdims=True)
    logprobs -= np.log(np.exp(logprobs).sum(axis=1, dtype=np.float64))[:, None].astype(np.float32)
    places = np.arange(len(following))
    chosen = logprobs[places, list(following)]
    ranks: list[int] = (1 + (logprobs > chosen[:, None]).sum(axis=1)).tolist()
    best = _best(logprobs, min(top, logprobs.shape[1]))
    return [
        core.TokenLogprob(
            token,
            shown(provider, token),
            _finite(chosen[at]),
            tuple(core.TopLogprob(one, shown(provider, one), _finite(logprobs[at, one])) for one in best[at].tolist()),
            ranks[at],
        )
        for at, token in enumerate(following)
    ]


def _best(logprobs: Floats, top: int) -> Ids:
    """The likeliest tokens of each row, [rows, top], the likeliest first."""
    if not top:
        return np.empty((len(logprobs), 0), dtype=np.intp)
    best = np.argpartition(-logprobs, top - 1, axis=1)[:, :top]
    order = np.argsort(-np.take_along_axis(logprobs, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def _finite(value: float) -> float:
    return max(LEAST_LOGPROB, float(value))
