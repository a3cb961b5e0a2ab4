"""The names of a split GGUF model's files: NAME-00002-of-00003.gguf."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PART: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_ENDING: Final = ".gguf"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a split model."""

    model: str
    """What the names of all its files begin with."""
    number: int
    count: int

    def name(self, number: int) -> str:
        """The name of the model's file of this number, counted from 1."""
        return f"{self.model}-{number:05}-of-{self.count:05}{_ENDING}"


def part_of(name: str) -> Part | None:
    """Which part of a split model a file's name, or path, says that it is; None: of none."""
    match = _PART.fullmatch(name)
    return None if match is None else Part(match[1], int(match[2]), int(match[3]))


def model_of(name: str) -> str:
    """A GGUF file's name, or path, without its ending and the number of its part."""
    part = part_of(name)
    return name.removesuffix(_ENDING) if part is None else part.model


def parts(path: Path) -> list[Path]:
    """The files of a GGUF model by its first, in their order: itself, or all parts of a split one."""
    part = part_of(path.name)
    if part is None or part.number != 1:
        return [path]
    return [path.with_name(part.name(number)) for number in range(1, part.count + 1)]
