"""Prompts of a user's own file: every shape that they come in, and what is no prompt."""

import json
from pathlib import Path

import pytest

from heylook_llm.bench.dataset import Row, read
from heylook_llm.bench.workload import Rows
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

TALK = [{"from": "system", "value": "be kind"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "no"},
        {"from": "human", "value": "b"}]  # fmt: skip
PARTS = [{"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url", "image_url": {}}]}]


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.txt", "one\n\n two \n", [Row(("one",)), Row((" two ",))]),
        ("a.jsonl", '"one"\n{"prompt": "two", "max_tokens": 5}\n', [Row(("one",)), Row(("two",), None, 5)]),
        ("a.jsonl", json.dumps({"conversations": TALK}), [Row(("a", "b"), "be kind")]),
        ("a.jsonl", json.dumps({"messages": PARTS}), [Row(("c",))]),
        ("a.json", json.dumps(["x\u2028y", {"question": "q"}]), [Row(("x\u2028y",)), Row(("q",))]),
        ("a.csv", 'id,prompt,output_tokens\n1,"two\nlines",\n2,b,9\n', [Row(("two\nlines",)), Row(("b",), None, 9)]),
        ("a.csv", "\ufefftext\nfirst\n", [Row(("first",))]),
    ],
)
def test_every_shape_is_read(tmp_path: Path, name: str, text: str, rows: list[Row]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read(tmp_path / name).rows == tuple(rows)


def test_a_column_is_named_where_its_name_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,frage\nx,y\n")
    assert read(path, "frage").rows == (Row(("y",)),)
    with pytest.raises(ConfigError, match="row 1: it has none of: antwort"):
        read(path, "antwort")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", " \n", "holds no prompts"),
        ("a.jsonl", '{"prompt": "a"}\n{', "line 2"),
        ("a.jsonl", '{"prompt": 5}', "row 1"),
        ("a.jsonl", '{"messages": [{"role": "assistant", "content": "a"}]}', "nobody asks"),
        ("a.jsonl", '{"prompt": "a", "max_tokens": 0}', "row 1"),
        ("a.jsonl", "[1]", "row 1"),
        ("a.json", "{}", "must hold a list"),
        ("a.csv", "a,b\n1,2\n", "has none of"),
    ],
)
def test_what_is_no_prompt_is_named_with_its_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        read(tmp_path / name)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="dataset"):
            read(path)
    (tmp_path / "latin.txt").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"latin\.txt can't be read"):
        read(tmp_path / "latin.txt")


def test_all_rows_come_before_one_comes_again() -> None:
    rows = tuple(Row((str(place),)) for place in range(50))
    one, same, other = (Rows(rows, seed) for seed in ("a", "a", "b"))
    first = [one.conversation(number)[0].text for number in range(50)]
    assert sorted(first, key=int) == [str(place) for place in range(50)]
    assert first == [same.conversation(number)[0].text for number in range(50)]
    assert first != [other.conversation(number)[0].text for number in range(50)]
    assert first != [one.conversation(number)[0].text for number in range(50, 100)]
