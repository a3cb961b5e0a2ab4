"""Each family's grammar of calls: whatever it allows is read back as calls with valid arguments.

A walk draws tokens at random from the masks of a guide; what it wrote is read by the family's own reader, however cut.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import bounds, grammar, trying
from heylook_llm.worker.constrain import Constraints
from heylook_llm.worker.formats.call_grammar import call_grammar
from heylook_llm.worker.formats.formats import Format, HarmonyFormat, Marked
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.guide import Guide
from tests.attacks.test_grammars import SCHEMAS as SCHEMAS_OF_ATTACKS
from tests.worker.answers import output_of
from tests.worker.json_values import SCHEMAS, holds
from tests.worker.test_formats import FORMATS, TRANSCRIPTS, Transcript
from tests.worker.tiers import LONG

pytestmark = pytest.mark.unit

STEPS = 4000
WORDS = (
    b"true",
    b"null",
    b"None",
    b"12",
    b'": "',
    b'", "',
    b"</",
    b"/x",
    b"ab",
    b"\xc3\xa9",
    b"\xf0\x9f\x8e\x89",
    b">\n",
)
CLOSING = tuple(b"\"'}])>;\n")


class Vocabulary:
    """The bytes, the marks of a family and some words; what a guide needs of a provider."""

    def __init__(self, form: Format) -> None:
        self.marks = sorted(mark.encode() for mark in form.markup)
        if isinstance(form, HarmonyFormat):  # these end an answer
            self.marks = [mark for mark in self.marks if mark not in (b"<|call|>", b"<|return|>")]
        self.pieces = [*(bytes((byte,)) for byte in range(256)), *self.marks, *WORDS, b"", b""]
        self.end = len(self.pieces) - 1
        self.info = core.ModelInfo("v", "v", 4096, n_vocab=len(self.pieces))
        self.constraints = self.untried(lambda _: None)

    def untried(self, failure: Callable[[str], str | None]) -> Constraints:
        """What makes guides, where nothing is known yet."""
        return Constraints(self, self.pieces.__getitem__, failure)  # type: ignore[arg-type]  # these two are used

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token == self.end

    def is_mark(self, token: int) -> bool:
        """Whether the token is one of the family's marks."""
        return 256 <= token < 256 + len(self.marks)

    def is_word(self, token: int) -> bool:
        """Whether the token is a word that calls are made of."""
        return 256 + len(self.marks) <= token < self.end - 1

    def tokens_of(self, text: str) -> Iterator[int]:
        """The tokens of a text: its marks as tokens of their own, all else as bytes."""
        data, at = text.encode(), 0
        while at < len(data):
            mark = max((one for one in self.marks if data.startswith(one, at)), key=len, default=data[at : at + 1])
            yield self.pieces.index(mark)
            at += len(mark)

    def text_of(self, tokens: Iterable[int]) -> bytes:
        """The text of tokens."""
        return b"".join(self.pieces[token] for token in tokens)


VOCABULARIES = {name: Vocabulary(form) for name, form in FORMATS.items()}


def guide_of(
    form: Format,
    vocabulary: Vocabulary,
    tools: Sequence[core.Tool],
    choice: core.ToolChoice,
    mode: ReasoningMode = "none",
) -> Guide:
    """The guide of an answer that offers these tools."""
    prompt = core.ChatPrompt((), tuple(tools), tool_choice=choice)
    new, _ = vocabulary.constraints.guides(None, prompt, form, mode, reasons=False)
    assert new is not None
    return new()


def start_of(family: str) -> ReasoningMode:
    """Where an answer without reasoning begins."""
    return "auto" if family == "harmony" else "none"


def tools_of(schemas: Iterable[dict[str, Any]], *, strict: bool = False) -> tuple[core.Tool, ...]:
    """Tools with these schemas, one's name a beginning of the other's."""
    return tuple(core.Tool(name, None, one, strict) for name, one in zip(("get_it", "get_it_2"), schemas, strict=False))


def walk(guide: Guide, vocabulary: Vocabulary, chance: random.Random) -> list[int] | None:
    """Tokens drawn at random up to the end, what closes something the likelier the longer it takes; None: no end."""
    tokens: list[int] = []
    for step in range(STEPS):
        [mask] = guide.masks()
        assert guide.error is None
        assert mask is not None
        allowed = list(map(int, mask.nonzero()[0]))
        assert allowed, b"".join(vocabulary.pieces[token] for token in tokens)
        if vocabulary.end in allowed and (len(allowed) == 1 or chance.random() < 0.5):
            return tokens
        closing = [token for token in allowed if token in CLOSING or vocabulary.is_mark(token)]
        hurried = closing and chance.random() < min(0.9, 0.2 + step / 300)
        token = chance.choice(closing if hurried else [one for one in allowed if one != vocabulary.end])
        guide.accept(token)
        assert guide.error is None
        tokens.append(token)
        if guide.complete:
            return tokens
    return None


def wander(guide: Guide, vocabulary: Vocabulary, chance: random.Random) -> list[int] | None:
    """Tokens drawn where most are free: marks and the words of calls more often than others; None: no end."""
    tokens: list[int] = []
    for step in range(STEPS):
        [mask] = guide.masks()
        assert guide.error is None
        allowed = list(range(vocabulary.end + 1)) if mask is None else list(map(int, mask.nonzero()[0]))
        assert allowed, vocabulary.text_of(tokens)
        if vocabulary.end in allowed and (len(allowed) == 1 or chance.random() < (0.02 if step < 100 else 0.3)):
            return tokens
        likely = [token for token in allowed if vocabulary.is_mark(token) or vocabulary.is_word(token)]
        likely += [token for token in allowed if token in CLOSING] * (step > 100)
        others = [token for token in allowed if token != vocabulary.end]
        token = chance.choice(likely if likely and chance.random() < 0.7 else others)
        guide.accept(token)
        tokens.append(token)
        if guide.complete:
            return tokens
    return None


def are_sound(calls: Iterable[tuple[str, str]], tools: Iterable[core.Tool]) -> bool:
    """Whether each call is of one of the tools, with arguments that its schema allows."""
    known = {one.name: {"type": "object", **one.parameters} for one in tools}
    return all(holds(json.loads(arguments), known[name], known[name]) for name, arguments in calls)


# ---- at random -------------------------------------------------------------------------------------------------------

families = pytest.mark.parametrize("family", FORMATS)
cuts_of_text = st.lists(st.integers(0, 2000), max_size=6)
two_schemas = st.lists(SCHEMAS, min_size=1, max_size=2)
seeds = st.integers(0, 2**32)


@families
@settings(max_examples=1500 if LONG else 12, deadline=None)
@given(schemas=two_schemas, seed=seeds, parallel=st.booleans(), cuts=cuts_of_text)
def test_a_forced_answer_is_calls_with_valid_arguments(
    family: str, schemas: list[dict[str, Any]], seed: int, parallel: bool, cuts: list[int]
) -> None:
    tools, vocabulary, mode = tools_of(schemas), VOCABULARIES[family], start_of(family)
    guide = guide_of(FORMATS[family], vocabulary, tools, core.ToolChoice("required", parallel=parallel), mode)
    tokens = walk(guide, vocabulary, random.Random(seed))
    if tokens is None:
        return
    text = vocabulary.text_of(tokens)
    output = output_of(text, cuts, FORMATS[family].parser(mode, tools, parallel=parallel))
    assert output.calls, text
    assert parallel or len(output.calls) == 1, text
    assert not output.text.strip(), (text, output.text)
    assert are_sound(output.calls, tools), (text, output.calls)


@families
@settings(max_examples=1500 if LONG else 12, deadline=None)
@given(schemas=two_schemas, seed=seeds, mode=st.sampled_from(["none", "auto", "open"]), cuts=cuts_of_text)
def test_whatever_a_free_answer_says_its_calls_have_valid_arguments(
    family: str, schemas: list[dict[str, Any]], seed: int, mode: ReasoningMode, cuts: list[int]
) -> None:
    tools, vocabulary, form = tools_of(schemas, strict=True), VOCABULARIES[family], FORMATS[family]
    try:
        guide = guide_of(form, vocabulary, tools, core.ToolChoice("auto"), mode)
    except InvalidConstraint:
        return  # the syntax can't hold them to it
    tokens = wander(guide, vocabulary, random.Random(seed))
    if tokens is None:
        return
    text = vocabulary.text_of(tokens)
    output = output_of(text, cuts, form.parser(mode, tools))
    assert are_sound(output.calls, tools), (text, output.calls)


# ---- golden transcripts ----------------------------------------------------------------------------------------------


LOOSE = {
    ("hermes", "keys in another order, nested arguments"),
    ("hermes", "arguments as JSON text"),
    ("kimi", "an id without a number, white space around"),
    ("qwen-coder", "code with tags of its own in a value"),
    ("qwen-coder", "numbers that are none, and a Python value"),
    ("seed", "values as Python writes them"),
}
"""Read, because models write so; never demanded."""
UNFORCED = {
    ("phi", "functools"),
    ("harmony", "the recipient before the channel; the end isn't seen"),
    ("harmony", "two calls"),
    ("qwen-coder", "no outer tag"),
}
"""Ways to begin that a model may choose by itself."""
CALLING = [
    case for case in TRANSCRIPTS if case.calls and case.text.count("<") == 0 and (case.family, case.about) not in LOOSE
]
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def called(case: Transcript) -> list[core.Tool]:
    """The tools that a transcript calls, with properties as it has them, in its order."""
    found: dict[str, dict[str, Any]] = {}
    for name, arguments in case.calls:
        properties = found.setdefault(name, {})
        properties |= {key: {"type": KINDS[type(value)]} for key, value in arguments.items() if key not in properties}
    return [core.Tool(name, None, {"type": "object", "properties": one}, strict=True) for name, one in found.items()]


def follow(guide: Guide, vocabulary: Vocabulary, text: str) -> None:
    """Feed a text's tokens, each of which must be allowed, and its end."""
    said = b""
    for token in vocabulary.tokens_of(text):
        assert not guide.complete, said
        [mask] = guide.masks()
        assert guide.error is None
        assert mask is None or mask[token], (said, vocabulary.pieces[token])
        guide.accept(token)
        said += vocabulary.pieces[token]
    [mask] = guide.masks() if not guide.complete else [None]
    assert mask is None or mask[vocabulary.end], "it may end here"


@pytest.mark.parametrize("case", CALLING, ids=[f"{case.family}: {case.about}" for case in CALLING])
def test_a_golden_transcript_is_one_that_strict_tools_allow(case: Transcript) -> None:
    vocabulary = Vocabulary(case.form)
    text = case.output.removesuffix("<|call|>")  # an end, to its model
    strict = guide_of(case.form, vocabulary, called(case), core.ToolChoice("auto"), case.mode)
    follow(strict, vocabulary, text)
    if not (case.text or case.reasoning or (case.family, case.about) in UNFORCED):
        mode = start_of(case.family)
        follow(
            guide_of(case.form, vocabulary, called(case), core.ToolChoice("required"), mode), vocabulary, text.lstrip()
        )


def test_golden_transcripts_of_every_family_were_followed() -> None:
    assert {case.family for case in CALLING} == set(FORMATS)


ANSWERS = (
    '{"answer": {"name": "weather"}}', "[1] and [weather] are notes.", '{"name": "Ann", "age": 7}', "[]", "{}",
    '[{"a": 1}, {"name": "weather", "parameters": {}}]', 'As in {"name": "weather", "parameters": {}}.', " \n Hello!",
)  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_begins_like_a_call_stays_free(answer: str) -> None:
    form, vocabulary = FORMATS["llama"], VOCABULARIES["llama"]
    tools = [core.Tool("weather", None, {"properties": {"days": {"type": "integer"}}}, strict=True)]
    follow(guide_of(form, vocabulary, tools, core.ToolChoice("auto")), vocabulary, answer)
    parser = form.parser("none", tools)
    assert not output_of(answer.encode(), [], parser).calls


@pytest.mark.parametrize(
    "begun",
    ['{"name": "weather"', '{"type":"function","name"', '{"parameters"', "[weather(", '\n{ "function" : "weather"'],
)
def test_a_call_in_an_answer_that_could_be_free_is_held(begun: str) -> None:
    """In whatever spelling it begins, no argument comes that the schema forbids."""
    form, vocabulary = FORMATS["llama"], VOCABULARIES["llama"]
    tools = [core.Tool("weather", None, {"properties": {"days": {"type": "integer"}}}, strict=True)]
    guide = guide_of(form, vocabulary, tools, core.ToolChoice("auto"))
    for token in vocabulary.tokens_of(begun):
        [mask] = guide.masks()
        assert mask is not None
        if not mask[token]:
            return  # a spelling that isn't offered
        guide.accept(token)
    tokens = walk(guide, vocabulary, random.Random(1))
    assert tokens is not None
    output = output_of(begun.encode() + vocabulary.text_of(tokens), [], form.parser("none", tools))
    assert output.calls
    assert are_sound(output.calls, tools)


# ---- what can't be held ----------------------------------------------------------------------------------------------

UNEQUAL = {"type": "object", "properties": {"a": {"type": "string", "contentEncoding": "base64"}}, "required": ["a"]}
EITHER = {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}}


@pytest.mark.parametrize(
    ("family", "schema", "reason"),
    [
        ("qwen-coder", UNEQUAL, "'contentEncoding' can't be followed"),
        ("gemma", UNEQUAL, "'contentEncoding' can't be followed"),
        ("glm", EITHER, "alternatives can't be held"),
        ("glm", {"properties": {" a": {}}, "required": [" a"]}, "' a' can't be written"),
        ("lfm2", {"properties": {"a b": {}}, "required": ["a b"]}, "'a b' can't be written"),
        ("minimax", {"properties": {"a": {"type": "string", "pattern": "^a|b$"}}}, "pattern="),
    ],
)
def test_a_strict_tool_that_cannot_be_held_is_refused(family: str, schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidConstraint, match="'get_it': ") as refused:
        guide_of(FORMATS[family], VOCABULARIES[family], tools_of([schema], strict=True), core.ToolChoice("auto"))
    assert reason in refused.value.message


def test_what_a_tool_that_is_not_strict_demands_beyond_is_left_out() -> None:
    tools = tools_of([UNEQUAL])
    guide = guide_of(FORMATS["qwen-coder"], VOCABULARIES["qwen-coder"], tools, core.ToolChoice("required"))
    tokens = walk(guide, VOCABULARIES["qwen-coder"], random.Random(0))
    assert tokens is not None
    form, choice = FORMATS["qwen-coder"], core.ToolChoice("required")
    for offered, named in ((tools, ("contentEncoding",)), (tools_of([{"type": "object"}]), ())):
        prompt = core.ChatPrompt((), offered, tool_choice=choice)
        _, left_out = VOCABULARIES["qwen-coder"].constraints.guides(None, prompt, form, "none", reasons=False)
        assert left_out == named, "the reply's header says so"


NEVER: dict[str, Any] = {
    f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}, {"$ref": f"#/$defs/d{at + 1}"}]} for at in range(40)
}
ODD: dict[str, Any] = {
    **SCHEMAS_OF_ATTACKS,
    "nowhere on very many ways": {"$ref": "#/$defs/d0", "$defs": {**NEVER, "d40": False}},
    "counts of another kind": {"type": "string", "minLength": "x", "maxLength": -1},
    "a pattern of another kind": {"type": "string", "pattern": 7},
    "parts of another kind": {"type": "array", "items": 5, "prefixItems": {}},
    "a type that is none": {"type": ["string", {"a": []}]},
}


def passes(schema: Any) -> bool:
    """Whether the server's bounds let a schema through to a worker."""
    try:
        bounds.schema(json.dumps(schema))
    except InvalidConstraint:
        return False
    return True


HOSTILE = {name: schema for name, schema in ODD.items() if passes(schema)}


@pytest.mark.parametrize("family", ["qwen-coder", "deepseek-dsml", "gemma", "lfm2", "llama"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_followed_or_refused(family: str, name: str) -> None:
    """As that of the arguments, and of one of them."""
    for schema in (HOSTILE[name], {"properties": {"a": HOSTILE[name]}, "$defs": HOSTILE[name].get("$defs", {})}):
        try:
            guide = guide_of(FORMATS[family], VOCABULARIES[family], tools_of([schema]), core.ToolChoice("required"))
        except InvalidConstraint:
            continue
        assert guide.masks()


def test_there_are_hostile_schemas_that_pass() -> None:
    assert len(HOSTILE) > 12


LONG_TEXT: dict[str, Any] = {"type": "string", "minLength": 9_000, "maxLength": 10_000}
"""Compiled at once as JSON, and hardly between tags."""


@pytest.mark.integration
def test_calls_in_a_familys_own_syntax_are_tried_as_they_will_be_compiled() -> None:
    tried: list[str] = []

    def failure(source: str) -> str | None:
        tried.append(source)
        return trying.failure(source)

    form = FORMATS["qwen-coder"]
    constraints = VOCABULARIES["qwen-coder"].untried(failure)

    def ask(part: dict[str, Any], mode: ReasoningMode = "none") -> None:
        tool = core.Tool("f", None, {"type": "object", "properties": {"a": part}, "required": ["a"]})
        prompt = core.ChatPrompt((), (tool,), tool_choice=core.ToolChoice("required"))
        constraints.guides(None, prompt, form, mode, reasons=False)

    ask({"type": "string", "maxLength": 20})
    assert not tried
    ask({"type": "string", "pattern": "[a-f]+"})
    assert len(tried) == 1
    assert "<function=" in tried[0]
    schema = json.dumps({"properties": {"a": LONG_TEXT}})
    assert trying.failure(grammar.text(grammar.answer("json_schema", schema))) is None
    for _ in range(2):
        with pytest.raises(InvalidConstraint, match="fuel"):
            ask(LONG_TEXT)
    assert len(tried) == 2


@pytest.mark.integration
@pytest.mark.skipif(not LONG, reason="in the long tier")
def test_a_great_many_honest_tools_pass_the_trial() -> None:
    parts = ({"type": "integer", "minimum": 0, "maximum": 100}, *[{"type": "string", "maxLength": 100}] * 3)
    schema = {"type": "object", "properties": {f"p{at}": parts[at % 4] for at in range(12)}, "required": ["p0", "p1"]}
    tools = [core.Tool(f"tool_number_{at}", None, schema) for at in range(90)]
    form = FORMATS["llama"]
    assert isinstance(form, Marked)
    calls = call_grammar(form.tools, tools)
    assert trying.failure(grammar.text({"lark_grammar": f"start: {calls.forced}\n{calls.rules}"})) is None
