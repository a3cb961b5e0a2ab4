"""The set of schemas against what they compile to: every document that is allowed, and none that isn't."""

import json
from typing import Any, Literal, Optional

import openai
import pydantic
import pytest

from heylook_llm.helper import grammar
from tests.helper.following import compiled, follows
from tests.helper.schemas import Case, Text, all_cases

pytestmark = pytest.mark.unit

CASES = all_cases()


def written(document: Any) -> list[str]:
    """A document as text: as it is, or compact and spaced."""
    if isinstance(document, Text):
        return [str(document)]
    return [json.dumps(document, ensure_ascii=False, separators=pair) for pair in ((",", ":"), (", ", ": "))]


def test_there_are_enough_of_them() -> None:
    assert len({json.dumps(case.schema) for case in CASES}) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case.schema)[:60])
def test_a_schema_allows_its_documents_and_no_others(case: Case) -> None:
    matcher = compiled(grammar.answer("json_schema", json.dumps(case.schema), strict=True))
    for document in case.valid:
        for text in written(document):
            assert follows(matcher, text), text
    for document in case.invalid:
        for text in written(document):
            assert not follows(matcher, text), text


# ---- what the SDKs' helpers emit -------------------------------------------------------------------------------------


class Address(pydantic.BaseModel):
    """A nested model with a default."""

    street: str
    zip: str = "00000"


class Everything(pydantic.BaseModel):
    """Most of what pydantic can say."""

    model_config = pydantic.ConfigDict(extra="forbid")
    text: str
    count: int
    share: float
    flag: bool
    kind: Literal["a", "b", 3]
    maybe: Optional[int]  # noqa: UP045  # as many write it
    names: list[str]
    scores: dict[str, int]
    pair: tuple[int, str]
    address: Address
    others: list[Address] = []
    either: int | str | None = None


class Linked(pydantic.BaseModel):
    """Refers to itself."""

    value: int
    next: Optional["Linked"] = None


RIGHT: dict[str, Any] = {
    "text": "x", "count": 1, "share": 0.5, "flag": True, "kind": 3, "maybe": None, "names": ["a"], "scores": {"s": 1},
    "pair": [1, "b"], "address": {"street": "s", "zip": "1"}, "others": [{"street": "t", "zip": "2"}], "either": "e",
}  # fmt: skip


def test_pydantics_own_schemas() -> None:
    matcher = compiled(grammar.answer("json_schema", json.dumps(Everything.model_json_schema())))
    assert follows(matcher, json.dumps(RIGHT))
    assert follows(matcher, json.dumps({name: RIGHT[name] for name in list(RIGHT)[:10]}))
    for name, wrong in (("count", "1"), ("kind", "c"), ("pair", [1]), ("address", {}), ("scores", {"s": "1"})):
        assert not follows(matcher, json.dumps(RIGHT | {name: wrong})), name
    chain = compiled(grammar.answer("json_schema", json.dumps(Linked.model_json_schema())))
    assert follows(chain, '{"value": 1, "next": {"value": 2, "next": null}}')
    assert not follows(chain, '{"value": 1, "next": {"next": null}}')


@pytest.mark.parametrize("model", [Everything, Linked, Address])
def test_strict_schemas_of_the_openai_sdk(model: type[pydantic.BaseModel]) -> None:
    tool = openai.pydantic_function_tool(model)
    schema = tool["function"]["parameters"]
    given: dict[str, Any] = {"Everything": RIGHT, "Linked": {"value": 1, "next": None}, "Address": RIGHT["address"]}
    text = json.dumps(given[model.__name__])
    strict = json.dumps({key: value for key, value in schema.items() if key != "scores"})
    matcher = compiled(grammar.answer("json_schema", strict, strict=True))
    # The SDK closes every object, maps too: what it emits for one allows no keys.
    assert follows(matcher, text.replace('{"s": 1}', "{}"))
    assert not follows(matcher, text.replace('{"s": 1}', "{}")[:-1] + ', "more": 1}')
