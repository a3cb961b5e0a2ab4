"""Each family's calls: what a template writes is read back, however it is cut."""

import datetime
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.worker.formats.families import REASONING_MARKS, TOOL_FORMATS
from heylook_llm.worker.formats.formats import Format, HarmonyFormat, Marked
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.formats.reasoning import THINK
from heylook_llm.worker.formats.recognition import common_start
from heylook_llm.worker.formats.values import as_json, kinds_of
from heylook_llm.worker.prompt import ChatTemplate
from tests.worker.answers import Output, output_of
from tests.worker.tiers import LONG

pytestmark = pytest.mark.unit

NOW = datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.UTC)
GOLDEN = Path(__file__).parents[1] / "golden"
TEMPLATES = {
    path.stem: ChatTemplate(path.read_text(encoding="utf-8"), model=path.stem, bos="<s>", eos="</s>")
    for path in sorted((GOLDEN / "templates").glob("*.jinja"))
}
FORMS = {form.name: form for form in TOOL_FORMATS}
OTHER_NAMES = {"gpt-oss": "harmony", "deepseek-r1": "deepseek", "mistral-array": "mistral", "llama-python": "llama"}
TAGGED = ("qwen-coder", "seed", "glm", "longcat", "minimax", "deepseek-dsml")
"""Families that write strings as they are, so that none may hold a mark."""
MARKED = ("gemma", "function-gemma")
PYTHON = ("lfm2", "llama-python")


def turn_of(template: ChatTemplate, message: core.Message, tools: tuple[core.Tool, ...]) -> str:
    """What a template writes for an assistant's turn, up to where the next begins."""
    user = core.Message("user", (core.TextPart("Hi"),))

    def rendered(*messages: core.Message) -> str:
        return template.render(core.ChatPrompt((user, *messages), tools), NOW).text

    before, whole = rendered(), rendered(message)
    end = rendered(core.Message("assistant", (core.TextPart("SAID"),))).partition("SAID")[2]
    return whole[common_start(before, whole) :].removesuffix(end)


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_template_is_recognized_by_the_calls_that_it_writes(family: str) -> None:
    assert TEMPLATES[family].format.names[0] == OTHER_NAMES.get(family, family)


# ---- what is rendered is read back -----------------------------------------------------------------------------------

NASTY = st.sampled_from(
    ["", " ", "\n", "\n\n", '"', "'", "\\", '\\"', "{", "}", "[", "]", "true", "null", "12", "-1.5e3", "'a'", '"a"',
     "</tool_call>", "<tool_call>", "<|im_end|>", "<", "</", "`", "```", "é", "🎉", "\u2028", "\x00", "\x7f", "a: b",
     "[TOOL_CALLS]", "<｜", ",", ";", "(x)", "None", " x ", "\tx\n"]
)  # fmt: skip
TEXT = st.one_of(NASTY, st.text(max_size=12), st.lists(NASTY, max_size=4).map("".join))
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
IDENTIFIERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


def values(texts: st.SearchStrategy[str], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Nested values whose texts and keys are of these."""
    return st.recursive(
        st.none() | st.booleans() | NUMBERS | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )


def arguments_of(family: str) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments that a family can write."""
    texts = keys = TEXT
    if family in TAGGED + MARKED:
        texts = TEXT.filter(lambda text: not any(mark in text for mark in FORMS[family].markup))
        keys = texts if family in TAGGED else IDENTIFIERS
    outer = IDENTIFIERS if family in TAGGED + MARKED + PYTHON else TEXT
    return st.dictionaries(outer, values(texts, keys), max_size=4)


KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def tool_for(name: str, arguments: dict[str, Any]) -> core.Tool:
    """A tool whose schema these arguments fit."""
    properties = {key: {"type": KINDS.get(type(value), "null")} for key, value in arguments.items()}
    return core.Tool(name, "Does it.", {"type": "object", "properties": properties})


TOOL_NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


@pytest.mark.parametrize("family", TEMPLATES)
@settings(max_examples=1000 if LONG else 10, deadline=None)
@given(data=st.data())
def test_what_a_template_writes_is_read_back(family: str, data: st.DataObject) -> None:
    template = TEMPLATES[family]
    several = family not in ("gpt-oss", "llama")
    names = data.draw(st.lists(TOOL_NAMES, min_size=1, max_size=3 if several else 1, unique=True))
    given_arguments = [data.draw(arguments_of(family)) for _ in names]
    tools = tuple(tool_for(*pair) for pair in zip(names, given_arguments, strict=True))
    calls = tuple(
        core.ToolCall(f"call_{at}", name, json.dumps(arguments))
        for at, (name, arguments) in enumerate(zip(names, given_arguments, strict=True))
    )
    text = turn_of(template, core.Message("assistant", tool_calls=calls), tools)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    answer = output_of(text.encode(), cuts, template.format.parser("auto", tools))
    assert answer.values == list(zip(names, given_arguments, strict=True))
    first = next(at for at, event in enumerate(answer.events) if isinstance(event, core.ToolCallStart))
    assert Output(answer.events[:first]).text.strip() in ("", "</think>", "[INST] Hi[/INST]")


# ---- any text at all -------------------------------------------------------------------------------------------------

SCRAPS = [
    "weather", "note", "wea", "city", '{"name": "weather", "arguments": {"city": "Köln"}}', '{"city": "a\\"}"}',
    '{"tool_name": "weather", "parameters": {}}', "weather(city='x')", "functions.", ":0", "function", "```json", "```",
    "call:", "to=functions.weather", "analysis", "final", "commentary", "assistant", "text", "{", "}", '"', "[", "]",
    ",", ";", ":", "(", ")", "=", "1", "null", "True", "'x'", '"x"', " ", "\n", "\n\n", "é🎉", "<", "</", "<|",
]  # fmt: skip
FORMATS: dict[str, Format] = {"harmony": HarmonyFormat()} | {form.name: Marked(form) for form in TOOL_FORMATS}


@pytest.mark.parametrize("family", FORMATS)
@settings(max_examples=2000 if LONG else 20, deadline=None)
@given(data=st.data())
def test_cuts_change_nothing_whatever_the_text(family: str, data: st.DataObject) -> None:
    form = FORMATS[family]
    scraps = st.sampled_from([*sorted(form.markup), *SCRAPS])
    text = data.draw(st.lists(scraps, max_size=16).map("".join))
    mode: ReasoningMode = data.draw(st.sampled_from(["none", "auto", "open"]))
    tools = TOOLS if data.draw(st.booleans()) else ()
    data_bytes = text.encode()
    whole = output_of(data_bytes, [], form.parser(mode, tools))
    cuts = data.draw(st.lists(st.integers(0, len(data_bytes)), max_size=8))
    assert output_of(data_bytes, cuts, form.parser(mode, tools)).parts == whole.parts
    assert output_of(data_bytes, None, form.parser(mode, tools)).parts == whole.parts
    if mode == "none" and not whole.calls and family not in ("harmony", "command-r", "llama"):
        assert whole.text == text, "nothing is lost where nothing is a call"


# ---- what a value between tags is ------------------------------------------------------------------------------------

CIRCLE: dict[str, Any] = {"anyOf": [{"$ref": "#/$defs/Circle"}, {"$ref": "#/$defs/Circle"}, {"type": "integer"}]}


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"enum": ["a", 1, None]}, {"string", "integer", "null"}),
        ({"const": True}, {"boolean"}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, {"string", "null"}),
        ({"$ref": "#/$defs/Place"}, {"object"}),
        ({"allOf": [{"$ref": "#/$defs/Place"}]}, {"object"}),
        ({"$ref": "#/$defs/Circle"}, {"integer"}),
        ({"$ref": "#/nowhere/at/all"}, set()),
        ({}, set()),
        ("no schema", set()),
    ],
)
def test_the_types_that_a_schema_allows(schema: object, kinds: set[str]) -> None:
    definitions = {"Place": {"type": "object"}, "Circle": CIRCLE}
    assert kinds_of({"properties": {"x": schema}, "$defs": definitions}, "x") == kinds


def test_a_schema_that_grows_at_each_look_is_looked_at_once() -> None:
    """As many ways through it as two to the power of its depth."""
    definitions = {
        str(at): {"anyOf": [{"$ref": f"#/$defs/{at + 1}"}, {"$ref": f"#/$defs/{at + 1}"}]} for at in range(100)
    }
    assert kinds_of({"properties": {"x": {"$ref": "#/$defs/0"}}, "$defs": definitions}, "x") == set()


@pytest.mark.parametrize(
    ("text", "kinds", "value"),
    [
        ("12", {"string"}, "12"),
        (" 12 ", {"integer"}, 12),
        ("12", set(), 12),
        ("1.0", {"integer"}, 1.0),
        ("1.5", {"integer"}, "1.5"),
        ("true", {"boolean"}, True),
        ("False", {"boolean"}, False),
        ("null", {"integer"}, None),
        ("null", {"string", "integer"}, "null"),
        ("{'a': [None, \"it's\"]}", {"object"}, {"a": [None, "it's"]}),
        ('{"a": 1e999}', {"object"}, {"a": float("inf")}),
        ("[1, 2", {"array"}, "[1, 2"),
        ("nan", set(), "nan"),
        ("[" * 10_000, {"array"}, "[" * 10_000),
    ],
)
def test_a_value_without_quotes(text: str, kinds: set[str], value: object) -> None:
    assert json.loads(as_json(text, frozenset(kinds))) == value


# ---- golden transcripts ----------------------------------------------------------------------------------------------


class Transcript(NamedTuple):
    """What a model of a family wrote, and what it means."""

    family: str
    mlx: str
    """mlx_lm's parser that reads the same; empty: none does."""
    about: str
    output: str
    mode: ReasoningMode = "auto"
    marks: str = THINK.start
    text: str = ""
    reasoning: str = ""
    calls: Sequence[list[Any]] = ()
    raw: Sequence[list[str]] = ()
    """Calls whose arguments aren't whole, as they are."""

    @property
    def form(self) -> Format:
        """The format of its model."""
        marks = next(marks for marks in REASONING_MARKS if marks.start == self.marks)
        return HarmonyFormat() if self.family == "harmony" else Marked(FORMS[self.family], marks)


def transcripts() -> list[Transcript]:
    """All of them."""
    found: list[Transcript] = []
    for path in sorted((GOLDEN / "transcripts").glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in document["transcripts"]:
            mlx = document.get("mlx", "") if entry.pop("mlx", True) else ""
            found.append(Transcript(path.stem, mlx, **entry))
    return found


def tool(name: str, **kinds: str) -> core.Tool:
    """A tool with parameters of these types."""
    properties = {key: {"type": kind} for key, kind in kinds.items()}
    return core.Tool(name, "Does it.", {"type": "object", "properties": properties})


TOOLS = (
    tool("weather", city="string", days="integer"),
    tool("note", text="string"),
    tool("order", note="string", count="integer", price="number", flag="boolean", items="array"),
)
TRANSCRIPTS = transcripts()
each = pytest.mark.parametrize("case", TRANSCRIPTS, ids=[f"{case.family}: {case.about}" for case in TRANSCRIPTS])


def test_there_are_transcripts_of_every_family() -> None:
    assert {case.family for case in TRANSCRIPTS} == {*FORMS, "harmony"}


@each
def test_a_golden_transcript(case: Transcript) -> None:
    data = case.output.encode()
    whole = output_of(data, [], case.form.parser(case.mode, TOOLS))
    assert (whole.text, whole.reasoning) == (case.text, case.reasoning)
    if case.raw:
        assert whole.calls == [(name, arguments) for name, arguments in case.raw]
    else:
        assert whole.values == [(name, arguments) for name, arguments in case.calls]
    for cuts in [None, *([at] for at in range(1, len(data)))]:
        assert output_of(data, cuts, case.form.parser(case.mode, TOOLS)).parts == whole.parts, cuts


@each
def test_without_tools_only_reasoning_is_split_off(case: Transcript) -> None:
    parser = case.form.parser(case.mode, ())
    output = output_of(case.output.encode(), None, parser)
    assert output.reasoning == case.reasoning
    assert output.calls == []
    for name, arguments in case.calls:
        assert name in output.text
        assert all(key in output.text for key in arguments)


@each
def test_one_call_where_parallel_calls_are_off(case: Transcript) -> None:
    output = output_of(case.output.encode(), None, case.form.parser(case.mode, TOOLS, parallel=False))
    assert [name for name, _ in output.calls] == [name for name, *_ in (case.calls or case.raw)][:1]


@pytest.mark.parametrize(
    "case",
    [case for case in TRANSCRIPTS if case.mlx],
    ids=[f"{case.family}: {case.about}" for case in TRANSCRIPTS if case.mlx],
)
def test_mlx_lm_reads_the_same_calls(case: Transcript) -> None:
    package = importlib.util.find_spec("mlx_lm")
    if package is None or not package.submodule_search_locations:
        pytest.skip("mlx_lm isn't installed")
    path = Path(package.submodule_search_locations[0]) / "tool_parsers" / f"{case.mlx}.py"
    spec = importlib.util.spec_from_file_location(f"mlx_parser_{case.mlx}", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert found_by_mlx(module, case.output) == [(name, arguments) for name, arguments in case.calls]


def found_by_mlx(module: Any, output: str) -> list[tuple[str, Any]]:
    """The calls that one of mlx_lm's parsers finds, between its marks, as its server cuts them out."""
    start, end = module.tool_call_start, module.tool_call_end
    declared = [{"type": "function", "function": {"name": one.name, "parameters": one.parameters}} for one in TOOLS]
    found: list[tuple[str, Any]] = []
    for part in output.split(start)[1:]:
        parsed = module.parse_tool_call(part.split(end)[0] if end else part, declared)
        for call in parsed if isinstance(parsed, list) else [parsed]:
            arguments = call["arguments"]
            found.append((call["name"], json.loads(arguments) if isinstance(arguments, str) else arguments))
    return found
