"""The SQLite file of kept responses: their objects, the items of their inputs and outputs, their streams."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from heylook_llm.server.sqlite_file import SqliteFile
from heylook_llm.server.wire import jsontext
from heylook_llm.server.wire.responses_items import Item

DELETED_AT_ONCE: Final = 100
MOST_LOOKED_UP: Final = 500
"""Ids of one query; SQLite allows more."""
_CHAIN: Final = """
WITH RECURSIVE chain (seq, previous, depth) AS (
    SELECT seq, previous, 0 FROM responses WHERE id = ?
    UNION ALL
    SELECT r.seq, r.previous, depth + 1 FROM chain JOIN responses AS r ON r.id = chain.previous
)
SELECT seq, previous FROM chain ORDER BY depth DESC
"""
"""A response and those that it goes on from, the first of them first."""


class Kept(msgspec.Struct, frozen=True):
    """A response as it is kept."""

    id: str
    response: dict[str, Any]
    """The response object."""
    items: list[Item]
    """Of its input."""
    previous: str | None = None
    """The response that it goes on from."""
    events: bytes | None = None
    """Its stream, where that may be asked for again."""
    owner: int | None = None
    """The process that still answers it; None: it has ended."""


class Chain(msgspec.Struct, frozen=True):
    """The conversation that ends with a response: its items, oldest first."""

    items: list[Item]
    missing: str | None = None
    """An earlier response of it that isn't kept any more."""
    unfinished: bool = False
    """It is still being answered."""


class ResponseDatabase(SqliteFile):
    """An open file of responses, or one in memory."""

    version = 1
    settings = ("foreign_keys = ON", "secure_delete = ON")
    schema = (
        "CREATE TABLE responses (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, previous TEXT, "
        "used_at REAL NOT NULL, owner INTEGER, body BLOB NOT NULL, events BLOB)",
        "CREATE INDEX responses_by_use ON responses (used_at)",
        "CREATE TABLE items (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, "
        "response INTEGER NOT NULL REFERENCES responses (seq) ON DELETE CASCADE, given INTEGER NOT NULL, "
        "body BLOB NOT NULL)",
        "CREATE INDEX items_by_id ON items (id)",
        "CREATE INDEX items_by_response ON items (response)",
    )

    def __init__(self, path: Path | None, *, keep_seconds: float, keep_bytes: int) -> None:
        """As SqliteFile. `keep_seconds`: how long a response is kept after it was last gone on from."""
        super().__init__(path, keep_bytes=keep_bytes)
        self._keep_seconds = keep_seconds

    # ---- writing -----------------------------------------------------------------------------------------------------

    def write(self, kept: Kept, now: float) -> None:
        """Keep a response, in place of what was kept of it so far. `now`: wall clock."""
        body = _packed({**kept.response, "output": []})
        events = None if kept.events is None else zlib.compress(kept.events, 1)
        with self.transaction():
            self._connection.execute("DELETE FROM responses WHERE id = ?", (kept.id,))
            row = (kept.id, kept.previous, now, kept.owner, body, events)
            made = self._connection.execute(
                "INSERT INTO responses (id, previous, used_at, owner, body, events) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            items = [(item, 1) for item in kept.items] + [(item, 0) for item in kept.response["output"]]
            self._connection.executemany(
                "INSERT INTO items (id, response, given, body) VALUES (?, ?, ?, ?)",
                [(item["id"], made.lastrowid, given, _packed(item)) for item, given in items],
            )

    def delete(self, identity: str) -> bool:
        """Delete a response; whether there was one."""
        with self.transaction():
            gone = self._connection.execute("DELETE FROM responses WHERE id = ?", (identity,)).rowcount
        return gone > 0

    def trim(self, now: float) -> int:
        """Delete what is older than is kept, then what was longest unused until the rest fits; how many."""
        deleted = self._delete("WHERE used_at < ?", (now - self._keep_seconds,))
        while self.full:
            oldest = "WHERE seq IN (SELECT seq FROM responses ORDER BY used_at, seq LIMIT ?)"
            some = self._delete(oldest, (DELETED_AT_ONCE,))
            if not some:
                break
            deleted += some
        if deleted:
            self.give_back()
        return deleted

    def _delete(self, where: str, values: tuple[Any, ...]) -> int:
        with self.transaction():
            deleted: int = self._connection.execute(f"DELETE FROM responses {where}", values).rowcount  # noqa: S608
        return deleted

    # ---- reading -----------------------------------------------------------------------------------------------------

    def find(self, identity: str) -> Kept | None:
        """A response by its id, without its stream."""
        query = "SELECT seq, previous, owner, body FROM responses WHERE id = ?"
        row = self._connection.execute(query, (identity,)).fetchone()
        if row is None:
            return None
        seq, previous, owner, body = row
        outputs = self._items("response = ? AND NOT given", (seq,))
        given = self._items("response = ? AND given", (seq,))
        return Kept(identity, {**_unpacked(body), "output": outputs}, given, previous, owner=owner)

    def events(self, identity: str) -> bytes | None:
        """The stream of a response; None: it has none."""
        row = self._connection.execute("SELECT events FROM responses WHERE id = ?", (identity,)).fetchone()
        return None if row is None or row[0] is None else zlib.decompress(row[0])

    def chain(self, identity: str, now: float) -> Chain | None:
        """The conversation that a response ends; it counts as used now. None: there is no such response."""
        rows = self._connection.execute(_CHAIN, (identity,)).fetchall()
        if not rows:
            return None
        seqs = [(seq,) for seq, _ in rows]
        with self.transaction():
            used = "UPDATE responses SET used_at = ? WHERE seq = ?"
            self._connection.executemany(used, [(now, *seq) for seq in seqs])
        items = [item for seq in seqs for item in self._items("response = ?", seq)]
        (owner,) = self._connection.execute("SELECT owner FROM responses WHERE id = ?", (identity,)).fetchone()
        return Chain(items, rows[0][1], unfinished=owner is not None)

    def found(self, ids: Iterable[str]) -> dict[str, Item]:
        """Items by their ids; of several the newest."""
        asked = list(dict.fromkeys(ids))
        items: dict[str, Item] = {}
        for start in range(0, len(asked), MOST_LOOKED_UP):
            some = asked[start : start + MOST_LOOKED_UP]
            marks = ", ".join("?" * len(some))
            items |= {item["id"]: item for item in self._items(f"id IN ({marks})", tuple(some))}
        return items

    def _items(self, where: str, values: tuple[Any, ...]) -> list[Item]:
        """`where` is in our own words; what others say is a value."""
        query = f"SELECT body FROM items WHERE {where} ORDER BY seq"  # noqa: S608
        return [_unpacked(body) for (body,) in self._connection.execute(query, values)]


def _packed(value: dict[str, Any]) -> bytes:
    return zlib.compress(jsontext.encode(value), 1)


def _unpacked(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(zlib.decompress(data))
    return value
