"""POST /v1/rerank and its other names: documents by how well they answer a query, in the shapes of those who offer it.

`documents` is Jina's, Cohere's, vLLM's and llama-server's field, and their reply is one object; with `texts` instead
the body is text-embeddings-inference's (TEI), and the reply a bare array.
"""

import math
from collections.abc import Callable
from typing import Any

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, HeylookError
from heylook_llm.server.wire import jsontext, openai_words, table
from heylook_llm.server.wire.exchange import Arrival, Asked, Reply
from heylook_llm.server.wire.openai_body import RerankBody
from heylook_llm.server.wire.table import kind_of


def parse(body: bytes, arrival: Arrival, word: Callable[[HeylookError], Reply] = openai_words.error) -> "Rerank":
    """A body as an inquiry; `word` words its errors. Raises BadRequest."""
    fields = table.validate(RerankBody, jsontext.decode(body))
    if not fields.query:
        raise BadRequest("query is empty.", param="query")
    documents = _documents(fields)
    if len(documents) > arrival.bounds.max_inputs:
        raise BadRequest(
            f"{_field(fields)} has {len(documents)} entries, but this server takes at most "
            f"{arrival.bounds.max_inputs} at once (limits.max_inputs).",
            param=_field(fields),
        )
    request = core.Request(
        id=arrival.id,
        model=openai_words.named(fields.model, arrival),
        prompts=tuple(core.TextPrompt(document) for document in documents),
        received_ns=arrival.received_ns,
    )
    asked = Asked(request, False, table.told(fields), keep_alive=fields.keep_alive)
    return Rerank(asked, fields, documents, word)


def _field(fields: RerankBody) -> str:
    return "texts" if fields.documents is None and fields.texts is not None else "documents"


def _documents(fields: RerankBody) -> tuple[str, ...]:
    name = _field(fields)
    given = fields.texts if name == "texts" else fields.documents
    if given is None:
        raise table.missing("documents")
    if not given:
        raise BadRequest(f"{name} is empty.", param=name)
    return tuple(_document(one, f"{name}[{at}]") for at, one in enumerate(given))


def _document(given: Any, place: str) -> str:
    """A text, or an object's `text`."""
    text = given.get("text") if isinstance(given, dict) else given
    if isinstance(text, str):
        return text
    what = "an object without a text" if isinstance(given, dict) else kind_of(given)
    raise BadRequest(
        f"Invalid type for '{place}': expected a string or an object with a string 'text', but it is {what}.",
        code="invalid_type",
        param=place,
    )


class Rerank:
    """One request for scores and its reply."""

    def __init__(
        self, asked: Asked, fields: RerankBody, documents: tuple[str, ...], word: Callable[[HeylookError], Reply]
    ) -> None:
        self.asked = asked
        self._fields = fields
        self._documents = documents
        self._word = word

    def operation(self, info: core.ModelInfo) -> core.Operation:
        """The scores of all documents."""
        fields = self._fields
        return core.Rerank(
            fields.query,
            self._documents,
            truncate=fields.truncate,
            document_tokens=fields.max_tokens_per_doc,
            received_ns=self.asked.request.received_ns,
        )

    def reply(self, answer: core.Answer, timeline: core.Timeline) -> Reply:
        """The best first; `index` is the document's place in the body."""
        assert isinstance(answer, core.Scores)
        ranked = sorted(enumerate(answer.scores), key=lambda entry: (-entry[1], entry[0]))[: self._fields.top_n]
        if _field(self._fields) == "texts":
            return Reply(jsontext.encode([self._entry(at, logit) for at, logit in ranked]))
        count = sum(answer.prompt_tokens)
        body = {
            "id": "rerank-" + self.asked.request.id.rpartition("_")[2],
            "object": "list",
            "model": self.asked.request.model,
            "results": [self._result(at, logit) for at, logit in ranked],
            "usage": {"prompt_tokens": count, "total_tokens": count},
            "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": count, "output_tokens": 0}},
        }
        return Reply(jsontext.encode(body))

    def _result(self, at: int, logit: float) -> dict[str, Any]:
        told: dict[str, Any] = {"index": at, "relevance_score": self._score(logit)}
        return told | ({"document": {"text": self._documents[at]}} if self._fields.return_documents else {})

    def _entry(self, at: int, logit: float) -> dict[str, Any]:
        told: dict[str, Any] = {"index": at, "score": self._score(logit)}
        return told | ({"text": self._documents[at]} if self._fields.return_text else {})

    def _score(self, logit: float) -> float:
        return logit if self._fields.raw_scores else sigmoid(logit)

    def error(self, error: HeylookError) -> Reply:
        """The error with its status."""
        if isinstance(error, ContextLengthExceeded):
            error.param = _field(self._fields)
        return self._word(error)


def sigmoid(logit: float) -> float:
    """How relevant, 0 to 1."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    small = math.exp(logit)
    return small / (1 + small)
