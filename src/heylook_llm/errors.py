"""The exceptions of heylookllm, one tree, each with what its reader can do about it.

    HeylookError
    ├── ConfigError               models.yaml, command line or environment is wrong; the command ends with exit status 2
    ├── BadRequest                the request can't be honoured as it stands                       400
    │   ├── UnsupportedFeature    known, but not offered by this model or this version             400
    │   ├── InvalidConstraint     a schema or grammar can't be compiled, or is too large           400
    │   ├── UnsupportedEncoding   the body is packed in a way that isn't unpacked here             415
    │   └── ContextLengthExceeded the prompt and the asked output don't fit                        400
    ├── Unauthorized              a key is set and the caller has none, or a wrong one             401
    ├── Forbidden                 origin, host or peer isn't allowed                               403
    ├── NotFound                  no such route or request                                         404
    │   └── ModelNotFound         no such model                                                    404
    ├── MethodNotAllowed          the path exists with another verb                                405
    ├── Conflict                  the state forbids it now                                         409
    ├── TooLarge                  a body, header or frame beyond its limit                         413
    ├── InsufficientStorage       the disk has no room for what is to be written                   507
    ├── PullFailed                a model can't be fetched; the code says why                      502
    ├── TargetFailed              what a benchmark is to measure can't be measured                 424
    ├── Cancelled                 the request was cancelled by an operator or its client           499
    ├── EngineError               the engine failed in a way that will repeat                      500
    │   ├── LoadFailed            a model can't be loaded                                          500
    │   └── ProtocolError         a peer broke the frame protocol                                  500
    └── Unavailable               passes by itself; retry_after_seconds says when                  503
        ├── Overloaded            the queue is full                                                503
        ├── InsufficientMemory    the model doesn't fit beside what is loaded                      503
        ├── WorkerDied            the engine's process ended with the request in it                503
        └── ShuttingDown          the server is draining                                           503

Every class has a `status` and a stable `code` (OpenAI's `error.code`); dialects map nothing else.
A message says what, which model, which limit, what to do; never a path, an address or a traceback of the engine.
"""

from typing import ClassVar


class HeylookError(Exception):
    """Base of all. `param` names the offending field in the caller's own spelling, or is None."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else self.default_code
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class ConfigError(HeylookError):
    """models.yaml, the command line or the environment is wrong; message is one line that names the place."""

    default_code = "invalid_config"


class BadRequest(HeylookError):
    """The request can't be honoured as it stands; sending it again can't help."""

    status = 400
    default_code = "invalid_value"


class UnsupportedFeature(BadRequest):
    """A known field that this model, provider or version doesn't offer."""

    default_code = "unsupported_value"


class InvalidConstraint(BadRequest):
    """The schema, regex or grammar that the output should follow. The message is the reason; dialects word the rest."""

    default_code = "invalid_json_schema"


class UnsupportedEncoding(BadRequest):
    """The body is packed in a way that this server doesn't unpack."""

    status = 415
    default_code = "unsupported_content_encoding"


class ContextLengthExceeded(BadRequest):
    """The prompt doesn't fit. `limit_tokens` is the model's context, `prompt_tokens` what the request needs."""

    default_code = "context_length_exceeded"

    def __init__(
        self,
        message: str = "",
        *,
        limit_tokens: int = 0,
        prompt_tokens: int = 0,
        code: str | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        text = message or (
            f"This model's maximum context length is {limit_tokens} tokens. "
            f"However, your messages resulted in {prompt_tokens} tokens."
        )
        super().__init__(text, code=code, param=param, retry_after_seconds=retry_after_seconds)
        self.limit_tokens = limit_tokens
        self.prompt_tokens = prompt_tokens


class Unauthorized(HeylookError):
    """The server has a key and the caller sent none, or a wrong one."""

    status = 401
    default_code = "invalid_api_key"


class Forbidden(HeylookError):
    """Origin, host or peer isn't allowed; the message names the flag that would allow it."""

    status = 403
    default_code = "forbidden"


class NotFound(HeylookError):
    """No such route, request or resource."""

    status = 404
    default_code = "unknown_url"


class ModelNotFound(NotFound):
    """No such model. `model` is the name as it was asked for."""

    default_code = "model_not_found"

    def __init__(
        self,
        message: str = "",
        *,
        model: str = "",
        code: str | None = None,
        param: str | None = "model",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(
            message or f"The model '{model}' was not found.",
            code=code,
            param=param,
            retry_after_seconds=retry_after_seconds,
        )
        self.model = model


class MethodNotAllowed(HeylookError):
    """The path exists with another verb."""

    status = 405
    default_code = "method_not_supported"


class Conflict(HeylookError):
    """The state of a model or a request forbids this now."""

    status = 409
    default_code = "conflict"


class TooLarge(HeylookError):
    """A body, a header or a frame is beyond its limit."""

    status = 413
    default_code = "request_too_large"


class InsufficientStorage(HeylookError):
    """The disk has no room for what is to be written."""

    status = 507
    default_code = "insufficient_storage"


class PullFailed(HeylookError):
    """A model can't be fetched from its hub; the code says why."""

    status = 502
    default_code = "pull_failed"


class TargetFailed(HeylookError):
    """A benchmark's target doesn't answer, or not as it must; the message says what to do.

    424 and not a 5xx: nothing of this server failed, whoever named the target must act.
    """

    status = 424
    default_code = "target_failed"


class Cancelled(HeylookError):
    """The request was cancelled, by its client or over the admin API."""

    status = 499
    default_code = "request_cancelled"


class EngineError(HeylookError):
    """The engine failed in a way that will repeat; clients are told not to retry."""

    default_code = "engine_error"


class LoadFailed(EngineError):
    """A model can't be loaded: the file is damaged, or the engine refuses it."""

    default_code = "model_load_failed"


class ProtocolError(EngineError):
    """A peer broke the frame protocol: an oversized, malformed or unknown frame."""

    default_code = "protocol_error"


class Unavailable(HeylookError):
    """Passes by itself; `retry_after_seconds` says when to come back."""

    status = 503
    default_code = "unavailable"


class Overloaded(Unavailable):
    """The queue is full."""

    default_code = "overloaded"


class InsufficientMemory(Unavailable):
    """The model doesn't fit in memory beside what is loaded; the message holds the numbers."""

    default_code = "insufficient_memory"


class WorkerDied(Unavailable):
    """The engine's process ended while the request was in it; the next request starts a new one."""

    default_code = "worker_died"


class ShuttingDown(Unavailable):
    """The server is draining; it takes no new requests."""

    default_code = "shutting_down"


def every_kind() -> dict[str, type[HeylookError]]:
    """Name -> class of every error in the tree: how an error is named in a frame."""
    kinds: dict[str, type[HeylookError]] = {}
    open_classes: list[type[HeylookError]] = [HeylookError]
    while open_classes:
        kind = open_classes.pop()
        kinds[kind.__name__] = kind
        open_classes.extend(kind.__subclasses__())
    return kinds
