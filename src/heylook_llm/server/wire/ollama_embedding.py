"""POST /api/embed and its older form POST /api/embeddings: texts to vectors."""

from typing import Any, Final

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, HeylookError, ModelNotFound
from heylook_llm.server.wire import jsontext, ollama, ollama_prompt, table, vectors
from heylook_llm.server.wire.exchange import Arrival, Asked, Reply
from heylook_llm.server.wire.ollama_body import EmbedBody, EmbeddingsBody

_NOT_FINITE: Final = "embedding_not_finite"


def parse_embed(body: bytes, arrival: Arrival) -> "Embed":
    """A body of /api/embed as an inquiry. Raises BadRequest, ModelNotFound."""
    fields = table.validate(EmbedBody, ollama.document(body))
    if not fields.model.strip():
        raise ModelNotFound("model '' not found")
    return Embed(_asked(fields, _texts(fields.input, arrival), arrival), fields)


def parse_embeddings(body: bytes, arrival: Arrival) -> "Embeddings":
    """A body of /api/embeddings as an inquiry. Raises BadRequest."""
    fields = table.validate(EmbeddingsBody, ollama.document(body))
    if not fields.model.strip():
        raise BadRequest("model is required", param="model")
    return Embeddings(_asked(fields, [fields.prompt] if fields.prompt else [], arrival), fields)


def _texts(given: Any, arrival: Arrival) -> list[str]:
    """The texts; none: the model is only loaded. An empty text within a list counts."""
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequest("invalid input type", code="invalid_type", param="input")
    if len(texts) > arrival.bounds.max_inputs:
        raise BadRequest(
            f"input has {len(texts)} texts, but this server takes at most {arrival.bounds.max_inputs} at once "
            "(limits.max_inputs)",
            param="input",
        )
    return texts


def _asked(fields: EmbedBody | EmbeddingsBody, texts: list[str], arrival: Arrival) -> Asked:
    chosen = ollama_prompt.options(fields.options)
    unused = [name for name, value in fields.options.items() if name != "num_ctx" and value is not None]
    request = core.Request(
        id=arrival.id,
        model=ollama.check_name(fields.model),
        prompts=tuple(core.TextPrompt(text) for text in texts),
        n_ctx=None if chosen.num_ctx is None or chosen.num_ctx <= 0 else max(4, chosen.num_ctx),
        received_ns=arrival.received_ns,
    )
    ignored = (*table.told(fields), *(f"options.{name}" for name in unused))
    return Asked(request, False, ignored, keep_alive=fields.keep_alive)


def not_found(model: str) -> ModelNotFound:
    """How these routes name a model that there isn't."""
    return ModelNotFound(f'model "{model}" not found, try pulling it first')


def error(problem: HeylookError) -> Reply:
    """The error in the words of these routes."""
    if isinstance(problem, ContextLengthExceeded):
        text = (
            f"the input length exceeds the context length ({problem.prompt_tokens} tokens, the context has "
            f"{problem.limit_tokens})"
        )
        return Reply(jsontext.encode({"error": text}), problem.status, ollama.JSON)
    if problem.code == _NOT_FINITE:
        return Reply(jsontext.encode({"error": problem.message}), 400, ollama.JSON)
    if isinstance(problem, ModelNotFound) and problem.model:
        return ollama.error(not_found(problem.model))
    return ollama.error(problem)


class Embed:
    """One request for the vectors of several texts, of length 1, and its reply."""

    def __init__(self, asked: Asked, fields: EmbedBody) -> None:
        self.asked = asked
        self._fields = fields

    def operation(self, info: core.ModelInfo) -> core.Operation:
        """More dimensions than there are, or none, are all of them."""
        request, wanted = self.asked.request, self._fields.dimensions
        return core.Embed(
            request.prompts,
            dimensions=wanted if wanted is not None and wanted > 0 else None,
            truncate=self._fields.truncate,
            n_ctx=request.n_ctx,
            received_ns=request.received_ns,
        )

    def reply(self, answer: core.Answer, timeline: core.Timeline) -> Reply:
        """The vectors in the order of the texts, and the durations in nanoseconds; what is 0 is left out."""
        assert isinstance(answer, core.Vectors)
        ready = timeline.load_end_ns if timeline.load_end_ns is not None else timeline.submitted_ns
        metrics = {
            "total_duration": ollama.span(timeline.received_ns, timeline.closed_ns),
            "load_duration": ollama.span(timeline.received_ns, ready),
            "prompt_eval_count": sum(answer.prompt_tokens),
        }
        # `model` in the reply is the request's own string, not the canonical name.
        head = jsontext.encode({"model": self._fields.model})[:-1]
        tail = jsontext.encode({name: value for name, value in metrics.items() if value})[1:]
        body = head + b',"embeddings":' + vectors.array(map(vectors.numbers, answer.vectors))
        return Reply(body + (b"," + tail if tail != b"}" else tail), media_type=ollama.JSON)

    def error(self, error_: HeylookError) -> Reply:
        """The error with its status."""
        return error(error_)


class Embeddings:
    """One request for the vector of one text, as the model gives it, and its reply."""

    def __init__(self, asked: Asked, fields: EmbeddingsBody) -> None:
        self.asked = asked
        self._fields = fields

    def operation(self, info: core.ModelInfo) -> core.Operation:
        """The vector as it is, of any length; a text that is too long is cut."""
        request = self.asked.request
        return core.Embed(
            request.prompts, normalize=False, truncate=True, n_ctx=request.n_ctx, received_ns=request.received_ns
        )

    def reply(self, answer: core.Answer, timeline: core.Timeline) -> Reply:
        """The vector; empty for an empty prompt."""
        assert isinstance(answer, core.Vectors)
        vector = vectors.numbers(answer.vectors[0]) if answer.vectors else b"[]"
        return Reply(b'{"embedding":' + vector + b"}", media_type=ollama.JSON)

    def error(self, error_: HeylookError) -> Reply:
        """The error with its status."""
        return error(error_)
