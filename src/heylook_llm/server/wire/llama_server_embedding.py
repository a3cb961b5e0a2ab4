"""POST /embedding of llama-server: texts or token ids to vectors, in its own form."""

from typing import Final

from heylook_llm import core
from heylook_llm.errors import ContextLengthExceeded, HeylookError
from heylook_llm.server.wire import jsontext, llama_server, openai_embedding, openai_words, table, vectors
from heylook_llm.server.wire.exchange import Arrival, Asked, Reply
from heylook_llm.server.wire.llama_server_body import NativeEmbeddingBody

EUCLIDEAN: Final = 2
AS_IT_IS: Final = -1


def parse(body: bytes, arrival: Arrival) -> "NativeEmbedding":
    """A body as an inquiry. Raises BadRequest."""
    fields = table.validate(NativeEmbeddingBody, jsontext.decode(body))
    name = "content" if fields.content is not None or fields.input is None else "input"
    given = table.required(getattr(fields, name), name)
    request = core.Request(
        id=arrival.id,
        model=openai_words.named(fields.model, arrival),
        prompts=openai_embedding.prompts(given, name, arrival.bounds),
        received_ns=arrival.received_ns,
    )
    asked = Asked(request, False, table.told(fields), keep_alive=fields.keep_alive)
    return NativeEmbedding(asked, fields.embd_normalize, name)


class NativeEmbedding:
    """One request for vectors and its reply."""

    def __init__(self, asked: Asked, norm: int, place: str) -> None:
        self.asked = asked
        self._norm = norm
        self._place = place

    def operation(self, info: core.ModelInfo) -> core.Operation:
        """The vectors, of length 1 where nothing else was asked for."""
        request = self.asked.request
        return core.Embed(request.prompts, normalize=self._norm == EUCLIDEAN, received_ns=request.received_ns)

    def reply(self, answer: core.Answer, timeline: core.Timeline) -> Reply:
        """A list of vectors, each in a list of its own: llama-server's are of tokens where nothing is pooled."""
        assert isinstance(answer, core.Vectors)
        done = self._norm in (AS_IT_IS, EUCLIDEAN)
        found = (vector if done else vectors.scaled(vector, self._norm) for vector in answer.vectors)
        return Reply(
            vectors.array(
                b'{"index":%d,"embedding":[%b]}' % (at, vectors.numbers(vector)) for at, vector in enumerate(found)
            )
        )

    def error(self, error: HeylookError) -> Reply:
        """The error with its status."""
        if isinstance(error, ContextLengthExceeded):
            error.param = self._place
        return llama_server.error(error)
