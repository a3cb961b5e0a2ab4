"""How the OpenAI dialect asks for the form of an answer and for calls, and what it says of what is wrong."""

import json
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import BadRequest, InvalidConstraint
from tests.wire.asking import chat, completion, whole

pytestmark = pytest.mark.unit

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = json.dumps(SCHEMA)
FUNCTIONS: list[Any] = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
F = {"type": "function", "function": {"name": "f"}}


def schema(*, strict: bool = False) -> core.Constraint:
    """What the schema above becomes."""
    return core.Constraint("json_schema", TEXT, strict)


FORMS: list[tuple[dict[str, Any], core.Constraint | None]] = [
    ({}, None),
    ({"response_format": None, "grammar": "", "guided_json": None}, None),
    ({"response_format": {"type": "text"}}, None),
    ({"response_format": {"type": "json_object"}}, core.Constraint("json_object")),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, schema()),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, schema()),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}},
        schema(strict=True),
    ),
    ({"response_format": {"type": "json_schema", "schema": SCHEMA, "strict": False}}, schema()),
    ({"response_format": {"type": "regex", "pattern": "a+"}}, core.Constraint("regex", "a+")),
    ({"response_format": {"type": "grammar", "grammar": 'root ::= "a"'}}, core.Constraint("gbnf", 'root ::= "a"')),
    ({"grammar": 'root ::= "a"'}, core.Constraint("gbnf", 'root ::= "a"')),
    ({"grammar": 'start: "a"'}, core.Constraint("lark", 'start: "a"')),
    ({"grammar": '// mine\n?start: "a"'}, core.Constraint("lark", '// mine\n?start: "a"')),
    ({"grammar": 'start ::= "a"\nroot ::= start'}, core.Constraint("gbnf", 'start ::= "a"\nroot ::= start')),
    ({"json_schema": SCHEMA}, schema()),
    ({"guided_json": SCHEMA}, schema()),
    ({"guided_json": TEXT}, schema()),
    ({"guided_json": {}}, core.Constraint("json_schema", "{}")),
    ({"guided_regex": r"\d+"}, core.Constraint("regex", r"\d+")),
    ({"guided_choice": ["ja", "n\u00e9"]}, core.Constraint("choice", '["ja", "n\u00e9"]')),
    ({"guided_grammar": '%llguidance {}\nstart: "a"'}, core.Constraint("lark", '%llguidance {}\nstart: "a"')),
    ({"structured_outputs": {"json": SCHEMA}}, schema()),
    ({"structured_outputs": {"regex": "a"}}, core.Constraint("regex", "a")),
    ({"structured_outputs": {"choice": ["a"]}}, core.Constraint("choice", '["a"]')),
    ({"structured_outputs": {"grammar": 'root ::= "a"'}}, core.Constraint("gbnf", 'root ::= "a"')),
    ({"structured_outputs": {"json_object": True}}, core.Constraint("json_object")),
]


@pytest.mark.parametrize(("fields", "expected"), FORMS, ids=[str(row[0])[:70] for row in FORMS])
def test_each_form_of_asking(fields: dict[str, Any], expected: core.Constraint | None) -> None:
    assert chat(**fields).asked.request.constraint == expected
    assert completion(**fields).asked.request.constraint == expected


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": "json"}, "response_format", "invalid_type"),
    ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
    ({"response_format": {"type": "yaml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "structural_tag"}}, "response_format.type", "unsupported_value"),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "missing_required_parameter",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": []}},
        "response_format.json_schema",
        "invalid_type",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
        "response_format.json_schema.schema",
        "invalid_type",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": "yes"}}},
        "response_format.json_schema.strict",
        "invalid_type",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "name": 5}}},
        "response_format.json_schema.name",
        "invalid_type",
    ),
    ({"response_format": {"type": "regex"}}, "response_format.pattern", "missing_required_parameter"),
    ({"response_format": {"type": "grammar", "grammar": 5}}, "response_format.grammar", "invalid_type"),
    ({"grammar": 5}, "grammar", "invalid_type"),
    ({"json_schema": []}, "json_schema", "invalid_type"),
    ({"guided_json": 5}, "guided_json", "invalid_type"),
    ({"guided_regex": ["a"]}, "guided_regex", "invalid_type"),
    ({"guided_choice": "a"}, "guided_choice", "invalid_type"),
    ({"guided_choice": []}, "guided_choice", "invalid_value"),
    ({"guided_choice": [1]}, "guided_choice[0]", "invalid_type"),
    ({"structured_outputs": {}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"json": {"a": 1}, "regex": "a"}}, "structured_outputs", "invalid_value"),
    ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex", "invalid_type"),
    ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag", "unsupported_value"),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex", "invalid_value"),
    ({"grammar": 'root ::= "a"', "guided_choice": ["a"]}, "guided_choice", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "param", "code"), WRONG, ids=[str(row[0])[:70] for row in WRONG])
def test_what_is_wrong_names_its_field(fields: dict[str, Any], param: str, code: str) -> None:
    for ask in (chat, completion):
        with pytest.raises(BadRequest) as caught:
            ask(**fields)
        assert (caught.value.param, caught.value.code) == (param, code)


# ---- tool_choice -----------------------------------------------------------------------------------------------------


def allowed(mode: object, *names: str) -> dict[str, Any]:
    """`allowed_tools` as chat completions write it."""
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


CHOICES: list[tuple[object, core.ToolChoice]] = [
    (None, core.ToolChoice("auto")),
    ("auto", core.ToolChoice("auto")),
    ("none", core.ToolChoice("none")),
    ("required", core.ToolChoice("required")),
    (F, core.ToolChoice("required", ("f",), parallel=False)),
    ({"type": "function", "name": "g"}, core.ToolChoice("required", ("g",), parallel=False)),
    (allowed("auto", "f"), core.ToolChoice("auto", ("f",))),
    (allowed("required", "g", "f", "g"), core.ToolChoice("required", ("g", "f"))),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        core.ToolChoice("required", ("f",)),
    ),
]


@pytest.mark.parametrize(("given", "expected"), CHOICES, ids=[str(row[0])[:70] for row in CHOICES])
def test_each_choice_of_tools(given: object, expected: core.ToolChoice) -> None:
    [prompt] = chat(tools=FUNCTIONS, tool_choice=given).asked.request.prompts
    assert isinstance(prompt, core.ChatPrompt)
    assert prompt.tool_choice == expected


def test_at_most_one_call_where_asked() -> None:
    for given in ("required", allowed("required", "f")):
        [prompt] = chat(tools=FUNCTIONS, tool_choice=given, parallel_tool_calls=False).asked.request.prompts
        assert isinstance(prompt, core.ChatPrompt)
        assert not prompt.tool_choice.parallel


@pytest.mark.parametrize(
    "given",
    [
        "any",
        5,
        {"type": "function"},
        {"type": "function", "function": {"name": "h"}},
        {"type": "function", "function": {"name": 5}},
        allowed("auto"),
        allowed("auto", "h"),
        allowed("maybe", "f"),
        {"type": "custom", "custom": {"name": "x"}},
    ],
    ids=str,
)
def test_a_wrong_choice_names_its_field(given: object) -> None:
    with pytest.raises(BadRequest) as caught:
        chat(tools=FUNCTIONS, tool_choice=given)
    assert caught.value.param is not None
    assert caught.value.param.partition(".")[0] == "tool_choice"


def test_the_reason_of_a_forced_call_is_openais() -> None:
    events = (
        core.ToolCallStart(0, 0, "call_1", "f"),
        core.ToolCallArgs(0, 0, "{}"),
        core.Done(0, "tool_calls", core.Usage(), core.Timeline()),
    )

    def reason(given: object) -> str:
        return str(whole(chat(tools=FUNCTIONS, tool_choice=given), *events)["choices"][0]["finish_reason"])

    assert [reason(given) for given in ("auto", "required", F, allowed("required", "f"))] == [
        "tool_calls",
        "tool_calls",
        "stop",
        "tool_calls",
    ]


# ---- what a compiler says --------------------------------------------------------------------------------------------


def said(problem: InvalidConstraint, **fields: Any) -> tuple[str, str | None, str | None]:
    """Message, param and code of an error, as this dialect words it."""
    told = json.loads(chat(**fields).error(problem).body)["error"]
    return told["message"], told["param"], told["code"]


def test_a_compilers_words_get_the_field_that_they_are_about() -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "Person", "schema": SCHEMA}}}
    assert said(InvalidConstraint("Invalid type: foo"), **asked) == (
        "Invalid schema for response_format 'Person': Invalid type: foo",
        "response_format",
        "invalid_json_schema",
    )
    assert said(InvalidConstraint("unclosed group", code="invalid_value"), guided_regex="(") == (
        "Invalid guided_regex: unclosed group",
        "guided_regex",
        "invalid_value",
    )
    about_tool = InvalidConstraint("'f': Invalid type: foo", param="tools[0].function.parameters")
    assert said(about_tool, tools=FUNCTIONS, tool_choice="required", **asked) == (
        "Invalid schema for function 'f': Invalid type: foo",
        "tools[0].function.parameters",
        "invalid_json_schema",
    )
