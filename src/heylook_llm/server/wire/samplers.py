"""The samplers that every dialect calls by llama.cpp's names: their fields, their bounds, and what they come to."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from heylook_llm.errors import BadRequest
from heylook_llm.server.wire.table import Body, Honoured, Integer, Number, Text


class SamplerFields(Body):
    """What a body, or an object in it, may hold of them."""

    mirostat: Annotated[Integer | None, Honoured("1 or 2; 0: off")] = None
    mirostat_tau: Annotated[Number | None, Honoured("absent: 5")] = None
    mirostat_eta: Annotated[Number | None, Honoured("absent: 0.1")] = None
    top_n_sigma: Annotated[Number | None, Honoured("llama_cpp; 0 and negative: off")] = None
    xtc_probability: Annotated[Number | None, Honoured("llama_cpp; 0: off")] = None
    xtc_threshold: Annotated[Number | None, Honoured("absent: 0.1")] = None
    dynatemp_range: Annotated[Number | None, Honoured("llama_cpp; 0: off")] = None
    dynatemp_exponent: Annotated[Number | None, Honoured("absent: 1")] = None
    dry_multiplier: Annotated[Number | None, Honoured("llama_cpp; 0: off")] = None
    dry_base: Annotated[Number | None, Honoured("absent: 1.75")] = None
    dry_allowed_length: Annotated[Integer | None, Honoured("absent: 2")] = None
    dry_penalty_last_n: Annotated[Integer | None, Honoured("-1, and absent: the whole context")] = None
    dry_sequence_breakers: Annotated[
        list[Text] | None, Honoured("16 at most; absent: line break, colon, quotation mark, asterisk")
    ] = None
    adaptive_target: Annotated[Number | None, Honoured("llama_cpp; 0 and negative: off")] = None
    adaptive_decay: Annotated[Number | None, Honoured("absent: 0.9")] = None


BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "mirostat": (0, 2),
    "mirostat_tau": (0, 1000),
    "mirostat_eta": (0, 1),
    "top_n_sigma": (-1000, 1000),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "dynatemp_range": (0, 5),
    "dynatemp_exponent": (0, 10),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
    "dry_allowed_length": (0, 2**31 - 1),
    "dry_penalty_last_n": (-1, 2**31 - 1),
    "adaptive_target": (-1, 1),
    "adaptive_decay": (0, 0.99),
}
"""Fields of Sampling that every dialect calls by llama.cpp's names, and from where to where they go."""
_OFF_BELOW_ZERO: Final = ("top_n_sigma", "adaptive_target")
MAX_BREAKERS: Final = 16
MAX_BREAKER_CHARACTERS: Final = 40
"""llama.cpp cuts a longer one."""


def samplers(fields: object, outside: Callable[[str, float, float], BadRequest]) -> dict[str, Any]:
    """Those fields of a body; `outside` words the error of one that is beyond its bounds. Raises it."""
    given: dict[str, Any] = {}
    for name, (low, high) in BOUNDS.items():
        value = getattr(fields, name)
        if value is not None and not low <= value <= high:
            raise outside(name, low, high)
        given[name] = max(0.0, value) if value is not None and name in _OFF_BELOW_ZERO else value
    breakers = getattr(fields, "dry_sequence_breakers", None)
    if breakers is not None:
        if len(breakers) > MAX_BREAKERS or max(map(len, breakers), default=1) > MAX_BREAKER_CHARACTERS:
            raise outside("dry_sequence_breakers", 0, MAX_BREAKERS)
        given["dry_sequence_breakers"] = tuple(filter(None, breakers))
    return given
