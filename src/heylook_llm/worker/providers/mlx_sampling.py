"""A token for each row of a batch's logits, where they are: one evaluation for all rows."""

import importlib
from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm.worker.providers.choosing import Chooser, from_whole

mx: Any = importlib.import_module("mlx.core")

CANDIDATES: Final = 256
"""Likeliest tokens that are drawn from, where the cuts leave no more; else the whole row is fetched."""
SMALL_VOCABULARY: Final = 4096
"""Up to this the whole row costs no more than its candidates."""


def choose(logits: Any, choosers: Seq[Chooser], positions: Seq[int]) -> list[int]:
    """A token for each row of the logits [rows, vocabulary]. Rows may share one batch and no sampling."""
    mx.async_eval(logits)  # what follows prepares its part while the forward pass runs
    if any(chooser.adjusts for chooser in choosers):
        rows = [c.adjusted(logits[at]) if c.adjusts else logits[at] for at, c in enumerate(choosers)]
        logits = mx.stack(rows)
    tokens = [0] * len(choosers)
    greedy = [at for at, chooser in enumerate(choosers) if chooser.greedy]
    sampled = [at for at, chooser in enumerate(choosers) if not chooser.greedy]
    if greedy:
        likeliest = mx.argmax(logits if not sampled else logits[mx.array(greedy)], axis=-1)
        for at, token in zip(greedy, likeliest.tolist(), strict=True):
            tokens[at] = token
    if sampled:
        rows = logits if not greedy else logits[mx.array(sampled)]
        chosen = _drawn(rows, [choosers[at] for at in sampled], [positions[at] for at in sampled])
        for at, token in zip(sampled, chosen, strict=True):
            tokens[at] = token
    for chooser, token in zip(choosers, tokens, strict=True):
        chooser.accept(token)
    return tokens


def _drawn(rows: Any, choosers: Seq[Chooser], positions: Seq[int]) -> list[int]:
    """Tokens of rows that are sampled."""
    if rows.shape[1] <= SMALL_VOCABULARY:
        return [from_whole(row, c, p) for row, c, p in zip(np.array(rows), choosers, positions, strict=True)]
    places = mx.argpartition(-rows, kth=CANDIDATES - 1, axis=-1)[:, :CANDIDATES]
    values = mx.take_along_axis(rows, places, axis=-1)
    totals = mx.logsumexp(rows, axis=-1)
    mx.eval(places, values, totals)
    tokens: list[int] = []
    found = zip(np.array(places), np.array(values), totals.tolist(), choosers, positions, strict=True)
    for at, (ids, row, total, chooser, position) in enumerate(found):
        order = np.lexsort((ids, -row))
        ranked = row[order].astype(np.float64)
        if chooser.covered(ranked, total):
            tokens.append(int(ids[order[chooser.pick(ranked, total, position)]]))
        else:
            tokens.append(from_whole(np.array(rows[at]), chooser, position))
    return tokens
