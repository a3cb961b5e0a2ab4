"""How a token is chosen from a row of logits: the cuts, the draw, penalties, for rows of numpy's and of mlx."""

import importlib
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker.providers.choosing import Chooser, from_whole, logprobs

pytestmark = pytest.mark.unit

try:
    LIBRARIES: list[Any] = [np, importlib.import_module("mlx.core")]
except ImportError:
    LIBRARIES = [np]
libraries = pytest.mark.parametrize("arrays", LIBRARIES, ids=[library.__name__ for library in LIBRARIES])


def chooser(sampling: core.Sampling, prompt: tuple[int, ...] = (5, 6, 5), n_vocab: int = 50, arrays: Any = np) -> Any:
    """A chooser with the end token 2."""
    return Chooser(sampling, prompt, ends=[2], n_vocab=n_vocab, arrays=arrays)


def row_of(n_vocab: int, seed: int = 0, spread: float = 4.0) -> Any:
    """Logits."""
    return (np.random.default_rng(seed).standard_normal(n_vocab) * spread).astype(np.float32)


def chances(sampling: core.Sampling, row: Any, draws: int = 4000) -> dict[int, float]:
    """How often each token is drawn, over positions."""
    one = chooser(sampling, (), len(row))
    found = Counter(from_whole(row, one, position) for position in range(draws))
    return {token: count / draws for token, count in found.items()}


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


@libraries
@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 9), max_size=12), st.sampled_from([3, 64, -1]))
def test_the_window_of_penalties(arrays: Any, prompt: list[int], output: list[int], window: int) -> None:
    wanted = core.Sampling(temperature=0.0, frequency_penalty=0.5, presence_penalty=0.25, repeat_last_tokens=window)
    one = chooser(wanted, tuple(prompt), 10, arrays)
    for token in output:
        one.accept(token)
    said = [*prompt, *output]
    counts = Counter(said if window < 0 else said[-window:])
    row = np.array(one.adjusted(arrays.zeros((10,)))) if one.adjusts else np.zeros(10)
    expected = [-(0.25 + 0.5 * counts[token]) if counts[token] else 0.0 for token in range(10)]
    assert row.tolist() == pytest.approx(expected)


@libraries
def test_a_repetition_penalty_moves_towards_unlikely(arrays: Any) -> None:
    one = chooser(core.Sampling(temperature=0.0, repeat_penalty=2.0), (0, 1), 3, arrays)
    assert np.array(one.adjusted(arrays.array([3.0, -3.0, 1.0]))).tolist() == [1.5, -6.0, 1.0]


@libraries
def test_ends_are_forbidden_as_long_as_asked(arrays: Any) -> None:
    row = arrays.array([0.0, 1.0, 9.0])

    def likeliest(one: Any) -> int:
        token = int(arrays.argmax(one.adjusted(row) if one.adjusts else row))
        one.accept(token)
        return token

    some = chooser(core.Sampling(temperature=0.0, min_tokens=2), (), 3, arrays)
    assert [likeliest(some) for _ in range(4)] == [1, 1, 2, 2]
    never = chooser(core.Sampling(temperature=0.0, ignore_eos=True), (), 3, arrays)
    assert [likeliest(never) for _ in range(3)] == [1, 1, 1]


@libraries
def test_the_row_itself_stays_for_its_log_probabilities(arrays: Any) -> None:
    row = arrays.array([1.0, 2.0, 3.0])
    one = chooser(core.Sampling(temperature=0.0, logit_bias={0: 50.0}), (), 3, arrays)
    assert np.array(one.adjusted(row)).tolist() == [51.0, 2.0, 3.0]
    value, ranked = logprobs(row, 0, 2)
    assert [token for token, _ in ranked] == [2, 1]
    assert value == pytest.approx(1 - math.log(sum(map(math.exp, (1, 2, 3)))))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("target", [2.0, 4.0])
def test_mirostat_brings_the_surprise_near_its_target(version: int, target: float) -> None:
    """Over many draws from a distribution that falls as words' do."""
    row = -1.1 * np.log(np.arange(1, 2001, dtype=np.float32))
    one = chooser(core.Sampling(temperature=1.0, seed=3, mirostat=version, mirostat_tau=target, mirostat_eta=0.1), ())
    drawn = [from_whole(row, one, position) for position in range(1500)]
    chances = np.exp(row - np.log(np.exp(row).sum()))
    counts = Counter(drawn[500:])
    mean = sum(count * -math.log2(chances[token] / chances[: max(counts) + 1].sum()) for token, count in counts.items())
    assert mean / 1000 == pytest.approx(target, abs=0.5)


def test_mirostat_takes_whole_rows_and_is_off_where_nothing_is_drawn() -> None:
    wild = chooser(core.Sampling(temperature=1.0, mirostat=2, top_k=1, seed=1))
    assert not wild.covered(np.array([1.0, 0.5]), 2.0)
    greedy = chooser(core.Sampling(temperature=0.0, mirostat=2))
    assert greedy.takes_likeliest
