"""What a request that says nothing gets of every provider alike: the model's own defaults, and the engines'."""

from collections.abc import Mapping
from typing import Any, Final

from heylook_llm import core

ENGINE_DEFAULTS: Final = core.Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
"""llama.cpp's, which all engines share: below the model's own and what the request's dialect falls back on."""
FIELDS: Final = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "max_tokens": "max_tokens",
    "repetition_penalty": "repeat_penalty",
    "repetition_context_size": "repeat_last_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
    "top_n_sigma": "top_n_sigma",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "dynatemp_range": "dynatemp_range",
    "dynatemp_exponent": "dynatemp_exponent",
    "dry_multiplier": "dry_multiplier",
    "dry_base": "dry_base",
    "dry_allowed_length": "dry_allowed_length",
    "dry_penalty_last_n": "dry_penalty_last_n",
    "adaptive_target": "adaptive_target",
    "adaptive_decay": "adaptive_decay",
    "seed": "seed",
}
"""Key of the configuration -> field of Sampling."""


def of_model(options: Mapping[str, Any], file: Mapping[str, Any]) -> core.Sampling:
    """What the configuration says, else the model's file; `file` has the names of Sampling's fields."""
    configured = {field: options[key] for key, field in FIELDS.items() if options.get(key) is not None}
    return core.Sampling(**{**file, **configured}, stop=tuple(options.get("stop") or ()))
