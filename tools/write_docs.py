"""Write the tables of docs/ that the code knows: keys of models.yaml, options of commands, fields of the APIs.

They stand between `<!-- table: NAME -->` and `<!-- end -->`. `make docs-tables` runs this; a test compares.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import click
import pydantic
from pydantic.fields import FieldInfo

from heylook_llm import cli, config, support
from heylook_llm.effects import EFFECTS, SHARED
from heylook_llm.server import create_routes, refused
from heylook_llm.server.wire import admin_body, anthropic, llama_server, ollama, openai_tables, table
from heylook_llm.worker.formats import families

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write every page whose tables changed."""
    for path in sorted(DOCS.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = with_tables(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(path, file=sys.stderr)


def with_tables(page: str) -> str:
    """The page with its tables written anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}\n{block[3]}", page)


# ---- keys of models.yaml ---------------------------------------------------------------------------------------------


def keys(model: type[pydantic.BaseModel], *without: type[pydantic.BaseModel]) -> str:
    """Key, values, default and effect of each field of `model`, those of `without` left out."""
    inherited = {name for other in without for name in other.model_fields}
    rows = [
        (f"`{name}`", values(field), default(field), EFFECTS[model][name])
        for name, field in model.model_fields.items()
        if name not in inherited
    ]
    return grid(("Key", "Values", "Default", "Effect"), rows)


def values(field: FieldInfo) -> str:
    """What a field accepts, in YAML's words."""
    return kind(field.annotation, field) + bounds(field)


def kind(annotation: Any, field: FieldInfo | None = None) -> str:
    """A type in YAML's words."""
    if field is not None and any(isinstance(item, pydantic.BeforeValidator) for item in field.metadata):
        return "duration"
    if get_origin(annotation) is Literal:
        return " ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if parts:
        return ", ".join(dict.fromkeys(kind(part) for part in parts))
    names: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "`true` `false`"}
    return names.get(annotation, "mapping")


def bounds(field: FieldInfo) -> str:
    """The limits of a number."""
    words = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}
    limits = [
        f"{sign} {next(iter(vars_of(item).values()))}"
        for item in field.metadata
        for type_, sign in words.items()
        if isinstance(item, type_)
    ]
    return f" {', '.join(limits)}" if limits else ""


def vars_of(item: Any) -> dict[str, Any]:
    """The fields of an annotated_types constraint."""
    return {name: getattr(item, name) for name in ("ge", "gt", "le", "lt") if hasattr(item, name)}


def default(field: FieldInfo) -> str:  # noqa: PLR0911 (one answer for each kind of default)
    """A field's default in YAML's words."""
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if value is None:
        return "unset"
    if isinstance(value, pydantic.BaseModel):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and math.isinf(value):
        return "`never`"
    if value in ("", ()):
        return "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# ---- options of commands ---------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its options."""
    return "\n".join(_command("heylookllm", name, command) for name, command in sorted(cli.heylookllm.commands.items()))


def _command(prefix: str, name: str, command: click.Command) -> str:
    if command.hidden:
        return ""
    if isinstance(command, click.Group):
        return "\n".join(_command(f"{prefix} {name}", sub, item) for sub, item in sorted(command.commands.items()))
    context = click.Context(command, info_name=f"{prefix} {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    rows = [row for option in options if (row := option.get_help_record(context)) is not None]
    table_of_options = grid(("Option", "Effect"), [(f"`{left.strip()}`", right) for left, right in rows])
    parts = [f"### {prefix} {name}", f"`{prefix} {name} {usage}`", command.help or "", table_of_options if rows else ""]
    return "".join(f"{part}\n\n" for part in parts if part).rstrip("\n") + "\n"


# ---- fields of the APIs ----------------------------------------------------------------------------------------------


def fields(body: type[table.Body]) -> str:
    """Every field of a body and what becomes of it."""
    return grid(("Field", "", "Note"), [(f"`{row.name}`", row.treatment, row.note) for row in table.rows(body)])


def routes(bodies: dict[str, type[table.Body]]) -> str:
    """The tables of several routes."""
    return "\n".join(f"### {route}\n\n{fields(body)}\n" for route, body in bodies.items())


def refused_fields() -> str:
    """Every field that is refused: where, what the 400 says, and why it is so."""
    found: dict[str, dict[str, list[str]]] = {}
    tables = (openai_tables.BODIES, llama_server.BODIES, anthropic.BODIES, ollama.BODIES, admin_body.BODIES)
    for route, body in (item for bodies in tables for item in bodies.items()):
        for row in table.rows(body):
            if row.treatment == "refused":
                found.setdefault(row.note, {}).setdefault(row.name, []).append(route.split()[1])
    assert set(found) == set(REASONS), set(found) ^ set(REASONS)
    rows = [
        (", ".join(f"`{name}`" for name in named), _places(named), message, REASONS[message])
        for message, named in found.items()
    ]
    return grid(("Field", "Of", "What the 400 says", "Why"), rows)


def _places(named: dict[str, list[str]]) -> str:
    return ", ".join(f"`{route}`" for route in dict.fromkeys(route for routes in named.values() for route in routes))


def refusals() -> str:
    """The routes that are refused, and what they answer."""
    rows = [
        (f"`{row.methods} {row.path}`", row.handler.__doc__ or "")
        for row in (*refused.OPENAI, *refused.ANTHROPIC, *create_routes.OLLAMA, *refused.OLLAMA)
        if row.refused
    ]
    return grid(("Route", "Answer"), rows)


MODELS: dict[str, str] = {
    "hermes": "Qwen2.5, Qwen3, QwQ, Hermes, heylook-tiny, and what is not known otherwise",
    "qwen-coder": "Qwen3-Coder, Qwen3.5, Nemotron 3, Step 3.5",
    "seed": "Seed-OSS",
    "glm": "GLM-4.5 to 4.7, Laguna",
    "longcat": "LongCat",
    "minimax": "MiniMax M2",
    "deepseek": "DeepSeek V3, R1, V3.1",
    "deepseek-dsml": "DeepSeek V3.2",
    "kimi": "Kimi K2",
    "mistral": "Mistral, Ministral, Devstral, Magistral",
    "command-r": "Command R7B, Command A",
    "phi": "Phi-4-mini",
    "lfm2": "LFM2",
    "function-gemma": "FunctionGemma",
    "gemma": "Gemma 4",
    "gemma-python": "templates that ask Gemma 3 for code",
    "llama": "Llama 3.1 to 4",
    "harmony": "gpt-oss",
}


def call_formats() -> str:
    """Every family of tool calls, and what opens a call of it."""
    told = [
        (one.name, (*one.openings, *(f"{lead} at the start" for lead in one.leads))) for one in families.TOOL_FORMATS
    ]
    told.append(("harmony", ("<|channel|>commentary to=functions.",)))
    rows = [(f"`{name}`", MODELS[name], " ".join(f"`` {mark} ``" for mark in marks)) for name, marks in told]
    return grid(("Family", "Models", "What opens a call"), rows)


def engines() -> str:
    """What each provider supports."""
    heads = ("Feature", *(f"`{name}`" for name in support.PROVIDERS))
    return grid(heads, [(row.what, *(_support(row, name) for name in support.PROVIDERS)) for row in support.FEATURES])


def _support(row: support.Feature, provider: str) -> str:
    if (reason := row.lacking.get(provider)) is not None:
        return f"refused: {reason}"
    note = row.notes.get(provider)
    return f"yes; {note}" if note else "yes"


def grid(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )


_END = "A prompt that ends otherwise asks for a continuation of what the user said, which no chat is."
_MOVED = "OpenAI refuses it as well: the route has another name for it, and both could differ."
_STATE = (
    "A conversation that the server keeps needs an owner and a life of its own; responses are kept, conversations sent."
)
REASONS = {
    "Embedded prompts are not accepted: send text or token ids.": "They are tensors as Python pickles them: "
    "reading them would run a stranger's code; and neither engine takes them batched with others.",
    "Prompts are not truncated on /v1: shorten it, or use /api/chat with `truncate`.": "OpenAI refuses an over-long "
    "prompt, which its clients count on; a cut one would be answered as if it were whole.",
    "Beam search is not offered.": "It would compute several answers to give one, and none of them could be streamed.",
    "The prompt always ends so that the model answers.": _END,
    "Reasoning is always given apart, as reasoning_content.": "Left in the text, each client would have to know each "
    "family's tags.",
    "Only text is offered.": "No model here speaks.",
    "Audio output is not offered.": "No model here speaks.",
    "A template from a request is not accepted; set it in models.yaml (chat_template).": "How reasoning and calls are "
    "read follows from the model's own template. Ollama's API has `template`, so it is taken there.",
    "Not a field of this route: use POST /tokenize.": "It asks for tokens instead of an answer.",
    "Conversations are not stored: send the messages.": _STATE,
    "Not a field of this route.": "It is an argument of a Python function, not of this API.",
    "Conversations are not stored here: send previous_response_id, or all of the items.": _STATE,
    "Prompt templates are not stored here: send the instructions and the input.": "They lie in an account at OpenAI.",
    **{
        f"This route has '{here}' instead.": _MOVED
        for here in ("input", "max_output_tokens", "text.format", "reasoning.effort")
    },
    "A response is one answer: send the request several times.": _MOVED.replace(
        ": the route has another name for it, and both could differ", ""
    ),
    "Probabilities are those before sampling: leave post_sampling_probs out.": "Samplers of several kinds leave no "
    "distribution behind that would be the same on each engine.",
    "Send images to POST /v1/chat/completions.": "An image is a part of a message here; in a raw prompt nothing says "
    "where it stands.",
    "Adapters are set in models.yaml (lora).": "They change what all requests of a batch compute.",
    "A grammar holds from the first token: leave grammar_lazy out.": "Calls of tools are held to their schemas "
    "without it, by each family's own marks.",
    "A grammar holds from the first token: leave grammar_triggers out.": "Calls of tools are held to their schemas "
    "without them, by each family's own marks.",
    "Images have no vectors here.": "No engine here makes any.",
    "mcp_servers: this server calls no other; let your client run their tools.": "A server that calls others for "
    "whoever asks is a way into a network.",
    "_debug_render_only is not offered: use POST /apply-template.": "That route gives the same text, and the tokens.",
    "An import over HTTP adds to the registry in force, as --merge does.": "It is the only thing that is safe while "
    "the server runs.",
    "An import over HTTP adds to the registry in force; it writes no other file.": "A client must not choose which "
    "file is written.",
    "An import over HTTP replaces no file.": "A client must not overwrite what the operator wrote.",
    "An import over HTTP ends; ask again, or run `heylookllm import --watch`.": "A request that never ends is none.",
}
"""Why each refusal of a field is by design, by what its 400 says."""

TABLES: dict[str, Callable[[], str]] = {
    "settings": lambda: keys(config.Settings),
    "model": lambda: keys(config.ModelSpec),
    "limits": lambda: keys(config.Limits),
    "performance": lambda: keys(config.Recording),
    "responses": lambda: keys(config.KeepingResponses),
    "hardware": lambda: keys(config.Hardware),
    "llama_cpp": lambda: keys(config.LlamaCppConfig, *SHARED),
    "mlx": lambda: keys(config.MlxConfig, *SHARED),
    "sampling": lambda: keys(config.SamplingDefaults),
    "prefixes": lambda: keys(config.KeepingPrefixes),
    "speculation": lambda: keys(config.Speculating),
    "families": call_formats,
    "fake": lambda: keys(config.FakeConfig, *SHARED),
    "commands": commands,
    "openai": lambda: routes(openai_tables.BODIES),
    "llama-server": lambda: routes(llama_server.BODIES),
    "anthropic": lambda: routes(anthropic.BODIES),
    "ollama": lambda: routes(ollama.BODIES),
    "admin": lambda: routes(admin_body.BODIES),
    "refused": refusals,
    "refused-fields": refused_fields,
    "engines": engines,
    "ollama-options": lambda: fields(ollama.OPTIONS),
}

if __name__ == "__main__":
    main()
