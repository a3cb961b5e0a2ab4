"""Schemas, regexes, choices and grammars of clients: what they become, their bounds, and which are surely cheap."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import bounds, grammar
from tests.helper.following import TRIE, compiled, follows

pytestmark = pytest.mark.unit


def accepts(kind: str, source: str, *texts: str, strict: bool = False) -> list[bool]:
    """Which of the texts a constraint allows as a whole answer."""
    matcher = compiled(grammar.answer(kind, source, strict=strict))
    return [follows(matcher, text) for text in texts]


@pytest.mark.parametrize(
    ("source", "texts", "others"),
    [
        (r"^\d{2}/[\d/]+$", ["12/3/4"], ["1\u0662/3", "12/"]),
        (r"a\$", ["a$"], ["a"]),
        (r"a\\$", ["a\\"], ["a\\$"]),
        (r"[^/\]]+\.txt", ["x.txt"], ["a/b.txt"]),
        (r"(a|ab)(c|bcd)", ["ac", "abc", "abcd", "abbcd"], ["a", "acd"]),
        ("x\ny", ["x\ny"], ["xny"]),
        (r"\w+@\D", ["\u00e9@x"], ["a@1"]),
        (r"[\d\s]+[\D]", ["1 2x"], ["x"]),
        (r"(?i)yes", ["YES", "yes"], ["no"]),
    ],
)
def test_a_regex_matches_the_whole_answer(source: str, texts: list[str], others: list[str]) -> None:
    assert all(accepts("regex", source, *texts))
    assert not any(accepts("regex", source, *others))


def test_choices_are_texts_even_where_one_begins_another() -> None:
    source = json.dumps(["a", "ab", '\u00e9"q\\', "", "x\ny"])
    assert all(accepts("choice", source, "a", "ab", '\u00e9"q\\', "", "x\ny"))
    assert not any(accepts("choice", source, "b", "aba", "xy"))


def test_a_larks_own_rules_hold_and_tokens_are_out_of_reach() -> None:
    assert accepts("lark", 'start: "a" X\nX: /[0-9]+/ & ~/13/', "a12", "a13") == [True, False]
    assert accepts("lark", 'start: %json {"type": "integer"} "<b>" // <c>', "12<b>") == [True]
    for source in ("start: <think>", "start: x\nx: <[7]>", "start: @other", "%lark {}", "%override x: y"):
        with pytest.raises(InvalidConstraint):
            grammar.answer("lark", source)


def test_white_space_is_bounded_and_a_schemas_own_options_are_not_heeded() -> None:
    source = json.dumps({"type": "object", "properties": {"a": {}}, "x-guidance": {"whitespace_pattern": "x*"}})
    assert accepts("json_schema", source, '{"a": 1}', '{"a":1}', '{\n    "a": 1\n}') == [True, True, True]
    assert (
        accepts("json_schema", source, '{"a":  1}', '{\n\n"a":1}', '{"a":x1}', "{" + "\n" + " " * 41 + "}")
        == [False] * 4
    )


def test_what_cannot_be_followed_is_left_out_or_refused() -> None:
    source = json.dumps({"type": "array", "items": {"type": "integer", "not": {"const": 3}}, "uniqueItems": True})
    assert accepts("json_schema", source, "[3, 3]") == [True]
    matcher = TRIE.matcher("llguidance", grammar.text(grammar.answer("json_schema", source, strict=True)))
    assert "Unimplemented keys" in (matcher.error or "")


def test_true_and_false_are_schemas() -> None:
    assert accepts("json_schema", "true", "[]", "1") == [True, True]
    assert TRIE.matcher("llguidance", grammar.text(grammar.answer("json_schema", "false", strict=True))).error


# ---- bounds ----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    """Arrays in arrays."""
    return '{"items":' * depth + "{}" + "}" * depth


HOSTILE: list[tuple[str, str, str]] = [
    ("json_schema", nested(100_000 // 10), "64 KiB"),
    ("json_schema", nested(65), "nested deeper"),
    ("json_schema", json.dumps({"enum": list(range(20_000))}), "64 KiB"),
    ("json_schema", "[" + ",".join(["0"] * 12_000) + "]", "must be a JSON object"),
    ("json_schema", json.dumps({"enum": [0] * 10_001}), "10000 values"),
    ("json_schema", "nonsense", "not valid JSON"),
    ("json_schema", '{"const": NaN}', "not valid JSON"),
    ("json_schema", '"text"', "must be a JSON object"),
    ("json_schema", json.dumps({"maxItems": 2**64 - 1}), "maxItems may be at most"),
    ("json_schema", json.dumps({"properties": {"a": {"minLength": 1e300}}}), "minLength may be at most"),
    ("json_schema", json.dumps({"multipleOf": 999_983}), "multipleOf may be at most"),
    ("json_schema", json.dumps({"properties": {f"p{at}": {} for at in range(257)}}), "256 properties"),
    ("json_schema", json.dumps({"pattern": "a" * 513}), "512 characters"),
    ("json_schema", json.dumps({"pattern": "(" * 21 + ")" * 21}), "20 nested groups"),
    ("json_schema", json.dumps({"patternProperties": {"a{3000}": {}}}), "count of at most"),
    ("regex", "(" * 60_000, "512 characters"),
    ("regex", "((a{1,2001}){2}){2}", "count of at most"),
    ("regex", "a{99999999999999999999}", "count of at most"),
    ("lark", "start: " + "(" * 60_000 + ")" * 60_000, "64 KiB"),
    ("lark", "start: " + "(" * 65 + '"a"' + ")" * 65, "nest at most"),
    ("lark", 'start: "a"{1000000}', "count of at most"),
    ("lark", "".join(f"r{at}: r{at + 1}\n" for at in range(501)), "500 rules"),
    ("gbnf", "root ::= " + "(" * 60_000, "nest at most"),
    ("gbnf", "".join(f'r{at} ::= "a"\n' for at in range(501)), "500 rules"),
    ("choice", json.dumps([]), "at least one"),
    ("choice", json.dumps([1]), "list of texts"),
    ("choice", json.dumps(["x"] * 1001), "1000 choices"),
    ("nonsense", "", "no constraint of kind"),
]


@pytest.mark.parametrize(("kind", "source", "reason"), HOSTILE, ids=[f"{row[0]}: {row[2]}" for row in HOSTILE])
def test_what_exceeds_a_bound_is_refused_before_it_is_compiled(kind: str, source: str, reason: str) -> None:
    with pytest.raises(InvalidConstraint) as caught:
        grammar.answer(kind, source)
    assert reason in caught.value.message


def test_brackets_in_texts_and_sets_are_no_nesting() -> None:
    bounds.schema(json.dumps({"enum": ["{" * 100, '\\"[[[' * 50]}))
    bounds.regex("[" + "(" * 100 + "]" + r"\(" * 100)
    bounds.grammar('start: "' + "(" * 100 + '"')


# ---- what is cheap ---------------------------------------------------------------------------------------------------

LEAVES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "maxLength": 100},
        {"type": "integer"},
        {"type": ["number", "null"]},
        {"enum": ["a", 1, None, {"b": []}]},
        {"const": "x"},
        {"$ref": "#/$defs/d"},
        {},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 100}, inner)
        | st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=4))
        | st.builds(
            lambda some, more: {"type": "object", "properties": some, "required": list(some)[:2], **more},
            st.dictionaries(st.sampled_from(list("abcdefgh")), inner, max_size=8),
            st.sampled_from([{}, {"additionalProperties": False}, {"additionalProperties": {"type": "null"}}]),
        )
    ),
    max_leaves=40,
)


@given(SCHEMAS, SCHEMAS)
def test_what_is_called_cheap_takes_little_of_what_a_compiler_may_take(
    schema: dict[str, Any], definition: dict[str, Any]
) -> None:
    source = json.dumps({**schema, "$defs": {"d": definition}})
    assert grammar.is_cheap("json_schema", source)
    import llguidance

    # Of a million, at 50,000 in a millisecond.
    little = llguidance.LLParserLimits(initial_lexer_fuel=100_000, max_grammar_size=20_000, verbose_errors=False)
    whole = grammar.text(grammar.answer("json_schema", source))
    error = llguidance.LLMatcher.validate_grammar(whole, limits=little)
    assert not error or "too" not in error, error


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "a"),
        ("lark", 'start: "a"'),
        ("gbnf", 'root ::= "a"'),
        ("json_schema", json.dumps({"pattern": "a"})),
        ("json_schema", json.dumps({"properties": {"a": {"multipleOf": 7}}})),
        ("json_schema", json.dumps({"allOf": [{}]})),
        ("json_schema", json.dumps({"anyOf": [{"not": {}}]})),
        ("json_schema", json.dumps({"items": {"minimum": 3}})),
        ("json_schema", json.dumps({"maxItems": 101})),
        ("json_schema", json.dumps({"maxItems": True})),
        ("json_schema", json.dumps({"properties": []})),
        ("json_schema", json.dumps({"items": 5})),
        ("json_schema", json.dumps({"enum": list(range(2000))})),
        ("json_schema", json.dumps({"$ref": "#/x", "x": {"pattern": "a"}})),
        ("json_schema", "nonsense"),
    ],
)
def test_what_is_not_surely_cheap(kind: str, source: str) -> None:
    assert not grammar.is_cheap(kind, source)
