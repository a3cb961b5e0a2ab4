"""A provider without weights: deterministic text at settable speeds, and faults on command. Runs in a real worker.

Vocabulary: one token per byte, so that any text round-trips, and a few control tokens. Without a command it answers
with the text of the last turn of a chat (an echo), with the prompt of a raw completion, or with the option `reply`.
The KV pool is counted like a real one: shared cells once, OutOfCells beyond `kv_tokens`.
Under a constraint it draws the next token of its answer where that is allowed, else the allowed one that ends soonest:
an end, then a closing bracket or quote, a digit, a letter. So `hello` under a schema of one text is {"text":"hello"}.

Commands, in the last turn or the raw prompt; they aren't echoed:

    [[say:TEXT]]          answers TEXT
    [[count:N]]           answers "1 2 3 ... N"
    [[think:TEXT]]        a <think> block with TEXT comes before the answer
    [[call:NAME JSON]]    calls a tool in Hermes form, with JSON as its arguments; may stand several times
    [[emit:HEX]]          adds these bytes to the answer, valid UTF-8 or not
    [[crash:SIGSEGV]]     the process kills itself with that signal in the step that ends the prompt
    [[crash:after=N]]     ... with SIGKILL once N tokens of the answer are out
    [[hang]]              the step that ends the prompt never returns
    [[stall:SECONDS]]     ... returns after so many seconds
    [[alloc:MB]]          ... allocates and keeps so much memory
    [[error]]             ... raises an exception
    [[nan]]               a text to embed: its vector holds no number

The faults are obeyed in texts to embed, too, by the pass that computes the text's beginning.

Options: n_ctx, kv_tokens, n_parallel, prefill_tokens_per_second and decode_tokens_per_second (0: no waiting; decoding
counts steps, so it is the speed of each stream), load_seconds, load_error (refuse with this text), load_crash (name of
a signal), load_hang, reply, chat_template, pooling (it embeds or ranks, and answers nothing).
"""

import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from heylook_llm import core
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.guidance import Mask
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.prefix import Ledger
from heylook_llm.worker.providers import defaults, fake_embedding
from heylook_llm.worker.providers.base import Drawn, EmbeddingBounds, Feed, Floats, OutOfCells, shown

IM_START: Final = 256
IM_END: Final = 257
END_OF_TEXT: Final = 258
REPLY: Final = 259
FIM_PREFIX: Final = 260
FIM_SUFFIX: Final = 261
FIM_MIDDLE: Final = 262
CONTROL: Final = {
    "<|im_start|>": IM_START,
    "<|im_end|>": IM_END,
    "<|endoftext|>": END_OF_TEXT,
    "<|reply|>": REPLY,
    "<|fim_prefix|>": FIM_PREFIX,
    "<|fim_suffix|>": FIM_SUFFIX,
    "<|fim_middle|>": FIM_MIDDLE,
}
_CONTROL_NAMES: Final = {token: text for text, token in CONTROL.items()}
N_VOCAB: Final = 263
MAX_TEXTS: Final = 64
"""Texts of one pass."""
TEMPLATE: Final = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{% endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- if not loop.first %}{{- raise_exception('System message must be at the beginning.') }}{% endif %}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking %}{{- '<think>\\n' }}{% endif %}
{%- endif %}"""

_CAPABILITIES: Final[dict[core.Pooling, tuple[str, ...]]] = {
    "": ("completion", "insert"),
    "mean": ("embedding",),
    "cls": ("embedding",),
    "last": ("embedding",),
    "rank": ("rerank",),
}
_CONTROL_TEXT: Final = re.compile("|".join(map(re.escape, CONTROL)))
_COMMAND: Final = re.compile(r"\[\[(\w+)(?::(.*?))?\]\]", re.DOTALL)
_ASSISTANT: Final = b"assistant\n"
_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz "
_PREFERRED: Final = b'"}])>0123456789' + bytes(range(ord("a"), ord("z") + 1)) + bytes(range(33, 127)) + b" \n"


class Script(msgspec.Struct):
    """What one prompt makes the provider do."""

    answer: bytes
    endless: bool = False
    crash_signal: str = ""
    crash_after: int | None = None
    hang: bool = False
    stall_seconds: float = 0.0
    alloc_megabytes: int = 0
    error: bool = False
    nan: bool = False


class _Slot:
    """One sequence id: the tokens whose cells it holds, and the script that its prompt asked for."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.sampling = core.Sampling()
        self.script: Script | None = None
        self.position = 0
        self.guide: Guide | None = None


class _Drawing(NamedTuple):
    """Where a sequence that yields was in its script: what a constraint changed can't be found in its tokens."""

    script: Script | None
    position: int


def open_model(load: core.Load, progress: Callable[[float], None]) -> "Fake":
    """The provider of a Load frame. Raises LoadFailed where the options ask for it."""
    options = load.options
    _load_slowly(float(options.get("load_seconds") or 0), progress)
    if options.get("load_hang"):
        _hang()
    if load_crash := options.get("load_crash"):
        _die(str(load_crash))
    if load_error := options.get("load_error"):
        raise LoadFailed(str(load_error))
    return Fake(options)


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

    engine_defaults = core.Sampling()
    unsupported: frozenset[str] = frozenset()
    max_drafts = 64

    def __init__(self, options: dict[str, Any]) -> None:
        n_ctx = int(options.get("n_ctx") or 4096)
        slots = int(options.get("n_parallel") or 8)
        self._kv_tokens = int(options.get("kv_tokens") or n_ctx * slots)
        self._prefill_rate = float(options.get("prefill_tokens_per_second") or 0)
        self._decode_rate = float(options.get("decode_tokens_per_second") or 0)
        self._reply: str | None = options.get("reply")
        self._slots = [_Slot() for _ in range(slots)]
        self._ledger = Ledger(slots)
        self._ballast: list[bytearray] = []
        self._pooling: core.Pooling = options.get("pooling") or ""
        self.embedding: EmbeddingBounds | None = EmbeddingBounds(
            int(options.get("n_batch") or 2048), MAX_TEXTS, whole=self._pooling == "rank"
        )
        self.defaults = defaults.of_model(options, {})
        self.info = core.ModelInfo(
            "fake",
            "fake",
            n_ctx,
            n_ctx_trained=n_ctx,
            kv_tokens=self._kv_tokens,
            n_parallel=slots,
            n_vocab=N_VOCAB,
            n_embedding=fake_embedding.WIDTH,
            chat_template="" if self._pooling else options.get("chat_template") or TEMPLATE,
            capabilities=_CAPABILITIES[self._pooling],
            pooling=self._pooling,
        )

    # ---- vocabulary --------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """One token per byte; `add_special` ends a raw prompt with the control token that asks for a reply."""
        if not parse_special:
            tokens = list(text.encode("utf-8", "replace"))
        else:
            tokens = []
            at = 0
            for match in _CONTROL_TEXT.finditer(text):
                tokens.extend(text[at : match.start()].encode("utf-8", "replace"))
                tokens.append(CONTROL[match.group()])
                at = match.end()
            tokens.extend(text[at:].encode("utf-8", "replace"))
        if add_special and IM_START not in tokens:
            tokens.append(REPLY)
        return tokens

    def piece(self, token: int) -> bytes:
        """The byte; empty for control tokens."""
        return bytes((token,)) if 0 <= token < 256 else b""

    def control(self, token: int) -> str:
        """The text of a control token; empty: it is none."""
        return _CONTROL_NAMES.get(token, "")

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token in (IM_END, END_OF_TEXT)

    def infill(self, prefix: str, suffix: str) -> list[int] | None:
        """The prompt for the text between."""
        before, after = prefix.encode("utf-8", "replace"), suffix.encode("utf-8", "replace")
        return [FIM_PREFIX, *before, FIM_SUFFIX, *after, FIM_MIDDLE]

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
        taken = self._slots[slot]
        taken.sampling = sampling
        taken.guide = guide
        taken.script, taken.position = drawing if isinstance(drawing, _Drawing) else (None, 0)

    def release(self, slot: int) -> object:
        """Give the slot's script up; its cells stay."""
        left = self._slots[slot]
        drawing = _Drawing(left.script, left.position) if left.guide is not None else None
        left.script = left.guide = None
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

    def save(self, slot: int) -> bytes:
        """The slot's tokens."""
        return msgspec.msgpack.encode(self._slots[slot].tokens)

    def restore(self, slot: int, state: bytes) -> None:
        """Put saved tokens into an empty slot."""
        tokens = msgspec.msgpack.decode(state, type=list[int])
        self._slots[slot].tokens = tokens
        self._ledger.extend(slot, len(tokens))

    def embed(self, texts: Seq[Seq[int]], start: int = 0) -> list[Floats]:
        """Rows made of the tokens, or the score of a pair, at the speed of prompts."""
        if self._prefill_rate:
            time.sleep(sum(map(len, texts)) / self._prefill_rate)
        return [self._rows(text, start) for text in texts]

    def _rows(self, tokens: Seq[int], start: int) -> Floats:
        script = parse_script(_bytes(tokens).decode("utf-8", "replace")) if not start else Script(b"")
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
        wanted = sum(len(feed.tokens) for feed in feeds)
        if self._ledger.used + wanted > self._kv_tokens:
            raise OutOfCells
        for feed in feeds:
            slot = self._slots[feed.slot]
            if feed.start != len(slot.tokens):
                raise EngineError(f"Slot {feed.slot} holds {len(slot.tokens)} tokens, but was fed at {feed.start}.")
            slot.tokens.extend(feed.tokens)
            self._ledger.extend(feed.slot, len(feed.tokens))
        self._wait(feeds)
        return [drawn for feed in feeds if feed.sample for drawn in self._draws(feed)]

    def _draws(self, feed: Feed) -> Iterator[Drawn]:
        """A token, and a further one behind each guess that was drawn."""
        for guess in (*feed.guessed, None):
            drawn = self._draw(feed.slot)
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

    def _draw(self, number: int) -> Drawn:
        slot = self._slots[number]
        script = slot.script
        if script is None:
            script = slot.script = self._script(slot)
            self._misbehave(script)
        if script.crash_after is not None and slot.position >= script.crash_after:
            _die("SIGKILL")
        token = self._scripted(slot, script)
        if slot.guide is not None:
            [mask] = slot.guide.masks()
            allowed = token if mask is None or mask[token] else _soonest(mask)
            slot.position -= allowed != token
            token = allowed
            slot.guide.accept(token)
        slot.position += 1
        complete = slot.guide is not None and slot.guide.complete
        return Drawn(number, token, self._logprob(token, slot.sampling.logprobs), complete)

    def _scripted(self, slot: _Slot, script: Script) -> int:
        """The next token of the answer."""
        answer = script.answer
        if slot.position < len(answer):
            return answer[slot.position]
        if (script.endless or slot.sampling.ignore_eos or slot.sampling.min_tokens > slot.position) and answer:
            return answer[slot.position % len(answer)]
        return IM_END

    def _logprob(self, token: int, top: int | None) -> core.TokenLogprob | None:
        if top is None:
            return None
        ranked = [(token + place) % N_VOCAB for place in range(top)]
        alternatives = [core.TopLogprob(t, shown(self, t), -math.log(2) * (i + 1)) for i, t in enumerate(ranked)]
        return core.TokenLogprob(token, shown(self, token), -math.log(2), tuple(alternatives))

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

    # ---- what a prompt asks for --------------------------------------------------------------------------------------

    def _script(self, slot: _Slot) -> Script:
        """The script of a slot's prompt, with the slot's position set behind what was already answered."""
        tokens = slot.tokens
        marker = max((at for at, token in enumerate(tokens) if token in (IM_START, REPLY, FIM_MIDDLE)), default=-1)
        if marker < 0:
            slot.position = len(tokens)
            return Script(_ALPHABET, endless=True)
        turn, given = tokens[:marker], _bytes(tokens[marker + 1 :])
        if tokens[marker] == IM_START:
            starts = [at for at, token in enumerate(turn) if token == IM_START]
            turn = turn[starts[-1] + 1 :] if starts else turn
            given = given.removeprefix(_ASSISTANT)
        text = _bytes(turn).decode("utf-8", "replace")
        if tokens[marker] == IM_START:
            text = text.partition("\n")[2].removesuffix("\n")
        script = parse_script(text, self._reply)
        if given.startswith(b"<think>\n"):
            given = given.removeprefix(b"<think>\n")
            if not script.answer.startswith(b"<think>"):
                script.answer = b"Someone wrote: " + text[:20].encode() + b"\n</think>\n\n" + script.answer
            else:
                script.answer = script.answer.removeprefix(b"<think>\n")
        slot.position = _answered(given, script.answer)
        return script


def _soonest(mask: Mask) -> int:
    """Of the allowed tokens, the one that leads to an end soonest."""
    order = (IM_END, END_OF_TEXT, *_PREFERRED)
    return next((token for token in order if mask[token]), int(mask.argmax()))


def _bytes(tokens: Seq[int]) -> bytes:
    return bytes(token for token in tokens if token < 256)


def _answered(given: bytes, answer: bytes) -> int:
    """How much of the answer the prompt already holds (after a preemption), behind whatever it was told to continue."""
    endless = answer * (len(given) // max(1, len(answer)) + 1)
    return next((n for n in range(len(given), 0, -1) if given.endswith(endless[:n])), 0)


def parse_script(text: str, reply: str | None = None) -> Script:
    """The script of a turn's text: its commands, and an answer."""
    said: list[bytes] = []
    thought = b""
    calls: list[bytes] = []
    script = Script(b"")
    for name, argument in _COMMAND.findall(text):
        match name:
            case "say":
                said.append(argument.encode("utf-8", "replace"))
            case "count":
                said.append(" ".join(map(str, range(1, int(argument) + 1))).encode())
            case "emit":
                said.append(bytes.fromhex(argument))
            case "think":
                thought = b"<think>\n" + argument.encode("utf-8", "replace") + b"\n</think>\n\n"
            case "call":
                tool, _, arguments = argument.partition(" ")
                body = f'{{"name": "{tool}", "arguments": {arguments or "{}"}}}'
                calls.append(f"<tool_call>\n{body}\n</tool_call>".encode())
            case _:
                _set_fault(script, name, argument)
    if not said and not calls:
        said = [(reply if reply is not None else _COMMAND.sub("", text)).encode("utf-8", "replace")]
    script.answer = thought + b"".join(said) + (b"\n" if said and calls else b"") + b"\n".join(calls)
    return script


def _set_fault(script: Script, name: str, argument: str) -> None:
    match name:
        case "crash" if argument.startswith("after="):
            script.crash_after = int(argument.removeprefix("after="))
        case "crash":
            script.crash_signal = argument or "SIGKILL"
        case "hang":
            script.hang = True
        case "stall":
            script.stall_seconds = float(argument)
        case "alloc":
            script.alloc_megabytes = int(argument)
        case "error":
            script.error = True
        case "nan":
            script.nan = True
