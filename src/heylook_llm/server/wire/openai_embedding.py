"""POST /v1/embeddings: texts or token ids to vectors, as numbers or base64."""

from typing import Any

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, HeylookError
from heylook_llm.server.wire import jsontext, openai_words, table, vectors
from heylook_llm.server.wire.exchange import Arrival, Asked, Bounds, Reply
from heylook_llm.server.wire.openai_body import EmbeddingBody
from heylook_llm.server.wire.table import kind_of

MAX_TOKEN: int = 2**31 - 1


def parse(body: bytes, arrival: Arrival) -> "Embedding":
    """A body as an inquiry. Raises BadRequest."""
    fields = table.validate(EmbeddingBody, jsontext.decode(body))
    request = core.Request(
        id=arrival.id,
        model=openai_words.named(fields.model, arrival),
        prompts=prompts(fields.input, "input", arrival.bounds, add_special=fields.add_special_tokens),
        received_ns=arrival.received_ns,
    )
    return Embedding(Asked(request, False, table.told(fields), keep_alive=fields.keep_alive), fields)


def prompts(given: Any, param: str, bounds: Bounds, *, add_special: bool = True) -> tuple[core.Prompt, ...]:
    """One prompt for each text or list of token ids. Checked by hand: of a long list only what is wrong is told.

    Raises BadRequest that names `param`.
    """
    if isinstance(given, str):
        return (core.TextPrompt(given, add_special=add_special),)
    if not isinstance(given, list):
        raise _wrong(param, given)
    if not given:
        raise BadRequest(f"{param} is empty: give a text, token ids, or a list of either.", param=param)
    if _is_token(given[0]):
        return (_tokens(given, param),)
    if len(given) > bounds.max_inputs:
        raise BadRequest(
            f"{param} has {len(given)} texts, but this server takes at most {bounds.max_inputs} at once "
            "(limits.max_inputs).",
            param=param,
        )
    return tuple(_prompt(one, f"{param}[{at}]", add_special=add_special) for at, one in enumerate(given))


def _prompt(given: Any, place: str, *, add_special: bool) -> core.Prompt:
    if isinstance(given, str):
        return core.TextPrompt(given, add_special=add_special)
    if isinstance(given, list):
        return _tokens(given, place)
    raise _wrong(place, given)


def _tokens(given: list[Any], place: str) -> core.TokenPrompt:
    if not given:
        raise BadRequest(f"{place} holds no token ids.", param=place)
    for at, token in enumerate(given):
        if not _is_token(token):
            raise _wrong(f"{place}[{at}]", token)
        if not 0 <= token <= MAX_TOKEN:
            raise BadRequest(f"Token ids must be from 0 to {MAX_TOKEN}.", param=f"{place}[{at}]")
    return core.TokenPrompt(tuple(given))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(place: str, value: Any) -> BadRequest:
    return BadRequest(
        f"Invalid type for '{place}': expected a string, an array of strings, an array of token ids, or an array of "
        f"those, but it is {kind_of(value)}.",
        code="invalid_type",
        param=place,
    )


class Embedding:
    """One request for vectors and its reply."""

    def __init__(self, asked: Asked, fields: EmbeddingBody) -> None:
        self.asked = asked
        self._fields = fields

    def operation(self, info: core.ModelInfo) -> core.Operation:
        """The vectors of length 1, of as many numbers as were asked for. Raises BadRequest for more than there are."""
        asked, width = self._fields.dimensions, info.n_embedding
        if asked is not None and width is not None and asked > width:
            raise BadRequest(
                f"dimensions is {asked}, but the vectors of '{self.asked.request.model}' have {width} numbers.",
                param="dimensions",
            )
        request = self.asked.request
        return core.Embed(request.prompts, dimensions=asked, received_ns=request.received_ns)

    def reply(self, answer: core.Answer, timeline: core.Timeline) -> Reply:
        """The list of vectors, in the order of the input, and usage."""
        assert isinstance(answer, core.Vectors)
        form = vectors.packed if self._fields.encoding_format == "base64" else vectors.numbers
        data = vectors.array(
            b'{"object":"embedding","index":%d,"embedding":%b}' % (at, form(vector))
            for at, vector in enumerate(answer.vectors)
        )
        count = sum(answer.prompt_tokens)
        tail = {"model": self.asked.request.model, "usage": {"prompt_tokens": count, "total_tokens": count}}
        return Reply(b'{"object":"list","data":' + data + b"," + jsontext.encode(tail)[1:])

    def error(self, error: HeylookError) -> Reply:
        """The error object with its status."""
        if isinstance(error, ContextLengthExceeded):
            error.param = "input"
        return openai_words.error(error)
