"""A Request to the sequences that answer it: refusals, rendering, tokens, truncation. Runs beside the step loop."""

import datetime
import functools
import string
from collections.abc import Callable
from collections.abc import Sequence as Seq
from random import Random
from typing import Final, NamedTuple

import msgspec

from heylook_llm import core, support
from heylook_llm.errors import BadRequest, Cancelled, ContextLengthExceeded, EngineError, UnsupportedFeature
from heylook_llm.worker import images, infill
from heylook_llm.worker.blocks import block_hashes
from heylook_llm.worker.constrain import Constraints
from heylook_llm.worker.formats.formats import Format, Marked
from heylook_llm.worker.formats.parser import Parser, ReasoningMode
from heylook_llm.worker.guide import Guide
from heylook_llm.worker.images import Marks
from heylook_llm.worker.lines import Lines, watched
from heylook_llm.worker.presets import Presets
from heylook_llm.worker.prompt import CHATML, CHATML_TOKENS, ChatTemplate, Rendering, offered
from heylook_llm.worker.providers.base import ImageReader, Provider, shown
from heylook_llm.worker.scores import Scores
from heylook_llm.worker.sequence import Sequence, Stamps, merged
from heylook_llm.worker.text import Budget, Decoder, Pieces

SHIFTING_CONTEXTS: Final = 10
"""A request that shifts its context and sets no limit ends after so many contexts of output, as Ollama's do."""
END_CHARACTERS_PER_TOKEN: Final = 8
"""Of a text that is to be cut, so many characters of its end for each token of the context are tokenized at first."""
END_MARGIN_TOKENS: Final = 64
"""A cut changes the tokens beside it; more than these are never of them."""
MAX_SCORES: Final = 200_000
"""Log probabilities of one prompt, some 40 MB of them in this process and as many in the server's."""
KEPT_TEMPLATES: Final = 8
"""Templates of requests that stay compiled."""
_HEAD_CHARACTERS: Final = 256
_SYSTEM_ROLES: Final = ("system", "developer")
_ID_CHARACTERS: Final = string.ascii_letters + string.digits


class Choice(NamedTuple):
    """A sequence and the text side of its output."""

    sequence: Sequence
    decoder: Decoder
    prompt_tokens: tuple[int, ...]
    """The prompt, where the request asked to have it echoed: a context shift drops some of the sequence's own."""
    prompt_text: str
    lines: Lines | None = None
    left_out: tuple[str, ...] = ()
    """Keywords of the tools' schemas that its calls aren't held to."""
    tells_end: bool = False
    """Whether the token that ends it has a log probability told: whoever asks for a prompt's with one token more, as
    lm-evaluation-harness does, counts on that token."""


class _Tokenized(NamedTuple):
    tokens: list[int]
    """All, or the first and those of the end, which are too many already."""
    whole_tokens: int
    """How many all are; estimated where only the end was tokenized."""
    reasoning: ReasoningMode
    rendered_ns: int
    dropped_tokens: int = 0
    images: Seq[core.ImagePart] = ()


class Model:
    """What is needed of a loaded model to prepare requests for it."""

    def __init__(
        self,
        name: str,
        provider: Provider,
        random: Random,
        now_ns: Callable[[], int],
        presets: Presets | None = None,
        *,
        hash_key: bytes = b"",
    ) -> None:
        """`hash_key`: what prompts are hashed with (worker/blocks.py); empty: they aren't."""
        self.name = name
        self.provider = provider
        self._presets = presets or Presets()
        self._templates = functools.lru_cache(KEPT_TEMPLATES)(self._compiled)
        self.template = self._chat_template()
        self.format: Format = self.template.format if self.template is not None else Marked()
        self.pieces = Pieces(self._shown)
        self.info = self._described()
        self._constraints = Constraints(provider, self.pieces.of)
        self._random = random
        self._now_ns = now_ns
        self._hash_key = hash_key

    def _chat_template(self) -> ChatTemplate | None:
        """The model's template; plain ChatML where it has none but its vocabulary has the tokens; else None."""
        provider = self.provider
        if "completion" not in provider.info.capabilities:  # some that embed hold the template of what they came from
            return None
        source = provider.info.chat_template
        if not source:
            known = (len(provider.encode(t, add_special=False, parse_special=True)) == 1 for t in CHATML_TOKENS)
            if not all(known):
                return None
            source = CHATML
        return self._compiled(source)

    def _compiled(self, source: str) -> ChatTemplate:
        return ChatTemplate(
            source,
            model=self.name,
            bos=self.provider.special("bos"),
            eos=self.provider.special("eos"),
            sees=self.provider.images is not None,
        )

    def _given(self, source: str) -> ChatTemplate:
        """A request's own template. Raises BadRequest."""
        try:
            return self._templates(source)
        except EngineError as error:
            raise BadRequest(error.message.replace(f" of model '{self.name}'", ""), param="template") from error

    def _shown(self, token: int) -> bytes:
        """The bytes of a token in an answer: of control tokens only the marks that its parser reads."""
        mark = self.provider.control(token)
        if mark in self.format.markup:
            return mark.encode()
        return self.provider.piece(token)

    def _described(self) -> core.ModelInfo:
        found = self.template.capabilities() if self.template is not None else ()
        if found and self.provider.images is not None:
            found = (*found, "vision")
        info = self.provider.info
        return msgspec.structs.replace(
            info,
            capabilities=tuple(dict.fromkeys((*info.capabilities, *found))),
            bos_token=self.provider.special("bos"),
            eos_token=self.provider.special("eos"),
            defaults=merged(self.provider.defaults, self.provider.engine_defaults),
        )

    @property
    def limit_tokens(self) -> int:
        """Tokens that one sequence may have."""
        return min(self.info.n_ctx, self.info.kv_tokens or self.info.n_ctx)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def prepare(
        self, number: int, request: core.Request, cancelled: Callable[[], bool] = lambda: False
    ) -> list[Choice]:
        """The choices of a request, in order. Raises the tree's exceptions; Cancelled where nobody waits any more."""
        raw = any(not isinstance(prompt, core.ChatPrompt) for prompt in request.prompts)
        if raw and "completion" not in self.info.capabilities:
            raise UnsupportedFeature(f'"{self.name}" does not support completion', param="model")
        sampling = self._sampling(request)
        prediction = self._prediction(request)
        choices: list[Choice] = []
        for at, asked in enumerate(request.prompts):
            prompt = self._presets.before(asked, continued=bool(request.before))
            tokenized = self._tokenized(prompt, request)
            tokenized_ns = self._now_ns()
            echoed = tuple(images.words(tokenized.tokens)) if request.echo else ()
            echoed_text = self.pieces.join(echoed)
            new_guide, left_out = self._guides(request.constraint, prompt, tokenized.reasoning)
            seen = self._encoded(tokenized.images, cancelled)
            encoded_ns = self._now_ns() if seen else None
            hashed = block_hashes(tokenized.tokens, self._hash_key)
            for j in range(request.n):
                sequence = Sequence(
                    number,
                    at * request.n + j,
                    tokenized.tokens,
                    _reseeded(sampling, j),
                    limit_tokens=self._limit(request),
                    priority=request.priority,
                    shift=request.shift,
                    stamps=_stamps(request, tokenized, tokenized_ns, encoded_ns, b"" if j else hashed),
                    keep_tokens=request.keep_tokens,
                    draft_limit=request.draft_limit if new_guide is None else _guided_draft_limit(request),
                    prediction=prediction,
                    guide=None if new_guide is None else new_guide(),
                    seen=seen,
                    noted=request.note_progress,
                    scores=None if j else self._scores(tokenized, request.prompt_logprobs),
                )
                decoder = self._decoder(sequence, prompt, tokenized.reasoning)
                lines = watched(sampling.least_indent, sampling.time_limit_seconds) if raw else None
                tells_end = raw and request.echo and request.prompt_logprobs is not None
                choices.append(Choice(sequence, decoder, echoed, echoed_text, lines, left_out, tells_end))
        return choices

    def _encoded(self, seen: Seq[core.ImagePart], cancelled: Callable[[], bool]) -> tuple[object, ...]:
        """What the engine computes these images' tokens from."""
        found: list[object] = []
        for image in seen:
            if cancelled():
                raise Cancelled("The client left.")
            found.append(self._reader.encode(image))
        return tuple(found)

    def _scores(self, prompt: _Tokenized, top: int | None) -> Scores | None:
        """Where the log probabilities of a prompt's tokens are noted; None: they aren't wanted. Raises BadRequest."""
        if top is None:
            return None
        if prompt.images:
            message = "The log probabilities of a prompt with images can't be told."
            raise BadRequest(message, param="prompt_logprobs")
        if len(prompt.tokens) * (1 + top) > MAX_SCORES:
            message = (
                f"At most {MAX_SCORES} log probabilities of a prompt are told: its tokens times one and `logprobs`."
            )
            raise BadRequest(message, param="logprobs")
        return Scores(prompt.tokens, top, shown(self.provider, prompt.tokens[0]))

    def _prediction(self, request: core.Request) -> tuple[int, ...]:
        """The tokens of what the client expects, as far as a context reaches."""
        if not request.prediction or not self.provider.max_drafts:
            return ()
        limit = self._limit(request)
        text = request.prediction[: limit * END_CHARACTERS_PER_TOKEN]
        return tuple(self.provider.encode(text, add_special=False, parse_special=False)[:limit])

    def _guides(
        self, constraint: core.Constraint | None, prompt: core.Prompt, mode: ReasoningMode
    ) -> tuple[Callable[[], Guide] | None, tuple[str, ...]]:
        """What makes the guides of a prompt's sequences, and the keywords that they don't follow.

        None: they may say anything.
        """
        reasons = True
        if isinstance(prompt, core.ChatPrompt) and self.template is not None:
            reasons = self.template.expects_reasoning(prompt.thinking)
        return self._constraints.guides(constraint, prompt, self.format, mode, reasons=reasons)

    def _sampling(self, request: core.Request) -> core.Sampling:
        sampling = request.sampling
        for defaults in (self.provider.defaults, request.fallback, self.provider.engine_defaults):
            sampling = merged(sampling, defaults)
        for name, reason in support.refused_fields(self.info.provider):
            if getattr(sampling, name):
                raise UnsupportedFeature(f'"{self.name}" does not support {name}: {reason}', param=name)
        self.provider.warm(sampling)
        if request.shift and sampling.max_tokens is None:
            return msgspec.structs.replace(sampling, max_tokens=SHIFTING_CONTEXTS * self._limit(request))
        return sampling

    def _decoder(self, sequence: Sequence, prompt: core.Prompt, reasoning: ReasoningMode) -> Decoder:
        parser: Parser | None = None
        budget: Budget | None = None
        if isinstance(prompt, core.ChatPrompt):
            parser = self.format.parser(reasoning, offered(prompt), parallel=prompt.tool_choice.parallel)
            budget = self._budget(prompt)
        return Decoder(
            sequence.choice,
            self.pieces,
            stop=sequence.sampling.stop,
            include_stop=sequence.sampling.include_stop,
            parser=parser,
            budget=budget,
            new_id=self._new_call_id,
        )

    def _budget(self, prompt: core.ChatPrompt) -> Budget | None:
        if prompt.reasoning_budget is None:
            return None
        conclusions = self.format.conclusions(tools=bool(offered(prompt)))
        encode = functools.partial(self.provider.encode, add_special=False, parse_special=True)
        return Budget(prompt.reasoning_budget, tuple(tuple(encode(text)) for text in conclusions))

    def _new_call_id(self) -> str:
        return "call_" + "".join(self._random.choices(_ID_CHARACTERS, k=24))

    def _limit(self, request: core.Request) -> int:
        return min(self.limit_tokens, request.n_ctx or self.limit_tokens)

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def render(self, prompt: core.ChatPrompt) -> Rendering:
        """A chat as text, by its own template or the model's."""
        if prompt.template:
            given = self._given(prompt.template)
            if not given.can_think:  # thinking is on where the model can and nothing was said of it
                prompt = msgspec.structs.replace(prompt, thinking=None)
            return given.render(prompt, datetime.datetime.now().astimezone())
        if self.template is None:
            raise UnsupportedFeature(
                f'"{self.name}" does not support chat: its file holds no chat template. '
                "Set `chat_template` in its configuration, or send a raw prompt.",
                param="messages",
            )
        return self.template.render(prompt, datetime.datetime.now().astimezone())

    def shown(self, prompt: core.ChatPrompt) -> str:
        """A chat as a request of it would be rendered, its images as they are shown."""
        begun = self._presets.before(prompt)
        assert isinstance(begun, core.ChatPrompt)
        rendering = self.render(begun)
        return rendering.marks.shown(rendering.text)

    def counted(self, prompt: core.Prompt) -> list[int]:
        """The token ids that a request of this prompt would have."""
        return self.tokens_of(self._presets.before(prompt))

    def tokens_of(self, prompt: core.Prompt) -> list[int]:
        """The token ids of any prompt."""
        match prompt:
            case core.ChatPrompt():
                rendering = self.render(prompt)
                return self._encode_chat(rendering.text, rendering.marks)
            case core.TextPrompt():
                return self._encode_text(prompt)
            case core.TokenPrompt():
                return self._checked_tokens(prompt)
            case core.MixedPrompt():
                return self._encode_mixed(prompt)
            case core.InfillPrompt():
                return self._infilled(prompt).tokens

    def _tokenized(self, prompt: core.Prompt, request: core.Request) -> _Tokenized:
        limit = self._limit(request)
        if request.before:
            return self._shortened(self._continued(prompt, request, limit), request, limit)
        if isinstance(prompt, core.ChatPrompt):
            return self._tokenized_chat(prompt, request, limit)
        rendered_ns = self._now_ns()
        if isinstance(prompt, core.InfillPrompt):
            fitting = self._infilled(prompt, infill.room(limit, request.sampling.max_tokens))
            whole = _Tokenized(fitting.tokens, len(fitting.tokens), "none", rendered_ns, fitting.dropped_tokens)
            return self._shortened(whole, request, limit)
        return self._shortened(_Tokenized(*self._bounded(prompt, request, limit), "none", rendered_ns), request, limit)

    def _continued(self, prompt: core.Prompt, request: core.Request, limit: int) -> _Tokenized:
        """A prompt's tokens after those of an earlier exchange, which began the text already."""
        before = self._checked_tokens(core.TokenPrompt(request.before))
        if not isinstance(prompt, core.ChatPrompt):
            rendered_ns = self._now_ns()
            tokens, count = self._bounded(prompt, request, limit)
            return _Tokenized([*before, *tokens], len(before) + count, "none", rendered_ns)
        rendering = self.render(prompt)
        rendered_ns = self._now_ns()
        if rendering.marks.images:
            tokens = self._encode_marked(rendering.text, rendering.marks, add_special=False)
            count = len(tokens)
        else:
            tokens, count = self._bounded(core.TextPrompt(rendering.text, add_special=False), request, limit)
        seen = tuple(rendering.marks.images)
        return _Tokenized([*before, *tokens], len(before) + count, rendering.reasoning, rendered_ns, images=seen)

    def _bounded(self, prompt: core.Prompt, request: core.Request, limit: int) -> tuple[list[int], int]:
        """The tokens of a prompt and their number; of a text that will be cut to `limit`, little more than remains."""
        if isinstance(prompt, core.TextPrompt) and request.truncate == "oldest":
            length = len(prompt.text) + len(prompt.suffix)
            return _end_tokens(length, limit, lambda characters: self._encode_end(prompt, characters))
        tokens = self.tokens_of(prompt)
        return tokens, len(tokens)

    @staticmethod
    def _shortened(whole: _Tokenized, request: core.Request, limit: int) -> _Tokenized:
        """Without the oldest tokens but the first, where they don't fit and the request allows it."""
        tokens = whole.tokens
        if not tokens:
            raise BadRequest("The prompt is empty, and this model has no token that begins a text.", param="prompt")
        if len(tokens) < limit:
            return whole
        if request.truncate == "refuse":
            raise ContextLengthExceeded(limit_tokens=limit, prompt_tokens=len(tokens))
        kept = [*tokens[:1], *tokens[images.run_end(tokens, len(tokens) - limit + 2) :]]
        return whole._replace(tokens=kept, dropped_tokens=whole.whole_tokens - len(kept))

    def _tokenized_chat(self, prompt: core.ChatPrompt, request: core.Request, limit: int) -> _Tokenized:
        """A chat's tokens; where they don't fit and the request allows it, without the fewest oldest turns."""
        may_cut = request.truncate == "oldest"
        whole = self._as_tokens(prompt, limit if may_cut else None)
        if len(whole.tokens) < limit:
            return whole
        starts = _later_starts(prompt.messages) if may_cut else []
        fitting: _Tokenized | None = None
        low, high = 0, len(starts)
        while low < high:
            middle = (low + high) // 2
            shorter = msgspec.structs.replace(prompt, messages=_from(prompt.messages, starts[middle]))
            if len((tried := self._as_tokens(shorter, limit)).tokens) < limit:
                fitting, high = tried, middle
            else:
                low = middle + 1
        if fitting is None:
            raise ContextLengthExceeded(limit_tokens=limit, prompt_tokens=whole.whole_tokens)
        return fitting._replace(dropped_tokens=whole.whole_tokens - len(fitting.tokens))

    def _as_tokens(self, prompt: core.ChatPrompt, limit: int | None) -> _Tokenized:
        """A chat's tokens; with a limit, of one that is far beyond it only the end's."""
        text, reasoning, marks = self.render(prompt)
        rendered_ns = self._now_ns()
        seen = tuple(marks.images)
        if limit is None:
            tokens = self._encode_chat(text, marks)
            return _Tokenized(tokens, len(tokens), reasoning, rendered_ns, images=seen)
        bounded = _end_tokens(len(text), limit, lambda characters: self._encode_chat(text[-characters:], marks))
        return _Tokenized(*bounded, reasoning, rendered_ns, images=seen)

    def _encode_chat(self, text: str, marks: Marks) -> list[int]:
        """A rendered chat's tokens; most templates write the token that begins a text themselves."""
        begin = self.provider.special("bos")
        begun = not begin or text.startswith(begin)
        return self._encode_marked(text, marks, add_special=not begun)

    def _encode_marked(self, text: str, marks: Marks, *, add_special: bool) -> list[int]:
        """The tokens of a text, and of the images in it."""
        if not marks.images:
            return self.provider.encode(text, add_special=add_special, parse_special=True)
        tokens: list[int] = []
        for at, piece in enumerate(marks.split(text)):
            if isinstance(piece, core.ImagePart):
                tokens += self._reader.read(piece)
            elif piece or not at:
                tokens += self.provider.encode(piece, add_special=add_special and not at, parse_special=True)
        if tokens[-1] < 0:  # what follows is drawn behind a text's token
            raise BadRequest("The prompt ends with an image, and it must end with text.", param="messages")
        return tokens

    @property
    def _reader(self) -> ImageReader:
        reader = self.provider.images
        assert reader is not None, "the template refuses images where nobody reads them"
        return reader

    def _encode_text(self, prompt: core.TextPrompt) -> list[int]:
        if not prompt.suffix:
            return self.provider.encode(prompt.text, add_special=prompt.add_special, parse_special=prompt.parse_special)
        return self._infilled(core.InfillPrompt(prompt.text, prompt.suffix)).tokens

    def _infilled(self, prompt: core.InfillPrompt, room_tokens: int | None = None) -> infill.Infill:
        """The tokens that ask for the text at a place, in so much room; None: all of them."""
        if self.provider.infill is None:
            raise UnsupportedFeature(f'"{self.name}" does not support insert', param="suffix")
        encode = functools.partial(self.provider.encode, add_special=False, parse_special=False)
        return infill.compose(self.provider.infill, encode, prompt, room_tokens)

    def _encode_mixed(self, prompt: core.MixedPrompt) -> list[int]:
        tokens: list[int] = []
        for at, piece in enumerate(prompt.pieces):
            if isinstance(piece, str):
                special = prompt.add_special and not at
                tokens += self.provider.encode(piece, add_special=special, parse_special=prompt.parse_special)
            else:
                tokens += self._checked_tokens(core.TokenPrompt((piece,)))
        return tokens

    def _encode_end(self, prompt: core.TextPrompt, characters: int) -> list[int]:
        """The tokens of the last so many characters, after the first token of the whole."""
        text, suffix = prompt.text, prompt.suffix[-characters:]
        remaining = max(0, characters - len(suffix))
        end = msgspec.structs.replace(prompt, text=text[max(0, len(text) - remaining) :])
        if suffix:  # begins with a token of its own
            return self._encode_text(msgspec.structs.replace(end, suffix=suffix))
        first = self._encode_text(msgspec.structs.replace(prompt, text=text[:_HEAD_CHARACTERS]))[:1]
        tokens = self._encode_text(end)
        return [*first, *tokens[1:]] if remaining < len(text) else tokens

    def _checked_tokens(self, prompt: core.TokenPrompt) -> list[int]:
        size = self.info.n_vocab or 0
        wrong = next((token for token in prompt.tokens if not 0 <= token < size), None)
        if wrong is not None:
            raise BadRequest(f"Token {wrong} is not one of this model's {size} tokens.", param="prompt")
        return list(prompt.tokens)


def _end_tokens(length: int, limit: int, encode: Callable[[int], list[int]]) -> tuple[list[int], int]:
    """The tokens of a text's end that are sure to exceed the limit, and how many the whole has, estimated.

    Of a shorter text all, and their number. `encode` gives the tokens of the last so many characters. A request may
    hold 64 MiB of text, of which tokenizing a context's worth is little, and tokenizing all takes many seconds.
    """
    taken = END_CHARACTERS_PER_TOKEN * limit
    while taken < length // 2:
        tokens = encode(taken)
        if len(tokens) >= limit + END_MARGIN_TOKENS:
            return tokens, len(tokens) * length // taken
        taken *= 4
    tokens = encode(max(1, length))
    return tokens, len(tokens)


def _reseeded(sampling: core.Sampling, j: int) -> core.Sampling:
    """The sampling of choice j: with its own seed, where one is set."""
    if sampling.seed is None or j == 0:
        return sampling
    return msgspec.structs.replace(sampling, seed=sampling.seed + j)


def _guided_draft_limit(request: core.Request) -> int | None:
    """No guesses where a budget may put other tokens in the place of guessed ones that a guide was told of."""
    budgets = any(isinstance(p, core.ChatPrompt) and p.reasoning_budget is not None for p in request.prompts)
    return 0 if budgets else request.draft_limit


def _stamps(
    request: core.Request, tokenized: _Tokenized, tokenized_ns: int, encoded_ns: int | None, hashed: bytes
) -> Stamps:
    return Stamps(
        received_ns=request.received_ns or None,
        rendered_ns=tokenized.rendered_ns,
        tokenized_ns=tokenized_ns,
        dropped_tokens=tokenized.dropped_tokens,
        request_id=request.id,
        encoded_ns=encoded_ns,
        prompt_blocks=hashed,
    )


def _later_starts(messages: tuple[core.Message, ...]) -> list[int]:
    """Where a conversation may begin instead, earliest first: at a user's message, as many templates demand.

    Within the last exchange, which may be a long run of calls, at any message; but a call's results go with the call.
    """
    begins = [at for at, message in enumerate(messages) if message.role not in (*_SYSTEM_ROLES, "tool")]
    last_user = max((at for at in begins if messages[at].role == "user"), default=-1)
    return [at for at in begins[1:] if messages[at].role == "user" or at > last_user]


def _from(messages: tuple[core.Message, ...], start: int) -> tuple[core.Message, ...]:
    """The messages from `start` on, and what the system said before."""
    return tuple(message for at, message in enumerate(messages) if at >= start or message.role in _SYSTEM_ROLES)
