"""Each sampler of a chain on rows of known logits: what it leaves, what it changes, what it draws."""

import ctypes
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core, tiny
from heylook_llm.worker.providers.llama_cpp_native import Log
from heylook_llm.worker.providers.llama_cpp_sampling import Samplers

pytestmark = pytest.mark.integration

native: Any = pytest.importorskip("llama_cpp.llama_cpp", exc_type=ImportError)
END = 0
CHANCES = (0.4, 0.3, 0.2, 0.07, 0.03)
"""Of tokens 10 to 14; the end, token 0, is as likely as the last."""


@pytest.fixture(scope="module")
def samplers() -> Iterator[Samplers]:
    """Of the bundled model's vocabulary."""
    log = Log(native)
    params = native.llama_model_default_params()
    params.vocab_only = True
    path = Path(tiny.__file__).parent / "heylook-tiny.gguf"
    model = native.llama_model_load_from_file(str(path).encode(), params)
    yield Samplers(native, native.llama_model_get_vocab(model), 64, frozenset({END}))
    native.llama_model_free(model)
    log.close()


class Row:
    """Logits of a few tokens, as a chain sees and leaves them."""

    def __init__(self, logits: dict[int, float]) -> None:
        self.data = (native.llama_token_data * len(logits))()
        for at, (token, logit) in enumerate(logits.items()):
            self.data[at].id, self.data[at].logit = token, logit
        self.array = native.llama_token_data_array(data=self.data, size=len(logits), selected=-1, sorted=False)

    @property
    def left(self) -> dict[int, float]:
        """Tokens and their logits."""
        return {self.array.data[at].id: self.array.data[at].logit for at in range(self.array.size)}

    @property
    def drawn(self) -> int:
        """The chosen token."""
        return int(self.array.data[self.array.selected].id)


def row() -> Row:
    """The row of CHANCES."""
    logits = {10 + at: math.log(chance) for at, chance in enumerate(CHANCES)}
    return Row({**logits, END: math.log(CHANCES[-1])})


def applied(samplers: Samplers, prompt: Sequence[int] = (1, 2, 3), on: Row | None = None, **fields: Any) -> Row:
    """A row after the chain of this sampling, which is nothing but temperature 1 by default."""
    one = samplers.slot(core.Sampling(**{"temperature": 1.0, "seed": 7, **fields}), prompt)
    done = on or row()
    native.llama_sampler_apply(one.chain, ctypes.byref(done.array))
    return done


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({}, {10, 11, 12, 13, 14, END}),
        ({"top_k": 2}, {10, 11}),
        ({"top_p": 0.65}, {10, 11}),
        ({"min_p": 0.4}, {10, 11, 12}),
        ({"top_n_sigma": 0.5}, {10, 11}),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.15}, {12, 13, 14, END}),
        ({"xtc_probability": 1.0}, {12, 13, 14, END}),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.35}, {10, 11, 12, 13, 14, END}),
        ({"ignore_eos": True, "min_p": 0.01}, {10, 11, 12, 13, 14}),
        ({"logit_bias": {14: -math.inf}, "min_p": 0.01}, {10, 11, 12, 13, END}),
    ],
)
def test_what_is_left(samplers: Samplers, fields: dict[str, Any], left: set[int]) -> None:
    found = applied(samplers, **fields).left
    assert {token for token, logit in found.items() if logit > -math.inf} == left


def test_xtc_leaves_out_as_often_as_it_is_told(samplers: Samplers) -> None:
    one = samplers.slot(core.Sampling(temperature=1.0, seed=3, xtc_probability=0.25, xtc_threshold=0.15), ())
    counts: Counter[int] = Counter()
    for _ in range(400):
        found = row()
        native.llama_sampler_apply(one.chain, ctypes.byref(found.array))
        counts[found.array.size] += 1
    assert set(counts) == {4, 6}
    assert 60 < counts[4] < 140


def test_a_dynamic_temperature_follows_the_entropy(samplers: Samplers) -> None:
    """Of two tokens: as good as certain, and even."""
    sure, even = (Row({10: 0.0, 11: other}) for other in (-9.0, 0.0))
    fields: dict[str, Any] = {"temperature": 1.0, "dynatemp_range": 0.5}
    assert applied(samplers, on=sure, **fields).left[11] == pytest.approx(-9 / 0.5, rel=0.02)
    assert applied(samplers, on=even, **fields).left[11] == 0.0
    half = applied(samplers, on=Row({10: 0.0, 11: -1.0}), **fields).left[11]
    steep = applied(samplers, on=Row({10: 0.0, 11: -1.0}), **fields, dynatemp_exponent=8.0).left[11]
    assert -2.0 <= steep < half < -1 / 1.5


REPEATED = (20, 21, 22, 10, 30, 20, 21, 22)
"""Token 10 would make it repeat four tokens, after three that do already."""


@pytest.mark.parametrize(
    ("prompt", "fields", "lost"),
    [
        (REPEATED, {}, 0.8 * 1.75),
        (REPEATED, {"dry_base": 2.0}, 0.8 * 2),
        (REPEATED, {"dry_allowed_length": 1}, 0.8 * 1.75**2),
        (REPEATED, {"dry_allowed_length": 4}, 0.0),
        (REPEATED, {"dry_penalty_last_n": 4}, 0.0),
        (REPEATED, {"dry_penalty_last_n": 1 << 30}, 0.8 * 1.75),
        (REPEATED, {"dry_multiplier": 0.0}, 0.0),
        ((*REPEATED[:6], 23, *REPEATED[6:]), {}, 0.8),
    ],
)
def test_dry_makes_a_repetition_less_likely(
    samplers: Samplers, prompt: tuple[int, ...], fields: dict[str, Any], lost: float
) -> None:
    found = applied(samplers, prompt, **{"dry_multiplier": 0.8, "dry_sequence_breakers": (), **fields}).left
    assert found[10] == pytest.approx(math.log(CHANCES[0]) - lost, abs=1e-4)
    assert found[11] == pytest.approx(math.log(CHANCES[1]))


def test_dry_ends_at_a_breaker(samplers: Samplers) -> None:
    """The bundled vocabulary has single bytes, so a token of one is a breaker."""
    vocab: Any = samplers._vocab
    array = (ctypes.c_int32 * 8)()
    assert native.llama_tokenize(vocab, b":", 1, array, 8, False, False) == 1
    prompt = (20, array[0], 22, 10, 30, 20, array[0], 22)
    kept = applied(samplers, prompt, dry_multiplier=0.8, dry_allowed_length=1).left[10]
    lost = applied(samplers, prompt, dry_multiplier=0.8, dry_allowed_length=1, dry_sequence_breakers=("*",)).left[10]
    assert kept == pytest.approx(math.log(CHANCES[0]) - 0.8, abs=1e-4)
    assert lost == pytest.approx(math.log(CHANCES[0]) - 0.8 * 1.75**2, abs=1e-4)


def test_dry_without_a_temperature_decides(samplers: Samplers) -> None:
    fields: dict[str, Any] = {"dry_multiplier": 5.0, "dry_sequence_breakers": ()}
    assert applied(samplers, REPEATED, temperature=0.0, **fields).drawn == 11
    assert applied(samplers, (1, 2), temperature=0.0, **fields).drawn == 10


def test_samplers_of_many_kinds_are_made_from_several_threads(samplers: Samplers) -> None:
    """More kinds than are kept, each asked for by two threads at once."""
    kinds = [
        core.Sampling(temperature=1.0, dry_multiplier=0.8, dry_base=1 + at / 50, dry_sequence_breakers=())
        for at in range(40)
    ]

    def warm() -> None:
        for kind in kinds:
            samplers.warm(kind)

    threads = [threading.Thread(target=warm) for _ in range(2)]
    for thread in threads:
        thread.start()
    for at, kind in enumerate(kinds):
        one, found = samplers.slot(kind, REPEATED), row()
        native.llama_sampler_apply(one.chain, ctypes.byref(found.array))
        assert found.left[10] == pytest.approx(math.log(CHANCES[0]) - 0.8 * (1 + at / 50), abs=1e-4)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "fields",
    [{"adaptive_target": 0.3}, {"adaptive_target": 0.3, "adaptive_decay": 0.5}, {"mirostat": 1}, {"mirostat": 2}],
)
def test_samplers_that_draw_repeat_with_a_seed(samplers: Samplers, fields: dict[str, Any]) -> None:
    def draws(seed: int) -> list[int]:
        one = samplers.slot(core.Sampling(temperature=1.0, seed=seed, **fields), (1, 2))
        tokens = []
        for _ in range(30):
            found = row()
            native.llama_sampler_apply(one.chain, ctypes.byref(found.array))
            tokens.append(found.drawn)
            native.llama_sampler_accept(one.chain, found.drawn)
        return tokens

    assert draws(1) == draws(1) != draws(2)


def test_an_adaptive_target_prefers_its_probability(samplers: Samplers) -> None:
    counts: Counter[int] = Counter(
        applied(samplers, adaptive_target=0.2, seed=seed, logit_bias={END: -math.inf}).drawn for seed in range(200)
    )
    assert counts[12] > 40
    plain = Counter(applied(samplers, seed=seed, logit_bias={END: -math.inf}).drawn for seed in range(200))
    assert counts[10] < plain[10]
