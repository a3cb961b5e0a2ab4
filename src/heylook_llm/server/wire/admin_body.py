"""The bodies of the admin API that are more than a flag."""

from typing import Annotated, Any, Final, Literal

import pydantic

from heylook_llm.server.wire import jsontext, table
from heylook_llm.server.wire.table import Body, Flag, Honoured, Refused, Text

MAX_FOLDERS: Final = 64
MAX_OVERRIDES: Final = 256


class ImportBody(Body):
    """POST /v1/models/import: the fields of `heylookllm import`."""

    folders: Annotated[
        tuple[Text, ...],
        pydantic.Field(max_length=MAX_FOLDERS),
        Honoured("absolute paths, below a folder that the operator allows (`--import-root`)"),
    ] = ()
    hf_cache: Annotated[Flag, Honoured("the cache of Hugging Face")] = False
    ollama_store: Annotated[Flag, Honoured("Ollama's models")] = False
    lmstudio: Annotated[Flag, Honoured("LM Studio's models")] = False
    profile: Annotated[
        Literal["fast", "balanced", "quality", "memory", "interactive"] | None,
        Honoured("settings for a purpose, above those that the model's facts suggest"),
    ] = None
    overrides: Annotated[
        dict[str, Any],
        pydantic.Field(max_length=MAX_OVERRIDES, default_factory=dict),
        Honoured("keys of models.yaml's `config`, above the profile"),
    ]
    dry_run: Annotated[Flag, Honoured("true: say what would be written, and write nothing")] = False
    plan: Annotated[Text | None, Honoured("of a preview: write only what that showed, else 409")] = None
    merge: Annotated[
        Any, Refused("An import over HTTP adds to the registry in force, as --merge does.", neutral=(True,))
    ] = True
    output: Annotated[Any, Refused("An import over HTTP adds to the registry in force; it writes no other file.")] = (
        None
    )
    force: Annotated[Any, Refused("An import over HTTP replaces no file.", neutral=(False,))] = False
    watch: Annotated[
        Any, Refused("An import over HTTP ends; ask again, or run `heylookllm import --watch`.", neutral=(False,))
    ] = False


class SettingsBody(Body):
    """PATCH /v1/settings/models/MODEL: what is to be laid over the model's entry of models.yaml."""

    set: Annotated[
        dict[str, Any],
        pydantic.Field(max_length=MAX_OVERRIDES, default_factory=dict),
        Honoured("name -> value; a name is a key of the entry, or `config.KEY`; keys that name files are refused"),
    ]
    reset: Annotated[
        tuple[Text, ...],
        pydantic.Field(max_length=MAX_OVERRIDES),
        Honoured("names that models.yaml is to decide again, or the default where it says nothing"),
    ] = ()
    dry_run: Annotated[Flag, Honoured("true: check it, show the difference, and write nothing")] = False


BODIES: Final[dict[str, type[table.Body]]] = {
    "POST /v1/models/import": ImportBody,
    "PATCH /v1/settings/models/{model}": SettingsBody,
}


def parse_import(body: bytes) -> ImportBody:
    """The body of an import, which may be empty. Raises BadRequest, UnsupportedFeature."""
    return table.validate(ImportBody, jsontext.decode(body) if body.strip() else {})


def parse_settings(body: bytes) -> SettingsBody:
    """The body of a change of settings. Raises BadRequest."""
    return table.validate(SettingsBody, jsontext.decode(body))
