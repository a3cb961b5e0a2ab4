"""A Modelfile as the body of /api/create: its instructions, and the files that it names."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from heylook_llm.errors import BadRequest
from heylook_llm.server.wire.ollama_body import Options
from heylook_llm.server.wire.ollama_create import PARAMETERS

MAX_BYTES: Final = 16 << 20
_INSTRUCTION: Final = re.compile(r"[ \t]*([A-Za-z]+)[ \t]+")
_KEY: Final = re.compile(r"\S+[ \t]*")
_ADAPTER_SUFFIXES: Final = (".safetensors", ".json", ".gguf")
_LONG: Final = '"""'
_TEXTS: Final = ("template", "system", "renderer", "parser", "requires")
_FOLDER_FILES: Final = ("*.gguf", "*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model")


@dataclass(slots=True)
class Modelfile:
    """What a Modelfile says. `files` and `adapters` lie on this disk."""

    body: dict[str, Any] = field(default_factory=dict)
    """Of the request, without its files."""
    files: list[Path] = field(default_factory=list)
    adapters: list[Path] = field(default_factory=list)


def read(path: Path) -> Modelfile:
    """Read a Modelfile. Raises BadRequest, which names the line."""
    try:
        text = path.read_bytes()[: MAX_BYTES + 1].decode("utf-8")
    except FileNotFoundError as error:
        raise BadRequest(f"{path}: no such file; name one with -f") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(text) > MAX_BYTES:
        raise BadRequest(f"{path}: is larger than {MAX_BYTES >> 20} MiB")
    return parse(text, path.parent)


def parse(text: str, folder: Path) -> Modelfile:
    """A Modelfile's text; its paths begin at `folder`. Raises BadRequest."""
    reader = _Reader(text, folder)
    while reader.takes():
        pass
    made = reader.made
    if "from" not in made.body and not made.files:
        raise BadRequest("no FROM line: name a model, a GGUF file or a folder")
    return made


class _Reader:
    """The instructions of a text, one after the other."""

    def __init__(self, text: str, folder: Path) -> None:
        self.made = Modelfile()
        self._text = text
        self._folder = folder
        self._at = 0

    def takes(self) -> bool:
        """Take the next line, or instruction; False at the end."""
        if self._at >= len(self._text):
            return False
        line = self._text[self._at : self._line_end(self._at)]
        if not line.strip() or line.lstrip().startswith("#"):
            self._at += len(line) + 1
            return True
        match = _INSTRUCTION.match(self._text, self._at)
        if match is None:
            raise self._wrong(f"{line[:40]!r} is no instruction")
        self._instruction(match[1].lower(), match.end())
        return True

    def _instruction(self, name: str, at: int) -> None:
        key = ""
        if name in ("parameter", "message") and (word := _KEY.match(self._text, at)) is not None:
            key, at = word[0].strip(), word.end()
        value, after = self._value(at)
        body = self.made.body
        if name == "from":
            self._source(value)
        elif name == "adapter":
            self.made.adapters += self._existing(value)
        elif name == "parameter":
            if key not in PARAMETERS and key not in Options.model_fields:
                raise self._wrong(f"there is no parameter {key}")
            _parameter(body.setdefault("parameters", {}), key, value)
        elif name == "message":
            body.setdefault("messages", []).append({"role": key, "content": value})
        elif name == "license":
            body.setdefault("license", []).append(value)
        elif name in _TEXTS:
            body[name] = value
        else:
            raise self._wrong(f"there is no instruction {name.upper()}")
        self._at = after

    def _value(self, at: int) -> tuple[str, int]:
        """The value at a place, and where the next line begins: in triple quotes over lines, else one line's."""
        if self._text.startswith(_LONG, at):
            end = self._text.find(_LONG, at + len(_LONG))
            if end < 0:
                raise self._wrong(f"{_LONG} has no end")
            return self._text[at + len(_LONG) : end], self._line_end(end) + 1
        end = self._line_end(at)
        return _unquoted(self._text[at:end].strip()), end + 1

    def _source(self, value: str) -> None:
        """A file or folder that is there, else a model's name."""
        path = self._folder / Path(value).expanduser()
        if path.is_dir():
            found = sorted({file for pattern in _FOLDER_FILES for file in path.glob(pattern) if file.is_file()})
            self.made.files += [file for file in found if file.suffix == ".gguf"] or found
        elif path.is_file():
            self.made.files.append(path)
        else:
            self.made.body["from"] = value

    def _existing(self, value: str) -> list[Path]:
        path = self._folder / Path(value).expanduser()
        if path.is_dir():
            return [file for file in sorted(path.iterdir()) if file.suffix in _ADAPTER_SUFFIXES]
        if not path.is_file():
            raise self._wrong(f"{value}: no such file")
        return [path]

    def _line_end(self, at: int) -> int:
        end = self._text.find("\n", at)
        return len(self._text) if end < 0 else end

    def _wrong(self, words: str) -> BadRequest:
        number = self._text.count("\n", 0, self._at) + 1
        return BadRequest(f"line {number}: {words}")


def _unquoted(value: str) -> str:
    """A value without quotation marks around it; within them JSON's escapes count."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value[1:-1]
    return value


def _parameter(parameters: dict[str, Any], name: str, text: str) -> None:
    """`stop` adds to those before; numbers and switches are what they look like."""
    if name == "stop":
        parameters.setdefault("stop", []).append(text)
        return
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    parameters[name] = value if isinstance(value, int | float | bool) else text
