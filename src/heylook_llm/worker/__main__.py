"""The worker program: frames in, Scheduler, frames out. `python -m heylook_llm.worker`, started by the server.

Threads, and what each owns:

    reader    decodes frames from fd 0, answers Ping, hands Submit and Call to the preparers; ends the process at EOF
    preparer  (two) renders and tokenizes beside the step loop, answers Tokenize, Detokenize, Render, Stats
    guider    (two) does the same for requests whose answers are held to something, so that nobody else waits for that
    viewer    does the same for requests with images, and encodes these; it yields to all others
    compiler  (constrain.py) indexes the vocabulary and compiles what answers are held to; it yields too
    main      loads the model, then the step loop: Scheduler, Embedder, Provider, Decoders; their only writer

Frames go out from whichever thread made them, whole, under one lock. A write may block: the parent's reader never waits
for a consumer, so it passes as soon as the parent runs, and a parent that is gone ends this process.
"""

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom
from typing import Final, NoReturn, TypeVar, assert_never, cast

import msgspec

from heylook_llm import core, errors, pipe
from heylook_llm.catalog import prefix_files
from heylook_llm.errors import EngineError, HeylookError
from heylook_llm.worker import embedding, embedding_texts, images
from heylook_llm.worker.disk import Disk
from heylook_llm.worker.keeper import Keeper
from heylook_llm.worker.lines import Lines
from heylook_llm.worker.prepare import Choice, Model
from heylook_llm.worker.presets import Presets
from heylook_llm.worker.providers.base import OutOfCells, Provider
from heylook_llm.worker.retention import Fixed, Retention, estimated_budget
from heylook_llm.worker.scheduler import Outcome, Scheduler
from heylook_llm.worker.sequence import Sequence
from heylook_llm.worker.speculate import Speculator
from heylook_llm.worker.watermark import Watermark, resident_bytes
from heylook_llm.worker.yielding import yield_to_others

PROVIDERS: Final = {
    "fake": "heylook_llm.worker.providers.fake",
    "llama_cpp": "heylook_llm.worker.providers.llama_cpp",
    "mlx": "heylook_llm.worker.providers.mlx",
}
ENGINES: Final = {"fake": ["heylookllm"], "llama_cpp": ["llama-cpp-python"], "mlx": ["mlx", "mlx-lm"]}
"""The packages whose version decides what a provider computes."""
VOCABULARIES: Final = {
    "fake": "heylook_llm.worker.providers.fake",
    "llama_cpp": "heylook_llm.worker.providers.llama_cpp_vocabulary",
    "mlx": "heylook_llm.worker.providers.mlx_words",
}
"""What reads a vocabulary without its model's weights."""
EYES: Final = {"fake": [], "llama_cpp": ["pillow"], "mlx": ["mlx-vlm", "pillow"]}
"""... of a model that sees."""
READ_BYTES: Final = 1 << 16
PREPARERS: Final = 2
SWITCH_SECONDS: Final = 0.0002
"""How long a preparer may keep the interpreter from a step loop that wants it back; Python's default is 5 ms."""
PROGRESS_SECONDS: Final = 0.1
PARENT_SECONDS: Final = 1.0
DRAFT_TOKENS: Final = 16
"""Most tokens guessed of one sequence at a time, where the configuration says nothing."""
PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38

log = logging.getLogger("heylook_llm.worker")


class Outlet:
    """The frames to the parent; any thread may send."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._encoder = pipe.Encoder()

    def send(self, message: core.Upward) -> None:
        """Write a message. Pieces of a long one let others' frames pass between them."""
        with self._lock:
            frames = self._encoder.frames(message)
            first = next(frames)
            self._write(first)
        for frame in frames:
            with self._lock:
                self._write(frame)

    def reply(self, call: int, answer: core.Answer | HeylookError) -> None:
        """Write the answer to a call, or its error."""
        if isinstance(answer, HeylookError):
            self.send(core.Failure(call, core.ErrorInfo.of(answer)))
        else:
            self.send(core.Returned(call, answer))

    def _write(self, frame: bytes) -> None:
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except (BrokenPipeError, ConnectionError):
            os._exit(0)


class Mark:
    """That a Submit, an Embed or a Rerank is between its frame and its end.

    `cancelled` is set by the reader, and looked at before each stage.
    """

    __slots__ = ("cancelled", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.cancelled = False


class Prepared:
    """A Submit that is ready for the scheduler, or the error that ended it."""

    __slots__ = ("choices", "error", "mark", "ready_ns")

    def __init__(self, mark: Mark, choices: list[Choice], ready_ns: int, error: HeylookError | None = None) -> None:
        self.mark = mark
        self.choices = choices
        self.ready_ns = ready_ns
        """From here it waits for a place, first of all for the end of the step that is being computed."""
        self.error = error


T = TypeVar("T")
Quick = core.Tokenize | core.Detokenize | core.Render | core.Stats
"""Operations that a preparer answers by itself."""
Message = core.Load | core.Cancel | core.Call | Prepared | embedding.Job
Inbox = queue.SimpleQueue[Message]


class Engine:
    """The step loop's state: one loaded model, its scheduler, and the open choices."""

    def __init__(
        self,
        model: Model,
        outlet: Outlet,
        options: dict[str, object],
        marks: dict[int, Mark],
        keeper: Keeper | None = None,
        *,
        note_steps: bool = False,
    ) -> None:
        self.model = model
        self.keeper = keeper
        self._provider: Provider = model.provider
        self._outlet = outlet
        self._marks = marks
        self._open: dict[Sequence, Choice] = {}
        self.busy_ns = 0
        self._memory = Watermark()
        info = model.info
        kv_tokens = info.kv_tokens or info.n_ctx * info.n_parallel
        self.scheduler = Scheduler(
            model.provider,
            slots=model.provider.slots,
            parallel=info.n_parallel,
            kv_tokens=kv_tokens,
            n_batch=min(_number(options, "n_batch", 2048), info.kv_tokens or info.n_ctx),
            prefill_tokens=_number(options, "prefill_tokens", 512),
            retention=Retention(estimated_budget(info)) if model.provider.spans_pool else Fixed(kv_tokens),
            speculation=_speculator(model, options),
            keeper=keeper,
            whole_images=model.provider.images is not None and model.provider.images.whole,
            tile=model.provider.tile,
            scored_tokens=model.provider.scored_tokens,
            note_steps=note_steps,
        )
        self.embedder = embedding.Embedder(model.provider.embedding, info.pooling)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return self.scheduler.idle and self.embedder.idle

    def stats(self, *, sequences: bool = False) -> core.WorkerStats:
        """The counters as of now; callable from any thread."""
        scheduler, now_ns = self.scheduler, time.monotonic_ns()
        return core.WorkerStats(
            steps=scheduler.steps + self.embedder.steps,
            waiting=len(scheduler.waiting),
            running=len(scheduler.running) + len(self.embedder.jobs),
            batch_size=scheduler.composition.decoding,
            kv_used_tokens=scheduler.pool.ledger.used,
            kv_retained_tokens=scheduler.pool.prefixes.total_tokens,
            prompt_tokens=scheduler.prompt_tokens + self.embedder.tokens,
            cached_tokens=scheduler.cached_tokens,
            output_tokens=scheduler.output_tokens,
            preemptions=scheduler.preemptions,
            resident_bytes=self._memory.note(now_ns),
            busy_ns=self.busy_ns,
            sequences=tuple(sequence.stats() for sequence in scheduler.live()) if sequences else (),
            images=reader.encoded if (reader := self._provider.images) is not None else 0,
            at_ns=now_ns,
            peak_resident_bytes=self._memory.highest(),
        )

    def take(self, prepared: Prepared) -> None:
        """Queue the choices of a prepared request, or end it."""
        mark = prepared.mark
        if mark.cancelled:
            self._marks.pop(mark.number, None)
            return
        if prepared.error is not None:
            self._fail(mark.number, prepared.error)
            return
        events: list[tuple[int, core.Event]] = []
        for choice in prepared.choices:
            self._open[choice.sequence] = choice
            if (begun := _begun(choice)) is not None:
                events.append((choice.sequence.request, begun))
            if choice.sequence.max_tokens > 0 or choice.sequence.unscored is not None:
                self.scheduler.submit(choice.sequence, prepared.ready_ns)
            else:
                self._close(choice, "length", events)
        self._send(events)

    def take_job(self, job: embedding.Job) -> None:
        """Queue texts whose vectors or scores are wanted."""
        if job.number in self._marks and not self._marks[job.number].cancelled:
            self.embedder.submit(job)

    def cancel(self, number: int) -> None:
        """Stop a request or a call; nothing more is sent for it."""
        self.embedder.cancel(number)
        self._forget(number, keep=True)

    def flush(self, call: int) -> None:
        """Drop kept prefixes, in the pool and out of it; files are deleted beside the step loop."""
        tokens = self.scheduler.pool.flush()
        if self.keeper is None:
            self._outlet.reply(call, core.Flushed(tokens))
        else:
            self.keeper.flush(lambda saved: self._outlet.reply(call, core.Flushed(tokens, saved)))

    def keep(self, interrupted: Callable[[], bool]) -> None:
        """While nothing waits: save what a restart shall find, a state at a time."""
        if self.keeper is not None and self.keeper.eager:
            while not interrupted() and self.scheduler.pool.keep_one():
                pass

    def step(self) -> None:
        """One step of the answers and one pass of the vectors, whichever there are."""
        if not self.embedder.idle:
            self._embed()
        if not self.scheduler.idle:
            self._answer()

    def _embed(self) -> None:
        """Compute some texts; the error of a pass ends the calls that were in it."""
        embedder = self.embedder
        start_ns = time.monotonic_ns()
        batch = embedder.plan(beside=not self.scheduler.idle)
        try:
            rows = self._provider.embed(batch.texts, batch.start, batch.longest)
        except Exception as error:
            log.exception("Texts can't be embedded")
            for job in embedder.failed():
                self._end_call(job.number, _shown(error))
            return
        now_ns = time.monotonic_ns()
        self.busy_ns += now_ns - start_ns
        for job in embedder.commit(rows, start_ns, now_ns):
            try:
                self._end_call(job.number, job.answer())
            except HeylookError as error:
                self._end_call(job.number, error)

    def _end_call(self, number: int, answer: core.Answer | HeylookError) -> None:
        self._marks.pop(number, None)
        self._outlet.reply(number, answer)

    def _answer(self) -> None:
        """One engine step, and the events of it. What a step raises fails the requests that were in it."""
        try:
            self._step()
        except OutOfCells:
            self._make_room()
        except Exception as error:
            log.exception("A step failed")
            self._fail_step(error)

    def _step(self) -> None:
        scheduler = self.scheduler
        start_ns = time.monotonic_ns()
        drawn = self._provider.step(scheduler.plan(start_ns))
        now_ns = time.monotonic_ns()
        self.busy_ns += now_ns - start_ns
        events: list[tuple[int, core.Event]] = []
        scheduler.commit(drawn, start_ns, now_ns, lambda outcome: self._give(outcome, events))
        for sequence in scheduler.advanced:
            _report_progress(sequence, events)
            if sequence.is_only_scored and sequence.unscored is None:
                scheduler.finish(sequence)
                self._close(self._open[sequence], "length", events)
        self._send(events)

    def _give(self, outcome: Outcome, events: list[tuple[int, core.Event]]) -> None:
        """The events of a drawn token."""
        sequence, token, shown, end, logprob = outcome
        choice = self._open[sequence]
        decoder = choice.decoder
        if sequence.output_tokens == 1 or sequence.noted:  # how long the prompt was is said before its answer
            events.append((sequence.request, _progress(sequence)))
        if sequence.guide is not None and sequence.guide.error is not None:
            self._refuse(sequence.request, sequence.guide.error, events)
            return
        if shown:
            request = sequence.request
            fed = decoder.feed(token, logprob)
            if choice.lines is not None:
                fed, complete = self._within_lines(choice, choice.lines, fed)
                end = "length" if complete else end
            for event in fed:
                events.append((request, event))
        if not end and decoder.ended:
            self.scheduler.finish(sequence)
            end = "stop"
        if not end and (conclusion := decoder.conclusion()):
            self.scheduler.force(sequence, conclusion)
        if end:
            self._close(choice, end, events, None if shown or not choice.tells_end else logprob)

    def _within_lines(self, choice: Choice, lines: Lines, fed: list[core.Event]) -> tuple[list[core.Event], bool]:
        """What of these events belongs to an answer whose lines are watched, and whether it ends there."""
        now_ns = time.monotonic_ns()
        seconds = (now_ns - (choice.sequence.stamps.first_token_ns or now_ns)) / 1e9
        for at, event in enumerate(fed):
            kept = lines.end(event.text, seconds) if isinstance(event, core.Text) else None
            if kept is not None:
                assert isinstance(event, core.Text)
                self.scheduler.finish(choice.sequence)
                choice.decoder.cut()
                return [*fed[:at], msgspec.structs.replace(event, text=event.text[:kept])], True
        return fed, False

    def _refuse(self, number: int, error: HeylookError, events: list[tuple[int, core.Event]]) -> None:
        """End a request within a step: its error is the only one of its events there."""
        self._forget(number, keep=True)
        events[:] = [(request, event) for request, event in events if request != number]
        events.append((number, core.Failed(core.ErrorInfo.of(error))))

    def _close(
        self, choice: Choice, end: str, events: list[tuple[int, core.Event]], last: core.TokenLogprob | None = None
    ) -> None:
        """The last events of a choice. `last`: of the token that ended it, where that is told too."""
        sequence, decoder, prompt_tokens, prompt_text, *_ = choice
        request, stamps = sequence.request, sequence.stamps
        if stamps.queued_ns is not None:
            stamps.peak_bytes = self._memory.since(stamps.queued_ns, time.monotonic_ns())
        del self._open[sequence]
        events.extend((request, event) for event in decoder.flush())
        if last is not None:
            events.append((request, core.Text(sequence.choice, "", (), (last,))))
        reason: core.FinishReason = "stop" if end == "stop" or decoder.ended else "length"
        if reason == "stop" and decoder.calls:
            reason = "tool_calls"
        done = core.Done(
            sequence.choice,
            reason,
            sequence.usage(decoder.reasoning_tokens),
            sequence.timeline(),
            decoder.stop,
            prompt_tokens,
            prompt_text,
            () if sequence.noted else _scores(sequence),
        )
        events.append((request, done))
        if not any(other.request == request for other in self._open):
            self._marks.pop(request, None)

    def _send(self, events: list[tuple[int, core.Event]]) -> None:
        if events:
            self._outlet.send(core.Step(tuple(events)))

    # ---- trouble -----------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        ended = self.scheduler.make_room()
        if ended is None:
            return
        if ended.output_tokens:
            events: list[tuple[int, core.Event]] = []
            self._close(self._open[ended], "length", events)
            self._send(events)
            return
        limit = self.model.info.kv_tokens or ended.limit_tokens
        self._fail(ended.request, errors.ContextLengthExceeded(limit_tokens=limit, prompt_tokens=ended.prompt_tokens))

    def _fail_step(self, error: Exception) -> None:
        """End the requests that were in a failed step, which may have ended some of their sequences already."""
        shown = _shown(error)
        waiting = set(self.scheduler.waiting)
        involved = {sequence.request for sequence in self._open if sequence not in waiting}
        for number in involved or {sequence.request for sequence in self._open}:
            self._fail(number, shown, keep=False)

    def _fail(self, number: int, error: HeylookError, *, keep: bool = True) -> None:
        """End a request with an error."""
        self._forget(number, keep=keep)
        self._outlet.send(core.Step(((number, core.Failed(core.ErrorInfo.of(error))),)))

    def _forget(self, number: int, *, keep: bool) -> None:
        self.scheduler.cancel(number, keep=keep)
        for sequence in [sequence for sequence in self._open if sequence.request == number]:
            del self._open[sequence]
        self._marks.pop(number, None)


class Worker:
    """Connects the parent's frames with the Engine."""

    def __init__(self, source: int, outlet: Outlet) -> None:
        self._source = source
        self._outlet = outlet
        self._inbox: Inbox = queue.SimpleQueue()
        self._marks: dict[int, Mark] = {}
        """Inserted by the reader, removed where its work ends; each is one atomic operation of a dict."""
        self._preparers = ThreadPoolExecutor(PREPARERS, thread_name_prefix="preparer")
        self._guiders = ThreadPoolExecutor(PREPARERS, thread_name_prefix="guider")
        self._viewers = ThreadPoolExecutor(1, thread_name_prefix="viewer", initializer=yield_to_others)
        self._engine: Engine | None = None
        self._words: Model | None = None
        """What answers where only the vocabulary is loaded."""

    def run(self) -> NoReturn:
        """Load, then serve until the parent goes."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        load = self._inbox.get()
        try:
            if not isinstance(load, core.Load):
                raise errors.ProtocolError("The first frame must be Load.")
            if load.vocabulary_only:
                self._words = self._opened(load)
            else:
                self._engine = self._load(load)
        except HeylookError as error:
            self._refuse(error)
        except Exception:
            log.exception("Loading failed")
            self._refuse(errors.LoadFailed("The model can't be loaded; the log has the cause."))
        _settle()
        self._outlet.send(core.Ready(self._model().info))
        if self._engine is None:
            self._wait()
        self._loop(self._engine)

    def _wait(self) -> NoReturn:
        """There is no engine: the preparers answer all that may be asked."""
        while True:
            if isinstance(message := self._inbox.get(), Prepared):
                unable = EngineError("Only the vocabulary of this model is loaded.")
                event = core.Failed(core.ErrorInfo.of(unable))
                self._outlet.send(core.Step(((message.mark.number, event),)))

    def _refuse(self, error: HeylookError) -> NoReturn:
        self._outlet.send(core.Refused(core.ErrorInfo.of(error)))
        sys.stderr.flush()
        os._exit(1)

    def _load(self, load: core.Load) -> Engine:
        model = self._opened(load)
        keeper = _keeper(load, model.provider)
        return Engine(model, self._outlet, load.options, self._marks, keeper, note_steps=load.note_steps)

    def _opened(self, load: core.Load) -> Model:
        """The model, or its vocabulary alone. Raises LoadFailed."""
        module_name = (VOCABULARIES if load.vocabulary_only else PROVIDERS).get(load.provider)
        if module_name is None:
            raise errors.LoadFailed(f"Model '{load.model}': this version has no provider '{load.provider}'.")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise errors.LoadFailed(
                f"Model '{load.model}' needs the package '{error.name}', which isn't installed (see heylookllm doctor)."
            ) from error
        if load.vocabulary_only:
            opened = module.open_vocabulary(load)  # has of a Provider what rendering and tokenizing ask for
        else:
            opened = module.open_model(load, _throttled(self._outlet))
        presets = Presets(load.system, load.messages)
        provider = cast("Provider", opened)
        return Model(load.model, provider, SystemRandom(), time.monotonic_ns, presets, hash_key=load.hash_key)

    # ---- the step loop -----------------------------------------------------------------------------------------------

    def _loop(self, engine: Engine) -> NoReturn:
        inbox = self._inbox
        while True:
            if engine.idle:
                engine.keep(lambda: not inbox.empty())
                self._handle(engine, inbox.get())
            while not inbox.empty():
                self._handle(engine, inbox.get())
            engine.step()

    def _handle(self, engine: Engine, message: Message) -> None:
        match message:
            case Prepared():
                engine.take(message)
            case embedding.Job():
                engine.take_job(message)
            case core.Cancel():
                engine.cancel(message.request)
            case core.Call():
                engine.flush(message.call)
            case core.Load():
                log.warning("A second Load frame is ignored")
            case _:
                assert_never(message)

    # ---- the reader --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Frames from the parent. End of file, or anything that isn't a frame, ends the process at once."""
        decoder: pipe.Decoder[core.Downward] = pipe.Decoder(core.Downward)  # type: ignore[arg-type]  # a union
        status = 0
        try:
            while data := os.read(self._source, READ_BYTES):
                for message in decoder.feed(data):
                    self._dispatch(message)
        except Exception:
            log.exception("The reader failed")
            status = 2
        os._exit(status)

    def _dispatch(self, message: core.Downward) -> None:
        match message:
            case core.Ping():
                self._outlet.send(core.Pong(message.nonce, self._stats()))
            case core.Submit():
                self._preparers_of(message.body).submit(self._prepare, self._mark(message.request), message.body)
            case core.Cancel():
                mark = self._marks.get(message.request)
                if mark is not None:
                    mark.cancelled = True
                    self._inbox.put(message)
            case core.Call():
                self._dispatch_call(message)
            case core.Load():
                self._inbox.put(message)
            case _:
                assert_never(message)

    def _dispatch_call(self, call: core.Call) -> None:
        match call.operation:
            case core.FlushCache():
                self._inbox.put(call)
            case core.Embed() | core.Rerank() as operation:
                self._preparers.submit(self._prepare_texts, self._mark(call.call), operation)
            case operation:
                self._preparers.submit(self._reply, call.call, operation)

    def _preparers_of(self, body: core.Request) -> ThreadPoolExecutor:
        if _has_images(body):
            return self._viewers
        return self._guiders if _may_be_guided(body) else self._preparers

    def _mark(self, number: int) -> Mark:
        mark = self._marks[number] = Mark(number)
        return mark

    def _stats(self, *, sequences: bool = False) -> core.WorkerStats:
        engine = self._engine
        if engine is None:
            return core.WorkerStats(resident_bytes=resident_bytes(), at_ns=time.monotonic_ns())
        return engine.stats(sequences=sequences)

    # ---- the preparers -----------------------------------------------------------------------------------------------

    def _prepare(self, mark: Mark, body: core.Request) -> None:
        choices: list[Choice] = []
        error: HeylookError | None = None
        try:
            if not mark.cancelled:
                choices = self._model().prepare(mark.number, body, lambda: mark.cancelled)
                self._fetch(choices)
        except HeylookError as refused:
            error = refused
        except Exception:
            log.exception("A request can't be prepared")
            error = EngineError("The request can't be prepared; the log has the cause.")
        self._inbox.put(Prepared(mark, choices, time.monotonic_ns(), error))

    def _fetch(self, choices: list[Choice]) -> None:
        """What the disk has of these prompts comes into memory."""
        engine = self._engine
        if engine is None or engine.keeper is None:
            return
        seen: list[int] = []
        for choice in choices:
            if choice.sequence.tokens != seen:
                seen = choice.sequence.tokens
                engine.keeper.fetch(seen, engine.scheduler.token_ns)

    def _prepare_texts(self, mark: Mark, operation: core.Embed | core.Rerank) -> None:
        def job() -> embedding.Job:
            model = self._model()
            return embedding_texts.prepare(model, mark.number, operation, time.monotonic_ns, lambda: mark.cancelled)

        made = self._tried(job)
        if isinstance(made, embedding.Job) and made.open:
            self._inbox.put(made)
            return
        self._marks.pop(mark.number, None)
        if not mark.cancelled:
            self._outlet.reply(mark.number, made if isinstance(made, HeylookError) else made.answer())

    def _reply(self, call: int, operation: Quick) -> None:
        self._outlet.reply(call, self._tried(lambda: self._answer_of(operation)))

    @staticmethod
    def _tried(work: Callable[[], T]) -> T | HeylookError:
        """What the work of a call gives, or the error to be told."""
        try:
            return work()
        except HeylookError as error:
            return error
        except Exception:
            log.exception("A call failed")
            return EngineError("The operation failed; the log has the cause.")

    def _answer_of(self, operation: Quick) -> core.Answer:
        model = self._model()
        match operation:
            case core.Tokenize():
                tokens = model.counted(operation.prompt)
                words = images.words(tokens)
                pieces = tuple(map(model.pieces.of, words)) if operation.with_pieces else ()
                return core.Tokens(tuple(words), pieces, len(tokens) - len(words))
            case core.Detokenize():
                return core.Rendered(model.pieces.join(model.tokens_of(core.TokenPrompt(operation.tokens))))
            case core.Render():
                return core.Rendered(model.shown(operation.prompt))
            case core.Stats():
                return core.Measured(self._stats(sequences=True))
            case _:
                assert_never(operation)

    def _model(self) -> Model:
        if self._words is not None:
            return self._words
        if self._engine is None:
            raise errors.ProtocolError("The model isn't loaded yet.")
        return self._engine.model


def _shown(error: Exception) -> HeylookError:
    """What a client is told of an error of the engine."""
    if isinstance(error, HeylookError):
        return error
    return EngineError("The engine failed while computing this request; the log has the cause.")


def _report_progress(sequence: Sequence, events: list[tuple[int, core.Event]]) -> None:
    """A prefill of several steps says how far it is; one that is repeated after a preemption doesn't."""
    if not sequence.output_tokens:
        events.append((sequence.request, _progress(sequence)))


def _progress(sequence: Sequence) -> core.Progress:
    """How far its prompt is, all of it before its first token."""
    return core.Progress(
        sequence.choice,
        sequence.computed,
        sequence.prompt_tokens,
        sequence.cached_tokens,
        sequence.stamps.dropped_tokens,
        sequence.times(),
        prompt_logprobs=_scores(sequence) if sequence.noted and sequence.output_tokens <= 1 else (),
    )


def _scores(sequence: Sequence) -> tuple[core.TokenLogprob, ...]:
    """Its prompt's log probabilities, once they are all known."""
    scores = sequence.scores
    return scores.told() if scores is not None and scores.complete else ()


def _begun(choice: Choice) -> core.Progress | None:
    """What is said of a prompt before its answer begins; None: nothing."""
    sequence = choice.sequence
    prompt, text = (choice.prompt_tokens, choice.prompt_text) if sequence.noted else ((), "")
    if not (sequence.stamps.dropped_tokens or prompt or choice.left_out):
        return None
    return msgspec.structs.replace(_progress(sequence), prompt=prompt, prompt_text=text, left_out=choice.left_out)


def _keeper(load: core.Load, provider: Provider) -> Keeper | None:
    """What keeps prefixes outside the pool, as configured."""
    memory_bytes = _number(load.options, "prefix_memory_bytes", 0)
    disk_bytes = _number(load.options, "prefix_disk_bytes", 0)
    if provider.sharing == "none" or not (memory_bytes or disk_bytes):
        return None
    disk: Disk | None = None
    if disk_bytes:
        folder = prefix_files.folder_of(load.model, load.options.get("prefix_folder"))
        identity = prefix_files.identity_of(Path(load.path), load.options, _engine(load, provider))
        disk = Disk(folder, disk_bytes, identity)
    return Keeper(provider, time.monotonic_ns, memory_bytes=memory_bytes, disk=disk)


def _engine(load: core.Load, provider: Provider) -> str:
    """What computes, in which versions; and the pool's size, where a model's positions hang on it."""
    packages = [*ENGINES[load.provider], *(EYES[load.provider] if provider.images is not None else ())]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    stretched = any(key.endswith("rope.scaling.original_context_length") for key in provider.info.metadata)
    return f"{load.provider} {versions} {provider.info.kv_tokens if stretched else ''}"


def _speculator(model: Model, options: dict[str, object]) -> Speculator | None:
    """What guesses ahead. Raises LoadFailed where that is configured and the model can't take guesses back."""
    lookup = bool(options.get("prompt_lookup"))
    if model.provider.max_drafts:
        most = _number(options, "num_draft_tokens", DRAFT_TOKENS)
        provider = model.provider
        return Speculator(
            most=most,
            max_drafts=provider.max_drafts,
            alone=provider.drafts_alone,
            lookup=lookup,
            drafter=provider.drafter,
        )
    if lookup:
        raise errors.LoadFailed(
            f"Model '{model.name}' can't guess ahead: its context memory can't take back single tokens, as that of a "
            "recurrent model or a sliding window can't. Remove `prompt_lookup` from its configuration."
        )
    return None


def _number(options: dict[str, object], name: str, default: int) -> int:
    value = options.get(name)
    return value if isinstance(value, int) and value > 0 else default


def _throttled(outlet: Outlet) -> Callable[[float], None]:
    """Sends load progress at most every PROGRESS_SECONDS."""
    last = 0.0

    def progress(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last = now
            outlet.send(core.LoadProgress(fraction))

    return progress


def _has_images(body: core.Request) -> bool:
    chats = (prompt for prompt in body.prompts if isinstance(prompt, core.ChatPrompt))
    return any(
        isinstance(part, core.ImagePart) for chat in chats for message in chat.messages for part in message.parts
    )


def _may_be_guided(body: core.Request) -> bool:
    chats = (prompt for prompt in body.prompts if isinstance(prompt, core.ChatPrompt))
    return body.constraint is not None or any(
        chat.tools and (chat.tool_choice.mode == "required" or any(tool.strict for tool in chat.tools))
        for chat in chats
    )


def _settle() -> None:
    """What is loaded stays; collections need not look at it, and come seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


# ---- the process -----------------------------------------------------------------------------------------------------


def _take_stdout() -> int:
    """The descriptor for frames; what a library prints to stdout goes to stderr from now on."""
    frames = os.dup(1)
    os.set_inheritable(frames, False)
    os.dup2(2, 1)
    return frames


def _follow_parent() -> None:
    """End when the parent does. Linux tells us; elsewhere a thread looks whose child we are."""
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)
        return
    threading.Thread(target=_watch_parent, args=(parent,), name="parent", daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)


def main() -> NoReturn:
    """Run the worker on this process's stdin and stdout."""
    frames = _take_stdout()
    _follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    sys.setswitchinterval(SWITCH_SECONDS)
    Worker(0, Outlet(frames)).run()


if __name__ == "__main__":
    main()
