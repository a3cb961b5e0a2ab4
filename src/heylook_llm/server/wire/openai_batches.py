"""OpenAI's file-based batches: files and batches as clients see them, the lines that go in and those that come out."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import Field

from heylook_llm.errors import BadRequest, HeylookError, UnsupportedFeature
from heylook_llm.server.wire import jsontext, multipart, table
from heylook_llm.server.wire.table import Body, Honoured, Text

DAY: Final = 86_400
KEEP_SECONDS: Final = 30 * DAY
"""How long a file for a batch, and what came of one, is kept where nothing else is said; as at OpenAI."""
EXPIRY: Final = (3600, KEEP_SECONDS)
MAX_LINES: Final = 50_000
MAX_ERRORS: Final = 100
"""Of an input file: more aren't told."""
MAX_METADATA: Final = 16
ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
PURPOSE: Final = "batch"
OUTPUT: Final = "batch_output"
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
OPEN: Final = ("validating", "in_progress", "finalizing", "cancelling")
"""Where something is still to be done."""


class File(msgspec.Struct, frozen=True):
    """One file, without its bytes."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None = None

    def told(self) -> dict[str, Any]:
        """As clients see it."""
        return {**msgspec.structs.asdict(self), "object": "file", "status": "processed", "status_details": None}


class Batch(msgspec.Struct, frozen=True):
    """One batch; times are seconds since 1970."""

    id: str
    endpoint: str
    input_file_id: str
    status: Status
    created_at: int
    expires_at: int
    completion_window: str = "24h"
    metadata: dict[str, str] = {}
    keep_seconds: int = KEEP_SECONDS
    """How long what comes of it is kept."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    problems: tuple[dict[str, Any], ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    def told(self) -> dict[str, Any]:
        """As clients see it."""
        told = msgspec.structs.asdict(self)
        counts = {name: told.pop(name) for name in ("total", "completed", "failed")}
        problems = told.pop("problems")
        del told["keep_seconds"]
        told["errors"] = {"object": "list", "data": list(problems)} if problems else None
        return {**told, "object": "batch", "metadata": self.metadata or None, "request_counts": counts}


class Line(msgspec.Struct, frozen=True):
    """One request of a batch."""

    custom_id: str
    body: bytes


# ---- POST /v1/files --------------------------------------------------------------------------------------------------

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "One JSON object a line."},
        "purpose": {"type": "string", "enum": [PURPOSE]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": EXPIRY[0], "maximum": EXPIRY[1]},
    },
}


class Upload(msgspec.Struct, frozen=True):
    """A file as it was sent."""

    data: bytes
    filename: str
    keep_seconds: int


def parse_upload(body: bytes, content_type: str) -> Upload:
    """The form of a file. Raises BadRequest, UnsupportedFeature."""
    fields = {part.name: part for part in multipart.parts(body, content_type)}
    file, purpose = fields.get("file"), fields.get("purpose")
    for name, found in (("file", file), ("purpose", purpose)):
        if found is None:
            raise table.missing(name)
    assert file is not None
    assert purpose is not None
    if purpose.text != PURPOSE:
        raise UnsupportedFeature("Only files for batches are kept here: the purpose must be 'batch'.", param="purpose")
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is not None and anchor.text != "created_at":
        raise BadRequest("expires_after.anchor must be created_at.", param="expires_after.anchor")
    keep = KEEP_SECONDS if seconds is None else _expiry(seconds.text, "expires_after.seconds")
    return Upload(file.data, file.filename[:255] or "file.jsonl", keep)


def _expiry(given: object, param: str) -> int:
    text = str(given)
    if text.isascii() and text.isdigit() and len(text) < 9 and EXPIRY[0] <= int(text) <= EXPIRY[1]:
        return int(text)
    raise BadRequest(f"Invalid value for '{param}': it must be from {EXPIRY[0]} to {EXPIRY[1]}.", param=param)


# ---- POST /v1/batches ------------------------------------------------------------------------------------------------


class BatchBody(Body):
    """POST /v1/batches."""

    input_file_id: Annotated[Text, Honoured("a file of POST /v1/files"), Field(max_length=100)]
    endpoint: Annotated[Literal[ENDPOINTS], Honoured("where each of its requests goes")]  # type: ignore[valid-type]  # mypy wants the words here, which others read too
    completion_window: Annotated[Literal["24h"], Honoured("what isn't answered by then expires")] = "24h"
    metadata: Annotated[
        dict[str, Text] | None, Honoured("comes back with the batch"), Field(max_length=MAX_METADATA)
    ] = None
    output_expires_after: Annotated[dict[str, Any] | None, Honoured("`seconds` after created_at; absent: 30 days")] = (
        None
    )


BODIES: Final[dict[str, type[table.Body]]] = {"POST /v1/batches": BatchBody}


def parse_batch(body: bytes) -> BatchBody:
    """The body of a new batch. Raises BadRequest."""
    return table.validate(BatchBody, jsontext.decode(body))


def keep_seconds(fields: BatchBody) -> int:
    """How long what comes of a batch is kept. Raises BadRequest."""
    given = fields.output_expires_after
    if given is None:
        return KEEP_SECONDS
    if given.get("anchor", "created_at") != "created_at":
        raise BadRequest("output_expires_after.anchor must be created_at.", param="output_expires_after.anchor")
    return _expiry(given.get("seconds"), "output_expires_after.seconds")


# ---- lines in --------------------------------------------------------------------------------------------------------


def lines(data: bytes, endpoint: str) -> tuple[list[Line], list[dict[str, Any]]]:
    """The requests of an input file, and what is wrong with it."""
    found: list[Line] = []
    problems: list[dict[str, Any]] = []
    seen: set[str] = set()
    for at, text in _numbered(data):
        try:
            line = _line(text, endpoint, seen)
        except HeylookError as error:
            problems.append({"code": error.code, "message": error.message, "param": error.param, "line": at})
        else:
            found.append(line)
            seen.add(line.custom_id)
        if len(problems) == MAX_ERRORS:
            break
        if len(found) > MAX_LINES:
            return found, [_whole_file("too_many_requests", f"A batch has at most {MAX_LINES} requests.")]
    if not found and not problems:
        problems.append(_whole_file("empty_file", "The input file has no request."))
    return found, problems


def _whole_file(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": None}


def _numbered(data: bytes) -> Iterator[tuple[int, bytes]]:
    for at, text in enumerate(data.split(b"\n"), 1):
        if text.strip():
            yield at, text


def _line(text: bytes, endpoint: str, seen: set[str]) -> Line:
    value = jsontext.decode(text)
    if not isinstance(value, dict):
        raise BadRequest("This line is not a JSON object.", code="invalid_json_line")
    name, body = value.get("custom_id"), value.get("body")
    if not isinstance(name, str) or not name:
        raise BadRequest(
            "custom_id must be a text that isn't empty.", code="missing_required_parameter", param="custom_id"
        )
    if name in seen:
        raise BadRequest(f"The custom_id '{name[:64]}' is used twice.", code="duplicate_custom_id", param="custom_id")
    if value.get("method", "POST") != "POST":
        raise BadRequest("The method must be POST.", code="invalid_method", param="method")
    if value.get("url") != endpoint:
        raise BadRequest(f"The url must be the batch's endpoint, {endpoint}.", code="mismatched_endpoint", param="url")
    if not isinstance(body, dict):
        raise BadRequest("The body must be an object.", code="missing_required_parameter", param="body")
    if body.get("stream"):
        raise UnsupportedFeature("Requests of a batch aren't streamed.", param="body.stream")
    return Line(name, jsontext.encode(body))


# ---- lines out -------------------------------------------------------------------------------------------------------


def answered(identity: str, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """The line of a request that was answered, well or not."""
    response = {"status_code": status, "request_id": request_id, "body": msgspec.Raw(body)}
    return _told({"id": identity, "custom_id": custom_id, "response": response, "error": None})


def unanswered(identity: str, custom_id: str, code: str, message: str) -> bytes:
    """The line of a request that was never answered."""
    return _told(
        {"id": identity, "custom_id": custom_id, "response": None, "error": {"code": code, "message": message}}
    )


def _told(line: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def done(data: bytes) -> dict[str, None]:
    """The custom_ids of lines that were written whole, in their order."""
    return dict.fromkeys(json.loads(line)["custom_id"] for line in data.splitlines() if line.endswith(b"}"))
