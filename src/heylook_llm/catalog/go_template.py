"""Ollama's templates, which are written in Go's template language, as Jinja: the part of it that chat templates use.

What has no counterpart is refused by name. A template that ranges over `.Messages` becomes one that ranges over them;
one of Ollama's older kind (`.System`, `.Prompt`, `.Response`) is written once for each exchange, as Ollama does.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_CHARACTERS: Final = 256 << 10
MAX_DEPTH: Final = 48
PRINT_FILTER: Final = "as_go_prints"
"""A filter that the environment must have: texts as they are, nothing for what isn't there, all else as JSON."""
_MARK: Final = re.compile(
    r"""\{\{-?\s*(?:\.[A-Za-z]|\.\s|\$|/\*|(?:end|else|break|continue|currentDate)\s*-?\}\}"""
    r"""|(?:if|else|range|with|eq|ne|lt|le|gt|ge|len|json|index|slice|print|printf|define|template|block)\s+[\w.$("`])"""
)
"""What Jinja's expressions can't begin with."""
_WORD: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<sign>:=|=|\||\(|\)|,)"""
    r"|(?P<path>\$?(?:\.[A-Za-z_]\w*)+|\$[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|\$|\.)|(?P<name>[A-Za-z_]\w*))"
)
_BEGIN: Final = re.compile(r"\{\{(-(?=\s))?")
_END: Final = re.compile(r"(?:\s+-)?\s*\}\}")
_ROOT: Final = {
    "Messages": "messages",
    "Tools": "tools",
    "System": "go.system",
    "Prompt": "go.prompt",
    "Response": "go.response",
    "Suffix": "''",
    "Think": "(enable_thinking | default(false))",
    "IsThinkSet": "(enable_thinking is defined)",
    "ThinkLevel": "(reasoning_effort | default(''))",
}
_FIELDS: Final = {
    "Role": "role",
    "Content": "content",
    "Thinking": "thinking",
    "ToolCalls": "tool_calls",
    "ToolName": "name",
    "ToolCallID": "tool_call_id",
    "Images": "images",
    "Type": "type",
    "Function": "function",
    "Name": "name",
    "Description": "description",
    "Parameters": "parameters",
    "Arguments": "arguments",
    "Properties": "properties",
    "Required": "required",
    "Enum": "enum",
    "Items": "items",
    "AnyOf": "anyOf",
    "Defs": "$defs",
    "ID": "id",
    "Index": "index",
}
_MAPPINGS: Final = frozenset(("Properties", "Arguments", "Defs"))
_COMPARED: Final = {"ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class GoTemplateError(ValueError):
    """A template that can't be followed; the message says where and why."""


def is_go(source: str) -> bool:
    """Whether a template is of Ollama's kind; any other is Jinja."""
    return "{%" not in source and _MARK.search(source) is not None


def to_jinja(source: str) -> str:
    """The same template in Jinja. Raises GoTemplateError."""
    if len(source) > MAX_CHARACTERS:
        raise GoTemplateError(f"is longer than {MAX_CHARACTERS} characters")
    reader = _Reader(source)
    nodes, ended = reader.body(0)
    if ended:
        raise GoTemplateError(f"has an `{ended}` that ends nothing")
    system = '{% set go = namespace(system="", prompt="", response="") %}'
    if any(path.startswith((".Messages", "$.Messages")) for path in reader.paths):
        every = "messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\\n\\n')"
        return f"{system}{{% set go.system = {every} %}}{_Writer().body(nodes)}"
    if not any(path in (".Response", "$.Response") for path in reader.paths):
        nodes = [*nodes, _Print([[_Word("path", ".Response")]])]
    return system + _exchanges(nodes)


def _exchanges(nodes: "list[_Node]") -> str:
    """A template of the older kind, once for each system message, prompt and answer; the last up to its answer."""
    whole = _Writer().body(nodes) + "{% set go.system = '' %}{% set go.prompt = '' %}{% set go.response = '' %}"
    last, _ = _cut(nodes)
    return (
        "{% for message in messages %}"
        "{% if message.role == 'system' %}"
        f"{{% if go.prompt or go.response %}}{whole}{{% endif %}}{{% set go.system = message.content %}}"
        "{% elif message.role == 'user' %}"
        f"{{% if go.response %}}{whole}{{% endif %}}{{% set go.prompt = message.content %}}"
        "{% elif message.role == 'assistant' %}{% set go.response = message.content %}{% endif %}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{_Writer().body(last)}{{% else %}}{whole}{{% endif %}}"
    )


# ---- words -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Word:
    kind: str
    text: str


_Command = list["_Word | list[_Command]"]
"""A function and its arguments; a list among them is a pipeline in parentheses."""
_Pipeline = list[_Command]


@dataclass(slots=True)
class _Text:
    text: str


@dataclass(slots=True)
class _Print:
    pipeline: _Pipeline


@dataclass(slots=True)
class _Set:
    name: str
    declares: bool
    pipeline: _Pipeline


@dataclass(slots=True)
class _Block:
    """if, with or range; `names` are range's variables."""

    kind: str
    pipeline: _Pipeline
    body: "list[_Node]" = field(default_factory=list)
    otherwise: "list[_Node]" = field(default_factory=list)
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Jump:
    word: str


_Node = _Text | _Print | _Set | _Block | _Jump


class _Reader:
    """The source as nodes."""

    def __init__(self, source: str) -> None:
        self.paths: set[str] = set()
        self._pieces = _pieces(source)
        self._rest: list[_Word] = []

    def body(self, depth: int) -> tuple[list[_Node], str]:
        """Nodes up to the `end` or `else` that closes them, and that word; empty at the end of the source."""
        if depth > MAX_DEPTH:
            raise GoTemplateError(f"is nested deeper than {MAX_DEPTH}")
        nodes: list[_Node] = []
        for words in self._pieces:
            if isinstance(words, str):
                nodes.append(_Text(words))
                continue
            first = words[0].text if words[0].kind == "name" else ""
            if first in ("end", "else"):
                self._rest = words[1:]
                return nodes, first
            nodes.append(self._node(first, words, depth))
        return nodes, ""

    def _node(self, first: str, words: list[_Word], depth: int) -> _Node:
        if first in ("if", "with", "range"):
            return self._block(first, words[1:], depth)
        if first in ("break", "continue") and len(words) == 1:
            return _Jump(first)
        if first in ("define", "template", "block"):
            raise GoTemplateError(f"uses `{first}`, which isn't offered")
        if len(words) > 2 and words[1].text in (":=", "=") and words[0].text.startswith("$"):
            return _Set(words[0].text, words[1].text == ":=", self._pipeline(words[2:]))
        return _Print(self._pipeline(words))

    def _block(self, kind: str, words: list[_Word], depth: int) -> _Block:
        names: list[str] = []
        signs = [word.text for word in words]
        if kind == "range" and ":=" in signs:
            at = signs.index(":=")
            names, words = [word.text for word in words[:at] if word.kind == "path"][:2], words[at + 1 :]
        block = _Block(kind, self._pipeline(words), names=names)
        block.body, ended = self.body(depth + 1)
        if ended == "else":
            block.otherwise, ended = self._otherwise(depth + 1)
        if ended != "end":
            raise GoTemplateError(f"has an `{kind}` without its `end`")
        return block

    def _otherwise(self, depth: int) -> tuple[list[_Node], str]:
        """What stands behind an `else`; one with a condition of its own ends with the block that it belongs to."""
        words = self._rest
        if words and words[0].text in ("if", "with"):
            return [self._block(words[0].text, words[1:], depth)], "end"
        return self.body(depth)

    def _pipeline(self, words: list[_Word]) -> _Pipeline:
        pipeline, rest = self._piped(words, 0)
        if rest:
            raise GoTemplateError("has a parenthesis too many")
        return pipeline

    def _piped(self, words: list[_Word], depth: int) -> tuple[_Pipeline, list[_Word]]:
        """A pipeline up to the parenthesis that closes it, and the words from there on."""
        if depth > MAX_DEPTH:
            raise GoTemplateError(f"is nested deeper than {MAX_DEPTH}")
        pipeline: _Pipeline = [[]]
        while words:
            word, words = words[0], words[1:]
            if word.text == ")" and word.kind == "sign":
                return pipeline, [word, *words]
            if word.text == "|" and word.kind == "sign":
                pipeline.append([])
            elif word.text == "(" and word.kind == "sign":
                inner, words = self._piped(words, depth + 1)
                if not words:
                    raise GoTemplateError("has a parenthesis too few")
                words = words[1:]
                pipeline[-1].append(inner)
            else:
                self.paths.add(word.text)
                pipeline[-1].append(word)
        if not all(pipeline):
            raise GoTemplateError("has an empty action")
        return pipeline, []


def _pieces(source: str) -> "Iterator[str | list[_Word]]":
    """Texts, with what `{{-` and `-}}` trim left out, and the words of actions."""
    at, trims = 0, False
    while (begin := _BEGIN.search(source, at)) is not None:
        text = source[at : begin.start()]
        text = text.lstrip() if trims else text
        if text := text.rstrip() if begin[1] else text:
            yield text
        words, at = _words(source, begin.end())
        trims = source.endswith("-}}", 0, at)
        if words:
            yield words
    if text := source[at:].lstrip() if trims else source[at:]:
        yield text


def _words(source: str, at: int) -> tuple[list[_Word], int]:
    """The words of an action that begins at a place, and where it ends; of a comment none."""
    comment = re.compile(r"\s*/\*").match(source, at)
    if comment is not None:
        close = source.find("*/", comment.end())
        end = _END.match(source, close + 2) if close >= 0 else None
        if end is None:
            raise GoTemplateError("has a comment without its end")
        return [], end.end()
    words: list[_Word] = []
    while (end := _END.match(source, at)) is None:
        word = _WORD.match(source, at)
        if word is None or word.lastgroup is None:
            raise GoTemplateError(f"can't be read at {source[at : at + 24]!r}")
        words.append(_Word(word.lastgroup, word[word.lastgroup]))
        at = word.end()
    if not words:
        raise GoTemplateError("has an empty action")
    return words, end.end()


def _cut(nodes: list[_Node]) -> tuple[list[_Node], bool]:
    """The nodes up to and with the first that writes the answer; and whether there was one."""
    kept: list[_Node] = []
    for node in nodes:
        match node:
            case _Print() if any(
                word in (_Word("path", ".Response"), _Word("path", "$.Response")) for word in node.pipeline[0]
            ):
                return [*kept, node], True
            case _Block():
                body, found = _cut(node.body)
                otherwise, below = (node.otherwise, False) if found else _cut(node.otherwise)
                kept.append(_Block(node.kind, node.pipeline, body, otherwise, node.names))
                if found or below:
                    return kept, True
            case _:
                kept.append(node)
    return kept, False


# ---- Jinja -----------------------------------------------------------------------------------------------------------


class _Writer:
    """Nodes as Jinja. Go's variables live in one namespace, so that a loop can set them, each under its own name."""

    def __init__(self) -> None:
        self._scopes: list[dict[str, str]] = [{}]
        self._dots: list[str] = [""]
        """What `.` is, in each scope; empty: all there is."""
        self._names = 0

    def body(self, nodes: list[_Node]) -> str:
        """The nodes, one behind the other."""
        return "".join(map(self._node, nodes))

    def _node(self, node: _Node) -> str:
        match node:
            case _Text():
                return f"{{{{ {_quoted(node.text)} }}}}"
            case _Print():
                return f"{{{{ {self._printed(node.pipeline)} }}}}"
            case _Set():
                value = self._value(node.pipeline)
                return f"{{% set {self._declared(node)} = {value} %}}"
            case _Jump():
                return f"{{% {node.word} %}}"
            case _Block():
                return {"if": self._if, "with": self._with, "range": self._range}[node.kind](node)

    def _declared(self, node: _Set) -> str:
        if node.declares:
            self._scopes[-1][node.name] = self._new()
        return self._variable(node.name)

    def _new(self) -> str:
        self._names += 1
        return f"go.v{self._names}"

    def _scoped(self, dot: str, nodes: list[_Node], names: dict[str, str] | None = None) -> str:
        self._scopes.append(names or {})
        self._dots.append(dot)
        try:
            return self.body(nodes)
        finally:
            self._scopes.pop()
            self._dots.pop()

    def _else(self, node: _Block) -> str:
        return f"{{% else %}}{self._scoped(self._dots[-1], node.otherwise)}" if node.otherwise else ""

    def _if(self, node: _Block) -> str:
        body = self._scoped(self._dots[-1], node.body)
        return f"{{% if {self._value(node.pipeline)} %}}{body}{self._else(node)}{{% endif %}}"

    def _with(self, node: _Block) -> str:
        name, value = self._new(), self._value(node.pipeline)
        body = self._scoped(name, node.body)
        return f"{{% set {name} = {value} %}}{{% if {name} %}}{body}{self._else(node)}{{% endif %}}"

    def _range(self, node: _Block) -> str:
        self._names += 1
        item, names = f"item{self._names}", dict.fromkeys(node.names, "")
        for name in names:
            names[name] = self._new()
        value = self._value(node.pipeline)
        last = node.pipeline[-1][-1] if len(node.pipeline) == 1 and len(node.pipeline[0]) == 1 else None
        if isinstance(last, _Word) and last.text.rpartition(".")[2] in _MAPPINGS:
            head, first = f"{{% for key{item}, {item} in ({value} or {{}}).items() %}}", f"key{item}"
        else:
            head, first = f"{{% for {item} in ({value} or []) %}}", "loop.index0"
        values = (first, item)[-len(names) :]
        sets = "".join(f"{{% set {kept} = {given} %}}" for kept, given in zip(names.values(), values, strict=False))
        return f"{head}{sets}{self._scoped(item, node.body, names)}{self._else(node)}{{% endfor %}}"

    # ---- values ----

    def _printed(self, pipeline: _Pipeline) -> str:
        """A value as Go prints it."""
        return f"({self._value(pipeline)}) | {PRINT_FILTER}"

    def _value(self, pipeline: _Pipeline) -> str:
        value = ""
        for command in pipeline:
            arguments = [self._argument(word) for word in command[1:]] + ([value] if value else [])
            value = self._called(command[0], arguments)
        return value

    def _argument(self, word: "_Word | _Pipeline") -> str:
        if isinstance(word, list):
            return f"({self._value(word)})"
        match word.kind:
            case "text":
                return _quoted(_unquoted(word.text))
            case "number":
                return word.text
            case "path":
                return self._path(word.text)
        return {"true": "true", "false": "false", "nil": "none"}.get(word.text) or self._called(word, [])

    def _called(self, word: "_Word | _Pipeline", given: list[str]) -> str:
        if isinstance(word, list) or word.kind != "name" or word.text in ("true", "false", "nil"):
            if given:
                raise GoTemplateError("calls what is no function")
            return self._argument(word)
        written = _FUNCTIONS.get(word.text)
        if written is None:
            raise GoTemplateError(f"uses the function `{word.text}`, which isn't offered")
        try:
            return written(given)
        except (IndexError, TypeError, ValueError) as error:
            raise GoTemplateError(f"gives `{word.text}` {len(given)} arguments") from error

    def _variable(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise GoTemplateError(f"uses {name} without having set it")

    def _path(self, text: str) -> str:
        head, *fields = text.split(".")
        if head == "$" or (not head and not self._dots[-1]):
            return self._of_root([name for name in fields if name])
        base = self._variable(head) if head else self._dots[-1]
        return base + "".join(_field(name) for name in fields if name)

    @staticmethod
    def _of_root(fields: list[str]) -> str:
        if not fields:
            raise GoTemplateError("uses all that there is as one value")
        if fields[0] not in _ROOT:
            raise GoTemplateError(f"uses .{fields[0]}, which isn't offered")
        return _ROOT[fields[0]] + "".join(_field(name) for name in fields[1:])


def _field(name: str) -> str:
    if name not in _FIELDS:
        raise GoTemplateError(f"uses .{name}, which isn't offered")
    return f"['{_FIELDS[name]}']"


def _joined(sign: str) -> Callable[[list[str]], str]:
    return lambda given: "(" + f" {sign} ".join((given[0], *given[1:])) + ")"


def _two(sign: str) -> Callable[[list[str]], str]:
    def written(given: list[str]) -> str:
        left, right = given
        return f"({left} {sign} {right})"

    return written


def _equal(given: list[str]) -> str:
    left, first, *others = given
    return "(" + " or ".join(f"{left} == {right}" for right in (first, *others)) + ")"


def _one(pattern: str) -> Callable[[list[str]], str]:
    def written(given: list[str]) -> str:
        (value,) = given
        return pattern.format(value)

    return written


def _sliced(given: list[str]) -> str:
    value, *ends = given
    start, end = [*ends, "", ""][:2]
    return f"({value})[{start}:{end}]"


def _formatted(given: list[str]) -> str:
    pattern, *values = given
    plain = re.sub(r"%[vd]", "%s", pattern)
    return f"({plain} | format({', '.join(values)}))"


_FUNCTIONS: Final[dict[str, Callable[[list[str]], str]]] = {
    "and": _joined("and"),
    "or": _joined("or"),
    "not": _one("(not {0})"),
    "eq": _equal,
    **{name: _two(sign) for name, sign in _COMPARED.items()},
    "len": _one("(({0}) | default([], true) | length)"),
    "json": _one("(({0}) | tojson)"),
    "index": lambda given: given[0] + "".join(f"[{at}]" for at in given[1:]),
    "slice": _sliced,
    "print": lambda given: "(" + " ~ ".join(given) + ")",
    "printf": _formatted,
    "currentDate": lambda given: "strftime_now('%Y-%m-%d')",
}


def _quoted(text: str) -> str:
    """A text as a literal of Jinja, which reads Python's escapes."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def _unquoted(literal: str) -> str:
    """The text of a literal of Go."""
    if literal.startswith("`"):
        return literal[1:-1]
    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", _escape, literal[1:-1])


def _escape(match: re.Match[str]) -> str:
    word = match[1]
    if len(word) > 1:
        if (code := int(word[1:], 16)) > sys.maxunicode:
            raise GoTemplateError(f"has the impossible character {match[0]}")
        return chr(code)
    return {"n": "\n", "t": "\t", "r": "\r"}.get(word, word)
