"""The texts of an Embed or a Rerank as tokens: refusals, pairs, truncation at the end. Runs beside the step loop."""

from collections.abc import Callable
from typing import Final

from heylook_llm import core
from heylook_llm.errors import BadRequest, Cancelled, ContextLengthExceeded, UnsupportedFeature
from heylook_llm.worker.embedding import Job, check_size
from heylook_llm.worker.prepare import Model

CHARACTERS_PER_TOKEN: Final = 8
"""Of a text that may be too long, so many characters for each token of the limit are tokenized at first."""
MARGIN_TOKENS: Final = 64
"""A cut through the text changes the tokens beside it; more than these are never of them."""
WORD_CHARACTERS: Final = 16
_PROBE: Final = "a"


def prepare(
    model: Model,
    number: int,
    operation: core.Embed | core.Rerank,
    now_ns: Callable[[], int],
    cancelled: Callable[[], bool],
) -> Job:
    """The job of an operation. Raises the tree's exceptions; Cancelled where nobody waits for it any more."""
    _refuse(model, operation)
    count = len(operation.documents if isinstance(operation, core.Rerank) else operation.prompts)
    check_size(operation, count, model.info.n_embedding)
    texts: list[list[int]] = []
    dropped = 0
    for at in range(count):
        if cancelled():
            raise Cancelled("The client left.")
        if isinstance(operation, core.Rerank):
            tokens, cut = _pair(model, operation, at)
        else:
            tokens, cut = _text(model, operation, at)
        texts.append(tokens)
        dropped += cut
    stamp = now_ns()
    received = operation.received_ns or None
    stamps = core.Timeline(received_ns=received, tokenized_ns=stamp, queued_ns=stamp, dropped_tokens=dropped)
    return Job(number, operation, texts, stamps)


def _refuse(model: Model, operation: core.Embed | core.Rerank) -> None:
    ranks = model.info.pooling == "rank"
    if model.provider.embedding is None:
        what = "rerank" if isinstance(operation, core.Rerank) else "embeddings"
        raise UnsupportedFeature(f'"{model.name}" does not support {what}', param="model")
    if isinstance(operation, core.Rerank) and not ranks:
        raise UnsupportedFeature(
            f'"{model.name}" does not support rerank: it is not a model that ranks documents.', param="model"
        )
    if isinstance(operation, core.Embed) and ranks:
        raise UnsupportedFeature(
            f'"{model.name}" does not support embeddings: it ranks documents, by POST /v1/rerank.', param="model"
        )


# ---- texts -----------------------------------------------------------------------------------------------------------


def _text(model: Model, operation: core.Embed, at: int) -> tuple[list[int], int]:
    """(tokens of a prompt, how many were cut off)."""
    prompt = operation.prompts[at]
    limit = min(model.limit_tokens, operation.n_ctx or model.limit_tokens)
    tokens, count = _bounded(model, prompt, limit)
    if not tokens:
        raise BadRequest(
            f"input[{at}] is empty, and this model has no token that begins or ends a text.", param="input"
        )
    if count <= limit:
        return tokens, 0
    if not operation.truncate:
        raise _too_long(f"your input[{at}]", limit, count)
    tail = _tail(model, prompt)
    return [*tokens[: limit - len(tail)], *tail], count - limit


def _all(model: Model, prompt: core.Prompt) -> tuple[list[int], int]:
    tokens = model.tokens_of(prompt)
    return tokens, len(tokens)


def _bounded(model: Model, prompt: core.Prompt, limit: int) -> tuple[list[int], int]:
    """The tokens of a prompt and their number; of a long text those of its beginning, and an estimate."""
    if not isinstance(prompt, core.TextPrompt):
        return _all(model, prompt)
    text, special = prompt.text, prompt.parse_special
    taken = CHARACTERS_PER_TOKEN * limit
    while taken < len(text) // 2:
        tokens = model.provider.encode(text[:taken], add_special=prompt.add_special, parse_special=special)
        if len(tokens) >= limit + MARGIN_TOKENS:
            return tokens, len(tokens) * len(text) // taken
        taken *= 4
    return _all(model, prompt)


def _tail(model: Model, prompt: core.Prompt) -> list[int]:
    """The tokens that end each text of this model, such as BERT's [SEP]: a text that is cut keeps them."""
    if not isinstance(prompt, core.TextPrompt) or not prompt.add_special:
        return []
    bare = model.provider.encode(_PROBE, add_special=False, parse_special=False)
    whole = model.provider.encode(_PROBE, add_special=True, parse_special=False)
    ends = (at + len(bare) for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return whole[next(ends, len(whole)) :]


def _too_long(what: str, limit: int, count: int) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"This model's maximum context length is {limit} tokens. However, {what} resulted in {count} tokens.",
        limit_tokens=limit,
        prompt_tokens=count,
    )


# ---- pairs -----------------------------------------------------------------------------------------------------------


def _pair(model: Model, operation: core.Rerank, at: int) -> tuple[list[int], int]:
    """(tokens of the query with a document, how many of the document's were cut off)."""
    query, document, limit = operation.query, operation.documents[at], model.limit_tokens
    dropped = 0
    if operation.document_tokens is not None:
        document, dropped = _shortened(model, document, operation.document_tokens)
    if operation.truncate:  # so much is certainly too long, and tokenizing more of it would only take time
        document, cut = _shortened(model, document, limit)
        dropped += cut
    elif len(document) + len(query) > 2 * CHARACTERS_PER_TOKEN * limit:
        _, count = _bounded(model, core.TextPrompt(query + document, add_special=False, parse_special=False), limit)
        if count > limit:
            raise _too_long(f"your query with documents[{at}]", limit, count)
    tokens = model.provider.pair(query, document)
    while len(tokens) > limit and operation.truncate and document:
        kept = len(_words(model, document)) - (len(tokens) - limit)
        document, cut = _shortened(model, document, max(0, kept))
        dropped += cut
        tokens = model.provider.pair(query, document)
    if len(tokens) > limit:
        raise _too_long(f"your query with documents[{at}]", limit, len(tokens))
    return tokens, dropped


def _words(model: Model, text: str) -> list[int]:
    return model.provider.encode(text, add_special=False, parse_special=False)


def _shortened(model: Model, text: str, count: int) -> tuple[str, int]:
    """The longest beginning of a text that is at most so many tokens, and how many were cut off."""
    prompt = core.TextPrompt(text, add_special=False, parse_special=False)
    tokens, whole = _bounded(model, prompt, max(1, count))
    if whole <= count:
        return text, 0
    low, high = 0, min(len(text), len(text) * len(tokens) // whole + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_words(model, text[:middle])) <= count:
            low = middle
        else:
            high = middle - 1
    # A word's beginning may be more tokens than the whole word, so the search may have stopped within one.
    ends = range(min(len(text), low + WORD_CHARACTERS), low, -1)
    low = next((end for end in ends if len(_words(model, text[:end])) <= count), low)
    return text[:low], whole - count
