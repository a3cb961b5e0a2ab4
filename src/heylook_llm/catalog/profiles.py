"""The configuration of an imported model: what its facts suggest, then the chosen profile, then the overrides."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from heylook_llm.catalog.facts import Facts
from heylook_llm.errors import ConfigError

BILLION: Final = 1_000_000_000
GIGABYTE: Final = 1_000_000_000
_OVERRIDE: Final = re.compile(r"([a-z_][a-z0-9_]*)=(.*)", re.DOTALL)
_INTEGER: Final = re.compile(r"[+-]?\d+")
_DECIMAL: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    "fast": {"temperature": 0.3, "top_k": 10, "min_p": 0.1, "max_tokens": 256, "repetition_penalty": 1.0},
    "balanced": {"temperature": 0.7, "top_k": 40, "min_p": 0.05, "max_tokens": 512, "repetition_penalty": 1.05},
    "quality": {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_tokens": 1024, "repetition_penalty": 1.1},
    "memory": {"max_tokens": 256},
    "interactive": {
        "temperature": 0.7,
        "top_k": 30,
        "min_p": 0.05,
        "max_tokens": 512,
        "repetition_penalty": 1.05,
        "repetition_context_size": 20,
    },
}
"""Sampling of each profile, for both engines; the context memory's precision is in `_cache`."""
_QUANTIZED_ABOVE_BYTES: Final = {"fast": 13 * GIGABYTE, "balanced": 30 * GIGABYTE, "quality": None, "memory": 0}
_CONTEXT_TOKENS: Final = {"memory": 2048}
_MEMORY_MLX: Final = {"kv_bits": 4, "kv_group_size": 32, "quantized_kv_start": 256}


def configuration(facts: Facts, profile: str | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`config:` of a model but its path. A profile stands above what was derived, an override above both."""
    return {**_derived(facts), **_of_profile(facts, profile), **overrides}


def _derived(facts: Facts) -> dict[str, Any]:
    """Sampling by what the model is and how large; nothing that its own files could say better."""
    if facts.kind not in ("chat", "base"):
        return {}
    found: dict[str, Any] = {"temperature": 0.7 if facts.kind == "chat" else 0.9, "top_k": 40, "min_p": 0.05}
    if facts.parameters is not None and facts.parameters < 3 * BILLION:
        found |= {"top_k": 50, "top_p": 0.95}
    elif facts.parameters is not None and facts.parameters > 30 * BILLION:
        found |= {"top_k": 20}
    return found


def _of_profile(facts: Facts, profile: str | None) -> dict[str, Any]:
    if profile is None or facts.kind not in ("chat", "base"):
        return {}
    return {**PROFILES[profile], **_cache(facts, profile), **_context(facts, profile)}


def _cache(facts: Facts, profile: str) -> dict[str, Any]:
    """The precision of the context memory: quantized for models above the profile's size of weights."""
    above = _QUANTIZED_ABOVE_BYTES.get(profile)
    quantized = above is not None and facts.size_bytes > above
    if facts.provider == "llama_cpp":
        return {"type_k": "q8_0", "type_v": "q8_0", "flash_attn": True} if quantized else {}
    if profile == "memory":
        return {"cache_type": "quantized", **_MEMORY_MLX}
    if profile not in _QUANTIZED_ABOVE_BYTES:
        return {}
    return {"cache_type": "quantized", "kv_bits": 8} if quantized else {"cache_type": "standard"}


def _context(facts: Facts, profile: str) -> dict[str, Any]:
    tokens = _CONTEXT_TOKENS.get(profile)
    if tokens is None:
        return {}
    return {"n_ctx": min(tokens, facts.context_length or tokens), "n_parallel": 2}


def parse_overrides(given: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE pairs, typed: whole numbers, decimals, true, false, null, [lists, of, these], else text.

    Raises ConfigError that names the pair.
    """
    found: dict[str, Any] = {}
    for pair in given:
        match = _OVERRIDE.fullmatch(pair)
        if match is None:
            raise ConfigError(f"--override {pair}: must be KEY=VALUE, with a key of models.yaml's `config`")
        found[match[1]] = _typed(match[2])
    return found


def _typed(text: str) -> Any:
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        return [_typed(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        value = float(text)
        return int(value) if value.is_integer() and abs(value) < 1 << 53 else value
    return text
