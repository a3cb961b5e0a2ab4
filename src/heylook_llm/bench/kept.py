"""The targets that a user keeps, each with its key: one file, which only this user may read.

A key belongs to the scheme, host and port that it was given for: a target that gets another address loses it.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from heylook_llm.bench.keys import address_of, is_key, key_of
from heylook_llm.bench.sample import Kind
from heylook_llm.bench.spec import TargetSpec
from heylook_llm.errors import BadRequest, ConfigError, NotFound

PREFIX = "kept:"
"""Before a target's name, where a spec names its key."""
_SHOWN = 4
_LEAST_SHOWN = 12
"""Characters of a key, from which on its end can be shown without telling much of it."""


class KeptTarget(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server under a name."""

    name: str
    url: str
    kind: Kind | None = None
    price_in: float | None = None
    price_out: float | None = None
    key: str | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"KeptTarget({self.name})"

    @property
    def masked(self) -> str | None:
        """All that is ever told of the key."""
        if self.key is None:
            return None
        return "••••" + (self.key[-_SHOWN:] if len(self.key) >= _LEAST_SHOWN else "")


class Kept:
    """The file of kept targets."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[KeptTarget]:
        """By name. Raises ConfigError."""
        try:
            if os.name == "posix" and stat.S_IMODE(self._path.stat().st_mode) & 0o077:
                raise ConfigError(f"Others can read the keys in {self._path.name}: chmod 600 {self._path}")
            return msgspec.json.decode(self._path.read_bytes(), type=list[KeptTarget])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"The kept targets in {self._path.name} can't be read: {error}") from error

    def one(self, name: str) -> KeptTarget:
        """Raises NotFound, ConfigError."""
        for target in self.all():
            if target.name == name:
                return target
        raise NotFound(f"No target is kept as '{name[:100]}'.", code="target_not_found")

    def keep(self, target: KeptTarget) -> KeptTarget:
        """Keep it, in place of one of its name; without a key it has that one's, unless its address is another.

        Raises BadRequest, ConfigError.
        """
        if target.key is not None and not is_key(target.key):
            raise BadRequest("A key is printable ASCII without spaces.", param="key")
        others = [kept for kept in self.all() if kept.name != target.name]
        before = next((kept for kept in self.all() if kept.name == target.name), None)
        if target.key is None and before is not None and address_of(before.url) == address_of(target.url):
            target = msgspec.structs.replace(target, key=before.key)
        self._write([*others, target])
        return target

    def drop_key(self, name: str) -> KeptTarget:
        """Forget a target's key. Raises NotFound, ConfigError."""
        bare = msgspec.structs.replace(self.one(name), key=None)
        self._write([bare if kept.name == name else kept for kept in self.all()])
        return bare

    def forget(self, name: str) -> None:
        """Keep a target no longer. Raises NotFound, ConfigError."""
        self.one(name)
        self._write([kept for kept in self.all() if kept.name != name])

    def key_of(self, given: TargetSpec) -> str | None:
        """The key that a target's spec names. Raises ConfigError, which never holds a key."""
        if given.key is None or not given.key.startswith(PREFIX):
            return key_of(given.key)
        name = given.key.removeprefix(PREFIX)
        kept = next((target for target in self.all() if target.name == name), None)
        if kept is None or kept.key is None:
            raise ConfigError(f"No key is kept for a target '{name}'; the target {given.url} takes its key from there.")
        if address_of(kept.url) != address_of(given.url):
            raise ConfigError(f"The key of '{name}' belongs to {address_of(kept.url)}; it isn't sent to {given.url}.")
        return kept.key

    def _write(self, targets: Iterable[KeptTarget]) -> None:
        ordered = sorted(targets, key=lambda target: target.name)
        draft = self._path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(ordered))
        draft.replace(self._path)
