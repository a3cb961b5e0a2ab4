"""Each command of the bench shows how it is used, and the command line takes what it shows."""

import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from heylook_llm import cli

pytestmark = pytest.mark.unit

COMMANDS = {"bench": cli.bench, **{f"bench {name}": one for name, one in cli.bench.commands.items()}}


def examples(command: click.Command) -> Iterator[list[str]]:
    shown = CliRunner().invoke(command, ["--help"]).stdout
    _, _, below = shown.partition("\n  Examples:\n")
    for line in below.splitlines():
        words = shlex.split(line)
        yield words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_the_command_line_takes(name: str) -> None:
    found = list(examples(COMMANDS[name]))
    assert found, "each has one at least"
    assert any(" ".join(["heylookllm", *name.split()]) == " ".join(words[: 1 + len(name.split())]) for words in found)
    for program, bench, *words in found:
        assert (program, bench) == ("heylookllm", "bench")
        if words:
            cli.bench.commands[words[0]].make_context(words[0], words[1:])
