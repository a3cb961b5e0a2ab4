"""Ollama's variables where they mean something here: the settings that they stand for, and those without effect."""

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from heylook_llm import config
from heylook_llm.config import ModelSpec, Settings
from heylook_llm.errors import ConfigError

PREFIX: Final = "OLLAMA_"
HEEDED: Final = frozenset(
    PREFIX + name
    for name in (
        *("HOST", "ORIGINS", "MODELS", "API_KEY", "DEBUG", "NO_CLOUD"),
        *("KEEP_ALIVE", "MAX_LOADED_MODELS", "MAX_QUEUE", "NUM_PARALLEL", "CONTEXT_LENGTH", "FLASH_ATTENTION"),
        *("KV_CACHE_TYPE", "LOAD_TIMEOUT"),
    )
)
"""Those that have an effect, here or in a client command; there is never a cloud."""
_ANY_TIME_SECONDS: Final = 1e9
_FALSE: Final = ("0", "f", "false")


def value_of(environment: Mapping[str, str], name: str) -> str:
    """A variable without the blanks and quotes that Ollama trims; empty: it isn't set."""
    return environment.get(PREFIX + name, "").strip().strip("\"'").strip()


def unheeded(environment: Mapping[str, str]) -> list[str]:
    """The variables of Ollama's that are set and have no effect."""
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in HEEDED)


def is_on(environment: Mapping[str, str], name: str) -> bool | None:
    """A switch as Ollama reads it: whatever isn't false is true; None: it isn't set."""
    text = value_of(environment, name)
    return text.lower() not in _FALSE if text else None


def applied(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """The settings with the variables. Raises ConfigError.

    What they say of each model holds for models that say nothing of it themselves; the rest stands above the file.
    """
    changes: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    if loaded := _number(environment, "MAX_LOADED_MODELS"):
        changes["max_loaded_models"] = loaded
    if queue := _number(environment, "MAX_QUEUE"):
        limits["max_queue"] = queue
    if value_of(environment, "LOAD_TIMEOUT"):
        seconds = _seconds(environment, "LOAD_TIMEOUT")
        limits["load_timeout_seconds"] = seconds if 0 < seconds < _ANY_TIME_SECONDS else _ANY_TIME_SECONDS
    if limits:
        changes["limits"] = settings.limits.model_copy(update=limits)
    change = _of_models(environment)
    changes["models"] = tuple(map(change, settings.models))
    return settings.model_copy(update=changes)


def _of_models(environment: Mapping[str, str]) -> Callable[[ModelSpec], ModelSpec]:
    """What changes an entry."""
    keep_alive = _seconds(environment, "KEEP_ALIVE") if value_of(environment, "KEEP_ALIVE") else None
    cache, flash = _cache_type(environment), is_on(environment, "FLASH_ATTENTION")
    wanted = {
        "n_parallel": _number(environment, "NUM_PARALLEL"),
        "n_ctx": _number(environment, "CONTEXT_LENGTH"),
        "flash_attn": flash,
        "type_k": cache,
        "type_v": cache,
    }

    def change(spec: ModelSpec) -> ModelSpec:
        own = spec.config.model_fields_set
        known = type(spec.config).model_fields
        settings = {
            key: value for key, value in wanted.items() if value is not None and key in known and key not in own
        }
        changed: dict[str, Any] = {"config": spec.config.model_copy(update=settings)} if settings else {}
        if keep_alive is not None and "idle_ttl" not in spec.model_fields_set:
            changed["idle_ttl"] = keep_alive
        return spec.model_copy(update=changed)

    return change


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """A whole number above 0; unset, empty or 0 is None: Ollama's "automatic"."""
    text = value_of(environment, name)
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"{PREFIX}{name}={text}: must be a whole number")
    return int(text) or None


def _seconds(environment: Mapping[str, str], name: str) -> float:
    try:
        return config.parse_duration(value_of(environment, name))
    except ValueError as error:
        raise ConfigError(f"{PREFIX}{name}: {error}") from error


def _cache_type(environment: Mapping[str, str]) -> str | None:
    text = value_of(environment, "KV_CACHE_TYPE").lower()
    known = get_args(config.CacheType)
    if text and text not in known:
        raise ConfigError(f"{PREFIX}KV_CACHE_TYPE={text}: must be one of {', '.join(known)}")
    return text or None
