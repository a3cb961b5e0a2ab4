"""Names of a split model's files."""

from pathlib import Path

import pytest

from heylook_llm.catalog import split

pytestmark = pytest.mark.unit


def test_a_part_knows_its_siblings() -> None:
    part = split.part_of("a/b-1\n-00002-of-00003.gguf")
    assert part == split.Part("a/b-1\n", 2, 3)
    assert part.name(3) == "a/b-1\n-00003-of-00003.gguf"
    assert split.parts(Path("x/m-00001-of-00002.gguf")) == [
        Path("x/m-00001-of-00002.gguf"),
        Path("x/m-00002-of-00002.gguf"),
    ]


@pytest.mark.parametrize("name", ["m.gguf", "m-1-of-2.gguf", "m-00001-of-00002.bin", "m-00001-of-00002.gguf.gguf"])
def test_names_that_are_no_parts(name: str) -> None:
    assert split.part_of(name) is None
    assert split.model_of(name) == name.removesuffix(".gguf")
    assert split.parts(Path(name)) == [Path(name)]


def test_a_model_is_named_without_the_number_of_its_part() -> None:
    assert split.model_of("a/m-00002-of-00002.gguf") == "a/m"
    assert split.parts(Path("m-00002-of-00002.gguf")) == [Path("m-00002-of-00002.gguf")], (
        "only the first stands for all"
    )
