"""What a benchmark measures: the values of a run, its cells and its samples. They are kept as they stand here.

Stamps are int64 nanoseconds of the monotonic clock that `clock_id` names; wall times are float seconds since 1970.
None is "unknown" or "did not happen", never 0.
"""

import secrets
from array import array
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Kind = Literal["openai", "ollama", "anthropic"]
RunState = Literal["pending", "queued", "running", "done", "failed", "cancelled", "interrupted"]
CellState = Literal["pending", "running", "done", "failed", "skipped", "cancelled"]
Origin = Literal["cli", "web", "agent", "schedule", "import"]
Phase = Literal["warmup", "measure", "cooldown", "drain"]
Outcome = Literal["ok", "error", "timeout", "cancelled", "cut"]
PairSource = Literal["heylook", "ollama", "llama-server", "vllm"]

ENDED: Final[frozenset[RunState]] = frozenset({"done", "failed", "cancelled", "interrupted"})
SETTLED: Final[frozenset[Outcome]] = frozenset({"ok", "error", "timeout"})
"""What needn't be sent again; `cancelled` and `cut` are ours, and a resumed run sends those requests anew."""
CLIENT_LIMITED: Final = "client-limited"
"""The flag of cells whose sender couldn't keep up, and of their runs: their numbers can't be trusted."""
NOT_REACHED: Final = frozenset({"connect", "dns", "tls"})
"""Classes of errors of requests that never came to their target; a resumed run sends those anew, too."""

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Target(msgspec.Struct, frozen=True):
    """A server that is measured. Its key is named, never held; the name is bound to scheme, host and port.

    Its id is of its content, so that what a run says of its targets stays true.
    """

    id: str
    name: str
    kind: Kind
    base_url: str
    key_ref: str | None = None
    model_prefix: str = ""
    skip_params: tuple[str, ...] = ()
    price_in: float | None = None
    """Per million tokens."""
    price_out: float | None = None


class Machine(msgspec.Struct, frozen=True):
    """Where the bench ran."""

    id: str
    label: str
    boot_id: str
    hardware_json: str


class Run(msgspec.Struct, frozen=True):
    """One execution of a spec."""

    id: str
    spec_json: str
    spec_hash: str
    state: RunState
    created: float
    origin: Origin = "cli"
    name: str | None = None
    machine_id: str | None = None
    parent_id: str | None = None
    started: float | None = None
    ended: float | None = None
    cancel_requested: bool = False
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: float | None = None
    flags_json: str = "[]"
    """Why its numbers may not be trusted: a list of words such as "client-limited"."""
    manifest_json: str = "{}"

    @property
    def goes_on(self) -> bool:
        """Whether a process has taken it up, and it hasn't ended."""
        return self.state not in ENDED and self.state != "pending"


class Cell(msgspec.Struct, frozen=True):
    """One combination of a run's axes: requests that are alike and summed up together."""

    id: str
    run_id: str
    ordinal: int
    target_id: str
    model: str
    task: str
    scenario: str
    load: str
    """closed, constant, poisson, gamma, ramp, max or replay."""
    level: float
    """Clients of a closed loop, else requests per second; infinite for max; of replay how many times as fast."""
    repeat: int
    cache: str
    """cold, warm, or prefix and the per cent shared, as prefix50."""
    seed: int
    planned: int | None
    """Requests; None: as many as its time allows."""
    state: CellState = "pending"
    window_start: int | None = None
    """Stamp: the first measured request was due."""
    window_end: int | None = None
    """Stamp: nothing more was sent for measuring."""
    flags: tuple[str, ...] = ()


class Sample(msgspec.Struct, frozen=True):
    """One request, measured. At most one of each (cell, ordinal, attempt)."""

    id: str
    run_id: str
    cell_id: str
    ordinal: int
    attempt: int
    sender: int
    clock_id: str
    phase: Phase
    outcome: Outcome
    error_class: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    t_due: int | None = None
    """When it was planned to start. A closed loop plans it for the moment its client was free."""
    t_start: int | None = None
    """The sender took it up: a connection was looked for."""
    t_dns: int | None = None
    """The name was resolved. This and the next two only where the request opened its connection."""
    t_tcp: int | None = None
    t_tls: int | None = None
    t_sent: int | None = None
    """Its last bytes were handed to the connection."""
    t_headers: int | None = None
    """The answer's first byte came."""
    t_first_event: int | None = None
    """The first event of the stream, whatever it holds. Of an answer that isn't a stream: its body's first byte."""
    t_first_token: int | None = None
    """The first event with text, reasoning or a call."""
    t_first_visible: int | None = None
    """The first event with text or a call."""
    t_last_token: int | None = None
    t_end: int | None = None
    """The last byte of the answer, or when it was given up."""
    chunk_times: bytes = b""
    """int64 stamps (`stamps_of`), one for each event with text, reasoning or a call."""
    chunk_tokens: bytes = b""
    """uint32 (`tokens_of`), how many tokens each of them holds; empty where that isn't known."""
    bytes_in: int | None = None
    """Of the answer, with its head."""
    bytes_out: int | None = None
    """Of the request's body."""
    in_planned: int | None = None
    in_usage: int | None = None
    in_engine: int | None = None
    cached: int | None = None
    out_asked: int | None = None
    out_usage: int | None = None
    out_engine: int | None = None
    out_counted: int | None = None
    """Tokens of the answer's text by the target's own tokenizer."""
    reasoning: int | None = None
    client_request_id: str | None = None
    server_request_id: str | None = None
    output_sha256: str | None = None
    extra_json: str | None = None
    """What the target said of its own times and anything else that has no field, as a JSON object."""


class Pair(msgspec.Struct, frozen=True):
    """What the server measured of a sample."""

    sample_id: str
    source: PairSource
    timeline_json: str
    residual_ns: int | None = None
    """What neither side accounts for; None where the two have different clocks."""


class Point(msgspec.Struct, frozen=True):
    """One value of a series beside a run: CPU, memory, power, loop lag. `t` is a stamp."""

    t: int
    source: str
    name: str
    value: float


class Occurrence(msgspec.Struct, frozen=True):
    """An event of a run, in the order of `seq`; `wall` is wall time, `data_json` an object."""

    seq: int
    run_id: str
    wall: float
    type: str
    """run.state, cell.state, progress, warning or artifact."""
    data_json: str


def new_id(wall: float) -> str:
    """A ULID: 26 characters that sort by time."""
    value = (round(wall * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def packed_stamps(stamps: Iterable[int]) -> bytes:
    """As Sample.chunk_times holds them."""
    return array("q", stamps).tobytes()


def packed_tokens(counts: Iterable[int]) -> bytes:
    """As Sample.chunk_tokens holds them."""
    return array("I", counts).tobytes()


def stamps_of(sample: Sample) -> "array[int]":
    """The stamps of its chunks."""
    return array("q", sample.chunk_times)


def tokens_of(sample: Sample) -> "array[int]":
    """The tokens of its chunks, as many as stamps; empty: unknown."""
    return array("I", sample.chunk_tokens)
