"""The Provider protocol: loaded weights as the scheduler sees them.

A provider knows tokens and KV cells; nothing of HTTP, dialects, queues or text. All methods but `encode`, `piece`,
`control` and `special` are called from one thread, the step loop's. `encode` may be called from others at the same
time, and so are the methods of `images`.

The provider owns the *slots*: sequence ids 0 .. slots - 1 in the engine's KV memory. The scheduler decides what is in
each slot and what one step computes; the provider computes it.
"""

from collections.abc import Sequence as Seq
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from heylook_llm import core
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.scores import Scores

State = bytes | memoryview
Floats = np.ndarray[Any, np.dtype[np.float32]]


class Feed(msgspec.Struct, frozen=True):
    """Tokens of one slot to compute in this step, from position `start`. Negative ones are of images (ImageReader).

    `sample`: the last of them yields logits, and a next token is drawn from them.
    `drafts`: so many of the last are only guesses of what will be drawn. A token is drawn behind the last sure one, and
    behind each guess as long as the draws before it were what was guessed. So a feed has 1 to 1 + drafts draws.
    `scores`: what is noted of the tokens of a prompt that stand behind each of these.
    """

    slot: int
    start: int
    tokens: tuple[int, ...]
    sample: bool
    drafts: int = 0
    scores: Scores | None = None

    @property
    def guessed(self) -> tuple[int, ...]:
        """The guesses among its tokens."""
        return self.tokens[len(self.tokens) - self.drafts :]


class Drawn(msgspec.Struct, frozen=True):
    """A token drawn for a slot; `logprob` is filled where the slot's sampling asks for it.

    `complete`: the slot's guide allows nothing but the end after it.
    """

    slot: int
    token: int
    logprob: core.TokenLogprob | None = None
    complete: bool = False


class EmbeddingBounds(msgspec.Struct, frozen=True):
    """What one call of `embed` may compute.

    `whole`: tokens look at those behind them, so a text can't be cut; a longer one than `batch_tokens` comes alone.
    """

    batch_tokens: int
    batch_inputs: int
    whole: bool = False


class Wanted(NamedTuple):
    """What a drafter is asked: the sequence's tokens so far, in its slot, and how many to guess at most."""

    slot: int
    tokens: Seq[int]
    most: int


class InfillMarks(NamedTuple):
    """The tokens between the parts of a prompt that asks for what stands between a prefix and a suffix."""

    prefix: int
    suffix: int
    middle: int
    repository: int | None = None
    """Before the name of a project."""
    file: int | None = None
    """Before the name and the text of each of its files."""
    begin: tuple[int, ...] = ()
    """What begins any text."""


class Drafter(Protocol):
    """A smaller model with the same vocabulary, which guesses what a provider's sequences say next."""

    def draft(self, wanted: Seq[Wanted]) -> list[tuple[int, ...] | None]:
        """Guesses for each; fewer or none where it isn't sure, None where it hasn't read the tokens yet."""
        ...


class ImageReader(Protocol):
    """Makes images fit for a provider; called by preparers.

    Its ids are those of worker/images.py. What is fed of them is computed from rows, not from a vocabulary's.
    """

    whole: bool
    """An image's tokens look at those behind them too, so a run of ids must be fed in one step."""
    encoded: int
    """Images that went through the encoder so far."""

    def read(self, image: core.ImagePart) -> tuple[int, ...]:
        """What stands for an image in a prompt: its ids, and the model's own tokens around them. Quick.

        Raises BadRequest.
        """
        ...

    def encode(self, image: core.ImagePart) -> object:
        """Compute what its ids are fed from, or find it. The result must be held as long as they may be fed.

        Raises BadRequest, EngineError.
        """
        ...


class OutOfCells(Exception):
    """The pool has no room for this step's tokens; nothing was computed. The scheduler makes room and tries again."""


Sharing = Literal["any", "whole", "none"]
"""What of a slot's cells may be shared or kept: any first part; all of them, parts only sometimes; nothing.

The whole: of a recurrent state, or behind a sliding window. Nothing: as every provider may, to be compared with.
"""


class Provider(Protocol):
    """Loaded weights."""

    info: core.ModelInfo
    slots: int
    """Sequence ids: at least `info.n_parallel`; those beyond only keep prefixes."""
    sharing: Sharing
    spans_pool: bool
    """Whether a token's attention spans every used cell of the pool, so that those of others cost it time too."""
    tile: int
    """Tokens of a step that are computed together: one of fewer takes as long as one of so many. 1: each for itself."""
    defaults: core.Sampling
    """What a request that says nothing gets: the configuration's, else the model file's."""
    engine_defaults: core.Sampling
    """What is taken where neither the request, nor the model, nor the request's dialect says anything."""
    embedding: EmbeddingBounds | None
    """None: it computes neither vectors nor scores. How they are pooled is in `info.pooling`; empty: their mean."""
    max_drafts: int
    """Most guessed tokens of one step, of all slots together; 0: a slot's newest cells can't be removed."""
    scored_tokens: int
    """Most tokens of a step's feeds with scores, which has no guesses then."""
    drafts_alone: bool
    """Guesses take a pass for their slot only, so that they pay only where one sequence decodes."""
    drafter: Drafter | None
    """None: no smaller model was loaded beside it."""
    images: ImageReader | None
    """None: it sees nothing."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Text to token ids."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes of a token as they appear in text; empty for control tokens."""
        ...

    def control(self, token: int) -> str:
        """The text of a control token, which doesn't appear in text; empty: it is none."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        ...

    @property
    def infill(self) -> InfillMarks | None:
        """The tokens that ask for the text between others; None: this model can't fill in."""
        ...

    def special(self, name: str) -> str:
        """The text of the vocabulary's "bos", "eos" or "eot" token; empty: it has none."""
        ...

    def warm(self, sampling: core.Sampling) -> None:
        """Prepare what takes long of a sampler of this kind, from any thread, before a sequence is queued with it."""
        ...

    def add(
        self,
        slot: int,
        sampling: core.Sampling,
        prompt: Seq[int],
        drawing: object = None,
        guide: Guide | None = None,
    ) -> None:
        """Take a slot into use: its sampler starts from this sampling, with `prompt` (tokens so far) as its history.

        `drawing` is what `release` gave back of the same sequence: drawing goes on from there, as if never interrupted.
        Every token that is drawn for the slot is one that its `guide` allows, and the guide is told of it.
        """
        ...

    def step(self, feeds: Seq[Feed]) -> list[Drawn]:
        """Compute one batch: all decoding slots and some prompt tokens. Raises OutOfCells, EngineError.

        The draws of a feed stand together, in order. The cells of all its tokens are computed; the scheduler removes
        those of wrong guesses.
        """
        ...

    def remove(self, slot: int, start: int = 0, end: int = -1) -> bool:
        """Forget the slot's KV cells of positions [start, end); -1 is the end. False: it can't be done partially."""
        ...

    def release(self, slot: int) -> object:
        """Give the sampler up, its cells stay until `remove` or reuse. Returns what `add` may take back, or None."""
        ...

    def share(self, source: int, target: int, end: int) -> bool:
        """Let `target` share the cells of `source` for positions [0, end). False: this model can't share there."""
        ...

    def shift(self, slot: int, start: int, end: int) -> bool:
        """Drop positions [start, end) and move the rest down. False: this model can't shift."""
        ...

    def embed(self, texts: Seq[Seq[int]], start: int = 0, longest: int = 0) -> list[Floats]:
        """One pass of its own, without the slots: the last layer's row of each token, [tokens, width] for each text.

        start > 0: the only text goes on behind the `start` tokens of the calls before; `longest` is how many it is in
        all. A model that ranks gives one row for each text, whose first number is its score as a logit.
        Raises InsufficientMemory, EngineError.
        """
        ...

    def pair(self, query: str, document: str) -> list[int]:
        """What a model that ranks reads of a query and a document. Raises UnsupportedFeature."""
        ...

    def state_bytes(self, slot: int) -> int:
        """The size of the slot's state."""
        ...

    def save(self, slot: int) -> State:
        """The slot's state, to be restored later, maybe by another process of the same file and settings.

        Raises EngineError, MemoryError.
        """
        ...

    def restore(self, slot: int, state: State) -> bool:
        """Put a saved state into an empty slot. False, and the slot is empty: there is no room, or it doesn't fit."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


def shown(provider: Provider, token: int) -> bytes:
    """The bytes of a token where it is shown for itself, as among log probabilities: control tokens by their name."""
    return provider.piece(token) or provider.control(token).encode()
