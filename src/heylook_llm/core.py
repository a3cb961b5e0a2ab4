"""The vocabulary that every part of heylookllm speaks: Request, Event, Timeline, and the frames that carry them.

Nothing here knows a dialect, an engine or a process. All types are values: frozen, compared by content, encoded as
msgpack arrays (`array_like`), so a field is only ever appended, with a default.

Times are nanoseconds of the monotonic clock, which all processes of one machine share; None is "did not happen".
"""

from typing import Any, Final, Literal

import msgspec

from heylook_llm import errors

MOST_CONTEXT_TOKENS: Final = 2**31 - 1
"""A context of more can't be asked for: engines count its tokens in 32 bits."""

# ---- what a client asks ----------------------------------------------------------------------------------------------


class TextPart(msgspec.Struct, frozen=True, array_like=True, tag="text"):
    """A piece of a message's text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, array_like=True, tag="image", weakref=True):
    """An image as the server decoded it: upright RGB pixels of 8 bits, row by row from the top."""

    rgb: bytes
    width: int
    height: int


Part = TextPart | ImagePart


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A call that an earlier assistant turn made. `arguments` is JSON text of an object."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One turn. `role` is system, developer, user, assistant or tool; `name` is the answering tool's, or the speaker's.

    A template that doesn't know the developer gets a system's turn.
    """

    role: str
    parts: tuple[Part, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class Tool(msgspec.Struct, frozen=True, array_like=True):
    """A function that the model may call. `parameters` is a JSON schema of an object; key order is kept."""

    name: str
    description: str | None = None
    """None: the client sent none."""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolChoice(msgspec.Struct, frozen=True, array_like=True):
    """Which tools may or must be called; `names` restricts the set, empty is all."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()
    parallel: bool = True


class Constraint(msgspec.Struct, frozen=True, array_like=True):
    """What the answer must look like. `source` is JSON schema text, a regex, a grammar, or a JSON list of choices."""

    kind: Literal["json_object", "json_schema", "regex", "lark", "gbnf", "choice"]
    source: str = ""
    strict: bool = False
    """Whether a keyword of a schema that can't be followed is refused; else it is left out."""


class ChatPrompt(msgspec.Struct, frozen=True, array_like=True, tag="chat"):
    """Messages for the model's chat template."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    thinking: bool | str | None = None
    """None: the model's own default; True/False: on/off; "low" ... "max": on, at that level."""
    template_arguments: dict[str, Any] = {}
    """Extra variables for the template, already restricted to the allowed names."""
    continue_last: bool = False
    """The last message is an assistant's and is to be continued, not answered."""
    template: str = ""
    """A template instead of the model's own."""
    thinking_budget: int | None = None
    """Tokens that the reasoning may have before it is ended; None: any number."""

    @property
    def reasoning_budget(self) -> int | None:
        """Tokens that the reasoning may have: none where it is off."""
        return 0 if self.thinking is False else self.thinking_budget


class TextPrompt(msgspec.Struct, frozen=True, array_like=True, tag="raw_text"):
    """Text as it stands, without a template. Special tokens in it are parsed when `parse_special`."""

    text: str
    suffix: str = ""
    add_special: bool = True
    parse_special: bool = True


class TokenPrompt(msgspec.Struct, frozen=True, array_like=True, tag="tokens"):
    """Token ids as they stand."""

    tokens: tuple[int, ...]


class MixedPrompt(msgspec.Struct, frozen=True, array_like=True, tag="mixed"):
    """Texts and token ids in a row. `add_special`: a text that stands first begins as texts do."""

    pieces: tuple[str | int, ...]
    add_special: bool = True
    parse_special: bool = True


class InfillPrompt(msgspec.Struct, frozen=True, array_like=True, tag="infill"):
    """A place in a text: what stands before it and behind it, and how what belongs there begins.

    What doesn't fit is left out: other files first, then what is farthest from the place.
    """

    prefix: str
    suffix: str
    start: str = ""
    files: tuple[tuple[str, str], ...] = ()
    """Names and texts of other files that may help, the most useful last."""


Prompt = ChatPrompt | TextPrompt | TokenPrompt | MixedPrompt | InfillPrompt


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is chosen and when to stop. None is "the model's default" wherever it is allowed."""

    max_tokens: int | None = None
    """None: until end of text or of the context."""
    temperature: float | None = None
    """0 is greedy."""
    top_k: int | None = None
    """0 is off."""
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_tokens: int | None = None
    """Window of the penalties in tokens; 0 is off, -1 the whole context."""
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = None
    """None: random. Choice number i of a request samples with seed + i."""
    logit_bias: dict[int, float] = {}
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    include_stop: bool = False
    """Whether a stop string that ended the text is left in it."""
    ignore_eos: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    """None: no log probabilities; 0: of the chosen token; k: also of the k likeliest."""
    top_n_sigma: float | None = None
    """Keeps what lies within so many standard deviations of the likeliest; 0 is off."""
    xtc_probability: float | None = None
    """How often all but the least of the tokens above `xtc_threshold` are left out; 0 is off."""
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    """The temperature moves by so much, up or down, with the distribution's entropy; 0 is off."""
    dynatemp_exponent: float | None = None
    dry_multiplier: float | None = None
    """DRY: a token that prolongs a repetition of `dry_allowed_length` or more tokens loses multiplier * base^(more).

    0 is off. Repetitions are looked for in the last `dry_penalty_last_n` tokens and end at a breaker.
    """
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    """-1: the whole context."""
    dry_sequence_breakers: tuple[str, ...] | None = None
    adaptive_target: float | None = None
    """Draws tokens whose probability is near this one; 0 is off."""
    adaptive_decay: float | None = None
    time_limit_seconds: float | None = None
    """Once it took so long since its first token, the answer ends where its line does. Raw prompts only."""
    least_indent: int = 0
    """The answer ends at a line, but its first, that begins with less white space. Raw prompts only."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What a client asked, free of dialect.

    Choices are numbered `prompt_index * n + j`; their events may interleave.
    """

    id: str
    model: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    n: int = 1
    priority: int = 0
    """Higher goes first among the waiting; 0 is interactive, negative is background."""
    truncate: Literal["refuse", "oldest"] = "refuse"
    """What to do with a prompt longer than the context: refuse it, or drop the oldest messages (text: tokens)."""
    shift: bool = False
    """When the context is full while generating: shift it (Ollama) instead of ending with "length"."""
    n_ctx: int | None = None
    """The context that the client asked for, in tokens; at most what is loaded."""
    echo: bool = False
    received_ns: int = 0
    """When the server received it; starts the Timeline."""
    before: tuple[int, ...] = ()
    """Token ids of an earlier exchange, which stand before each prompt (Ollama's `context`)."""
    fallback: Sampling = Sampling()
    """The dialect's own defaults: taken where neither `sampling` nor the model itself says anything."""
    draft_limit: int | None = None
    """Most tokens guessed ahead at a time; 0: none; None: as configured."""
    keep_tokens: int | None = None
    """Tokens of the prompt's beginning that a shift keeps; negative: the whole prompt; None: a few."""
    prediction: str = ""
    """What the client expects as answer: guessed from, and without effect on what is answered."""
    note_progress: bool = False
    """Whether each step is told, with its times, and where `echo` is set the prompt before the answer begins."""
    prompt_logprobs: int | None = None
    """As Sampling.logprobs, of the prompt's own tokens: they are then computed whatever is known of its beginning."""


# ---- what happens to it ----------------------------------------------------------------------------------------------


class TopLogprob(msgspec.Struct, frozen=True, array_like=True):
    """One alternative: token id, its bytes, the natural logarithm of its probability."""

    token: int
    piece: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """The chosen token and its alternatives, likeliest first."""

    token: int
    piece: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()
    rank: int = 0
    """How many tokens are likelier, and one; known of prompts only."""


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of one choice. `prompt` is the whole prompt, `cached` the part of it that wasn't computed again."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0


class PrefillChunk(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of this choice that one engine step computed together: of its prompt, or set to follow in its answer."""

    start_ns: int
    end_ns: int
    tokens: int
    step_tokens: int = 0
    """What the step computed of all sequences; 0: not noted."""


class DecodeSteps(msgspec.Struct, frozen=True, array_like=True):
    """The steps that decoded one choice, packed: arrays of the machine's own integers, one entry for each step.

    A step draws one token, and one more for each guess that turned out right. `drafted` and `accepted` are empty where
    nothing was guessed. Steps that computed several known tokens are in Timeline.prefill, whatever they drew.
    """

    ends_us: bytes = b""
    """uint32: microseconds from the step's predecessor's end to its own; the first's from first_token_ns."""
    batch_sizes: bytes = b""
    """uint16: sequences that decoded in it."""
    drafted: bytes = b""
    """uint8."""
    accepted: bytes = b""
    """uint8."""
    busy_us: bytes = b""
    """uint32: how long the engine computed the step. Empty, as the next: not noted (Load.note_steps)."""
    step_tokens: bytes = b""
    """uint32: what the step computed of all sequences, prompts and guesses among it."""


BLOCK_TOKENS = 64
"""Of Timeline.prompt_blocks."""
BLOCK_HASH_BYTES = 8

CachedFrom = Literal["running", "ended", "memory", "disk"]


class Timeline(msgspec.Struct, frozen=True, array_like=True):
    """When each thing happened to one choice, in nanoseconds of the monotonic clock; None: it did not happen."""

    received_ns: int | None = None
    parsed_ns: int | None = None
    load_start_ns: int | None = None
    load_end_ns: int | None = None
    submitted_ns: int | None = None
    """The server wrote it to the worker."""
    rendered_ns: int | None = None
    tokenized_ns: int | None = None
    queued_ns: int | None = None
    admitted_ns: int | None = None
    prefill: tuple[PrefillChunk, ...] = ()
    first_token_ns: int | None = None
    """The first output token was sampled."""
    first_byte_ns: int | None = None
    """The first byte of output was handed to the socket."""
    last_token_ns: int | None = None
    closed_ns: int | None = None
    preemptions: int = 0
    dropped_tokens: int = 0
    """Prompt tokens that truncation or a context shift left out; estimated where the text was many contexts long."""
    steps: int = 0
    batch_sizes_seen: dict[int, int] = {}
    """Batch size -> how many of this choice's decode steps ran at that size."""
    kv_cells: int | None = None
    draft_tokens: int = 0
    """Tokens that were guessed and computed behind the last one; `accepted_tokens` of them turned out drawn."""
    accepted_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed, because another request had them computed or just did."""
    cached_from: CachedFrom | None = None
    """From whom: a request that was running, one that had ended, or a state saved outside the pool."""
    shared_with: str = ""
    """The id of the running request."""
    decode: DecodeSteps = DecodeSteps()
    """The first of the choice's decode steps; `steps` counts all."""
    flush_ns: int | None = None
    """How long the answer waited for the socket to take it."""
    all_tokens_ns: int | None = None
    """The last token of all choices."""
    ready_ns: int | None = None
    """Its schema had been tried and its images read; from here it waited for the model."""
    encoded_ns: int | None = None
    """Its images had become what the engine computes, or were found to have before."""
    images_ns: int | None = None
    """Its images were fetched and decoded."""
    peak_bytes: int | None = None
    """The most main memory that the model's process held while it had it, by readings each second and at its end."""
    prompt_blocks: bytes = b""
    """A keyed hash of each first part of its prompt (worker/blocks.py), of choice 0; empty: not noted."""


class Times(msgspec.Struct, frozen=True, array_like=True):
    """When the steps of a choice were so far, in nanoseconds of the monotonic clock; None: there was none."""

    at_ns: int
    """The end of the last one."""
    admitted_ns: int | None
    first_token_ns: int | None
    output_tokens: int
    """Tokens of the answer so far."""
    rendered_ns: int | None = None
    tokenized_ns: int | None = None
    queued_ns: int | None = None


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """Prefill advanced: tokens computed so far, of how many, and how many came from a cache.

    The last one says all of them, before the answer's first token; only Request.note_progress has more follow.
    """

    choice: int
    processed_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    dropped_tokens: int = 0
    """Of the prompt as it was asked: left out, so that the rest fits."""
    times: Times | None = None
    """From the first step on."""
    prompt: tuple[int, ...] = ()
    """The prompt's ids, where they are wanted before the answer."""
    prompt_text: str = ""
    left_out: tuple[str, ...] = ()
    """Keywords of the tools' schemas that the model's calls can't be held to."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Of all of the prompt's tokens, once, where each step is told; the first's number says nothing."""


class Text(msgspec.Struct, frozen=True, array_like=True, tag="content"):
    """Text of the answer: whole characters. `tokens` are the ids that it took, which may be none or many."""

    choice: int
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Reasoning(msgspec.Struct, frozen=True, array_like=True, tag="reasoning"):
    """Text of the reasoning before the answer, without its tags."""

    choice: int
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallStart(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """The model begins to call a tool. `index` counts the calls of this choice from 0."""

    choice: int
    index: int
    id: str
    name: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallArgs(msgspec.Struct, frozen=True, array_like=True, tag="arguments"):
    """A piece of the JSON text of that call's arguments; the pieces together are one object."""

    choice: int
    index: int
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


FinishReason = Literal["stop", "length", "tool_calls"]


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """A choice ended well. `stop` is the stop string that ended it, or None.

    A Request ends when each of its `len(prompts) * n` choices is Done, or with one Failed.
    """

    choice: int
    reason: FinishReason
    usage: Usage
    timeline: Timeline
    stop: str | None = None
    prompt_tokens: tuple[int, ...] = ()
    """The prompt's ids, only where the dialect gives them back (Ollama's `context`, echo)."""
    prompt_text: str = ""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Of all of the prompt's tokens, where they are wanted, of its first choice; the first's number says nothing."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The whole Request ended with an error; no event follows for any of its choices."""

    error: "ErrorInfo"


Event = Progress | Text | Reasoning | ToolCallStart | ToolCallArgs | Done | Failed


class ErrorInfo(msgspec.Struct, frozen=True, array_like=True):
    """An error of the tree in `errors`, as a value: `kind` is the name of its class."""

    kind: str
    message: str
    code: str | None = None
    param: str | None = None
    retry_after_seconds: float | None = None
    limit_tokens: int = 0
    prompt_tokens: int = 0

    @staticmethod
    def of(error: errors.HeylookError) -> "ErrorInfo":
        """The value of an exception."""
        return ErrorInfo(
            type(error).__name__,
            error.message,
            error.code,
            error.param,
            error.retry_after_seconds,
            getattr(error, "limit_tokens", 0),
            getattr(error, "prompt_tokens", 0),
        )

    def exception(self) -> errors.HeylookError:
        """The exception of this value; an unknown kind becomes an EngineError."""
        kind = errors.every_kind().get(self.kind, errors.EngineError)
        error = kind(self.message, code=self.code, param=self.param, retry_after_seconds=self.retry_after_seconds)
        if isinstance(error, errors.ContextLengthExceeded):
            error.limit_tokens, error.prompt_tokens = self.limit_tokens, self.prompt_tokens
        return error


# ---- what a loaded model is ------------------------------------------------------------------------------------------


Pooling = Literal["", "mean", "cls", "last", "rank"]


class ModelInfo(msgspec.Struct, frozen=True, array_like=True):
    """What the engine itself says of the model it loaded. Unknown is None, never 0."""

    provider: str
    architecture: str
    n_ctx: int
    """Tokens that one sequence may have."""
    n_ctx_trained: int | None = None
    kv_tokens: int | None = None
    """Cells of the pool that all sequences share."""
    n_parallel: int = 1
    n_vocab: int | None = None
    n_layers: int | None = None
    n_layers_gpu: int | None = None
    n_embedding: int | None = None
    n_parameters: int | None = None
    quantization: str | None = None
    weights_bytes: int | None = None
    kv_bytes: int | None = None
    gpu_bytes: int | None = None
    chat_template: str = ""
    capabilities: tuple[str, ...] = ()
    """Of completion, chat, tools, thinking, insert, vision, embedding, rerank."""
    metadata: dict[str, Any] = {}
    """The file's own metadata: plain values, long arrays left out."""
    pooling: Pooling = ""
    """How the model makes one vector, or a score, of a text's tokens; empty: it computes neither."""
    bos_token: str = ""
    """The text of the token that begins a text; empty: the vocabulary has none."""
    eos_token: str = ""
    defaults: Sampling = Sampling()
    """What a request that says nothing is sampled with."""


class SequenceStats(msgspec.Struct, frozen=True, array_like=True):
    """One live choice inside a worker."""

    request: int
    choice: int
    state: Literal["waiting", "running", "preempted"]
    prompt_tokens: int
    processed_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    remaining_tokens: int | None = None
    """How many more it may say by its limit; None: it has none."""


class WorkerStats(msgspec.Struct, frozen=True, array_like=True):
    """What a worker did and does; counters only grow."""

    steps: int = 0
    """Engine steps; the watchdog reads it: no growth while sequences are live is a stall."""
    waiting: int = 0
    running: int = 0
    batch_size: int = 0
    kv_used_tokens: int = 0
    kv_retained_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    resident_bytes: int | None = None
    busy_ns: int = 0
    sequences: tuple[SequenceStats, ...] = ()
    images: int = 0
    """Images that were encoded, each as often as what came of it had been given up again."""
    at_ns: int = 0
    """When these were so."""
    peak_resident_bytes: int | None = None
    """The most main memory that the process ever held."""


# ---- unary operations: one question, one answer ----------------------------------------------------------------------


class Tokenize(msgspec.Struct, frozen=True, array_like=True, tag="tokenize"):
    """Prompt -> Tokens."""

    prompt: Prompt
    with_pieces: bool = False


class Detokenize(msgspec.Struct, frozen=True, array_like=True, tag="detokenize"):
    """Token ids -> Rendered."""

    tokens: tuple[int, ...]


class Render(msgspec.Struct, frozen=True, array_like=True, tag="render"):
    """ChatPrompt -> Rendered, by the model's template."""

    prompt: ChatPrompt


class Embed(msgspec.Struct, frozen=True, array_like=True, tag="embed"):
    """Prompts -> Vectors, pooled as the model does."""

    prompts: tuple[Prompt, ...]
    normalize: bool = True
    """Give each vector the length 1."""
    dimensions: int | None = None
    """Keep so many of the first numbers of each vector; at least as many as there are: all."""
    truncate: bool = False
    """Cut a text that is too long at its end, instead of refusing it."""
    n_ctx: int | None = None
    """The context that the client asked for, in tokens; at most what is loaded."""
    received_ns: int = 0
    """When the server received it; starts the Timeline."""


class Rerank(msgspec.Struct, frozen=True, array_like=True, tag="rerank"):
    """A query and documents -> Scores: how well each answers it. Only for models that pool to a rank."""

    query: str
    documents: tuple[str, ...]
    truncate: bool = False
    """Cut a document that is too long at its end, instead of refusing it."""
    document_tokens: int | None = None
    """Cut each document to so many tokens."""
    received_ns: int = 0


class Stats(msgspec.Struct, frozen=True, array_like=True, tag="stats"):
    """-> WorkerStats with its sequences."""


class FlushCache(msgspec.Struct, frozen=True, array_like=True, tag="flush"):
    """Drop every kept prefix, in the pool and out of it -> Flushed."""


Operation = Tokenize | Detokenize | Render | Embed | Stats | FlushCache | Rerank


class Tokens(msgspec.Struct, frozen=True, array_like=True, tag="tokens"):
    """Ids, and the bytes of each where asked."""

    tokens: tuple[int, ...]
    pieces: tuple[bytes, ...] = ()
    image_tokens: int = 0
    """Positions that the prompt's images take, beside these."""


class Rendered(msgspec.Struct, frozen=True, array_like=True, tag="rendered"):
    """Text."""

    text: str


class Vectors(msgspec.Struct, frozen=True, array_like=True, tag="vectors"):
    """One little-endian float32 vector per prompt, and how many tokens each prompt was."""

    vectors: tuple[bytes, ...]
    prompt_tokens: tuple[int, ...]
    timeline: Timeline = Timeline()


class Scores(msgspec.Struct, frozen=True, array_like=True, tag="scores"):
    """One logit per document, in their order: its sigmoid is how relevant the document is, 0 to 1."""

    scores: tuple[float, ...]
    prompt_tokens: tuple[int, ...]
    timeline: Timeline = Timeline()


class Measured(msgspec.Struct, frozen=True, array_like=True, tag="measured"):
    """The answer to Stats."""

    stats: WorkerStats


class Flushed(msgspec.Struct, frozen=True, array_like=True, tag="flushed"):
    """How many cells of the pool were given back, and bytes of states saved in memory and on disk."""

    tokens: int = 0
    saved_bytes: int = 0


Answer = Tokens | Rendered | Vectors | Measured | Flushed | Scores


# ---- frames: server -> worker ----------------------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """The first frame: which model, by which provider. `options` is the model's validated config as plain values."""

    model: str
    provider: str
    path: str
    options: dict[str, Any]
    limits: dict[str, int] = {}
    vocabulary_only: bool = False
    """Leave the weights on the disk: only Tokenize, Detokenize and Render will be asked."""
    system: str = ""
    """The system message of conversations that begin with none."""
    messages: tuple[Message, ...] = ()
    """What every conversation begins with, behind its system message."""
    hash_key: bytes = b""
    """What prompts are hashed with; empty: they aren't."""
    note_steps: bool = False
    """Whether Timelines say how long each step took and what it computed in all, which energy is shared out by."""


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Generate; events come back under `request`, a number that the server chose."""

    request: int
    body: Request


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Stop that request or call; nothing more is sent for it. Unknown numbers are ignored."""

    request: int


class Call(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """A unary operation; the Answer or the Failure comes back under `call`."""

    call: int
    operation: Operation


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Answered by a Pong from the thread that reads frames, not from the step loop."""

    nonce: int


Downward = Load | Submit | Cancel | Call | Ping


# ---- frames: worker -> server ----------------------------------------------------------------------------------------


class LoadProgress(msgspec.Struct, frozen=True, array_like=True, tag="loading"):
    """How much of the model is loaded, 0 to 1."""

    fraction: float


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The model is loaded; requests are taken from now on."""

    info: ModelInfo


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The model can't be loaded; the process ends after this frame."""

    error: ErrorInfo


class Step(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """All events of one engine step, as (request number, event), in order."""

    events: tuple[tuple[int, Event], ...]


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """The answer to a Call."""

    call: int
    answer: Answer


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="failure"):
    """A Call failed."""

    call: int
    error: ErrorInfo


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    """The answer to a Ping, with the counters as of now."""

    nonce: int
    stats: WorkerStats


Upward = LoadProgress | Ready | Refused | Step | Returned | Failure | Pong


# ---- a whole reply is a fold of the stream ---------------------------------------------------------------------------


class ChoiceResult(msgspec.Struct, frozen=True):
    """One choice, whole."""

    index: int
    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    done: Done
    pieces: tuple[Text | Reasoning | ToolCallStart | ToolCallArgs, ...] = ()
    """All of it as it came, for dialects whose replies keep the order."""


class Result(msgspec.Struct, frozen=True):
    """A Request's whole reply: its choices in order, and their usage summed."""

    choices: tuple[ChoiceResult, ...]
    usage: Usage
    timeline: Timeline


class _OpenChoice:
    """One choice while its events arrive."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[tuple[str, str, list[str]]] = []
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.pieces: list[Text | Reasoning | ToolCallStart | ToolCallArgs] = []
        self.done: Done | None = None

    def feed(self, event: Text | Reasoning | ToolCallStart | ToolCallArgs) -> None:
        self.tokens.extend(event.tokens)
        self.logprobs.extend(event.logprobs)
        self.pieces.append(event)
        match event:
            case Text():
                self.text.append(event.text)
            case Reasoning():
                self.reasoning.append(event.text)
            case ToolCallStart():
                self.calls.append((event.id, event.name, []))
            case ToolCallArgs():
                self.calls[event.index][2].append(event.text)

    def result(self, index: int) -> ChoiceResult:
        if self.done is None:
            raise errors.ProtocolError(f"Choice {index} has no end.")
        return ChoiceResult(
            index,
            "".join(self.text),
            "".join(self.reasoning),
            tuple(ToolCall(id, name, "".join(pieces)) for id, name, pieces in self.calls),
            tuple(self.tokens),
            tuple(self.logprobs),
            self.done,
            tuple(self.pieces),
        )


class Fold:
    """Folds a Request's events into its Result; a Failed raises its exception."""

    def __init__(self, n: int = 1, prompts: int = 1) -> None:
        self._n = n
        self._choices = [_OpenChoice() for _ in range(n * prompts)]
        self._open = n * prompts

    @property
    def ended(self) -> bool:
        """Whether every choice is Done."""
        return self._open == 0

    def feed(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case Progress():
                return
            case Failed():
                raise event.error.exception()
            case Done():
                self._choices[event.choice].done = event
                self._open -= 1
            case Text() | Reasoning() | ToolCallStart() | ToolCallArgs():
                self._choices[event.choice].feed(event)

    def result(self) -> Result:
        """The whole reply; raises ProtocolError while a choice is open."""
        choices = tuple(choice.result(index) for index, choice in enumerate(self._choices))
        return Result(choices, total_usage([c.done.usage for c in choices], self._n), choices[0].done.timeline)


def total_usage(usages: list[Usage], n: int) -> Usage:
    """Usage of a whole Request: each prompt counted once (its first choice), outputs summed."""
    first_of_prompt = usages[::n]
    return Usage(
        prompt_tokens=sum(u.prompt_tokens for u in first_of_prompt),
        cached_tokens=sum(u.cached_tokens for u in first_of_prompt),
        output_tokens=sum(u.output_tokens for u in usages),
        reasoning_tokens=sum(u.reasoning_tokens for u in usages),
        draft_tokens=sum(u.draft_tokens for u in usages),
        accepted_tokens=sum(u.accepted_tokens for u in usages),
    )
