"""What each slot draws its tokens with: one llama.cpp sampler chain of its own, or none where it is plainly greedy.

Trap of the binding: a sampler that is added to a chain belongs to the chain.
"""

import ctypes
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from heylook_llm import core
from heylook_llm.worker.guidance import Mask
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.images import words
from heylook_llm.worker.providers.base import Floats

RANDOM_SEED: Final = 0xFFFFFFFF
ENDLESS: Final = 1 << 60
MIROSTAT_TOKENS: Final = 100
ALL_BUT_NEVER: Final = -64.0
XTC_THRESHOLD: Final = 0.1
ADAPTIVE_DECAY: Final = 0.9
DRY_BASE: Final = 1.75
DRY_ALLOWED_LENGTH: Final = 2
DRY_BREAKERS: Final = ("\n", ":", '"', "*")
DRY_KINDS: Final = 16
"""DRY samplers that are kept to be copied: looking for breakers goes through the whole vocabulary."""
CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama_token_data."""

Candidates = np.ndarray[Any, np.dtype[np.void]]
Places = np.ndarray[Any, np.dtype[np.intp]]


class Slot:
    """What a slot in use draws with: no chain means the likeliest token. Its end frees the chain."""

    __slots__ = ("_free", "chain", "forced", "guide", "logprobs")

    def __init__(self, native: Any, chain: Any | None, forced: int, logprobs: int | None, guide: Guide | None) -> None:
        self.chain = chain
        self.guide = guide
        self._free = native.llama_sampler_free
        self.forced = forced
        """Tokens still to come before the end of text may be drawn."""
        self.logprobs = logprobs

    def __del__(self) -> None:
        if self.chain is not None:
            self._free(self.chain)


class Samplers:
    """Makes the slots of one model, and draws with them."""

    def __init__(self, native: Any, vocab: Any, n_ctx: int, ends: frozenset[int]) -> None:
        self._native = native
        self._vocab = vocab
        self._n_vocab = int(native.llama_vocab_n_tokens(vocab))
        self._n_ctx = n_ctx
        self._ends = ends
        self._dry_kinds = _DryKinds(native, vocab)

    def slot(self, sampling: core.Sampling, prompt: Seq[int], guide: Guide | None = None) -> Slot:
        """A fresh sampler, with the prompt's last tokens as the history of its penalties."""
        forced = ENDLESS if sampling.ignore_eos else sampling.min_tokens
        chain = None if _is_plain_greedy(sampling) else self._chain(sampling, prompt)
        return Slot(self._native, chain, forced, sampling.logprobs, guide)

    def warm(self, sampling: core.Sampling) -> None:
        """Make its DRY sampler, to be copied later; callable from any thread."""
        if sampling.dry_multiplier:
            self._dry_kinds.copy(self._dry(sampling), keep_only=True)

    # ---- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, slot: Slot, context: Any, at: int, row: Floats, likeliest: int, *, mask: Mask | None = None) -> int:
        """The slot's next token from the batch's token number `at`, whose logits are `row` and its likeliest known.

        `mask`: what the slot's guide allows, which is told of the token.
        """
        if mask is not None:
            token = self._guided(slot, context, at, row, likeliest, mask)
        elif slot.chain is not None:
            token = self._sample(slot, context, at)
        elif slot.forced and likeliest in self._ends:
            token = self._likeliest_but_the_end(row)
        else:
            token = likeliest
        slot.forced -= slot.forced > 0
        if slot.guide is not None:
            slot.guide.accept(token)
        return token

    def _sample(self, slot: Slot, context: Any, at: int) -> int:
        token = int(self._native.llama_sampler_sample(slot.chain, context, at))
        self._allow_the_end(slot)
        return token

    def _allow_the_end(self, slot: Slot) -> None:
        if slot.forced == 1:  # the chain's first sampler prevents the end till then
            self._native.llama_sampler_free(self._native.llama_sampler_chain_remove(slot.chain, 0))

    def _guided(self, slot: Slot, context: Any, at: int, row: Floats, likeliest: int, mask: Mask) -> int:  # noqa: PLR0917
        """A token of those that the mask allows; an end only where nothing else is, while more is demanded."""
        if slot.chain is None and mask[likeliest] and not (slot.forced and likeliest in self._ends):
            return likeliest
        tokens = np.flatnonzero(mask[: len(row)])
        if slot.forced and len(others := tokens[~np.isin(tokens, list(self._ends))]):
            tokens = others
        if slot.chain is None:
            return int(tokens[row[tokens].argmax()])
        if 2 * len(tokens) > len(row):
            return self._sample_without(slot, context, at, row, np.flatnonzero(~mask))
        candidates = np.zeros(len(tokens), dtype=CANDIDATE)
        candidates["id"], candidates["logit"] = tokens, row[tokens]
        token = self._sampled(slot.chain, candidates)
        self._allow_the_end(slot)
        return token

    def _sample_without(self, slot: Slot, context: Any, at: int, row: Floats, banned: Places) -> int:
        """A token of all but a few, whose logits are put back afterwards: the row is llama.cpp's own."""
        kept = row[banned]
        row[banned] = -math.inf
        token = self._sample(slot, context, at)
        row[banned] = kept
        return token

    def _sampled(self, chain: Any, candidates: Candidates) -> int:
        """The token that a chain draws from these candidates, as llama_sampler_sample does from all."""
        native = self._native
        data = ctypes.cast(candidates.ctypes.data, native.llama_token_data_p)
        array = native.llama_token_data_array(data, len(candidates), -1, False)
        native.llama_sampler_apply(chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        native.llama_sampler_accept(chain, token)
        return token

    def _likeliest_but_the_end(self, row: Floats) -> int:
        allowed = row.copy()
        allowed[list(self._ends)] = -math.inf
        return int(allowed.argmax())

    # ---- chains ------------------------------------------------------------------------------------------------------

    def _chain(self, sampling: core.Sampling, prompt: Seq[int]) -> Any:
        """llama.cpp's samplers in its own order: bias, penalties, DRY, cuts, temperature, draw."""
        native = self._native
        params = native.llama_sampler_chain_default_params()
        params.no_perf = True
        chain = native.llama_sampler_chain_init(params)
        for sampler in self._samplers(sampling):
            native.llama_sampler_chain_add(chain, sampler)
        window = _penalty_window(sampling, self._n_ctx) if _has_penalties(sampling) else 0
        if sampling.dry_multiplier:
            window = max(window, self._dry(sampling).window)
        for token in words(prompt, window):
            native.llama_sampler_accept(chain, token)
        return chain

    def _samplers(self, sampling: core.Sampling) -> Iterator[Any]:
        native = self._native
        if sampling.ignore_eos or sampling.min_tokens:
            yield self._bias(dict.fromkeys(self._ends, _never(sampling)))
        if sampling.logit_bias:
            yield self._bias({t: bias for t, bias in sampling.logit_bias.items() if 0 <= t < self._n_vocab})
        if _has_penalties(sampling):
            yield native.llama_sampler_init_penalties(
                self._n_vocab,
                _penalty_window(sampling, self._n_ctx),
                sampling.repeat_penalty or 1.0,
                sampling.frequency_penalty or 0.0,
                sampling.presence_penalty or 0.0,
            )
        if sampling.dry_multiplier:
            yield self._dry_kinds.copy(self._dry(sampling))
        if not sampling.temperature or sampling.temperature <= 0:
            yield native.llama_sampler_init_greedy()
            return
        seed = RANDOM_SEED if sampling.seed is None else sampling.seed % RANDOM_SEED
        if sampling.mirostat:
            yield native.llama_sampler_init_temp(sampling.temperature)
            yield self._mirostat(sampling, seed)
            return
        yield from self._cuts(sampling, seed)
        yield native.llama_sampler_init_temp_ext(
            sampling.temperature, sampling.dynatemp_range or 0.0, _or(sampling.dynatemp_exponent, 1.0)
        )
        if sampling.adaptive_target:
            decay = _or(sampling.adaptive_decay, ADAPTIVE_DECAY)
            yield native.llama_sampler_init_adaptive_p(sampling.adaptive_target, decay, seed)
            return
        yield native.llama_sampler_init_dist(seed)

    def _cuts(self, sampling: core.Sampling, seed: int) -> Iterator[Any]:
        native = self._native
        if sampling.top_n_sigma:
            yield native.llama_sampler_init_top_n_sigma(sampling.top_n_sigma)
        if sampling.top_k:
            yield native.llama_sampler_init_top_k(sampling.top_k)
        if sampling.typical_p is not None and sampling.typical_p < 1:
            yield native.llama_sampler_init_typical(sampling.typical_p, 1)
        if sampling.top_p is not None and sampling.top_p < 1:
            yield native.llama_sampler_init_top_p(sampling.top_p, 1)
        if sampling.min_p:
            yield native.llama_sampler_init_min_p(sampling.min_p, 1)
        if sampling.xtc_probability:
            threshold = _or(sampling.xtc_threshold, XTC_THRESHOLD)
            yield native.llama_sampler_init_xtc(sampling.xtc_probability, threshold, 1, seed)

    def _dry(self, sampling: core.Sampling) -> "_Dry":
        last = _or(sampling.dry_penalty_last_n, -1)
        return _Dry(
            sampling.dry_multiplier or 0.0,
            _or(sampling.dry_base, DRY_BASE),
            _or(sampling.dry_allowed_length, DRY_ALLOWED_LENGTH),
            self._n_ctx if last < 0 else min(last, self._n_ctx),
            DRY_BREAKERS if sampling.dry_sequence_breakers is None else sampling.dry_sequence_breakers,
        )

    def _mirostat(self, sampling: core.Sampling, seed: int) -> Any:
        tau, eta = _or(sampling.mirostat_tau, 5.0), _or(sampling.mirostat_eta, 0.1)
        if sampling.mirostat == 1:
            return self._native.llama_sampler_init_mirostat(self._n_vocab, seed, tau, eta, MIROSTAT_TOKENS)
        return self._native.llama_sampler_init_mirostat_v2(seed, tau, eta)

    def _bias(self, biases: dict[int, float]) -> Any:
        native = self._native
        array = (native.llama_logit_bias * max(1, len(biases)))()
        for at, (token, bias) in enumerate(biases.items()):
            array[at].token = token
            array[at].bias = bias
        return native.llama_sampler_init_logit_bias(self._n_vocab, len(biases), array)


class _Dry(NamedTuple):
    """What a DRY sampler is made with."""

    multiplier: float
    base: float
    allowed_length: int
    window: int
    breakers: tuple[str, ...]


class _DryKinds:
    """The DRY samplers made last, to be copied; any thread may ask."""

    def __init__(self, native: Any, vocab: Any) -> None:
        self._native = native
        self._vocab = vocab
        self._made: OrderedDict[_Dry, Any] = OrderedDict()
        self._lock = threading.Lock()

    def copy(self, kind: _Dry, *, keep_only: bool = False) -> Any:
        """A fresh sampler of that kind; `keep_only`: none, but the next will be there at once."""
        with self._lock:
            if kind in self._made:
                return None if keep_only else self._copied(kind)
        made = self._new(kind)  # takes long, so without the lock
        with self._lock:
            if kind in self._made:
                self._native.llama_sampler_free(made)
            else:
                self._made[kind] = made
            if len(self._made) > DRY_KINDS:
                self._native.llama_sampler_free(self._made.popitem(last=False)[1])
            return None if keep_only else self._copied(kind)

    def _copied(self, kind: _Dry) -> Any:
        self._made.move_to_end(kind)
        return self._native.llama_sampler_clone(self._made[kind])

    def _new(self, kind: _Dry) -> Any:
        texts = [text.encode("utf-8", "replace") for text in kind.breakers]
        array = (ctypes.c_char_p * max(1, len(texts)))(*texts)
        return self._native.llama_sampler_init_dry(
            self._vocab, kind.multiplier, kind.base, kind.allowed_length, kind.window, array, len(texts)
        )


N = TypeVar("N", int, float)


def _or(value: N | None, default: N) -> N:
    return default if value is None else value


def _never(sampling: core.Sampling) -> float:
    """The bias of what may not come: llama.cpp's typical cut needs an entropy, which a chance of 0 makes no number."""
    return ALL_BUT_NEVER if (sampling.typical_p or 1.0) < 1 else -math.inf


def _has_penalties(sampling: core.Sampling) -> bool:
    active = (sampling.repeat_penalty or 1.0) != 1.0 or sampling.frequency_penalty or sampling.presence_penalty
    return bool(active) and sampling.repeat_last_tokens != 0


def _penalty_window(sampling: core.Sampling, n_ctx: int) -> int:
    window = 64 if sampling.repeat_last_tokens is None else sampling.repeat_last_tokens
    return n_ctx if window < 0 else window


def _is_plain_greedy(sampling: core.Sampling) -> bool:
    """Whether the next token is just the likeliest one."""
    greedy = not sampling.temperature or sampling.temperature <= 0
    return greedy and not (sampling.logit_bias or sampling.dry_multiplier or _has_penalties(sampling))
