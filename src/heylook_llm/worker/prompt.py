"""A ChatPrompt to the text that the model's own chat template makes of it, in a sandbox with bounds.

Templates come with model files, so they are untrusted: Jinja's immutable sandbox, bounded range(), repetition, string
growth and output, and a deadline that is checked in every loop, so a render ends without a process to kill.
"""

import contextlib
import datetime
import json
import logging
import re
import string
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import jinja2
import jinja2.sandbox
import msgspec
from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from heylook_llm import core
from heylook_llm.catalog import go_template, template_syntax
from heylook_llm.errors import BadRequest, EngineError, UnsupportedFeature
from heylook_llm.worker.formats.formats import opens_reasoning
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.formats.recognition import PROBE, PROBE_ARGUMENTS, CallStyle, Render, common_start, recognize
from heylook_llm.worker.images import Marks
from heylook_llm.worker.turns import with_named_calls, with_single_calls, with_text_as_reasoning

log = logging.getLogger(__name__)

DEADLINE_SECONDS: Final = 1.5
"""Of the rendering thread's processor time, so that what others compute meanwhile isn't the template's."""
MAX_OUTPUT_CHARACTERS: Final = 64 << 20
MAX_VALUE_LENGTH: Final = 64 << 20
MAX_LIST_LENGTH: Final = 1 << 20
MAX_SLOW_LENGTH: Final = 100_000
"""Of a text for a filter whose time grows faster than the text."""
MAX_RANGE: Final = 100_000
MAX_WIDTH: Final = 10_000
"""Of padding, indentation and number formats."""

CHATML: Final = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
CHATML_TOKENS: Final = ("<|im_start|>", "<|im_end|>")

_GROWING_METHODS: Final = frozenset(
    ("center", "expandtabs", "format", "format_map", "join", "ljust", "replace", "rjust", "translate", "zfill")
)
_GROWING_FILTERS: Final = (
    "center",
    "format",
    "indent",
    "join",
    "replace",
    "wordwrap",
    "string",
    "list",
    "batch",
    "slice",
    "urlize",
)
_SLOW_FILTERS: Final = ("urlize", "wordwrap")
_WIDTH_FROM_AN_ARGUMENT: Final = re.compile(r"%[^%a-zA-Z]*\*")


class TemplateTooExpensive(Exception):
    """A template ran beyond one of its bounds."""


class _TemplateRaised(Exception):
    """The template called raise_exception: it doesn't accept these messages."""


class _Bounds(NodeTransformer):
    """Makes every loop and macro check the deadline, and every `~` its size."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # Jinja's name
        return self._with_check(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802  # Jinja's name
        return self._with_check(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  # Jinja's name
        self.generic_visit(node)
        join = nodes.EnvironmentAttribute("join_bounded")
        return nodes.Call(join, node.nodes, [], None, None).set_lineno(node.lineno)

    def _with_check(self, node: nodes.For | nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        call = nodes.Call(nodes.EnvironmentAttribute("check_deadline"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
        return node


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox with bounds on time and size."""

    intercepted_binops = frozenset(("*", "**", "+", "%"))

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=template_syntax.EXTENSIONS)
        self._clock = clock
        self._render = threading.local()
        del self.globals["lipsum"]  # filler text, as much as asked for
        self.globals["range"] = self._range
        self.globals["raise_exception"] = _raise_exception
        self.filters["tojson"] = _tojson
        self.filters[go_template.PRINT_FILTER] = _as_go_prints
        for name in _GROWING_FILTERS:
            self.filters[name] = _bounded_filter(name, self.filters[name])

    def start(self) -> None:
        """Begin this thread's time for a render."""
        self._render.deadline = self._clock() + DEADLINE_SECONDS

    def check_deadline(self) -> str:
        """Called in every loop. Raises TemplateTooExpensive."""
        if self._clock() > self._render.deadline:
            raise TemplateTooExpensive(f"takes more than {DEADLINE_SECONDS} s to compute")
        return ""

    def join_bounded(self, *values: object) -> str:
        """The `~` operator."""
        texts = [str(value) for value in values]
        if sum(map(len, texts)) > MAX_VALUE_LENGTH:
            _too_large()
        return "".join(texts)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic, refused where its result would be too large."""
        if operator == "**" and (abs(right) > 1000 or abs(left) > 1 << 64):
            _too_large()
        if operator == "*":
            _check_repetition(left, right)
            _check_repetition(right, left)
        if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            _check_length(left, len(left) + len(right))
        if operator == "%" and isinstance(left, str):
            _check_widths(left)
        return _checked(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Calls; methods of strings that can grow without bound are checked before and after."""
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        if getattr(method, "__name__", "") in _GROWING_METHODS and isinstance(getattr(method, "__self__", None), str):
            _check_growth(method.__name__, method.__self__, args)
            return _checked(super().call(__context, __obj, *args, **kwargs))
        return super().call(__context, __obj, *args, **kwargs)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Bounds().visit(super()._parse(source, name, filename))
        return tree

    def _range(self, *limits: int) -> range:
        self.check_deadline()
        values = range(*limits)
        if len(values) > MAX_RANGE:
            raise TemplateTooExpensive(f"counts beyond {MAX_RANGE}")
        return values


def _raise_exception(message: str) -> NoReturn:
    raise _TemplateRaised(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and int(indent) > 64:
        _too_large()
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _as_go_prints(value: Any) -> str:
    if value is None or isinstance(value, jinja2.Undefined):
        return ""
    return value if isinstance(value, str) else _tojson(value)


def _too_large() -> NoReturn:
    raise TemplateTooExpensive("makes too large a value")


def _checked(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _check_length(value, len(value))
    return value


def _check_length(kind: object, length: int) -> None:
    """Refuse so long a text, or so long a list."""
    if length > (MAX_VALUE_LENGTH if isinstance(kind, str) else MAX_LIST_LENGTH):
        _too_large()


def _check_repetition(value: object, times: object) -> None:
    if isinstance(value, str | list | tuple) and isinstance(times, int):
        _check_length(value, len(value) * times)


def _check_widths(text: str) -> None:
    """Refuse widths of five digits and more, and those that an argument sets: `%99999999d`, `%*d`, `{:>{}}`."""
    if _WIDTH_FROM_AN_ARGUMENT.search(text):
        _too_large()
    digits = 0
    for character in text:
        digits = digits + 1 if character.isdigit() else 0
        if digits > 4 and ("%" in text or "{" in text):
            _too_large()


def _check_growth(name: str, text: str, args: tuple[Any, ...]) -> None:
    """Before a method of a string: what would its result be at most?"""
    if name in ("format", "format_map"):
        _check_widths(text)
        if any("{" in (spec or "") for _, _, spec, _ in string.Formatter().parse(text)):
            _too_large()
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs") and args and int(args[0]) > MAX_WIDTH:
        _too_large()
    if name == "replace" and len(args) > 1:
        places = text.count(args[0]) if args[0] else len(text) + 1
        _check_repetition(str(args[1]), places)
    if name == "join" and args and hasattr(args[0], "__len__"):
        _check_repetition(text, len(args[0]))


def _check_insertions(name: str, text: str, given: list[Any]) -> None:
    """Before a filter that inserts a text at each line or after each word."""
    places = text.count("\n") if name == "indent" else len(text)
    inserted = [len(value) if isinstance(value, str) else value for value in given if isinstance(value, str | int)]
    if name == "wordwrap":
        inserted = [len(value) for value in given if isinstance(value, str)]
    _check_length(text, places * max(inserted, default=1))


def _bounded_filter(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with the same bounds as the method of its name."""
    passed = getattr(original, "jinja_pass_arg", None)
    at = 0 if passed is None else 1

    def bounded(*args: Any, **kwargs: Any) -> Any:
        given = [*args[at + 1 :], *kwargs.values()]
        if any(isinstance(value, int) and value > MAX_WIDTH for value in given):
            _too_large()
        if name == "replace" and len(given) > 1:
            _check_growth("replace", str(args[at]), (str(given[0]), str(given[1])))
        if name == "format":
            _check_widths(str(args[at]))
        if name in _SLOW_FILTERS and len(str(args[at])) > MAX_SLOW_LENGTH:
            _too_large()
        if name in ("indent", "wordwrap"):
            _check_insertions(name, str(args[at]), given)
        return _checked(original(*args, **kwargs))

    if passed is not None:
        bounded.jinja_pass_arg = passed  # type: ignore[attr-defined]  # how Jinja marks what a filter gets first
    return bounded


_DOES_NOT_COMPILE: Final = (
    *(jinja2.TemplateError, TemplateTooExpensive, ValueError),
    *(SyntaxError, RecursionError, MemoryError),  # Python's own, of what is nested too deeply
)


class Rendering(NamedTuple):
    """A rendered prompt; `reasoning`: whether the answer may begin with reasoning, or is already inside it.

    `marks`: where in the text its images stand.
    """

    text: str
    reasoning: ReasoningMode
    marks: Marks


class ChatTemplate:
    """A compiled chat template, with what it can do found out by rendering a few short chats."""

    def __init__(
        self,
        source: str,
        *,
        model: str,
        bos: str = "",
        eos: str = "",
        sees: bool = False,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Raises EngineError if the template doesn't compile. `model` is its name in messages; `sees`: images too.

        `source` is Jinja, or a template of Ollama's.
        """
        self._model = model
        self._sees = sees
        self._constants = {"bos_token": bos, "eos_token": eos}
        self._environment = _Environment(clock)
        self._source = source
        try:
            jinja = go_template.to_jinja(source) if go_template.is_go(source) else source
            self._template = self._environment.from_string(jinja)
        except _DOES_NOT_COMPILE as error:
            raise EngineError(f"The chat template of model '{model}' doesn't compile: {error}") from error
        self._environment.start()  # once for all probes
        self._burst = False
        """A probe ran beyond a bound: the others would too."""
        self._in_parts = False
        """It reads a message's content as a list of parts only."""
        self._in_parts = self._probe_parts()
        self.takes_system = self._probe_system()
        self.takes_tools = self._probe_tools("probe")
        self._needs_description = self.takes_tools and not self._probe_tools(None)
        self.format, self._calls = recognize(source, self._probe_calls())
        marks = self.format.reasoning
        self.can_think = marks.start in source or marks.end in source or self._probe_thinking()
        self._thinks_unasked = self.can_think and not (self._probe_thinking() and self._probe() == self._probe_off())
        self._knows_developer = "developer" in source and self._probe_developer()

    def capabilities(self) -> tuple[str, ...]:
        """What it adds to a model's capabilities."""
        found = ["chat"]
        if self.takes_tools:
            found.append("tools")
        if self.can_think:
            found.append("thinking")
        return tuple(found)

    def expects_reasoning(self, thinking: bool | str | None) -> bool:
        """Whether a model may begin with reasoning where the prompt doesn't: as asked, or by its own habit.

        It has none where a switch changes the prompt, and leaving it alone means off.
        """
        return self.can_think and (self._thinks_unasked if thinking is None else thinking is not False)

    def render(self, prompt: core.ChatPrompt, now: datetime.datetime) -> Rendering:
        """The prompt's text, and what of the reasoning it leaves to the model.

        Raises UnsupportedFeature for tools, thinking or images that the model doesn't have, BadRequest with the
        template's own words where it refuses the messages, EngineError where it fails or exceeds a bound.
        """
        self._check(prompt)
        marks = Marks()
        messages, last = [_with_marks(message, marks) for message in prompt.messages], None
        if prompt.continue_last and messages and messages[-1].role == "assistant":
            last = messages.pop()
        self._environment.start()
        text = self._run(self._variables(prompt, messages, now))
        mode: ReasoningMode = "open" if opens_reasoning(text, self.format.reasoning) else "auto"
        if last is not None:
            continued, mode = self.format.continued(text, last)
            text += continued
        if marks.missing(text):
            raise BadRequest(f"The chat template of model '{self._model}' leaves an image out there.", param="messages")
        if mode == "open" and prompt.reasoning_budget == 0:
            return Rendering(text + self.format.conclusions(tools=False)[-1], "none", marks)
        return Rendering(text, mode if self.can_think else "none", marks)

    def _check(self, prompt: core.ChatPrompt) -> None:
        if offered(prompt) and not self.takes_tools:
            raise UnsupportedFeature(f'"{self._model}" does not support tools', param="tools")
        if prompt.thinking not in (None, False) and not self.can_think:
            raise UnsupportedFeature(f'"{self._model}" does not support thinking', param="think")
        if not self._sees and any(isinstance(part, core.ImagePart) for one in prompt.messages for part in one.parts):
            raise UnsupportedFeature(f'"{self._model}" does not support vision', param="messages")

    def _variables(
        self, prompt: core.ChatPrompt, messages: list[core.Message], now: datetime.datetime
    ) -> dict[str, Any]:
        variables: dict[str, Any] = {
            **self._constants,
            "messages": [self._written(_message(turn, self._calls)) for turn in self._turns(messages)],
            "tools": [self._tool(tool) for tool in offered(prompt)] or None,
            "documents": None,
            "add_generation_prompt": True,
            "strftime_now": now.strftime,
        }
        if prompt.thinking is not None:
            variables["enable_thinking"] = variables["thinking"] = prompt.thinking is not False
        if isinstance(prompt.thinking, str):
            variables["reasoning_effort"] = self._level(prompt.thinking)
        if prompt.thinking_budget is not None:
            variables["thinking_budget"] = prompt.thinking_budget
        return {**variables, **prompt.template_arguments}

    def _written(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message with its content as the template reads it."""
        content = message["content"]
        if not self._in_parts or not isinstance(content, str):
            return message
        return {**message, "content": [{"type": "text", "text": content}] if content else []}

    def _level(self, level: str) -> str:
        """A level of reasoning as the template knows it: most go no higher than "high"."""
        return level if level != "max" or any(f"{quote}max{quote}" in self._source for quote in "'\"") else "high"

    def _turns(self, messages: list[core.Message]) -> list[core.Message]:
        """Earlier turns as the template wants them."""
        turns = with_named_calls(self._roles(messages), self._calls)
        if not self._calls.text_beside:
            turns = with_text_as_reasoning(turns)
        return turns if self._calls.several else with_single_calls(turns)

    def _roles(self, messages: list[core.Message]) -> list[core.Message]:
        """Messages in roles that the template knows: `developer` may become system, and system a part of the user's."""
        if not self._knows_developer:
            messages = [_with_role(one, "system") if one.role == "developer" else one for one in messages]
        if self.takes_system or not any(message.role == "system" for message in messages):
            return messages
        system = "\n\n".join(message.text for message in messages if message.role == "system")
        rest = [message for message in messages if message.role != "system"]
        for at, message in enumerate(rest):
            if message.role == "user":
                rest[at] = core.Message("user", (core.TextPart(system + "\n\n"), *message.parts), name=message.name)
                return rest
        return [core.Message("user", (core.TextPart(system),)), *rest]

    def _tool(self, tool: core.Tool) -> dict[str, Any]:
        """A tool as it was sent; templates that can't write one without a description get an empty one."""
        if tool.description is None and self._needs_description:
            tool = msgspec.structs.replace(tool, description="")
        return _tool(tool)

    def _run(self, variables: Mapping[str, Any], level: int = logging.WARNING) -> str:
        try:
            return self._generate(variables)
        except _TemplateRaised as error:
            raise BadRequest(str(error), param="messages") from error
        except TemplateTooExpensive as error:
            raise EngineError(f"The chat template of model '{self._model}' {error}.") from error
        except jinja2.UndefinedError as error:
            raise BadRequest(f"The chat template of model '{self._model}': {error}", param="messages") from error
        except Exception as error:  # a template is a program of unknown authors: whatever it raises is its failure
            log.log(level, "the chat template fails", exc_info=error)
            kind = type(error).__name__  # its text may hold an address or a value of ours
            raise EngineError(f"The chat template of model '{self._model}' fails with {kind}.") from error

    def _generate(self, variables: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        length = 0
        for piece in self._template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_OUTPUT_CHARACTERS:
                raise TemplateTooExpensive(f"writes more than {MAX_OUTPUT_CHARACTERS} characters")
        return "".join(pieces)

    # ---- probes ------------------------------------------------------------------------------------------------------

    def _probe(self, system: str = "", role: str = "system", **more: Any) -> str | None:
        """What a short chat renders to; None: the template refuses it."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": "probe-user"}]
        if system:
            messages.insert(0, {"role": role, "content": system})
        return self._probe_messages(messages, add_generation_prompt=True, **more)

    def _probe_messages(self, messages: list[dict[str, Any]], **more: Any) -> str | None:
        """What messages render to; None: the template refuses them."""
        variables = {
            **self._constants,
            "messages": [self._written(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
            "strftime_now": datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC).strftime,
            **more,
        }
        try:
            return None if self._burst else self._run(variables, logging.DEBUG)
        except BadRequest:
            return None
        except EngineError as error:
            self._burst = isinstance(error.__cause__, TemplateTooExpensive)
            return None

    def _probe_parts(self) -> bool:
        """Whether a text is left out unless it comes as a part of a list, as some that read images do."""
        if "probe-user" in (self._probe() or ""):
            return False
        self._in_parts = True
        return "probe-user" in (self._probe() or "")

    def _probe_system(self) -> bool:
        return "probe-system" in (self._probe("probe-system") or "")

    def _probe_developer(self) -> bool:
        return "probe-developer" in (self._probe("probe-developer", "developer") or "")

    def _probe_tools(self, description: str | None) -> bool:
        tool = _tool(core.Tool("probe_tool", description, {"type": "object", "properties": {}}))
        return any("probe_tool" in (self._probe(system, tools=[tool]) or "") for system in ("", "probe-system"))

    def _probe_calls(self) -> Render | None:
        """What writes an assistant's turn of calls, behind what begins any of its turns; None: tools aren't taken."""
        tools = [_tool(PROBE)]
        before = self._probe(tools=tools) if self.takes_tools else None
        if before is None:
            return None

        def written(style: CallStyle, count: int) -> str | None:
            calls = tuple(core.ToolCall(f"callprobe{number}", PROBE.name, PROBE_ARGUMENTS) for number in range(count))
            [turn] = with_named_calls([core.Message("assistant", tool_calls=calls)], style)
            messages = [{"role": "user", "content": "probe-user"}, _message(turn, style)]
            whole = self._probe_messages(messages, tools=tools)
            return None if whole is None else whole[common_start(before, whole) :]

        return written

    def _probe_thinking(self) -> bool:
        on = self._probe(enable_thinking=True, thinking=True, reasoning_effort="high")
        return on != self._probe_off()

    def _probe_off(self) -> str | None:
        return self._probe(enable_thinking=False, thinking=False, reasoning_effort="low")


def offered(prompt: core.ChatPrompt) -> tuple[core.Tool, ...]:
    """The tools that the model is told of: none with tool_choice "none", else those allowed by name."""
    if prompt.tool_choice.mode == "none":
        return ()
    names = prompt.tool_choice.names
    return tuple(tool for tool in prompt.tools if not names or tool.name in names)


def _with_marks(message: core.Message, marks: Marks) -> core.Message:
    """A message with texts that stand for its images."""
    if all(isinstance(part, core.TextPart) for part in message.parts):
        return message
    parts = (part if isinstance(part, core.TextPart) else core.TextPart(marks.mark(part)) for part in message.parts)
    return msgspec.structs.replace(message, parts=tuple(parts))


def _with_role(message: core.Message, role: str) -> core.Message:
    return core.Message(role, message.parts, name=message.name)


def _message(message: core.Message, style: CallStyle) -> dict[str, Any]:
    """A message as Hugging Face templates expect it."""
    fields: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.reasoning:
        fields["reasoning_content"] = message.reasoning
        fields["thinking"] = message.reasoning
    if message.tool_calls:
        fields["tool_calls"] = [_tool_call(call, style) for call in message.tool_calls]
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    if message.name:
        fields["name"] = message.name
    return fields


def _tool_call(call: core.ToolCall, style: CallStyle) -> dict[str, Any]:
    """Arguments as an object, which most templates write with tojson; text that isn't one stays text."""
    arguments: Any = call.arguments
    if not style.as_text:
        with contextlib.suppress(ValueError):
            arguments = json.loads(call.arguments)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: core.Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
