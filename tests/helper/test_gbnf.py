"""GBNF as Lark: what it means, checked against a naive reader of it, and what is refused."""

from collections.abc import Iterable

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from heylook_llm.errors import InvalidConstraint
from heylook_llm.helper import gbnf
from heylook_llm.helper.gbnf import Group, Node, Reference, Repeat, Terminal
from tests.helper.following import compiled, follows

pytestmark = pytest.mark.unit

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws ( value ("," ws value)* )? "]" ws   # a comment
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""


def read(source: str, text: str) -> bool:
    """Whether a text is one of the grammar's."""
    return follows(compiled({"lark_grammar": gbnf.to_lark(source)}), text)


def test_json_as_llama_cpp_writes_it() -> None:
    matcher = compiled({"lark_grammar": gbnf.to_lark(JSON)})
    for text in ('{"a": [1, 2.5, "x\\u00e9", null, true], "\u00e9\U0001f600": {}}', "{}", '{"a":\n  -1e+2}'):
        assert follows(matcher, text), text
    for text in ('{"a":1', "[]", '{"a": tru}', '{"a": 01}', '{"a": "\n"}'):
        assert not follows(matcher, text), text


@pytest.mark.parametrize(
    ("source", "texts", "others"),
    [
        ('root ::= ("ab" | "a" "bc") "d"', ["abd", "abcd"], ["acd", "abc"]),
        ('root ::= [a-z]* "b"', ["b", "bb", "xb", "xbb"], ["", "x"]),
        ('root ::= "a" |\n  "b" | [x-] | .{2}', ["a", "b", "x", "-", "zz", "\n\n"], ["z", "zzz"]),
        ('root ::= first-One?\nfirst-One ::= "\\x41" "\\u00e9" "\\U0001F600"', ["", "A\u00e9\U0001f600"], ["A"]),
        ("root ::= [^\\n\\]]{2,3}", ["ab", "[[["], ["a", "abcd", "]]", "a\n"]),
        ('root ::= ("a"{2}){2,}', ["aaaa", "aaaaaa"], ["aa", "aaa", "aaaaa"]),
        ("root ::= [^] | [^\\x00-\\U0010FFFF]", ["x", "\n"], ["xx"]),
        ('root ::= a\na ::= "x"\na ::= "y"', ["y"], ["x"]),
    ],
)
def test_each_kind_of_rule(source: str, texts: list[str], others: list[str]) -> None:
    assert all(read(source, text) for text in texts)
    assert not any(read(source, text) for text in others)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('root ::= root "a" | "b"', "left recursion"),
        ('root ::= x\nx ::= "" y\ny ::= x "a"', "left recursion"),
        ('root ::= (x)* "a"\nx ::= ("b"? root)', "left recursion"),
        ("root ::= missing", "`missing` is not defined"),
        ('x ::= "a"', "no rule `root`"),
        ("", "no rule `root`"),
        ('root ::= "a', "line 1"),
        ("root ::= [z-a]", "ends before it begins"),
        ("root ::= []", "no characters"),
        ("root ::= <think>", "tokens can't be named"),
        ("root ::= !<[7]>", "tokens can't be named"),
        ('root ::= "a"{3,1}', "a count must be"),
        ('root ::= "a"{99999}', "a count must be"),
        ('root ::= "a"{}', "expected a count"),
        ('root = "a"', "expected ::="),
        ('root ::= "a")', "expected the end of the rule"),
        ('root ::= ("a"', "expected )"),
        ('root ::= "\\q"', "unknown escape"),
        ('root ::= "\\u12"', "too short"),
        ('root ::= "\\ud800"', "no character"),
        ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "too deeply"),
        ('root ::=\n"a"\n\n"b"', "expected the name of a rule"),
    ],
)
def test_what_is_refused(source: str, reason: str) -> None:
    with pytest.raises(InvalidConstraint) as caught:
        gbnf.to_lark(source)
    assert reason in caught.value.message
    assert caught.value.code == "invalid_value"


# ---- against a naive reader ------------------------------------------------------------------------------------------

NAMES = ("root", "x", "y")
CLASSES = ("[ab]", "[^a]", "[b-c]")
TERMINALS = st.sampled_from([Terminal(lark) for lark in (*CLASSES, *"abc")])
NODES: st.SearchStrategy[Node] = st.recursive(
    TERMINALS | st.sampled_from([Reference(name) for name in NAMES[1:]]),
    lambda inner: (
        st.builds(Group, st.lists(st.lists(inner, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple))
        | st.builds(Repeat, inner, st.sampled_from([0, 1, 2]), st.sampled_from([None, 2, 3]))
    ),
    max_leaves=6,
)


def written(node: Node) -> str:
    """A node as GBNF."""
    match node:
        case Terminal():
            return node.lark if node.lark.startswith("[") else f'"{node.lark}"'
        case Reference():
            return node.name
        case Group():
            return "(" + " | ".join(" ".join(map(written, nodes)) for nodes in node.alternatives) + ")"
        case Repeat():
            most = "" if node.most is None else node.most
            return f"({written(node.node)}){{{node.least},{most}}}"


class Reader:
    """Reads a text by rules, as they are written down; remembers what it found, since nested repeats ask again."""

    def __init__(self, rules: dict[str, Node], text: str) -> None:
        self._rules = rules
        self._text = text
        self._known: dict[tuple[Node, int], set[int]] = {}

    def ends(self, node: Node, at: int) -> set[int]:
        """Where a node may end that begins there."""
        known = self._known.get((node, at))
        if known is None:
            known = self._known[node, at] = self._found(node, at)
        return known

    def _found(self, node: Node, at: int) -> set[int]:
        match node:
            case Terminal():
                members = {"[ab]": "ab", "[b-c]": "bc", "[^a]": "bc"}.get(node.lark, node.lark)
                return {at + 1} if self._text[at : at + 1] and self._text[at] in members else set()
            case Reference():
                return self.ends(self._rules[node.name], at)
            case Group():
                return {end for nodes in node.alternatives for end in self._in_order(nodes, {at})}
            case Repeat():
                return self._repeated(node, at)

    def _in_order(self, nodes: Iterable[Node], places: set[int]) -> set[int]:
        for node in nodes:
            places = {end for at in places for end in self.ends(node, at)}
        return places

    def _repeated(self, node: Repeat, at: int) -> set[int]:
        most = len(self._text) + node.least + 1 if node.most is None else node.most
        places, found = {at}, {at} if node.least == 0 else set[int]()
        for count in range(1, most + 1):
            places = {end for place in places for end in self.ends(node.node, place)}
            if count >= node.least:
                found |= places
        return found


@settings(max_examples=60)
@given(NODES, NODES, NODES, st.lists(st.text("abc", max_size=5), min_size=1, max_size=12))
def test_as_a_naive_reader_reads_it(root: Node, x: Node, y: Node, texts: list[str]) -> None:
    rules = dict(zip(NAMES, (root, x, y), strict=True))
    source = "\n".join(f"{name} ::= {written(node)}" for name, node in rules.items())
    try:
        lark = gbnf.to_lark(source)
    except InvalidConstraint as refused:
        event(refused.message[-40:])
        return
    matcher = compiled({"lark_grammar": lark})
    for text in texts:
        assert follows(matcher, text) == (len(text) in Reader(rules, text).ends(root, 0)), (source, text)
