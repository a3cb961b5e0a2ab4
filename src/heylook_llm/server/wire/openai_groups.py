"""Several chats in one call: a conversation whose turns are answered each for itself, and lists of whole chats."""

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from heylook_llm.errors import BadRequest, HeylookError, UnsupportedFeature
from heylook_llm.server.wire import jsontext, openai, openai_words, table
from heylook_llm.server.wire.exchange import Arrival, Asked, Reply
from heylook_llm.server.wire.openai_body import ChatBody
from heylook_llm.server.wire.table import Body, Honoured, Ignored, Integer

CONVERSATION: Final = "conversation"
IN_CONTEXT: Final = "sequential_with_context"
LEAST_REQUESTS: Final = 2
MOST_TOGETHER: Final = 32
_SYSTEM: Final = ("system", "developer")
_OWN: Final = ("processing_mode", "return_individual", "include_timing")


class ChatBatchBody(Body):
    """POST /v1/batch/chat/completions: whole bodies of chats, answered together."""

    requests: Annotated[
        list[dict[str, Any]],
        Honoured("bodies of POST /v1/chat/completions, of one model, not streamed"),
        Field(min_length=LEAST_REQUESTS),
    ]
    completion_batch_size: Annotated[Integer, Honoured("most that are asked at a time"), Field(ge=1, le=1024)] = (
        MOST_TOGETHER
    )
    prefill_batch_size: Annotated[Any, Ignored("prompts are batched by the model's settings", told=True)] = None
    prefill_step_size: Annotated[Any, Ignored("see prefill_tokens in models.yaml", told=True)] = None


BODIES: Final[dict[str, type[table.Body]]] = {"POST /v1/batch/chat/completions": ChatBatchBody}


class Answer(msgspec.Struct, frozen=True):
    """What became of one of the chats."""

    status: int
    body: dict[str, Any]

    @property
    def well(self) -> bool:
        """Whether it is a completion."""
        return self.status == 200

    @property
    def text(self) -> str:
        """What its first choice says."""
        return self.body["choices"][0]["message"]["content"] or ""


class Groups:
    """Chats that were asked for in one call."""

    def __init__(self, asked: Asked, arrival: Arrival, bodies: list[dict[str, Any]], together: int) -> None:
        self.asked = asked
        self.arrival = arrival
        self.bodies = bodies
        """What to send to POST /v1/chat/completions."""
        self.together = together
        """How many of them at a time."""

    def error(self, problem: HeylookError) -> Reply:
        """The error object with its status."""
        return openai_words.error(problem)

    def next(self, at: int, answers: list[Answer]) -> dict[str, Any]:
        """The body of one of them; the answers so far may belong to it."""
        return self.bodies[at]

    def reply(self, answers: list[Answer], seconds: float) -> dict[str, Any]:
        """The whole reply."""
        raise NotImplementedError


# ---- processing_mode -------------------------------------------------------------------------------------------------


def parse_chat(body: bytes, arrival: Arrival) -> "openai.Chat | Turns":
    """A chat, or the turns of one that are answered each for itself. Raises BadRequest."""
    document = jsontext.decode(body)
    fields = table.validate(ChatBody, document)
    if fields.processing_mode == CONVERSATION:
        return openai.chat_of(fields, arrival)
    return _turns(fields, document, arrival)


class Turns(Groups):
    """A conversation's user turns: alone, or each with what was said before it."""

    def __init__(self, asked: Asked, fields: ChatBody, arrival: Arrival, bodies: list[dict[str, Any]]) -> None:
        super().__init__(asked, arrival, bodies, MOST_TOGETHER if fields.processing_mode == "parallel" else 1)
        self._mode = fields.processing_mode
        self._individual = fields.return_individual
        self._timed = fields.include_timing

    def next(self, at: int, answers: list[Answer]) -> dict[str, Any]:
        """The turn; in context behind the turns before it that were answered."""
        body = self.bodies[at]
        if self._mode != IN_CONTEXT:
            return body
        *system, turn = body["messages"]
        said = [
            message
            for earlier, answer in zip(self.bodies, answers, strict=False)
            if answer.well
            for message in (earlier["messages"][-1], {"role": "assistant", "content": answer.text})
        ]
        return {**body, "messages": [*system, *said, turn]}

    def reply(self, answers: list[Answer], seconds: float) -> dict[str, Any]:
        """`chat.completion.batch`: the completions, or their choices in one list."""
        well = [answer.body for answer in answers if answer.well]
        told: dict[str, Any] = {
            "id": f"chatcmpl-batch-{self.arrival.random}",
            "object": "chat.completion.batch",
            "created": self.arrival.created,
            "model": self.asked.request.model,
            "processing_mode": self._mode,
        }
        if self._individual:
            told["completions"] = [answer.body for answer in answers]
        else:
            choices = [choice for body in well for choice in body["choices"]]
            told["choices"] = [{**choice, "index": at} for at, choice in enumerate(choices)]
            told["usage"] = _usage(well)
        if self._timed:
            total = round(seconds, 6)
            told["timing"] = {"total_time": total, "average_per_group": round(total / len(answers), 9)}
        told["batch_info"] = {
            "groups_processed": len(answers),
            "successful": len(well),
            "failed": len(answers) - len(well),
        }
        return told


def _turns(fields: ChatBody, document: dict[str, Any], arrival: Arrival) -> Turns:
    if fields.stream:
        raise UnsupportedFeature("Turns that are answered each for itself aren't streamed.", param="stream")
    system = [message for message in document["messages"] if message.get("role") in _SYSTEM]
    turns = [message for message in document["messages"] if message.get("role") not in _SYSTEM]
    for at, message in enumerate(document["messages"]):
        if message.get("role") not in (*_SYSTEM, "user"):
            raise BadRequest(
                f"With processing_mode {fields.processing_mode} only the system and the user speak: the answers are "
                "the model's.",
                param=f"messages[{at}].role",
            )
    if not turns:
        raise BadRequest("There is no turn of the user's to answer.", param="messages")
    if len(turns) > arrival.bounds.max_prompts:
        raise BadRequest(f"At most {arrival.bounds.max_prompts} turns are answered in a call.", param="messages")
    rest = {name: value for name, value in document.items() if name not in (*_OWN, "messages")}
    bodies = [{**rest, "messages": [*system, turn]} for turn in turns]
    asked = openai.chat_of(fields.model_copy(update={"processing_mode": CONVERSATION}), arrival).asked
    return Turns(asked, fields, arrival, bodies)


# ---- POST /v1/batch/chat/completions ---------------------------------------------------------------------------------


def parse_batch(body: bytes, arrival: Arrival) -> "Batch":
    """A list of chats. Raises BadRequest for the first that is wrong."""
    fields = table.validate(ChatBatchBody, jsontext.decode(body))
    if len(fields.requests) > arrival.bounds.max_prompts:
        raise BadRequest(f"At most {arrival.bounds.max_prompts} requests are answered in a call.", param="requests")
    chats = [_checked(request, at, arrival) for at, request in enumerate(fields.requests)]
    models = dict.fromkeys(chat.asked.request.model for chat in chats)
    if len(models) > 1:
        raise BadRequest(f"The requests are of {len(models)} models; ask for one in a call.", param="requests")
    asked = msgspec.structs.replace(chats[0].asked, ignored=table.told(fields))
    return Batch(asked, arrival, fields.requests, fields.completion_batch_size)


def _checked(request: dict[str, Any], at: int, arrival: Arrival) -> openai.Chat:
    place = f"requests[{at}]"
    try:
        chat = openai.chat_of(table.validate(ChatBody, request), arrival)
    except BadRequest as error:
        error.param = f"{place}.{error.param}" if error.param else place
        raise
    if chat.asked.stream:
        raise UnsupportedFeature("Requests of a batch aren't streamed.", param=f"{place}.stream")
    return chat


class Batch(Groups):
    """Whole chats, answered together."""

    def reply(self, answers: list[Answer], seconds: float) -> dict[str, Any]:
        """Each answer in its place, and what they took together."""
        well = [answer.body for answer in answers if answer.well]
        tokens = sum(body["usage"]["completion_tokens"] for body in well)
        return {
            "object": "list",
            "data": [answer.body for answer in answers],
            "batch_stats": {
                "total_requests": len(answers),
                "elapsed_seconds": round(seconds, 6),
                "throughput_req_per_sec": _rate(len(well), seconds),
                "throughput_tok_per_sec": _rate(tokens, seconds),
                "prefill_time": _seconds(well, "prompt_ms"),
                "generation_time": _seconds(well, "predicted_ms"),
                "memory_peak_mb": None,
            },
        }


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 3) if seconds > 0 else None


def _seconds(bodies: list[dict[str, Any]], name: str) -> float | None:
    """The sum over all; None where it wasn't measured."""
    measured = [body["timings"][name] for body in bodies if body["timings"][name] is not None]
    return round(sum(measured) / 1000, 6) if measured else None


def _usage(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(body["usage"][name] for body in bodies) for name in names}
