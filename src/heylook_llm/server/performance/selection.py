"""Which finished requests are asked for, and how SQLite finds them: by the index of the rarest of the given labels."""

from typing import Any, Final, NamedTuple

import msgspec

from heylook_llm.server.performance.record import Moment

RAREST_FIRST: Final = (("client_request_id",), ("run_id",), ("client",), ("model", "outcome"), ("outcome",), ("model",))
"""What there are indexes of. In each the row's place comes next, so rows come in order and a page costs a page."""
INDEXES: Final = (
    "CREATE INDEX requests_by_name ON requests (client_request_id) WHERE client_request_id IS NOT NULL",
    # a client or a run may have most of the rows: what else is asked of them is seen in the index
    "CREATE INDEX requests_by_run ON requests (run_id, seq, outcome, model) WHERE run_id IS NOT NULL",
    "CREATE INDEX requests_by_client ON requests (client, seq, outcome, model) WHERE client IS NOT NULL",
    "CREATE INDEX requests_by_end ON requests (model, outcome)",
    "CREATE INDEX requests_by_outcome ON requests (outcome)",
    "CREATE INDEX requests_by_model ON requests (model)",
)


class Since(NamedTuple):
    """The last `seconds` before now."""

    now: Moment
    seconds: float


class Selection(msgspec.Struct, frozen=True):
    """Which requests; None: whatever it is."""

    model: str | None = None
    outcome: str | None = None
    run_id: str | None = None
    client: str | None = None
    client_request_id: str | None = None
    since: Since | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """In SQL, with its values; but for `since`, which needs the clocks that the database knows."""
        named = {name: getattr(self, name) for names in RAREST_FIRST for name in names}
        given = {name: value for name, value in named.items() if value is not None}
        indexed = next((names for names in RAREST_FIRST if all(name in given for name in names)), ())
        # a plus keeps SQLite from another index, which it would choose without knowing how common a value is
        parts = [f"{'' if name in indexed else '+'}{name} = ?" for name in given]
        return " AND ".join(["1", *parts]), list(given.values())
