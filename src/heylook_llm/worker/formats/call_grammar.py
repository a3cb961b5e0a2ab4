"""How a family's calls to given tools are written, as rules that force a model to write them.

Rules are llguidance's Lark. What they allow, the family's own reader reads back as calls with valid arguments. A mark
may be one token or many: rules spell it, and masks allow each spelling.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from heylook_llm import core
from heylook_llm.worker.formats import harmony
from heylook_llm.worker.formats.calls import ToolFormat
from heylook_llm.worker.formats.json_calls import JsonCalls
from heylook_llm.worker.formats.literal_grammar import PYTHON, LiteralRules, marked
from heylook_llm.worker.formats.literals import MarkedCalls, MixedCalls, PythonCalls
from heylook_llm.worker.formats.named_calls import DeepSeekCalls, KimiCalls, MistralCalls
from heylook_llm.worker.formats.schema_rules import TEXT, Arguments, Rules, literal, quoted, without
from heylook_llm.worker.formats.tagged_calls import TaggedCalls
from heylook_llm.worker.formats.tagged_grammar import TaggedRules

COMMA: Final = r"/,\s{0,8}/"
SPACE: Final = r"/\s{1,8}/"
LINE: Final = r'"\n"'
_BLANK: Final = r"[\s\x1c-\x1f]*"


class Opening(NamedTuple):
    """What opens calls, and the rule of what follows it, up to and with what closes them."""

    mark: str
    rule: str


class CallGrammar(NamedTuple):
    """The rules of calls to some tools."""

    openings: tuple[Opening, ...]
    """What opens calls anywhere in a text; what follows it isn't free any more."""
    forced: str
    """An expression: all of an answer that has to be calls."""
    rules: str
    beside: str
    """An expression: calls that may stand instead of another answer, which might begin with an object too."""
    beginning: str = ""
    """Where calls may begin an answer without a mark: the rule of those, or of any text that doesn't begin with one."""
    left_out: tuple[str, ...] = ()
    """Keywords of the tools' schemas that the rules don't follow."""


def call_grammar(form: ToolFormat | None, tools: Sequence[core.Tool], *, parallel: bool = True) -> CallGrammar:
    """The grammar of calls to these tools, of one call unless `parallel`; of harmony's where there is no `form`.

    Raises InvalidConstraint for a tool whose schema can't be followed in the family's syntax.
    """
    written = [Arguments(tool) for tool in tools]
    writer = _Writer(written, parallel=parallel)
    made = writer.harmony() if form is None else _WRITERS[type(form)](writer, form)
    left_out = dict.fromkeys(keyword for arguments in written for keyword in arguments.left_out)
    return made._replace(left_out=tuple(left_out))


class _Writer:
    """The rules of some tools' calls, a family's each."""

    def __init__(self, tools: list[Arguments], *, parallel: bool) -> None:
        self._tools = tools
        self._parallel = parallel
        self._rules = Rules()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _one_of(self, expressions: Iterable[str]) -> str:
        return self._rules.rule(" | ".join(expressions))

    def _many(self, call: str, between: str) -> str:
        """One call or, where there may be more, any number from one."""
        return f"{call} ({between} {call})*" if self._parallel else call

    def _grammar(self, *openings: Opening, between: str = "") -> CallGrammar:
        """Of calls that are forced behind the first opening."""
        mark, rule = openings[0]
        forced = self._many(f"{quoted(mark)} {rule}", between)
        return self._whole(openings, forced)

    def _whole(self, openings: Sequence[Opening], forced: str) -> CallGrammar:
        return CallGrammar(tuple(openings), forced, self._rules.text(), forced)

    def _json(self) -> list[str]:
        """The arguments of each tool, in JSON."""
        return [self._rules.rule(arguments.json) for arguments in self._tools]

    def _named_json(self, before: str, behind: str) -> str:
        """A call that is a tool's name between regexes, and its arguments."""
        heads = [f"/{before}{literal(one.tool.name)}{behind}/" for one in self._tools]
        return self._one_of(f"{head} {part}" for head, part in zip(heads, self._json(), strict=True))

    def _objects(self, form: JsonCalls, *, before: str = "", identity: str = "", end: str = "/\\}/") -> str:
        """A call that is an object of a name and arguments. Regexes: what comes before, first within, and last."""
        keys = "|".join(map(literal, form.argument_keys))
        head = rf'{before}\{{{identity}"{literal(form.name_keys[0])}": ?'
        heads = [rf'/{head}"{literal(one.tool.name)}", ?"({keys})": ?/' for one in self._tools]
        return self._one_of(f"{head} {part} {end}" for head, part in zip(heads, self._json(), strict=True))

    def _array(self, call: str) -> str:
        return f'"[" {SPACE}? {self._many(call, COMMA)} {SPACE}? "]"'

    # ---- JSON --------------------------------------------------------------------------------------------------------

    def json_calls(self, form: JsonCalls) -> CallGrammar:
        """An object between marks, or an array where models of the family write one."""
        identity = "" if form.identity == "" else rf'("{literal(form.identity)}": ?"[0-9]{{1,3}}", ?)?'
        call = self._objects(msgspec.structs.replace(form, argument_keys=form.argument_keys[:1]), identity=identity)
        body = f"({call} | {self._array(call)})" if form.array else f"{LINE}? {call} {LINE}?"
        openings = [Opening(form.openings[0], self._rules.rule(f"{body} {quoted(form.closings[0])}"))]
        openings += [
            Opening(mark, self._rules.rule(f'{self._many(call, COMMA)} "]"'))
            for mark in form.openings[1:]
            if mark.endswith("[")
        ]
        if not form.array:
            return self._grammar(*openings, between=f"{LINE}?")
        return self._whole(openings, f"{quoted(openings[0].mark)} {openings[0].rule}")

    def mistral(self, form: MistralCalls) -> CallGrammar:
        """A name and arguments behind marks, or an array of objects with ids."""
        identity = rf"({literal(form.identity)}[A-Za-z0-9]{{9}})?"
        named = self._named_json("", identity + literal(form.arguments))
        end = r'/(, ?"id": ?"[A-Za-z0-9]{9}")?\}/'
        call = self._objects(JsonCalls(form.name, form.openings, argument_keys=("arguments",)), end=end)
        rule = self._rules.rule(f'{named} | " "? {self._array(call)}')
        return self._grammar(Opening(form.openings[0], rule))

    def deepseek(self, form: DeepSeekCalls) -> CallGrammar:
        """`name<sep>{...}`, or `function<sep>name` with the arguments in a fenced block below."""
        plain = self._named_json("", literal(form.argument))
        fenced = self._named_json(literal(f"function{form.argument}"), r"\n```json\n")
        call = self._rules.rule(f'({plain} | {fenced} "\\n```") {quoted(form.call_end)}')
        return self._section(call, form.section, form.call, form.section_end)

    def kimi(self, form: KimiCalls) -> CallGrammar:
        """`functions.weather:0<argument>{...}`."""
        named = self._named_json(r"functions\.", rf":[0-9]{{1,3}}{literal(form.argument)}")
        call = self._rules.rule(f"{named} {quoted(form.call_end)}")
        return self._section(call, form.section, form.call, form.section_end)

    def _section(self, call: str, begin: str, mark: str, end: str) -> CallGrammar:
        """Calls behind a mark each, within a section; where a model begins one without a section, that is one call."""
        calls = self._rules.rule(f"{quoted(mark)} {call}")
        section = self._rules.rule(f"{self._many(calls, f'{LINE}?')} {LINE}? {quoted(end)}")
        return self._whole([Opening(begin, section), Opening(mark, call)], f"{quoted(begin)} {section}")

    def harmony(self) -> CallGrammar:
        """A message to a function; each ends an answer."""
        channel = literal(f"{harmony.CHANNEL}commentary")
        constrained = rf"( ?{literal(harmony.CONSTRAIN)} ?json| json)?"
        behind = rf"({channel})?{constrained}{literal(harmony.MESSAGE)}"
        rule = self._named_json("", behind)
        forced = f"{quoted(f'{harmony.CHANNEL}commentary {harmony.RECIPIENT}')} {rule}"
        return self._whole([Opening(harmony.RECIPIENT, rule)], forced)

    # ---- tags --------------------------------------------------------------------------------------------------------

    def tagged(self, form: TaggedCalls) -> CallGrammar:
        """Functions in an outer tag, or one that stands alone."""
        tags = TaggedRules(form, self._rules)
        call = self._one_of([tags.call(one) for one in self._tools])
        openings = [Opening(mark, self._outer(form, call, mark)) for mark in form.openings if mark != form.function]
        if form.function in form.openings:
            openings.append(Opening(form.function, call))
        return self._grammar(*openings, between=f"{LINE}?")

    def _outer(self, form: TaggedCalls, call: str, mark: str) -> str:
        if not form.function:
            return self._rules.rule(f"{LINE}? {call}")
        closing = form.closings[form.openings.index(mark)]
        calls = self._many(f"{quoted(form.function)} {call}", f"{LINE}?")
        return self._rules.rule(f"{LINE}? {calls} {LINE}? {quoted(closing)}")

    # ---- Python and Gemma --------------------------------------------------------------------------------------------

    def marked(self, form: MarkedCalls) -> CallGrammar:
        """`call:weather{...}` between marks."""
        syntax = marked(form.quote)
        call = self._one_of([LiteralRules(syntax, one, self._rules).marked_call() for one in self._tools])
        return self._grammar(Opening(form.openings[0], self._rules.rule(f"{call} {quoted(form.closings[0])}")))

    def _python_call(self, before: str = "") -> str:
        """A call in the manner of Python, behind a regex."""
        return self._one_of([LiteralRules(PYTHON, one, self._rules).python_call(before) for one in self._tools])

    def python(self, form: PythonCalls) -> CallGrammar:
        """Calls on a line each."""
        calls = self._many(self._python_call(), LINE)
        rule = self._rules.rule(f"{LINE} {calls} {LINE} {quoted(form.closings[0])}")
        return self._whole([Opening(form.openings[0], rule)], f"{quoted(form.openings[0])} {rule}")

    def mixed(self, form: MixedCalls) -> CallGrammar:
        """An array in the manner of Python, or objects: an array of them between marks, or one behind the other."""
        array = self._python_call(r"\s{0,4}\[")
        array = f'{array} ({COMMA} {self._python_call()})* "]"' if self._parallel else f'{array} "]"'
        objects = JsonCalls(form.name, form.openings, name_keys=form.name_keys)
        if not form.leads:
            objects = msgspec.structs.replace(objects, argument_keys=("arguments",))
            end = r'/(, ?"id": ?"[^"\\]{1,64}")?\}/'
            rule = self._rules.rule(
                f"({array} | {self._array(self._objects(objects, end=end))}) {quoted(form.closings[0])}"
            )
            return self._grammar(Opening(form.openings[0], rule))
        call = self._objects(objects, before=r"\s{0,4}", identity=r'("type": ?"function", ?)?')
        rule = self._rules.rule(f"{array} | {self._many(call, quoted(form.closings[0]))}")
        beginning = self._rules.rule(f"{rule} | {self._no_call(form)}")
        mark = quoted(form.openings[0])
        opening = Opening(form.openings[0], rule)
        return CallGrammar((opening,), f"{mark}? {rule}", self._rules.text(), f"{mark} {rule}", beginning)

    def _no_call(self, form: MixedCalls) -> str:
        """Any text that doesn't begin as a call in whatever spelling; behind a lead without what opens another one."""
        objects = JsonCalls(form.name, form.openings, name_keys=form.name_keys)
        names, keys = "|".join(form.name_keys), "|".join((*objects.argument_keys, *objects.other_keys))
        tools = "|".join(literal(one.tool.name) for one in self._tools)
        inside = (
            rf'"({keys})"',
            rf'"({names})"{_BLANK}:{_BLANK}"({tools})"',
            r'"[^"\\]*\\',
            rf'"({names})"{_BLANK}:{_BLANK}"[^"\\]*\\',
        )
        starts = [rf"\[?{_BLANK}\{{(,|{_BLANK})*({'|'.join(inside)})", rf"\[{_BLANK}({tools}){_BLANK}\("]
        leads = "|".join(map(literal, form.leads))
        plain = f"~/(?s:{_BLANK}({leads}).*)/"
        no_call = f"~/(?s:{_BLANK}({'|'.join(starts)}).*)/ & {without(form.openings[0])}"
        return self._rules.terminal(f"({TEXT} & {plain}) | ({TEXT} & {no_call})")


_WRITERS: Final[Mapping[type, Callable[[_Writer, Any], CallGrammar]]] = {
    JsonCalls: _Writer.json_calls,
    MistralCalls: _Writer.mistral,
    DeepSeekCalls: _Writer.deepseek,
    KimiCalls: _Writer.kimi,
    TaggedCalls: _Writer.tagged,
    MarkedCalls: _Writer.marked,
    PythonCalls: _Writer.python,
    MixedCalls: _Writer.mixed,
}
"""What writes the rules of each kind of syntax."""
