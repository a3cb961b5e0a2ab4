"""Keys of targets: named in a spec, looked up when a run begins, held in memory and given to the sender by its pipe."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from heylook_llm.errors import ConfigError

MOST_CHARACTERS: Final = 8192
"""Of a key: a server takes no longer header."""

LEAST_CHARACTERS: Final = 8
"""Of a key that is looked for in what others say: a shorter one could be in anything."""
HIDDEN: Final = "[key]"


def key_of(reference: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key that a reference names. Raises ConfigError, which never holds a key."""
    if reference is None:
        return None
    kind, _, name = reference.partition(":")
    key = {"kept": _of_nobody, "env": _of_environment, "file": _of_file, "keyring": _of_keyring}[kind](
        name, environment
    )
    if not is_key(key):
        raise ConfigError(f"What {reference} names is no key: it is empty, or holds other than printable characters.")
    return key


def is_key(text: str) -> bool:
    """Whether a text can be sent as a key."""
    return 0 < len(text) <= MOST_CHARACTERS and all(" " < character <= "~" for character in text)


def without(text: str, key: str | None) -> str:
    """What a target says, without the key that it was sent: some say it again where they refuse it."""
    if key is None or len(key) < LEAST_CHARACTERS:
        return text
    return text.replace(key, HIDDEN).replace(json.dumps(key)[1:-1], HIDDEN)


def address_of(url: str) -> str:
    """Scheme, host and port of a URL: what a key is bound to."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _of_nobody(name: str, _: Mapping[str, str]) -> str:
    raise ConfigError(f"kept:{name} names a kept target's key, and none are kept here.")


def _of_environment(name: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise ConfigError(f"The variable {name} isn't set; the spec's target takes its key from there.")
    return environment[name].strip()


def _of_file(name: str, _: Mapping[str, str]) -> str:
    path = Path(name).expanduser()
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"Others can read the key in {path}: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The key file {path} can't be read: {error}") from error


def _of_keyring(name: str, _: Mapping[str, str]) -> str:
    try:
        import keyring  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 (optional, loads slowly)
    except ImportError:
        raise ConfigError(
            "keyring isn't installed (pip install 'heylookllm[keyring]'); use env:NAME or file:PATH."
        ) from None
    try:
        key = keyring.get_password("heylookllm", name)
    except keyring.errors.KeyringError as error:
        raise ConfigError(f"The keyring can't be opened ({error}); use env:NAME or file:PATH.") from error
    if key is None:
        raise ConfigError(f"The keyring holds no '{name}': keyring set heylookllm {name}")
    return str(key)
