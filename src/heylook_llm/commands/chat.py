"""`heylookllm run`: a conversation with a model in the terminal, or one answer to a prompt or to standard input."""

import contextlib
import json
import sys
import textwrap
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TextIO

import click

from heylook_llm.commands import models
from heylook_llm.commands.client import Client, Refused
from heylook_llm.commands.state import state_folder

HISTORY_LINES: Final = 1000
_QUOTES: Final = '"""'
_LEVELS: Final = ("low", "medium", "high", "max")
_PARAMETERS: Final[dict[str, Callable[[str], object]]] = {
    "seed": int,
    "num_predict": int,
    "num_ctx": int,
    "top_k": int,
    "repeat_last_n": int,
    "temperature": float,
    "top_p": float,
    "min_p": float,
    "typical_p": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "stop": str,
}
HELP: Final = '''Available commands:
  /set            Set what the next answers use
  /show           Show what the model is
  /load <model>   Speak with another model
  /clear          Forget the conversation
  /bye            Leave
  /?, /help       This help

Use """ to begin and end a message of several lines.
Ctrl + c stops an answer, Ctrl + d leaves.'''
SET_HELP: Final = """Available commands:
  /set parameter <name> <value>  Set a sampling parameter:
{parameters}
  /set system <text>             Set the system message
  /set think [{levels}]  Let the model think before it answers
  /set nothink                   Let it answer at once
  /set format json | noformat    Ask for JSON, or not
  /set verbose | quiet           Show timings after an answer, or not
  /set history | nohistory       Keep this terminal's history, or not"""
SHOW_HELP: Final = """Available commands:
  /show info        What the model is
  /show parameters  Its parameters
  /show system      The system message
  /show template    Its chat template
  /show modelfile   Its modelfile"""


@dataclass(slots=True)
class Conversation:
    """What the next request says."""

    model: str
    system: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    think: bool | str | None = None
    hide_thinking: bool = False
    format: str | None = None
    keep_alive: str | None = None
    verbose: bool = False

    def body(self) -> dict[str, Any]:
        """The request for the conversation as it stands."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        wanted = {
            "options": self.options or None,
            "think": self.think,
            "format": self.format,
            "keep_alive": self.keep_alive,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return {"model": self.model, "messages": [*system, *self.messages], **given}


def run(client: Client, conversation: Conversation, prompt: str) -> None:
    """Answer the prompt and what is piped in, or converse if there is neither."""
    if not sys.stdin.isatty():
        prompt = " ".join(part for part in (sys.stdin.read(), prompt) if part)
    if prompt:
        _one_answer(client, conversation, prompt)
        return
    if sys.stdin.isatty():
        Terminal(client, conversation).converse()


def _one_answer(client: Client, conversation: Conversation, prompt: str) -> None:
    conversation.messages.append({"role": "user", "content": prompt})
    try:
        answer(client, conversation, sys.stdout)
    except KeyboardInterrupt:
        click.echo()
        raise SystemExit(130) from None


def answer(client: Client, conversation: Conversation, output: TextIO) -> str:
    """Print the answer to the conversation as it comes; returns its text."""
    text: list[str] = []
    printer = _Printer(output, conversation.hide_thinking)
    with contextlib.closing(_chunks(client, conversation)) as chunks:
        for chunk in chunks:
            message = chunk["message"]
            printer.thinking(message.get("thinking", ""))
            printer.text(message["content"])
            for call in message.get("tool_calls", ()):
                printer.text(json.dumps(call["function"], ensure_ascii=False) + "\n")
            text.append(message["content"])
            if chunk["done"]:
                printer.end()
                if conversation.verbose:
                    click.echo(timings(chunk), err=True)
    return "".join(text)


def _chunks(client: Client, conversation: Conversation) -> Generator[dict[str, Any]]:
    try:
        yield from client.lines("/api/chat", conversation.body())
    except Refused as error:
        raise models.without_ollama(error) from error


class _Printer:
    """Text to the terminal at once. On a terminal, control characters of the model are left out."""

    def __init__(self, output: TextIO, hide_thinking: bool) -> None:
        self._output = output
        self._terminal = output.isatty()
        self._hide = hide_thinking
        self._thinks = False

    def thinking(self, text: str) -> None:
        if not text or self._hide:
            return
        if not self._thinks:
            self._thinks = True
            self._write("Thinking...\n")
        self._write(text, "\033[90m", "\033[0m")

    def text(self, text: str) -> None:
        if not text:
            return
        self._stop_thinking()
        self._write(text)

    def end(self) -> None:
        self._stop_thinking()
        self._write("\n\n" if self._terminal else "\n")

    def _stop_thinking(self) -> None:
        if self._thinks:
            self._thinks = False
            self._write("\n...done thinking.\n\n")

    def _write(self, text: str, before: str = "", after: str = "") -> None:
        if self._terminal:
            text = before + printable(text) + after
        self._output.write(text)
        self._output.flush()


def printable(text: str) -> str:
    """Without the control characters that could steer a terminal."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())


def timings(last: dict[str, Any]) -> str:
    """The timings of an answer's last chunk, as `ollama run --verbose` prints them."""
    rows = [("total duration", _seconds_text(last, "total_duration"))]
    rows += [("load duration", _seconds_text(last, "load_duration"))]
    for kind in ("prompt_eval", "eval"):
        count, nanoseconds = last.get(f"{kind}_count", 0), last.get(f"{kind}_duration", 0)
        name = kind.replace("_", " ")
        rows += [(f"{name} count", f"{count} token(s)"), (f"{name} duration", _seconds_text(last, f"{kind}_duration"))]
        rows += [(f"{name} rate", f"{count / nanoseconds * 1e9:.2f} tokens/s" if nanoseconds else "")]
    return "\n".join(f"{name + ':':<22}{value}" for name, value in rows if value)


def _seconds_text(last: dict[str, Any], key: str) -> str:
    nanoseconds = last.get(key)
    if nanoseconds is None:
        return ""
    return f"{nanoseconds / 1e9:.3f}s" if nanoseconds >= 1e9 else f"{nanoseconds / 1e6:.3f}ms"


class Terminal:
    """The conversation at a prompt."""

    def __init__(self, client: Client, conversation: Conversation) -> None:
        self._client = client
        self._conversation = conversation
        self._history = True

    def converse(self) -> None:
        """Until /bye or Ctrl-D."""
        self._load(self._conversation.model)
        self._read_history()
        while (line := self._read()) is not None:
            command, _, rest = line.strip().partition(" ")
            if command in ("/bye", "/exit"):
                break
            if command.startswith("/") and command.count("/") == 1:
                self._command(command, rest.strip())
            elif line.strip():
                self._answer(line)
        self._write_history()

    def _load(self, model: str) -> None:
        """Load it before the first message, so that a wrong name or a damaged file shows at once."""
        self._client.ask("POST", "/api/show", {"model": model})
        click.echo(f"Loading {model} ...", err=True)
        self._client.ask("POST", "/api/chat", {"model": model, "messages": []})
        self._conversation.model = model

    def _answer(self, line: str) -> None:
        conversation = self._conversation
        conversation.messages.append({"role": "user", "content": line})
        try:
            text = answer(self._client, conversation, sys.stdout)
        except KeyboardInterrupt:
            conversation.messages.pop()
            click.echo("\n")
        except Refused as error:
            conversation.messages.pop()
            click.echo(f"Error: {error.message}", err=True)
            if error.status is None or error.status == HTTPStatus.UNAUTHORIZED:
                raise SystemExit(1) from error
        else:
            conversation.messages.append({"role": "assistant", "content": text})

    # ---- reading ----

    def _read(self) -> str | None:
        """One message, which may span lines between triple quotes; None: leave."""
        try:
            line = input(">>> ")
            if not line.lstrip().startswith(_QUOTES):
                return line
            text = line.lstrip().removeprefix(_QUOTES)
            while not text.rstrip().endswith(_QUOTES):
                text += "\n" + input("... ")
            return text.rstrip().removesuffix(_QUOTES)
        except KeyboardInterrupt:
            click.echo("\nUse Ctrl + d or /bye to leave.")
            return ""
        except EOFError:
            click.echo()
            return None

    def _read_history(self) -> None:
        try:
            import readline  # noqa: PLC0415 (it changes how input() behaves)
        except ImportError:
            self._history = False
            return
        readline.parse_and_bind("set enable-bracketed-paste on")
        with contextlib.suppress(OSError):
            readline.read_history_file(_history_path())

    def _write_history(self) -> None:
        if not self._history:
            return
        import readline  # noqa: PLC0415

        readline.set_history_length(HISTORY_LINES)
        with contextlib.suppress(OSError):
            readline.write_history_file(_history_path())
            _history_path().chmod(0o600)

    # ---- commands ----

    def _command(self, command: str, rest: str) -> None:
        match command:
            case "/?" | "/help":
                click.echo({"set": _set_help(), "/set": _set_help(), "show": SHOW_HELP}.get(rest, HELP))
            case "/clear":
                self._conversation.messages.clear()
                click.echo("Cleared the conversation.")
            case "/set":
                click.echo(self._set(rest))
            case "/show":
                self._show(rest)
            case "/load" if rest:
                self._try_load(rest)
            case _:
                click.echo(f"Unknown command '{command}'. Type /? for help.")

    def _try_load(self, model: str) -> None:
        try:
            self._load(model)
        except Refused as error:
            click.echo(f"Error: {error.message}", err=True)

    def _set(self, rest: str) -> str:  # noqa: PLR0911 (one answer for each setting)
        """Change a setting; returns what to tell the user."""
        name, _, value = rest.partition(" ")
        value = value.strip()
        conversation = self._conversation
        match name, value:
            case "parameter", _:
                return self._set_parameter(value)
            case "system", text if text:
                conversation.system = text.strip('"')
                return "Set system message."
            case "think", "" | "low" | "medium" | "high" | "max":
                conversation.think = value or True
                return "Set 'think' mode."
            case "nothink", "":
                conversation.think = False
                return "Set 'nothink' mode."
            case "format", "json":
                conversation.format = "json"
                return "Set format to 'json' mode."
            case "noformat", "":
                conversation.format = None
                return "Disabled format."
            case "verbose" | "quiet", "":
                conversation.verbose = name == "verbose"
                return f"Set '{name}' mode."
            case "history" | "nohistory", "":
                self._history = name == "history"
                return f"Set '{name}' mode."
            case _:
                return _set_help()

    def _set_parameter(self, text: str) -> str:
        name, _, value = text.partition(" ")
        if name not in _PARAMETERS or not value:
            return f"Usage: /set parameter <name> <value>, with one of these names:\n{_parameter_names()}"
        try:
            parsed = _PARAMETERS[name](value.strip())
        except ValueError:
            return f"Couldn't set parameter: {value!r} is not a number."
        self._conversation.options[name] = [*value.split()] if name == "stop" else parsed
        return f"Set parameter '{name}' to '{value}'."

    def _show(self, what: str) -> None:
        parts = {"template": "template", "modelfile": "modelfile", "parameters": "parameters"}
        if what == "system":
            click.echo(self._conversation.system or "No system message was set.")
            return
        if what != "info" and what not in parts:
            click.echo(SHOW_HELP)
            return
        try:
            models.show(self._client, self._conversation.model, parts.get(what), verbose=False)
        except Refused as error:
            click.echo(f"Error: {error.message}", err=True)
        if what == "parameters" and self._conversation.options:
            click.echo("User defined parameters:")
            click.echo("\n".join(f"  {name:<30} {value}" for name, value in self._conversation.options.items()))


def _parameter_names() -> str:
    return textwrap.fill(", ".join(_PARAMETERS), 79, initial_indent=" " * 4, subsequent_indent=" " * 4)


def _set_help() -> str:
    return SET_HELP.format(parameters=_parameter_names(), levels="|".join(_LEVELS))


def _history_path() -> Path:
    return state_folder() / "history"
