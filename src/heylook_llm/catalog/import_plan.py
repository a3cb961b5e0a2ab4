"""What an import would write: which models are new, the file's text, and how it differs from what is there."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from heylook_llm import config, registry
from heylook_llm.catalog import importing
from heylook_llm.catalog.importing import Findings, Found
from heylook_llm.errors import ConfigError

_HEAD: Final = """\
# Written by heylookllm import. Models are used where they lie; every key: docs/models.md.
# Serve them: heylookllm --config {name}
"""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What entries say beyond the facts."""

    profile: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Above the profile; each goes to the models whose engine knows it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An import, ready to be written."""

    target: Path
    text: str
    new: tuple[Found, ...]
    entries: tuple[Mapping[str, Any], ...]
    """Of the new models."""
    difference: str
    """From the target as it is, as `diff -u` shows it."""

    @property
    def digest(self) -> str:
        """Equal for plans that write the same over the same."""
        return hashlib.sha256(f"{self.target}\0{self.difference}\0{self.text}".encode()).hexdigest()


def own(findings: Findings, wishes: Wishes, output: Path) -> Plan:
    """A models.yaml of all that was found, checked as the server will. Raises ConfigError."""
    entries = [_entry(found, wishes) for found in findings.models]
    first = next((entry["id"] for entry in entries if {"chat", "base"} & set(entry["tags"])), None)
    document = {**({"default_model": first} if first else {}), "max_loaded_models": 2, "models": entries}
    text = _HEAD.format(name=output) + registry.dump(document)
    config.parse(text, output)
    return Plan(output, text, tuple(findings.models), tuple(entries), registry.difference(output, text, str(output)))


def merged(findings: Findings, wishes: Wishes, path: Path) -> Plan:
    """The overlay of a models.yaml with what isn't served yet; entries that are there stay. Raises ConfigError."""
    settings = registry.load(path)
    served = {str(spec.path) for spec in settings.models}
    names = {config.canonical(name) for spec in settings.models for name in (spec.id, *spec.aliases)}
    new = [importing.renamed(found, names) for found in findings.models if str(found.path.absolute()) not in served]
    entries = [_entry(found, wishes) for found in new]
    over = registry.with_models(registry.read_overlay(path), entries)
    document = config.document_of(config.read(path), path)
    config.validate(registry.merged(document, config.document_of(registry.dump(over), path)), path)
    target, text = registry.overlay_path(path), registry.overlay_text(over)
    return Plan(target, text, tuple(new), tuple(entries), registry.difference(target, text, str(target)) if new else "")


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Every key is one of some engine's `config`. Raises ConfigError that names the nearest known one."""
    known = {key for kind in config.PROVIDERS.values() for key in kind.model_fields}
    for key in overrides:
        if key not in known:
            raise ConfigError(f"override {key}: unknown key{config.nearest(key, known)}")


def shown(path: Path) -> str:
    """A path fit to be shown: control characters and broken encodings as escapes."""
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _entry(found: Found, wishes: Wishes) -> dict[str, Any]:
    known = config.PROVIDERS[found.facts.provider].model_fields
    fitting = {key: value for key, value in wishes.overrides.items() if key in known}
    return importing.entry(found, wishes.profile, fitting)
