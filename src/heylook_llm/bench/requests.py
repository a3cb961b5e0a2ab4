"""The requests of one cell that are still to be sent, and their samples once they were.

A conversation's next turn can be made only once the former has been answered: it holds that answer.
"""

import json
import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from heylook_llm import hardware
from heylook_llm.bench.frames import Begin, Item
from heylook_llm.bench.keys import without
from heylook_llm.bench.load import Load, schedule
from heylook_llm.bench.probe import FORCING, Flavor, Found
from heylook_llm.bench.sample import Cell, Phase, Sample, Target, new_id
from heylook_llm.bench.scenario import WHOLE
from heylook_llm.bench.spec import RunSpec, load_of, warmup_of
from heylook_llm.bench.store import Store
from heylook_llm.bench.targets import dialect_of
from heylook_llm.bench.targets.dialect import Dialect, Wanted
from heylook_llm.bench.timeline import Exchange, Measured, measure
from heylook_llm.bench.workload import Prompt, Source

UNSEEN_TOKENS: Final = 1 << 20
"""What a target may compute beyond what was sent and received, at most."""
_TELLING: Final[dict[Flavor, dict[str, Any]]] = {
    "heylook": {"return_token_ids": True},
    "vllm": {"include_metrics": True},
}
"""By what option a target says more of a stream: which tokens each chunk holds; its own times."""
_OF_SAMPLE: Final = frozenset(Sample.__struct_fields__)
_WORDS: Final = ("finish_reason", "server_request_id", "extra_json", "visible")
"""Of what was measured, those that the target chose."""


class Talk:
    """A conversation that goes on: its turns, and what was said so far."""

    def __init__(self, turns: tuple[Prompt, ...], ordinal: int) -> None:
        self.turns = turns
        self.ordinal = ordinal
        """Of its first turn; the others follow."""
        self.said: list[tuple[str, str]] = []
        self.tokens: int | None = 0
        """Of what was said, with the answers; None: nobody knows."""

    @property
    def place(self) -> int:
        """The ordinal of the turn that is due."""
        return self.ordinal + len(self.said)

    @property
    def turn(self) -> Prompt:
        """The one that is due, which costs all that was said, too."""
        mine = self.turns[len(self.said)]
        known = None if mine.tokens is None or self.tokens is None else mine.tokens + self.tokens
        return Prompt(mine.text, known, mine.output_tokens, mine.documents, mine.images, mine.system)

    def answer(self, text: str, tokens: int | None) -> bool:
        """Note an answer; whether there is another turn."""
        asked = self.turn
        self.tokens = None if asked.tokens is None or tokens is None else asked.tokens + tokens
        self.said.append((asked.text, text))
        return len(self.said) < len(self.turns)


class CellRequests:
    """The requests of one cell that are still to be sent."""

    def __init__(
        self,
        spec: RunSpec,
        cell: Cell,
        target: Target,
        source: Source,
        *,
        found: Found,
        key: str | None,
        sender: int = 0,
    ) -> None:
        self.cell = cell
        self.target = target
        self.dialect: Dialect = dialect_of(target.kind)
        self.load: Load = load_of(spec, cell)
        self.cold = cell.cache == "cold"
        self.warmup = 0 if self.cold else warmup_of(spec, self.load)
        self.asked: dict[tuple[int, int], tuple[Talk, Prompt, int]] = {}
        """(ordinal, attempt) -> its conversation, its prompt and the bytes of the body, of those in flight."""
        self.expected = cell.planned or 0
        self.last = False
        """Whether everything has been handed out."""
        self._spec = spec
        self._source = source
        self._sender = sender
        self._key = key
        self._reader = self.dialect.reader(spec.task)
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "X-Run-Id": cell.run_id,
            **self.dialect.headers(key),
        }
        self._force = spec.force_length and target.kind == "openai" and found.flavor in FORCING
        tells = target.kind == "openai" and spec.task not in WHOLE
        self._options = {**(_TELLING.get(found.flavor, {}) if tells else {}), **spec.options}
        self._attempts: dict[int, int] = {}
        self._settled: dict[int, Sample] = {}
        self.good = self.failed = 0
        """Measured requests that a run before this one settled."""
        self._left_seconds = spec.duration_seconds
        self._begun: Iterator[tuple[Talk, int | None]] | None = None
        self._due: deque[Talk] = deque()
        """Conversations whose next turn can be sent."""
        self._open = 0
        """Conversations of several turns that go on."""
        self.flags = tuple(
            flag
            for flag, holds in (
                ("inexact-length", not source.exact),
                ("ignore-eos", (self._force or bool(spec.options.get("ignore_eos"))) and spec.task not in WHOLE),
            )
            if holds
        )

    def settle(self, store: Store) -> None:
        """Leave out what was committed, and of a time limit what was used."""
        self._attempts = store.attempts(self.cell.id)
        if not self._attempts:
            return
        samples, settled = store.samples(self.cell.run_id, self.cell.id), store.settled(self.cell.id)
        self._settled = {one.ordinal: one for one in samples if one.ordinal in settled}
        self.flags = (*self.flags, "resumed")
        outcomes = [one.outcome for one in self._settled.values() if one.phase == "measure"]
        self.good = outcomes.count("ok")
        self.failed = len(outcomes) - self.good
        measured = [one for one in samples if one.phase == "measure"]
        starts = [one.t_start for one in measured if one.t_start is not None]
        if self._left_seconds is not None and starts:
            self._left_seconds = max(0.0, self._left_seconds - (max(starts) - min(starts)) / 1e9)
        if self.cell.planned is not None:
            places = range(self.warmup, self.warmup + self.cell.planned)
            self.expected = sum(ordinal not in self._settled for ordinal in places)

    def begin(self) -> Begin:
        """How the sender is to send them."""
        return Begin(
            self.target.base_url + self.dialect.path(self._spec.task),
            self._headers,
            self._spec.timeout_seconds,
            self._spec.drain_seconds,
            self.load.clients,
            self._left_seconds,
            self.warmup,
            self._spec.cooldown_requests,
            self._spec.stall_seconds,
        )

    # ---- handing out -------------------------------------------------------------------------------------------------

    def ready(self, most: int) -> list[Item]:
        """Up to so many that can be sent now: next turns first, then new conversations."""
        if self._begun is None:
            self._begun = self._conversations()
        items: list[Item] = []
        while len(items) < most and not self.last:
            if self._due:
                items.append(self._item(self._due.popleft(), None))
            elif self.load.clients is not None and self._open >= self.load.clients:
                break  # each client has its conversation
            elif (begun := next(self._begun, None)) is None:
                self.last = not self._open
                break
            else:
                items.append(self._item(*begun))
        return items

    def _conversations(self) -> Iterator[tuple[Talk, int | None]]:
        """Each with the moment that its first turn is due.

        Warm-up comes first, which a resumed run sends again, then what isn't settled, then the cool-down.
        """
        for ordinal in range(self.warmup):
            yield Talk(self._source.conversation(ordinal)[:1], ordinal), None
        dues = None if self.load.clients is not None else self._dues()
        first: int | None = None
        ordinal = number = self.warmup
        end = None if self.cell.planned is None else ordinal + self.cell.planned
        while end is None or ordinal < end:
            turns = self._source.conversation(number)[: None if end is None else end - ordinal]
            talk, due = Talk(turns, ordinal), None if dues is None else next(dues)
            if self._goes_on(talk):
                first = due if first is None else first
                self._open += len(turns) > 1
                yield talk, None if due is None or first is None else due - first
            ordinal, number = ordinal + len(turns), number + 1
        for later in range(self._spec.cooldown_requests):
            due = None if dues is None else next(dues) - (first or 0)
            yield Talk(self._source.conversation(number + later)[:1], ordinal + later), due

    def _dues(self) -> Iterator[int]:
        drawing = random.Random(self._arrivals)  # noqa: S311
        return schedule(self.load, drawing, self._source.times_ms)

    def _goes_on(self, talk: Talk) -> bool:
        """Whether a turn of it is still to be sent; those that were are said again. One that failed ended it."""
        while (sample := self._settled.get(talk.place)) is not None:
            answer = json.loads(sample.extra_json or "{}").get("answer")
            if sample.outcome != "ok" or answer is None or not talk.answer(answer, _spoken(sample)):
                return False
        return True

    @property
    def _arrivals(self) -> str:
        return f"{self._source.seed}/arrivals"

    def _item(self, talk: Talk, due: int | None) -> Item:
        ordinal, prompt = talk.place, talk.turn
        wanted = Wanted(
            task=self._spec.task,
            model=self.cell.model,
            prompt=prompt.text,
            output_tokens=prompt.output_tokens,
            force_length=self._force and prompt.output_tokens is not None,
            options=self._options,
            system=prompt.system,
            history=tuple(talk.said),
            documents=prompt.documents,
            images=prompt.images,
        )
        body = msgspec.json.encode(self.dialect.body(wanted))
        attempt = self._attempts.get(ordinal, 0)
        self.asked[ordinal, attempt] = talk, prompt, len(body)
        return Item(ordinal, attempt, self._phase(ordinal), self.request_id(ordinal, attempt), body, due)

    def _phase(self, ordinal: int) -> Phase:
        if ordinal < self.warmup:
            return "warmup"
        if self.cell.planned is not None and ordinal >= self.warmup + self.cell.planned:
            return "cooldown"
        return "measure"

    def request_id(self, ordinal: int, attempt: int) -> str:
        """What the target is told that this request is called."""
        return f"{self.cell.id}-{ordinal}-{attempt}"

    # ---- taking back -------------------------------------------------------------------------------------------------

    def sample(self, exchange: Exchange) -> Sample:
        """A request that ended, measured; its conversation goes on with its answer."""
        talk, prompt, size = self.asked.pop((exchange.ordinal, exchange.attempt))
        measured = _hiding(_checked(measure(exchange, self._reader), prompt, size), self._key)
        sample = Sample(
            id=new_id(time.time()),
            run_id=self.cell.run_id,
            cell_id=self.cell.id,
            ordinal=exchange.ordinal,
            attempt=exchange.attempt,
            sender=self._sender,
            clock_id=hardware.clock_id(),
            phase=exchange.phase,
            t_due=exchange.t_due,
            t_start=None if exchange.error_class == "dropped" else exchange.t_start,
            t_dns=exchange.t_dns,
            t_tcp=exchange.t_tcp,
            t_tls=exchange.t_tls,
            t_sent=exchange.t_sent,
            t_end=exchange.t_end,
            bytes_out=size,
            in_planned=prompt.tokens,
            out_asked=prompt.output_tokens,
            client_request_id=self.request_id(exchange.ordinal, exchange.attempt),
            **{name: value for name, value in msgspec.structs.asdict(measured).items() if name in _OF_SAMPLE},
        )
        return sample if len(talk.turns) == 1 else self._answered(talk, sample, measured.visible)

    def _answered(self, talk: Talk, sample: Sample, said: str) -> Sample:
        """A turn's sample, which keeps its answer: a resumed run must say it again."""
        told = json.loads(sample.extra_json or "{}") | {"turn": len(talk.said)}
        if sample.outcome == "ok":
            told["answer"] = said
        if sample.outcome == "ok" and talk.answer(said, _spoken(sample)):
            self._due.append(talk)
        else:
            self._open -= 1
        return msgspec.structs.replace(sample, extra_json=json.dumps(told))


def _spoken(sample: Sample) -> int | None:
    """Tokens of an answer's text; with reasoning, which isn't said again, nobody knows them."""
    hidden = sample.reasoning or sample.t_first_token != sample.t_first_visible
    return None if hidden else sample.out_engine if sample.out_engine is not None else sample.out_usage


def _hiding(measured: Measured, key: str | None) -> Measured:
    """Without the key in what is kept of the target's words."""
    said = {name: getattr(measured, name) for name in _WORDS}
    hidden = {name: without(text, key) for name, text in said.items() if text}
    return msgspec.structs.replace(measured, **hidden)


def _checked(measured: Measured, prompt: Prompt, size: int) -> Measured:
    """As many vectors or scores as documents, and tokens that can be, else it is no answer."""
    if measured.outcome != "ok":
        return measured
    if prompt.documents and measured.results != len(prompt.documents):
        return msgspec.structs.replace(measured, outcome="error", error_class="results")
    if not _is_credible(measured, prompt, size):
        return msgspec.structs.replace(measured, outcome="error", error_class="incredible")
    return measured


def _is_credible(measured: Measured, prompt: Prompt, size: int) -> bool:
    """Whether what it counts can have been in a body of `size` bytes, and in the answer's: a token is a byte at least.

    Beside them is what crosses no wire: a system's own words, and thoughts, where they are told or no length was asked.
    """
    hidden = UNSEEN_TOKENS if prompt.output_tokens is None else min(measured.reasoning or 0, UNSEEN_TOKENS)
    received, made = (measured.in_usage, measured.in_engine), (measured.out_usage, measured.out_engine)
    most_in, most_out = size + UNSEEN_TOKENS, max(prompt.output_tokens or 0, measured.bytes_in) + hidden
    return max(0, *(one or 0 for one in received)) <= most_in and max(0, *(one or 0 for one in made)) <= most_out
