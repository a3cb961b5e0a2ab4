"""A provider without weights: deterministic text at settable speeds, and faults on command. Runs in a real worker.

The vocabulary has one token for each byte, so that any text round-trips, and a few control tokens. Without a command
(fake_script has them) it answers with the text of the last turn of a chat (an echo), with the prompt of a raw
completion, or with the option `reply`. Its logits put that answer's tokens far above all others, so sampling, bias,
penalties and log probabilities work on it as on any model.

The KV pool is counted like a real one: shared cells once, OutOfCells beyond `kv_tokens`.
Under a constraint it draws the next token of its answer where that is allowed, else the allowed one that ends soonest:
an end, then a closing bracket or quote, a digit, a letter. So `hello` under a schema of one text is {"text":"hello"}.

Options: n_ctx, kv_tokens, n_parallel, prefill_tokens_per_second and decode_tokens_per_second (0: no waiting; decoding
counts steps, so it is the speed of each stream), load_seconds, load_error (refuse with this text), load_crash (name of
a signal), load_hang, reply, chat_template, pooling (it embeds or ranks, and answers nothing), image_tokens (more than
0: it sees images, each as so many tokens), image_seconds (what encoding one takes), image_whole, log_file (what it did
and when is appended to this file: fake_log).
"""

import math
import os
import signal
import time
from array import array
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from heylook_llm import core
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.cells import Ledger
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.providers import defaults, fake_embedding, fake_script
from heylook_llm.worker.providers.base import (
    Drafter,
    Drawn,
    EmbeddingBounds,
    Feed,
    Floats,
    ImageReader,
    InfillMarks,
    OutOfCells,
    Sharing,
    State,
    shown,
)
from heylook_llm.worker.providers.choosing import Chooser, from_whole, logprobs
from heylook_llm.worker.providers.fake_log import Log
from heylook_llm.worker.providers.fake_script import END_OF_TEXT, IM_END, N_VOCAB, THINK_END, Script, script_of
from heylook_llm.worker.providers.fake_vision import FakeReader
from heylook_llm.worker.providers.scoring import note_scores

LIKELY: Final = 32.0
"""The logit of the answer's next token. The others' are about 0: at temperature 1 one in a million is drawn."""
WILD: Final = 2.0
"""... where the prompt asks for [[wild]]."""
AGAIN: Final = 0.5
"""Of the end's logit, the answer's beginning: it comes again where the end is forbidden, hardly elsewhere."""
MAX_TEXTS: Final = 64
"""Texts of one pass."""
_ROWS: Final = 64
SPARE_SLOTS: Final = 8
"""Slots that only keep prefixes."""
_CAPABILITIES: Final[dict[core.Pooling, tuple[str, ...]]] = {
    "": ("completion", "insert"),
    "mean": ("embedding",),
    "cls": ("embedding",),
    "last": ("embedding",),
    "rank": ("rerank",),
}
_PREFERRED: Final = (
    IM_END,
    END_OF_TEXT,
    *b'"}])>0123456789',
    *range(ord("a"), ord("z") + 1),
    *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    *b"{[(<-+.,:;_/#!?\n ",
)
"""Under a constraint: what leads to an end soonest stands first."""


def _noise() -> Floats:
    """Logits of all other tokens, by the token's place in the answer; control tokens all but never."""
    rows = np.random.default_rng(1).standard_normal((_ROWS, N_VOCAB), dtype=np.float32)
    rows[:, 256:] -= LIKELY
    rows[:, IM_END] += LIKELY
    return rows


def _soonest() -> Floats:
    """Logits of all tokens but the answer's under a constraint."""
    row = np.zeros(N_VOCAB, dtype=np.float32)
    row[list(_PREFERRED)] = np.linspace(LIKELY / 2, 1, len(_PREFERRED), dtype=np.float32)
    return row


class _Drawing(NamedTuple):
    """How a slot in use draws."""

    chooser: Chooser
    script: Script | None = None
    position: int = 0
    """Tokens of the script's answer that are drawn."""


class _Slot:
    """One sequence id: the tokens whose cells it holds, and how it draws."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.drawing: _Drawing | None = None


def open_model(load: core.Load, progress: Callable[[float], None]) -> "Fake":
    """The provider of a Load frame. Raises LoadFailed where the options ask for it."""
    options, start_ns = load.options, time.monotonic_ns()
    _load_slowly(float(options.get("load_seconds") or 0), progress)
    if options.get("load_hang"):
        _hang()
    if load_crash := options.get("load_crash"):
        _die(str(load_crash))
    if load_error := options.get("load_error"):
        raise LoadFailed(str(load_error))
    log = Log(options.get("log_file"))
    model = Fake(options, log)
    log.note("load", start_ns)
    return model


def open_vocabulary(load: core.Load) -> "Fake":
    """The same: it has no weights, and only those are slow to load."""
    return Fake(load.options)


def _reader(options: dict[str, Any]) -> FakeReader | None:
    tokens = int(options.get("image_tokens") or 0)
    seconds = float(options.get("image_seconds") or 0)
    return FakeReader(tokens, seconds, whole=bool(options.get("image_whole"))) if tokens else None


def _load_slowly(seconds: float, progress: Callable[[float], None]) -> None:
    parts = 10
    for part in range(parts if seconds else 0):
        progress(part / parts)
        time.sleep(seconds / parts)


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)


def _die(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])


class Fake:
    """See the module's docstring."""

    sharing: Sharing = "any"
    spans_pool = False
    tile = 1
    engine_defaults = core.Sampling()
    max_drafts = 64
    drafts_alone = False
    scored_tokens = 256
    drafter: Drafter | None = None
    infill = InfillMarks(fake_script.FIM_PREFIX, fake_script.FIM_SUFFIX, fake_script.FIM_MIDDLE)

    def __init__(self, options: dict[str, Any], log: Log | None = None) -> None:
        self._log = log or Log(None)
        n_ctx = int(options.get("n_ctx") or 4096)
        n_parallel = int(options.get("n_parallel") or 8)
        self.slots = n_parallel + SPARE_SLOTS
        self._kv_tokens = int(options.get("kv_tokens") or n_ctx * n_parallel)
        self._prefill_rate = float(options.get("prefill_tokens_per_second") or 0)
        self._decode_rate = float(options.get("decode_tokens_per_second") or 0)
        self._reply: str | None = options.get("reply")
        self._slots = [_Slot() for _ in range(self.slots)]
        self._ledger = Ledger(self.slots)
        self._ballast: list[bytearray] = []
        self._pooling: core.Pooling = options.get("pooling") or ""
        self.embedding: EmbeddingBounds | None = EmbeddingBounds(
            int(options.get("n_batch") or 2048), MAX_TEXTS, whole=self._pooling == "rank"
        )
        self._reader = _reader(options)
        self.images: ImageReader | None = self._reader
        self._noise = _noise()
        self._soonest = _soonest()
        self.defaults = defaults.of_model(options, {})
        self.info = core.ModelInfo(
            "fake",
            "fake",
            n_ctx,
            n_ctx_trained=n_ctx,
            kv_tokens=self._kv_tokens,
            n_parallel=n_parallel,
            n_vocab=N_VOCAB,
            n_embedding=fake_embedding.WIDTH,
            chat_template="" if self._pooling else options.get("chat_template") or fake_script.TEMPLATE,
            capabilities=_CAPABILITIES[self._pooling],
            pooling=self._pooling,
        )

    # ---- vocabulary --------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """One token per byte; `add_special` ends a raw prompt with the control token that asks for a reply."""
        start_ns = time.monotonic_ns()
        tokens = fake_script.tokens_of(text) if parse_special else list(text.encode("utf-8", "replace"))
        if add_special and fake_script.IM_START not in tokens:
            tokens.append(fake_script.REPLY)
        if seconds := fake_script.encode_seconds(text):
            time.sleep(seconds)
        self._log.note("encode", start_ns, tokens=len(tokens))
        return tokens

    def piece(self, token: int) -> bytes:
        """The byte; empty for control tokens."""
        return bytes((token,)) if 0 <= token < 256 else b""

    def control(self, token: int) -> str:
        """The text of a control token; empty: it is none."""
        return fake_script.CONTROL_NAMES.get(token, "")

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token in (IM_END, END_OF_TEXT)

    def special(self, name: str) -> str:
        """The text of a special token."""
        return {"eos": "<|im_end|>", "eot": "<|im_end|>"}.get(name, "")

    # ---- slots -------------------------------------------------------------------------------------------------------

    def warm(self, sampling: core.Sampling) -> None:
        """Nothing takes long here."""

    def add(
        self,
        slot: int,
        sampling: core.Sampling,
        prompt: Seq[int],
        drawing: object = None,
        guide: Guide | None = None,
    ) -> None:
        """Take a slot into use."""
        if not isinstance(drawing, _Drawing):
            ends = (IM_END, END_OF_TEXT)
            drawing = _Drawing(Chooser(sampling, prompt, ends=ends, n_vocab=N_VOCAB, guide=guide))
        self._slots[slot].drawing = drawing
        self._log.note("add", time.monotonic_ns(), slot=slot, tokens=len(prompt))

    def release(self, slot: int) -> object:
        """Give up how the slot draws; its cells stay."""
        drawing, self._slots[slot].drawing = self._slots[slot].drawing, None
        self._log.note("release", time.monotonic_ns(), slot=slot)
        return drawing

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget cells."""
        stop = None if end < 0 else end
        del self._slots[slot].tokens[start:stop]
        self._ledger.remove(slot, start, stop)
        return True

    def share(self, source: int, target: int, end: int) -> bool:
        """Share cells."""
        self._slots[target].tokens = self._slots[source].tokens[:end]
        self._ledger.share(source, target, end)
        return True

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Drop positions; the script goes on where it was."""
        return self.remove(slot, start, end)

    def state_bytes(self, slot: int) -> int:
        """Eight for each token."""
        return 8 * len(self._slots[slot].tokens)

    def save(self, slot: int) -> State:
        """The slot's tokens."""
        return array("q", self._slots[slot].tokens).tobytes()

    def restore(self, slot: int, state: State) -> bool:
        """Put saved tokens into an empty slot."""
        tokens = array("q", bytes(state)).tolist()
        if self._ledger.used + len(tokens) > self._kv_tokens:
            return False
        self._slots[slot].tokens = tokens
        self._ledger.extend(slot, len(tokens))
        return True

    def embed(self, texts: Seq[Seq[int]], start: int = 0, longest: int = 0) -> list[Floats]:
        """Rows made of the tokens, or the score of a pair, at the speed of prompts."""
        if self._prefill_rate:
            time.sleep(sum(map(len, texts)) / self._prefill_rate)
        return [self._rows(text, start) for text in texts]

    def _rows(self, tokens: Seq[int], start: int) -> Floats:
        script = (
            fake_script.parse_script(bytes(t for t in tokens if 0 <= t < 256).decode("utf-8", "replace"))
            if not start
            else Script(b"")
        )
        self._misbehave(script)
        ranks = self._pooling == "rank"
        rows = fake_embedding.score(tokens, END_OF_TEXT) if ranks else fake_embedding.rows(tokens)
        return rows * math.nan if script.nan else rows

    def pair(self, query: str, document: str) -> list[int]:
        """Both texts, with a control token between them."""
        return [*query.encode("utf-8", "replace"), END_OF_TEXT, *document.encode("utf-8", "replace")]

    def close(self) -> None:
        """Free everything."""
        self._ballast.clear()

    # ---- a step ------------------------------------------------------------------------------------------------------

    def step(self, feeds: Seq[Feed]) -> list[Drawn]:
        """Compute one batch, at the set speeds. Raises OutOfCells before anything is computed."""
        start_ns = time.monotonic_ns()
        wanted = sum(len(feed.tokens) for feed in feeds)
        if self._ledger.used + wanted > self._kv_tokens:
            raise OutOfCells
        for feed in feeds:
            slot = self._slots[feed.slot]
            if feed.start != len(slot.tokens):
                raise EngineError(f"Slot {feed.slot} holds {len(slot.tokens)} tokens, but was fed at {feed.start}.")
            if self._reader is not None:
                self._reader.check(feed.tokens)
            slot.tokens.extend(feed.tokens)
            note_scores(self, feed, self._noise[np.arange(feed.start, len(slot.tokens)) % _ROWS])
            self._ledger.extend(feed.slot, len(feed.tokens))
            _follow(slot, feed)
        self._wait(feeds)
        drawn = [drawn for feed in feeds if feed.sample for drawn in self._draws(feed)]
        self._log.step(start_ns, feeds, drawn)
        return drawn

    def _draws(self, feed: Feed) -> Iterator[Drawn]:
        """A token, and a further one behind each guess that was drawn."""
        sure = feed.start + len(feed.tokens) - feed.drafts
        for at, guess in enumerate((*feed.guessed, None)):
            drawn = self._draw(feed.slot, sure + at)
            yield drawn
            if drawn.token != guess or drawn.complete:
                return

    def _wait(self, feeds: Seq[Feed]) -> None:
        decoding = sum(1 for feed in feeds if len(feed.tokens) == 1 + feed.drafts)
        prompt_tokens = sum(len(feed.tokens) - feed.drafts for feed in feeds) - decoding
        seconds = prompt_tokens / self._prefill_rate if self._prefill_rate else 0.0
        if decoding and self._decode_rate:
            seconds += 1 / self._decode_rate
        if seconds:
            time.sleep(seconds)

    def _draw(self, number: int, length: int) -> Drawn:
        """The token behind the slot's first `length` tokens."""
        slot = self._slots[number]
        assert slot.drawing is not None, "drawn from a slot that isn't in use"
        chooser, script, position = slot.drawing
        if script is None:
            script, position = script_of(slot.tokens[:length], self._reply, self._told)
            self._misbehave(script)
        if script.crash_after is not None and position >= script.crash_after:
            _die("SIGKILL")
        if script.stall_after is not None and position == script.stall_after[0]:
            time.sleep(script.stall_after[1])
        if chooser.takes_likeliest and chooser.logprobs is None:
            token, logprob = script.next(position), None
        else:
            row = self._row(script, position, guided=chooser.guided)
            token = _chosen(row, chooser, length)
            logprob = None if chooser.logprobs is None else self._logprob(row, token, chooser.logprobs)
        taken = not chooser.guided or token == script.next(position)
        slot.drawing = _Drawing(chooser, script, position + taken)
        return Drawn(number, token, logprob, chooser.complete)

    def _told(self, tokens: Seq[int]) -> str:
        return self._reader.told(tokens) if self._reader is not None else "[]"

    def _row(self, script: Script, position: int, *, guided: bool) -> Floats:
        """The logits of the token at a place of the script's answer."""
        row: Floats = (self._soonest if guided else self._noise[position % _ROWS]).copy()
        top = WILD if script.wild else LIKELY
        if script.answer and not guided:
            row[script.answer[position % len(script.answer)]] = top * AGAIN
        row[script.next(position)] = top
        return row

    def _logprob(self, row: Floats, token: int, top: int) -> core.TokenLogprob:
        value, ranked = logprobs(row, token, top)
        alternatives = tuple(core.TopLogprob(other, shown(self, other), chance) for other, chance in ranked)
        return core.TokenLogprob(token, shown(self, token), value, alternatives)

    def _misbehave(self, script: Script) -> None:
        if script.alloc_megabytes:
            block = bytearray(script.alloc_megabytes << 20)
            block[::4096] = b"\1" * len(block[::4096])
            self._ballast.append(block)
        if script.stall_seconds:
            time.sleep(script.stall_seconds)
        if script.hang:
            _hang()
        if script.crash_signal:
            _die(script.crash_signal)
        if script.error:
            raise RuntimeError("The prompt asked for an error.")


def _chosen(row: Floats, chooser: Chooser, position: int) -> int:
    """A token of the row, by the slot's sampling."""
    changed = chooser.adjusted(row) if chooser.adjusts else row
    token = int(changed.argmax()) if chooser.greedy else from_whole(changed, chooser, position)
    chooser.accept(token)
    return token


def _follow(slot: _Slot, feed: Feed) -> None:
    """A reasoning's end that was put into its mouth: the script goes on behind its own."""
    forced = bytes(token for token in feed.tokens[1 : len(feed.tokens) - feed.drafts] if 0 <= token < 256)
    drawing = slot.drawing
    if THINK_END not in forced or drawing is None or drawing.script is None:
        return
    at = drawing.script.answer.find(forced, drawing.position)
    if at >= 0:
        slot.drawing = drawing._replace(position=at + len(forced))
