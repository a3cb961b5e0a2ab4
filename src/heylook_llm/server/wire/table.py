"""Which fields of a body a dialect honours, ignores or refuses: marks on a pydantic model, and its validation.

The model is the table: each field carries one mark, and the validation, `/v1/capabilities`, the OpenAPI document and
the documentation read the same marks. A body's unknown keys are accepted and named.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import pydantic

from heylook_llm.errors import BadRequest, UnsupportedFeature

Treatment = Literal["honoured", "ignored", "refused"]


class Honoured(msgspec.Struct, frozen=True):
    """The field does what its dialect says. `note` names what of it is refused, or how it deviates."""

    note: str = ""


class Ignored(msgspec.Struct, frozen=True):
    """The field is accepted and has no effect here. `told`: it has one elsewhere, so the reply's header names it."""

    note: str = ""
    told: bool = False


class Refused(msgspec.Struct, frozen=True):
    """Giving the field, other than as null or one of `neutral`, is a 400 with this message."""

    message: str
    code: str = "unsupported_parameter"
    neutral: tuple[Any, ...] = ()


Mark = Honoured | Ignored | Refused


class Row(msgspec.Struct, frozen=True):
    """One field of a body: what becomes of it."""

    name: str
    treatment: Treatment
    note: str


class Body(pydantic.BaseModel):
    """A request's body. Unknown keys are accepted; null is the same as absent wherever a default exists."""

    model_config = pydantic.ConfigDict(extra="allow", protected_namespaces=(), hide_input_in_errors=True)


class Inner(pydantic.BaseModel):
    """An object within a body; keys beyond these are accepted."""

    model_config = pydantic.ConfigDict(extra="allow", hide_input_in_errors=True)


AnyBody = TypeVar("AnyBody", bound=Body)


def rows(model: type[Body]) -> list[Row]:
    """The table of a body, in its order."""
    return [_row(field.alias or name, mark(field)) for name, field in model.model_fields.items()]


def _row(name: str, known: Mark) -> Row:
    match known:
        case Honoured():
            return Row(name, "honoured", known.note)
        case Ignored():
            return Row(name, "ignored", known.note)
        case Refused():
            return Row(name, "refused", known.message)


def mark(field: pydantic.fields.FieldInfo) -> Mark:
    """The mark of a field; a field without one is honoured."""
    return next((item for item in field.metadata if isinstance(item, Honoured | Ignored | Refused)), Honoured())


def validate(model: type[AnyBody], document: Any) -> AnyBody:
    """The body as its model. Raises BadRequest and UnsupportedFeature with `param` in the caller's spelling."""
    if not isinstance(document, dict):
        raise BadRequest(f"The request body must be a JSON object, not {kind_of(document)}.", code="invalid_type")
    given = {key: value for key, value in document.items() if value is not None}
    try:
        body = model.model_validate(given)
    except pydantic.ValidationError as error:
        raise _bad(error, given) from error
    for name, field in model.model_fields.items():
        known = mark(field)
        key = field.alias or name
        if isinstance(known, Refused) and key in given and not _neutral(given[key], known):
            raise UnsupportedFeature(known.message, code=known.code, param=key)
    return body


def _neutral(value: Any, known: Refused) -> bool:
    return any(type(value) is type(neutral) and value == neutral for neutral in known.neutral)


def told(body: Body) -> tuple[str, ...]:
    """The keys of a body that the reply's header names: unknown ones, and ignored ones with an effect elsewhere."""
    names = [
        field.alias or name
        for name, field in type(body).model_fields.items()
        if name in body.model_fields_set and isinstance(known := mark(field), Ignored) and known.told
    ]
    return (*names, *(body.model_extra or {}))


def required(value: Any, param: str) -> Any:
    """A value that must not be left out. Raises BadRequest."""
    if value is None:
        raise missing(param)
    return value


def missing(param: str) -> BadRequest:
    """The error of a field that was left out."""
    return BadRequest(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def wrong_type(param: str, expected: str, value: object) -> BadRequest:
    """The error of a field that holds something else than was expected."""
    message = f"Invalid type for '{param}': expected {expected}, but it is {kind_of(value)}."
    return BadRequest(message, code="invalid_type", param=param)


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return type(value).__name__


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


# ---- pydantic's problems in a dialect's words ------------------------------------------------------------------------


def _bad(error: pydantic.ValidationError, given: Mapping[str, Any]) -> BadRequest:
    """The problem that lies deepest in the body: of a union's branches, the one that fitted furthest."""
    problems = [(_path(problem["loc"], given), problem) for problem in error.errors(include_url=False)]
    path, problem = max(problems, key=lambda found: len(found[0]))
    param = dotted(path)
    if problem["type"] == "missing":
        return missing(param)
    if problem["type"].endswith("_type"):
        text = f"Invalid type for '{param}': {_lower(problem['msg'])}, but it is {kind_of(problem['input'])}."
        return BadRequest(text, code="invalid_type", param=param)
    return BadRequest(f"Invalid value for '{param}': {_lower(problem['msg'])}.", code="invalid_value", param=param)


def _lower(message: str) -> str:
    plain = message.removeprefix("Value error, ")
    return plain[:1].lower() + plain[1:]


def _path(place: tuple[int | str, ...], given: Any) -> list[int | str]:
    """The part of pydantic's place that is in the body; union branches and validator names are left out."""
    path: list[int | str] = []
    here = given
    for at, part in enumerate(place):
        if isinstance(here, dict) and (part in here or at == len(place) - 1):
            path.append(part)
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int):
            path.append(part)
            here = here[part] if part < len(here) else None
    return path


def dotted(path: list[int | str]) -> str:
    """`messages[0].content`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# ---- JSON's own types: no coercion from strings or booleans ----------------------------------------------------------

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


def _integer(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


Integer = Annotated[int, pydantic.BeforeValidator(_integer), pydantic.Field(strict=True, ge=INT64_MIN, le=INT64_MAX)]
"""A 64-bit integer; a float without a fraction counts."""
Number = Annotated[float, pydantic.Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, pydantic.Field(strict=True)]
Flag = Annotated[bool, pydantic.Field(strict=True)]
