"""JSON schemas with documents that they allow and documents that they don't, by what a schema is made of."""

from collections.abc import Iterator
from typing import Any, NamedTuple

Schema = dict[str, Any]


class Text(str):
    """A document as it is written, where writing the value would lose what matters."""


class Case(NamedTuple):
    """A schema and its documents: values, or Text."""

    schema: Schema
    valid: list[Any]
    invalid: list[Any]


def all_cases() -> list[Case]:
    """Every case."""
    groups = (scalars, integers, numbers, strings, formats, enums, arrays, objects, alternatives, references, shapes)
    return [case for group in groups for case in group()]


def scalars() -> Iterator[Case]:
    """One type, several types, none."""
    samples: dict[str, list[Any]] = {
        "string": ["", "text", 'quo"te', "back\\slash", "line\nbreak", "\u00e9\u20ac\U0001f600", "tab\t", "/"],
        "integer": [0, -1, 7, 1234567890],
        "number": [0.5, -2.25, 7, Text("1e5"), Text("-1.5E-3")],
        "boolean": [True, False],
        "null": [None],
    }
    for name, valid in samples.items():
        others = [value for other, values in samples.items() if other != name for value in values]
        if name in ("integer", "number"):
            others = [value for value in others if type(value) is not int]
        yield Case({"type": name}, valid, [*others, [], {}])
    yield Case(
        {}, [None, True, 1, "a", [], {}, [1, {"a": [None]}]], [Text(""), Text("[1,"), Text("{1: 2}"), Text("nul")]
    )
    yield Case({"title": "T", "description": "D", "default": 3, "examples": [1]}, [1, "a"], [Text("x")])
    for first, second in (("string", "null"), ("integer", "string"), ("boolean", "null"), ("array", "object")):
        inside = {**samples, "array": [[], [1]], "object": [{}, {"a": 1}]}
        others = [value for name, values in inside.items() if name not in (first, second, "number") for value in values]
        yield Case({"type": [first, second]}, inside[first] + inside[second], others)
    yield Case({"type": "string"}, [Text(r'"\n\t\"\\\u0007"')], [Text(r'"\x"'), Text('"a'), Text('"\n"'), Text("'a'")])
    yield Case({"type": "integer"}, [Text("-0")], [Text("01"), Text("1."), Text("+1"), Text("0x1"), Text("1.5")])
    yield Case({"type": "number"}, [Text("0.10")], [Text(".5"), Text("1."), Text("1e"), Text("NaN"), Text("Infinity")])


def integers() -> Iterator[Case]:
    """Ranges and multiples."""
    for low, high in (
        (0, 9),
        (1, 31),
        (-5, 5),
        (0, 255),
        (1900, 2100),
        (-1000, -10),
        (42, 42),
        (99, 101),
        (0, 1000000),
    ):
        inside = [low, high, (low + high) // 2]
        yield Case(
            {"type": "integer", "minimum": low, "maximum": high}, inside, [low - 1, high + 1, high + 1_000_000, "1"]
        )
        outside = [low, high, low - 1]
        exclusive = {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": high}
        if high - low > 1:
            yield Case(exclusive, [low + 1, high - 1], outside)
    for low in (-3, 0, 1, 10, 18, 1000):
        yield Case({"type": "integer", "minimum": low}, [low, low + 1, low + 123456], [low - 1, low - 100])
    for high in (-7, -1, 0, 9, 65535):
        yield Case({"type": "integer", "maximum": high}, [high, high - 1, -99999], [high + 1, high + 100000])
    for multiple in (2, 3, 5, 7, 10, 25):
        yield Case(
            {"type": "integer", "multipleOf": multiple},
            [0, multiple, 13 * multiple],
            [1, multiple + 1, 3 * multiple - 1],
        )
    yield Case({"type": "integer", "minimum": 10, "maximum": 50, "multipleOf": 5}, [10, 25, 50], [5, 11, 55])


def numbers() -> Iterator[Case]:
    """Ranges of decimals."""
    ranges: list[tuple[float, float, list[Any], list[Any]]] = [
        (0, 1, [0, 1, 0.5, 0.999], [-0.5, 1.5, 2]),
        (-1, 1, [-1, 0, 0.25, -0.75], [-1.5, 1.01]),
        (0.5, 2.5, [0.5, 1, 2.5, 2.25], [0.4, 0, 2.6, 3]),
        (-90, 90, [-90, 45.5, 0], [90.5, -91]),
        (36.1, 42.9, [36.1, 37.5, 42], [36, 43, 42.95]),
        (100, 100, [100], [99.5, 101]),
    ]
    for low, high, valid, invalid in ranges:
        yield Case({"type": "number", "minimum": low, "maximum": high}, valid, [*invalid, "1", None])
    yield Case({"type": "number", "exclusiveMinimum": 0}, [0.5, 1, 100], [0, -0.5])
    yield Case({"type": "number", "exclusiveMaximum": 10}, [9.5, -3], [10, 10.5])
    yield Case({"type": "number", "minimum": 1.25}, [1.25, 1.3, 200], [1.2, 1, -5])
    yield Case({"type": "number", "multipleOf": 0.25}, [0.25, Text("1.50"), 2], [0.3, 1.1])
    yield Case({"type": ["number", "null"], "minimum": 0}, [None, 0, 3.5], [-1, "0"])


def strings() -> Iterator[Case]:
    """Lengths and patterns."""
    for least, most in ((0, 3), (1, 1), (2, 5), (5, 5), (0, 20), (3, 10)):
        schema = {"type": "string", "minLength": least, "maxLength": most}
        valid = ["x" * least, "\u00e9" * most, "\n" * least]
        yield Case(schema, valid, ["x" * (most + 1), *(["x" * (least - 1)] if least else [])])
    yield Case({"type": "string", "minLength": 2}, ["ab", "a" * 50], ["", "a"])
    yield Case({"type": "string", "maxLength": 2}, ["", "ab"], ["abc"])
    patterns: list[tuple[str, list[str], list[str]]] = [
        ("^[A-Z]{2}[0-9]{4}$", ["AB1234"], ["ab1234", "AB123", "AB12345"]),
        ("^[a-z]+(-[a-z]+)*$", ["a", "snake-case", "a-b-c"], ["", "A", "a-", "-a"]),
        (r"^\d{4}-\d{2}-\d{2}$", ["2024-02-29"], ["2024-2-29", "today"]),
        (r"^\+?[0-9 ]{5,12}$", ["+49 30 123", "12345"], ["+", "1234", "abcde"]),
        (r"^#[0-9a-fA-F]{6}$", ["#ffAA00"], ["#fff", "ffAA00"]),
        ("^(yes|no|maybe)$", ["yes", "maybe"], ["", "yesno", "YES"]),
        ("^[^@ ]+@[^@ ]+$", ["a@b"], ["a", "@b", "a@b c"]),
        (r"^\w+$", ["abc_1"], ["a b", ""]),
        ("^$", [""], ["a"]),
        ("ab", ["ab", "xaby"], ["", "ba"]),
        ("^a", ["a", "abc"], ["ba"]),
        ("z$", ["z", "xyz"], ["zx"]),
        (r"^\$[0-9]+(\.[0-9]{2})?$", ["$5", "$5.00"], ["5", "$5.0"]),
        ("^[\u00e4\u00f6\u00fc]+$", ["\u00e4\u00fc"], ["a"]),
        ('^"quoted"$', ['"quoted"'], ["quoted"]),
        (r"^a/b\\c$", ["a/b\\c"], ["a/b/c"]),
    ]
    for pattern, right, wrong in patterns:
        yield Case({"type": "string", "pattern": pattern}, list(right), [*wrong, 1])
    yield Case({"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}, ["a", "abc"], ["abcd", "A"])


def formats() -> Iterator[Case]:
    """The named formats."""
    named: dict[str, tuple[list[str], list[str]]] = {
        "date": (["2024-02-29", "1999-12-31"], ["2024-13-01", "2024-1-1", "today"]),
        "time": (["12:30:00Z", "23:59:59.5+01:00"], ["25:00:00Z", "noon"]),
        "date-time": (["2024-02-29T12:30:00Z", "1999-12-31T23:59:59.123-05:00"], ["2024-02-29", "x"]),
        "duration": (["P1D", "PT36H"], ["1D", "P"]),
        "email": (["a@b.example", "first.last@example.com"], ["a", "a@", "@b"]),
        "ipv4": (["127.0.0.1", "255.255.255.255"], ["256.1.1.1", "1.2.3", "a.b.c.d"]),
        "ipv6": (["::1", "2001:db8::8a2e:370:7334"], ["1", "g::1"]),
        "uuid": (["123e4567-e89b-12d3-a456-426614174000"], ["123e4567", "123e4567-e89b-12d3-a456-42661417400z"]),
        "uri": (["https://example.com/a?b=c#d", "urn:x:y"], ["no scheme", ""]),
        "hostname": (["example.com", "a-b.c"], ["-a", "a..b", "a b"]),
    }
    for name, (valid, invalid) in named.items():
        yield Case({"type": "string", "format": name}, list(valid), [*invalid, 5])


def enums() -> Iterator[Case]:
    """Values as they are."""
    yield Case({"enum": ["red", "green", "blue"]}, ["red", "blue"], ["Red", "re", "greenish", 1, None])
    yield Case({"type": "string", "enum": ["a"]}, ["a"], ["b", ""])
    yield Case({"enum": ["a", "ab", "abc"]}, ["a", "ab", "abc"], ["abcd", ""])
    yield Case({"enum": [1, 2, 30]}, [1, 30], [3, 0, "1", 13])
    yield Case({"enum": [True, None]}, [True, None], [False, "true"])
    yield Case({"enum": ["a", 1, None, True]}, ["a", 1, None, True], ["b", 2, False])
    yield Case(
        {"enum": ["\u00e9t\u00e9", "\U0001f600", "a b", ""]}, ["\u00e9t\u00e9", "\U0001f600", "a b", ""], ["ete", " "]
    )
    yield Case(
        {"enum": ['quo"te', "back\\slash", "new\nline", "/"]}, ['quo"te', "back\\slash", "new\nline", "/"], ["quote"]
    )
    yield Case({"enum": [{"a": 1}, [1, 2], "x"]}, [{"a": 1}, [1, 2], "x"], [{"a": 2}, [1], {}])
    yield Case({"enum": [1.5, -2]}, [1.5, -2], [1, 2])
    yield Case({"enum": [f"option {at}" for at in range(200)]}, ["option 0", "option 199"], ["option 200", "option"])
    yield Case({"const": "fixed"}, ["fixed"], ["Fixed", "", None])
    yield Case({"const": 42}, [42], [4, 420, "42"])
    yield Case({"const": None}, [None], [False, 0])
    yield Case({"const": True}, [True], [False])
    yield Case({"const": {"a": [1, {"b": None}]}}, [{"a": [1, {"b": None}]}], [{"a": [1]}, {}])
    yield Case({"const": ""}, [""], ["a"])
    yield Case({"type": "integer", "enum": [1, 2]}, [1, 2], [3])


def arrays() -> Iterator[Case]:
    """Items and how many."""
    yield Case({"type": "array"}, [[], [1, "a", None, [[]], {}]], [{}, "[]", 1])
    kinds: list[tuple[str, list[Any], Any]] = [
        ("integer", [1, -5], "1"),
        ("string", ["a", ""], 1),
        ("boolean", [True, False], None),
        ("null", [None], 0),
    ]
    for item, right, wrong in kinds:
        yield Case(
            {"type": "array", "items": {"type": item}}, [[], right, right * 3], [[wrong], [*right, wrong], right[0]]
        )
    for least, most in ((0, 2), (1, 1), (2, 4), (3, 3), (0, 0)):
        counted: Schema = {"type": "array", "items": {"type": "integer"}, "minItems": least, "maxItems": most}
        invalid = [list(range(most + 1)), *([list(range(least - 1))] if least else [])]
        yield Case(counted, [list(range(least)), list(range(most))], invalid)
    yield Case({"type": "array", "items": {"type": "integer"}, "minItems": 1}, [[1], [1] * 9], [[]])
    yield Case({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, [[], [1]], [[1, 2]])
    pair = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2}
    yield Case(pair, [["a", 1]], [["a"], [1, "a"], ["a", 1, 2], []])
    yield Case({**pair, "items": {"type": "null"}}, [["a", 1], ["a", 1, None, None]], [["a", 1, 2]])
    yield Case({"type": "array", "items": {"enum": ["x", "y"]}}, [[], ["x", "y", "x"]], [["z"], ["x", 1]])
    matrix = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
    yield Case(matrix, [[], [[1, 2.5]], [[0, 0], [1, 1]]], [[1], [[1]], [[1, 2, 3]]])
    records = {
        "type": "array",
        "items": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
    }
    yield Case(records, [[], [{"id": 1}, {"id": 2}]], [[{}], [{"id": "1"}], [1]])
    yield Case({"type": "array", "items": {"type": ["string", "null"]}}, [["a", None]], [[1]])
    yield Case({"type": "array", "items": {}}, [[1, "a", {}]], ["a"])
    yield Case({"type": "array", "items": {"type": "array", "items": {"type": "array"}}}, [[[[]]], []], [[[1]], [1]])


def objects() -> Iterator[Case]:
    """Properties, and what else may be there."""
    a, b = {"a": {"type": "integer"}}, {"b": {"type": "string"}}
    closed = {"additionalProperties": False}
    yield Case({"type": "object"}, [{}, {"a": 1, "b": [2]}], [[], "{}", None])
    yield Case({"type": "object", "properties": a}, [{}, {"a": 1}, {"a": 1, "z": None}], [{"a": "1"}, []])
    yield Case({"type": "object", "properties": a, **closed}, [{}, {"a": 1}], [{"b": 1}, {"a": 1, "b": 2}])
    yield Case({"type": "object", "properties": a, "required": ["a"]}, [{"a": 1}, {"a": 1, "x": {}}], [{}, {"x": 1}])
    both = {"type": "object", "properties": {**a, **b}}
    yield Case(
        {**both, "required": ["a", "b"], **closed}, [{"a": 1, "b": ""}], [{"a": 1}, {"b": ""}, {"b": "", "a": 1}]
    )
    yield Case({**both, "required": ["b"], **closed}, [{"b": ""}, {"a": 1, "b": "x"}], [{}, {"a": 1}])
    yield Case({**both, **closed}, [{}, {"a": 1}, {"b": ""}, {"a": 1, "b": ""}], [{"c": 1}, {"a": ""}])
    many = {"type": "object", "properties": {f"p{at}": {"type": "boolean"} for at in range(12)}, **closed}
    yield Case(many, [{}, {"p0": True, "p11": False}, {"p5": True}], [{"p12": True}, {"p11": True, "p0": True}])
    yield Case(
        {**many, "required": ["p3", "p9"]},
        [{"p3": True, "p9": True}, {"p0": False, "p3": True, "p9": True}],
        [{"p3": True}],
    )
    maps = {"type": "object", "additionalProperties": {"type": "integer"}}
    yield Case(maps, [{}, {"x": 1, "y": 2}], [{"x": "1"}, {"x": 1, "y": None}])
    yield Case({**maps, "properties": b, "required": ["b"]}, [{"b": "", "x": 1}], [{"b": "", "x": ""}, {"x": 1}])
    yield Case({**maps, "minProperties": 1}, [{"x": 1}, {"x": 1, "y": 2}], [{}])
    yield Case({**maps, "maxProperties": 2}, [{}, {"x": 1, "y": 2}], [{"x": 1, "y": 2, "z": 3}])
    keys = {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, **closed}
    yield Case(keys, [{}, {"x-a": 1}, {"x-a": 1, "x-b": 2}], [{"a": 1}, {"x-a": "1"}])
    nested = {
        "type": "object",
        "properties": {"in": {**both, "required": ["a"], **closed}},
        "required": ["in"],
        **closed,
    }
    yield Case(nested, [{"in": {"a": 1}}, {"in": {"a": 1, "b": ""}}], [{"in": {}}, {}, {"in": {"a": 1, "c": 1}}])
    deep: Schema = {"type": "integer"}
    document: Any = 5
    for level in range(8):
        deep = {"type": "object", "properties": {f"l{level}": deep}, "required": [f"l{level}"], **closed}
        document = {f"l{level}": document}
    yield Case(deep, [document], [{}, {"l7": {}}])
    odd = {
        "type": "object",
        "properties": {'quo"te': {}, "sp ace": {}, "\u00fc": {}, "": {}},
        "required": ['quo"te'],
        **closed,
    }
    yield Case(odd, [{'quo"te': 1}, {'quo"te': 1, "sp ace": 2, "\u00fc": 3, "": 4}], [{"quote": 1}])
    yield Case({"type": "object", "properties": {"a": True}, **closed}, [{"a": [1]}, {}], [{"b": 1}])
    yield Case({"properties": a, "type": "object", "required": ["a", "extra"]}, [{"a": 1, "extra": "x"}], [{"a": 1}])
    yield Case({"type": "object", **closed}, [{}], [{"a": 1}])
    yield Case(
        {"type": "object", "properties": {"k": {"const": "v"}}, "required": ["k"], **closed}, [{"k": "v"}], [{"k": "w"}]
    )
    same = {"type": "object", "properties": {"a": {}, "ab": {}, "abc": {}}, **closed}
    yield Case(same, [{"a": 1}, {"ab": 1}, {"abc": 1}, {"a": 1, "abc": 2}], [{"abcd": 1}])
    yield Case(
        {"type": "object"},
        [Text('{"a":1}'), Text('{\n  "a": 1\n}')],
        [Text('{"a" 1}'), Text('{"a": 1,}'), Text("{a: 1}")],
    )


def alternatives() -> Iterator[Case]:
    """anyOf, oneOf, allOf."""
    integer, string, null = {"type": "integer"}, {"type": "string"}, {"type": "null"}
    closed = {"additionalProperties": False}
    yield Case({"anyOf": [integer, string]}, [1, "a"], [None, 1.5, []])
    yield Case({"anyOf": [string, null]}, ["a", None], [1])
    yield Case({"anyOf": [{"const": "a"}, {"const": 1}, null]}, ["a", 1, None], ["b", 2])
    yield Case({"anyOf": [integer, {"type": "array", "items": integer}]}, [1, [], [1, 2]], ["a", ["a"]])
    yield Case({"oneOf": [integer, string]}, [1, "a"], [None, True])
    yield Case({"oneOf": [{"type": "boolean"}, null]}, [True, None], [0])
    cat = {
        "type": "object",
        "properties": {"kind": {"const": "cat"}, "lives": integer},
        "required": ["kind", "lives"],
        **closed,
    }
    dog = {
        "type": "object",
        "properties": {"kind": {"const": "dog"}, "name": string},
        "required": ["kind", "name"],
        **closed,
    }
    yield Case(
        {"anyOf": [cat, dog]},
        [{"kind": "cat", "lives": 9}, {"kind": "dog", "name": ""}],
        [{"kind": "cat", "name": ""}, {"kind": "cow"}],
    )
    yield Case({"oneOf": [cat, dog]}, [{"kind": "dog", "name": "x"}], [{"kind": "dog", "lives": 1}, {}])
    yield Case({"type": "array", "items": {"anyOf": [cat, dog, null]}}, [[{"kind": "cat", "lives": 1}, None]], [[1]])
    yield Case({"allOf": [{"type": "integer"}, {"minimum": 5}, {"maximum": 9}]}, [5, 9], [4, 10, "5"])
    parts = [
        {"type": "object", "properties": {"a": integer}, "required": ["a"]},
        {"type": "object", "properties": {"b": string}, "required": ["b"]},
    ]
    yield Case({"allOf": parts}, [{"a": 1, "b": "x"}], [{"a": 1}, {"b": "x"}, {"a": "1", "b": "x"}])
    yield Case({"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]}, ["b", "c"], ["a", "d"])
    yield Case({"allOf": [string], "maxLength": 2}, ["", "ab"], ["abc", 1])
    yield Case({"anyOf": [{"minimum": 10}, {"maximum": 3}], "type": "integer"}, [10, 3, -5], [4, 9])
    yield Case(
        {"type": "object", "properties": {"x": {"anyOf": [integer, null]}}, "required": ["x"], **closed},
        [{"x": None}, {"x": 3}],
        [{}, {"x": ""}],
    )
    yield Case(
        {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "string", "pattern": "^ab+$"}]},
        ["x", "abb"],
        ["xy", "abx"],
    )
    yield Case({"anyOf": [{"enum": [1, 2]}, {"enum": ["1", "2"]}]}, [1, "2"], [3, "3"])
    yield Case({"type": ["integer", "string"], "minimum": 3, "maxLength": 2}, [3, "ab"], [2, "abc"])
    yield Case({"anyOf": [{"anyOf": [integer, null]}, {"anyOf": [string]}]}, [1, None, "s"], [True])


def references() -> Iterator[Case]:
    """$ref: local, chained, recursive."""
    integer = {"type": "integer"}
    yield Case({"$ref": "#/$defs/i", "$defs": {"i": integer}}, [1], ["1"])
    yield Case({"$ref": "#/definitions/i", "definitions": {"i": integer}}, [1], ["1"])
    chained = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": {"type": "null"}},
    }
    yield Case(chained, [None], [1])
    yield Case(
        {"type": "array", "items": {"$ref": "#/$defs/i"}, "$defs": {"i": {"enum": ["x"]}}}, [[], ["x", "x"]], [["y"]]
    )
    yield Case({"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {"type": "boolean"}}}, [True], [1])
    yield Case({"$ref": "#/$defs/i", "$defs": {"i": {"type": "integer", "minimum": 0}}, "maximum": 5}, [0, 5], [-1, 6])
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"v": integer, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["v", "kids"],
                "additionalProperties": False,
            }
        },
    }
    leaf = {"v": 1, "kids": []}
    yield Case(tree, [leaf, {"v": 0, "kids": [leaf, {"v": 2, "kids": [leaf]}]}], [{"v": 1}, {"v": 1, "kids": [1]}, []])
    chain = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
        "additionalProperties": False,
    }
    yield Case(chain, [{"next": None}, {"next": {"next": {"next": None}}}], [{}, {"next": 1}, None])
    yield Case({"anyOf": [integer, {"type": "array", "items": {"$ref": "#"}}]}, [1, [], [1, [2, [[]]]]], ["a", [None]])
    mutual = {
        "$ref": "#/$defs/even",
        "$defs": {
            "even": {
                "anyOf": [
                    {"type": "null"},
                    {"type": "array", "prefixItems": [{"$ref": "#/$defs/odd"}], "minItems": 1, "items": False},
                ]
            },
            "odd": {"type": "array", "prefixItems": [{"$ref": "#/$defs/even"}], "minItems": 1, "items": False},
        },
    }
    yield Case(mutual, [None, [[None]], [[[[None]]]]], [[None], [], [[]], 1])
    expression = {
        "$ref": "#/$defs/e",
        "$defs": {
            "e": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/op"}]},
            "op": {
                "type": "object",
                "properties": {"op": {"enum": ["+", "*"]}, "l": {"$ref": "#/$defs/e"}, "r": {"$ref": "#/$defs/e"}},
                "required": ["op", "l", "r"],
                "additionalProperties": False,
            },
        },
    }
    yield Case(
        expression,
        [1, {"op": "+", "l": 1, "r": {"op": "*", "l": 2, "r": 3}}],
        [{"op": "-", "l": 1, "r": 1}, {"op": "+", "l": 1}],
    )
    for depth in (3, 10, 20):
        doubling: dict[str, Any] = {
            f"d{at}": {
                "type": "object",
                "properties": {name: {"$ref": f"#/$defs/d{at + 1}"} for name in "ab"},
                "additionalProperties": False,
            }
            for at in range(depth)
        }
        doubling[f"d{depth}"] = {"const": "end"}
        inner: Any = "end"
        for _ in range(depth):
            inner = {"b": inner}
        yield Case({"$ref": "#/$defs/d0", "$defs": doubling}, [{}, inner], [{"c": {}}, "end"])
    reused = {"type": "object", "properties": {name: {"$ref": "#/$defs/p"} for name in "xyz"}, "required": list("xyz")}
    yield Case(
        {**reused, "$defs": {"p": {"type": "integer", "minimum": 0}}},
        [{"x": 0, "y": 1, "z": 2}],
        [{"x": 0, "y": -1, "z": 2}],
    )


def shapes() -> Iterator[Case]:
    """What people ask models for."""
    closed = {"additionalProperties": False}
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "required": ["name", "age"],
        **closed,
    }
    yield Case(
        person,
        [{"name": "Ann", "age": 7}, {"name": "B", "age": 150, "email": "b@c.example", "tags": ["x"]}],
        [{"name": "", "age": 7}, {"name": "Ann", "age": 151}, {"age": 7}],
    )
    invoice = {
        "type": "object",
        "properties": {
            "number": {"type": "string", "pattern": "^INV-[0-9]{4}$"},
            "lines": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {
                        "text": {"type": "string"},
                        "price": {"type": "number", "minimum": 0},
                        "count": {"type": "integer", "minimum": 1},
                    },
                    "required": ["text", "price", "count"],
                    **closed,
                },
            },
            "due": {"type": ["string", "null"], "format": "date"},
        },
        "required": ["number", "lines", "due"],
        **closed,
    }
    line = {"text": "a", "price": 1.5, "count": 2}
    yield Case(
        invoice,
        [{"number": "INV-0001", "lines": [line, line], "due": None}],
        [{"number": "INV-1", "lines": [line], "due": None}, {"number": "INV-0001", "lines": [], "due": None}],
    )
    for name, answer in (
        ("sentiment", ["positive", "negative", "neutral"]),
        ("priority", ["low", "high"]),
        ("lang", ["en", "de", "fr"]),
    ):
        schema = {
            "type": "object",
            "properties": {name: {"enum": answer}, "why": {"type": "string"}},
            "required": [name, "why"],
            **closed,
        }
        yield Case(schema, [{name: answer[0], "why": "because"}], [{name: "other", "why": ""}, {name: answer[0]}])
    call = {
        "type": "object",
        "properties": {
            "name": {"const": "get_weather"},
            "arguments": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
                "required": ["city"],
                **closed,
            },
        },
        "required": ["name", "arguments"],
        **closed,
    }
    yield Case(
        call,
        [{"name": "get_weather", "arguments": {"city": "Paris"}}],
        [{"name": "other", "arguments": {"city": ""}}, {"name": "get_weather", "arguments": {}}],
    )
    steps = {
        "type": "object",
        "properties": {
            "steps": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"explanation": {"type": "string"}, "output": {"type": "string"}},
                    "required": ["explanation", "output"],
                    **closed,
                },
            },
            "final_answer": {"type": "string"},
        },
        "required": ["steps", "final_answer"],
        **closed,
    }
    yield Case(
        steps,
        [{"steps": [{"explanation": "a", "output": "b"}], "final_answer": "c"}, {"steps": [], "final_answer": ""}],
        [{"steps": [{}], "final_answer": ""}, {"final_answer": ""}],
    )
    point = {
        "type": "array",
        "prefixItems": [
            {"type": "number", "minimum": -180, "maximum": 180},
            {"type": "number", "minimum": -90, "maximum": 90},
        ],
        "items": False,
        "minItems": 2,
    }
    feature = {
        "type": "object",
        "properties": {"type": {"const": "Point"}, "coordinates": point},
        "required": ["type", "coordinates"],
        **closed,
    }
    yield Case(
        feature,
        [{"type": "Point", "coordinates": [13.4, 52.5]}],
        [{"type": "Point", "coordinates": [200, 0]}, {"type": "Line", "coordinates": [0, 0]}],
    )
    config = {
        "type": "object",
        "properties": {
            "servers": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
                    "required": ["port"],
                    **closed,
                },
            }
        },
        "required": ["servers"],
        **closed,
    }
    yield Case(
        config,
        [{"servers": {}}, {"servers": {"a": {"port": 80}, "b": {"port": 65535}}}],
        [{"servers": {"a": {"port": 0}}}, {"servers": {"a": {}}}],
    )
    for count in (1, 2, 5, 10, 40):
        survey = {
            "type": "object",
            "properties": {f"q{at}": {"type": "integer", "minimum": 1, "maximum": 5} for at in range(count)},
            "required": [f"q{at}" for at in range(count)],
            **closed,
        }
        full = {f"q{at}": 1 + at % 5 for at in range(count)}
        yield Case(
            survey, [full], [{**full, "q0": 6}, {key: value for key, value in full.items() if key != f"q{count - 1}"}]
        )
