"""How a token is chosen from a row of logits: the cuts, the draw, penalties; and that neighbours don't matter."""

import importlib
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm import core

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
    return sampling_of.Chooser(sampling, prompt, ends=[2], n_vocab=n_vocab)


def row_of(n_vocab: int, seed: int = 0, spread: float = 4.0) -> Any:
    """Logits."""
    return (np.random.default_rng(seed).standard_normal(n_vocab) * spread).astype(np.float32)


def chances(sampling: core.Sampling, row: Any, draws: int = 4000) -> dict[int, float]:
    """How often each token is drawn, over positions."""
    one = chooser(sampling, (), len(row))
    found = Counter(sampling_of._from_whole(row, one, position) for position in range(draws))
    return {token: count / draws for token, count in found.items()}


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
    assert drawn == sampling_of._from_whole(row, one, seed)


def _fields(sampling: core.Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in core.Sampling.__struct_fields__}


def test_draws_follow_the_temperature() -> None:
    row = np.log(np.array([0.1, 0.6, 0.3], dtype=np.float32))
    found = chances(core.Sampling(temperature=1.0, seed=1), row)
    assert found == pytest.approx({0: 0.1, 1: 0.6, 2: 0.3}, abs=0.03)
    found = chances(core.Sampling(temperature=0.5, seed=1), row)
    squares = np.array([0.01, 0.36, 0.09]) / 0.46
    assert found == pytest.approx(dict(enumerate(squares)), abs=0.03)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.0}, {0}),
        ({"min_p": 0.39}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),  # of what top_k left: 0.5, 0.2 and 0.15 of 0.85
        ({"typical_p": 0.19}, {1}),  # the surprise of 0.2 is nearest to the expected one
        ({"typical_p": 0.21}, {0, 1}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_cuts(fields: dict[str, float], kept: set[int]) -> None:
    row = np.log(np.array([0.5, 0.2, 0.15, 0.15], dtype=np.float32)) + 3
    assert set(chances(core.Sampling(temperature=1.0, seed=4, **fields), row)) == kept  # type: ignore[arg-type]


def test_a_seed_and_a_position_make_the_draw() -> None:
    row = row_of(50)
    first, second = (chances(core.Sampling(temperature=2.0, seed=9), row, 50) for _ in range(2))
    assert first == second != chances(core.Sampling(temperature=2.0, seed=10), row, 50)
    unseeded = [chances(core.Sampling(temperature=2.0), row, 50) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 9), max_size=12), st.sampled_from([3, 64, -1]))
def test_the_window_of_penalties(prompt: list[int], output: list[int], window: int) -> None:
    wanted = core.Sampling(temperature=0.0, frequency_penalty=0.5, presence_penalty=0.25, repeat_last_tokens=window)
    one = chooser(wanted, tuple(prompt), 10)
    for token in output:
        one.accept(token)
    said = [*prompt, *output]
    counts = Counter(said if window < 0 else said[-window:])
    row = np.array(one.adjusted(mx.zeros((10,)))) if one.adjusts else np.zeros(10)
    expected = [-(0.25 + 0.5 * counts[token]) if counts[token] else 0.0 for token in range(10)]
    assert row.tolist() == pytest.approx(expected)


def test_a_repetition_penalty_moves_towards_unlikely() -> None:
    one = chooser(core.Sampling(temperature=0.0, repeat_penalty=2.0), (0, 1), 3)
    assert np.array(one.adjusted(mx.array([3.0, -3.0, 1.0]))).tolist() == [1.5, -6.0, 1.0]


def test_ends_are_forbidden_as_long_as_asked() -> None:
    row = mx.array([[0.0, 1.0, 9.0]])
    some = chooser(core.Sampling(temperature=0.0, min_tokens=2), (), 3)
    assert [sampling_of.choose(row, [some], [at])[0] for at in range(4)] == [1, 1, 2, 2]
    never = chooser(core.Sampling(temperature=0.0, ignore_eos=True), (), 3)
    assert [sampling_of.choose(row, [never], [at])[0] for at in range(3)] == [1, 1, 1]


def test_the_row_itself_stays_for_its_log_probabilities() -> None:
    row = mx.array([[1.0, 2.0, 3.0]])
    one = chooser(core.Sampling(temperature=0.0, logit_bias={0: 50.0}), (), 3)
    assert sampling_of.choose(row, [one], [0]) == [0]
    value, ranked = sampling_of.logprobs(row[0], 0, 2)
    assert [token for token, _ in ranked] == [2, 1]
    assert value == pytest.approx(1 - math.log(sum(map(math.exp, (1, 2, 3)))))
