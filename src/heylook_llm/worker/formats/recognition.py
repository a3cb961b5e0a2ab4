"""Which family's format a chat template means: the one that reads back the calls that the template writes."""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from heylook_llm import core
from heylook_llm.worker.formats import harmony
from heylook_llm.worker.formats.calls import ToolFormat
from heylook_llm.worker.formats.families import HERMES, REASONING_MARKS, TOOL_FORMATS
from heylook_llm.worker.formats.formats import Format, HarmonyFormat, Marked
from heylook_llm.worker.formats.json_calls import loads
from heylook_llm.worker.formats.reasoning import THINK, Marks

PROBE: Final = core.Tool("probe_tool", "A probe.", {"type": "object", "properties": {"key": {"type": "string"}}})
PROBE_ARGUMENTS: Final = '{"key": "probe value"}'


class CallStyle(NamedTuple):
    """How a template wants the calls of earlier turns."""

    as_text: bool = False
    """Arguments are JSON text, not an object."""
    ids: Literal["given", "nine", "numbered"] = "given"
    """As they came; nine letters and digits; or `functions.NAME:NUMBER`."""
    several: bool = True
    """One turn may hold several calls."""
    text_beside: bool = True
    """One turn may hold reasoning and text beside calls."""


STYLES: Final = tuple(CallStyle(as_text, ids) for ids in ("given", "nine", "numbered") for as_text in (False, True))

Render = Callable[[CallStyle, int], str | None]
"""What a template writes for an assistant's turn of so many calls of PROBE; None: it refuses them."""


def recognize(source: str, render: Render | None) -> tuple[Format, CallStyle]:
    """The format of a template, and how it wants calls; by its source's marks where it doesn't write calls itself."""
    marks = _marks(source)
    accepted: CallStyle | None = None
    for style in STYLES:
        written = render(style, 1) if render is not None else None
        if render is None or written is None:
            continue
        form = _reader_of(written, marks)
        if form is not None:
            several = _left_over(form, render(style, 2) or "", 2) is not None
            return form, style._replace(several=several, text_beside=not isinstance(form, HarmonyFormat))
        accepted = accepted or style
    return _by_source(source, marks), accepted or CallStyle()


def _reader_of(written: str, marks: Marks) -> Format | None:
    """The format that reads the call back, of several the one that leaves the least as text."""
    forms: list[Format] = [HarmonyFormat(), *(Marked(tools, marks) for tools in TOOL_FORMATS)]
    left = [(over, at) for at, form in enumerate(forms) if (over := _left_over(form, written, 1)) is not None]
    return forms[min(left)[1]] if left else None


def _left_over(form: Format, written: str, count: int) -> int | None:
    """How many characters before so many calls of PROBE a format takes for text; None: it doesn't read them back."""
    parser = form.parser("auto", (PROBE,))
    said = ""
    arguments: list[str] = []
    for item in (*parser.decode(written), *parser.flush()) if parser is not None else ():
        if item.kind == "call":
            arguments.append("")
        elif item.kind == "arguments":
            arguments[-1] += item.text
        elif not arguments:
            said += item.text
    return len(said.strip()) if [loads(text) for text in arguments] == [loads(PROBE_ARGUMENTS)] * count else None


def _marks(source: str) -> Marks:
    return next((marks for marks in REASONING_MARKS if marks.start in source or marks.end in source), THINK)


def _by_source(source: str, marks: Marks) -> Format:
    if harmony.CHANNEL in source and harmony.MESSAGE in source:
        return HarmonyFormat()
    told: list[ToolFormat] = [form for form in TOOL_FORMATS if all(mark in source for mark in form.telling)]
    return Marked(max(told, key=lambda form: len(form.telling), default=HERMES), marks)


def common_start(left: str, right: str) -> int:
    """How much two texts have in common at their start, without the beginning of a mark at its end."""
    same = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    mark = max(left.rfind("<", 0, same), left.rfind("[", 0, same))
    return mark if mark >= 0 and not set(left[mark:same]) & set(">]") else same
