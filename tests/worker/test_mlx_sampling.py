"""Tokens chosen for the rows of a batch: neighbours don't matter, and candidates draw what the whole row draws."""

import importlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker.providers.choosing import Chooser, from_whole

pytest.importorskip("mlx.core", reason="mlx isn't installed: pip install 'heylookllm[mlx]'", exc_type=ImportError)
sampling_of = pytest.importorskip("heylook_llm.worker.providers.mlx_sampling", exc_type=ImportError)
mx: Any = importlib.import_module("mlx.core")

pytestmark = pytest.mark.unit

LARGE = 6000
"""Above SMALL_VOCABULARY: draws come from candidates."""
samplings = st.builds(
    core.Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 7, 40, 300, 100_000]),
    top_p=st.sampled_from([None, 0.0, 0.4, 0.95, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.05, 1.0]),
    typical_p=st.sampled_from([None, 0.5, 1.0]),
    repeat_penalty=st.sampled_from([None, 1.3]),
    presence_penalty=st.sampled_from([None, 0.7]),
    frequency_penalty=st.sampled_from([None, -0.4]),
    repeat_last_tokens=st.sampled_from([None, 0, 3, -1]),
    seed=st.integers(-5, 1 << 40),
    logit_bias=st.sampled_from([{}, {3: 2.0}, {1: -math.inf, 99_999: 1.0}]),
    min_tokens=st.sampled_from([0, 2]),
)


def chooser(sampling: core.Sampling, prompt: tuple[int, ...] = (5, 6, 5), n_vocab: int = LARGE) -> Any:
    """A chooser with the end token 2."""
    return Chooser(sampling, prompt, ends=[2], n_vocab=n_vocab, arrays=mx)


def row_of(n_vocab: int, seed: int = 0, spread: float = 4.0) -> Any:
    """Logits."""
    return (np.random.default_rng(seed).standard_normal(n_vocab) * spread).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.lists(samplings, min_size=1, max_size=5), st.sampled_from([50, LARGE]), st.integers(0, 1000))
def test_neighbours_do_not_matter(wanted: list[core.Sampling], n_vocab: int, seed: int) -> None:
    rows = mx.array(np.stack([row_of(n_vocab, seed + at) for at in range(len(wanted))]))
    together = sampling_of.choose(rows, [chooser(one, n_vocab=n_vocab) for one in wanted], range(len(wanted)))
    alone = [
        sampling_of.choose(rows[at : at + 1], [chooser(one, n_vocab=n_vocab)], [at])[0] for at, one in enumerate(wanted)
    ]
    assert together == alone


@settings(max_examples=60, deadline=None)
@given(samplings, st.sampled_from([0.2, 2.0, 8.0]), st.integers(0, 1000))
def test_candidates_draw_what_the_whole_row_draws(wanted: core.Sampling, spread: float, seed: int) -> None:
    row = row_of(LARGE, seed, spread)
    one = chooser(core.Sampling(**{**_fields(wanted), "temperature": wanted.temperature or 1.0}))
    [drawn] = sampling_of._drawn(mx.array(row[None]), [one], [seed])
    assert drawn == from_whole(row, one, seed)


def _fields(sampling: core.Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in core.Sampling.__struct_fields__}


def test_ends_are_forbidden_as_long_as_asked() -> None:
    row = mx.array([[0.0, 1.0, 9.0]])
    some = chooser(core.Sampling(temperature=0.0, min_tokens=2), (), 3)
    assert [sampling_of.choose(row, [some], [at])[0] for at in range(4)] == [1, 1, 2, 2]
    never = chooser(core.Sampling(temperature=0.0, ignore_eos=True), (), 3)
    assert [sampling_of.choose(row, [never], [at])[0] for at in range(3)] == [1, 1, 1]
