"""POST /api/create, /api/copy and /api/push: what a client wants made, in Ollama's words and in ours."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from heylook_llm.errors import BadRequest, ModelNotFound
from heylook_llm.server.wire import ollama, ollama_prompt, table
from heylook_llm.server.wire.ollama_body import CopyBody, CreateBody, Options, PushBody

ROLES: Final = ("system", "user", "assistant")
MAX_TEXT_CHARACTERS: Final = 4 << 20
"""Of a system message, a template, a licence, or all messages together: they stand in a file that is read at starts."""
_FROM: Final = "neither 'from' or 'files' was specified"
_LOADED_WITH: Final[dict[str, str]] = {
    "num_ctx": "n_ctx",
    "num_batch": "n_batch",
    "num_gpu": "n_gpu_layers",
    "main_gpu": "main_gpu",
    "use_mmap": "use_mmap",
    "use_mlock": "use_mlock",
    "num_thread": "n_threads",
    "draft_num_predict": "num_draft_tokens",
}
"""Ollama's parameters of loading -> keys of models.yaml."""
_SAMPLED_WITH: Final[dict[str, str]] = {
    **{name: name for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "stop")},
    **{name: name for name in ("presence_penalty", "frequency_penalty")},
    **{name: name for name in ("mirostat", "mirostat_tau", "mirostat_eta", "top_n_sigma")},
    **{name: name for name in ("xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent")},
    **{name: name for name in ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n")},
    **{name: name for name in ("adaptive_target", "adaptive_decay")},
    "repeat_penalty": "repetition_penalty",
    "repeat_last_n": "repetition_context_size",
    "num_predict": "max_tokens",
}
PARAMETERS: Final = {**_LOADED_WITH, **_SAMPLED_WITH}
"""Ollama's names of parameters -> keys of a model's `config`."""
_AUTOMATIC: Final[dict[str, Callable[[Any], bool]]] = {
    "num_gpu": lambda value: value < 0,
    "num_predict": lambda value: value < 0,
    "seed": lambda value: value == -1,
    "num_ctx": lambda value: value <= 0,
}
"""Values that mean "as if it weren't said"."""


class Order(msgspec.Struct, frozen=True):
    """A model that is to be made. None: as the source's."""

    name: str
    source: str = ""
    files: Mapping[str, str] = {}
    """File name -> SHA-256 of an upload, 64 hexadecimal digits."""
    adapters: Mapping[str, str] = {}
    drafts: Mapping[str, str] = {}
    template: str | None = None
    system: str | None = None
    license: tuple[str, ...] | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    """Role and content."""
    parameters: Mapping[str, Any] = {}
    """Keys of `config`; None: its default again."""
    quantize: str = ""
    stream: bool = True
    ignored: tuple[str, ...] = ()


def parse_create(body: bytes, digest_of: Callable[[str], str]) -> Order:
    """A body of /api/create. Raises BadRequest. `digest_of` gives the digits of a digest, or raises."""
    fields = table.validate(CreateBody, ollama.document(body))
    name = _checked(fields.model or fields.name, lambda: BadRequest("invalid model name", param="model"))
    if not fields.source.strip() and not fields.files:
        raise BadRequest(_FROM, param="from")
    parameters, unused = _parameters(fields.parameters)
    return Order(
        name,
        ollama.check_name(fields.source) if fields.source.strip() else "",
        _digests(fields.files, digest_of),
        _digests(fields.adapters, digest_of),
        _digests(fields.draft_files, digest_of),
        template=_bounded(fields.template, "template"),
        system=_bounded(fields.system, "system"),
        license=_licenses(fields.license),
        messages=_messages(fields),
        parameters=parameters,
        quantize=fields.quantize or fields.quantization,
        stream=fields.stream,
        ignored=(*table.told(fields), *(f"parameters.{name}" for name in unused)),
    )


def parse_copy(body: bytes) -> tuple[str, str]:
    """Source and destination. Raises BadRequest."""
    fields = table.validate(CopyBody, ollama.document(body))

    def named(what: str, name: str) -> str:
        return _checked(name, lambda: BadRequest(f'{what} "{name[:128]}" is invalid', param=what))

    return named("source", fields.source), named("destination", fields.destination)


def no_source(name: str) -> ModelNotFound:
    """How a copy names a model that there isn't."""
    return ModelNotFound(f'model "{name}" not found')


def parse_push(body: bytes) -> str:
    """The name of the model to push. Raises BadRequest."""
    fields = table.validate(PushBody, ollama.document(body))
    name = fields.model or fields.name
    if not name.strip():
        raise BadRequest("model is required", param="model")
    return ollama.check_name(name)


def _checked(name: str, wrong: Callable[[], BadRequest]) -> str:
    """The name that is stored: without the tag that stands for none."""
    try:
        return ollama.check_name(name).removesuffix(":latest")
    except BadRequest as error:
        raise wrong() from error


def _digests(files: Mapping[str, str], digest_of: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, digest in files.items():
        parts = name.replace("\\", "/").split("/")
        if not name or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise BadRequest("file path must be relative", param="files")
        found[name] = digest_of(digest)
    return found


def _bounded(text: str | None, param: str) -> str | None:
    if text is not None and len(text) > MAX_TEXT_CHARACTERS:
        raise BadRequest(f"{param} is longer than {MAX_TEXT_CHARACTERS} characters", param=param)
    return text


def _licenses(given: list[str] | str | None) -> tuple[str, ...] | None:
    texts = (given,) if isinstance(given, str) else given
    if texts is None:
        return None
    _bounded("".join(texts), "license")
    return tuple(text for text in texts if text)


def _messages(fields: CreateBody) -> tuple[tuple[str, str], ...] | None:
    if fields.messages is None:
        return None
    for at, message in enumerate(fields.messages):
        if message.role.lower() not in ROLES:
            raise BadRequest(f"messages[{at}].role must be one of {', '.join(ROLES)}", param=f"messages[{at}].role")
        if more := [key for key, value in (message.model_extra or {}).items() if value]:
            raise BadRequest(f"messages[{at}] may have role and content alone, not {more[0][:64]}", param="messages")
    _bounded("".join(message.content for message in fields.messages), "messages")
    return tuple((message.role.lower(), message.content) for message in fields.messages)


def _parameters(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keys of `config` with their values, and the parameters that have none. Raises BadRequest."""
    chosen = ollama_prompt.options(given)
    found: dict[str, Any] = {}
    unused: list[str] = []
    for name, value in given.items():
        key = PARAMETERS.get(name)
        if key is None:
            unused.append(name)
        elif value is not None:
            kept = getattr(chosen, name) if name in Options.model_fields else value
            found[key] = _kept(name, kept)
    return found, unused


def _kept(name: str, value: Any) -> Any:
    if name in _AUTOMATIC and _AUTOMATIC[name](value):
        return None
    if name == "stop":
        return [value] if isinstance(value, str) else list(value)
    return value


# ---- what `show` writes ----------------------------------------------------------------------------------------------


def parameter_lines(config: Any) -> list[tuple[str, str]]:
    """Name and value, as a Modelfile has it, of each parameter that a model's `config` sets; `stop` as often as set."""
    lines: list[tuple[str, str]] = []
    for name, key in PARAMETERS.items():
        value = getattr(config, key, None) if key in config.model_fields_set else None
        if name == "stop":
            lines += [(name, json.dumps(text, ensure_ascii=False)) for text in value or ()]
        elif value is not None and value != "auto" and not (name in _AUTOMATIC and _AUTOMATIC[name](value)):
            lines.append((name, json.dumps(value)))
    return lines
