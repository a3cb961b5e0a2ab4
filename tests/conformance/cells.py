"""What a cell of the conformance matrix is, and how a client's cells are run in the interpreter that has the client.

python -m tests.conformance.cells CLIENT URL LOCKED_URL [FEATURE]   prints a line of JSON for each cell
"""

import asyncio
import importlib
import importlib.metadata
import json
import re
import signal
import sys
import traceback
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

from tests.conformance.subjects import SUBJECTS, Subject

Said = TypeVar("Said")
CELL_SECONDS: Final = 120
"""A cell that takes longer hangs."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a cell runs: a server, one that wants a key, and what to ask."""

    url: str
    locked: str
    subject: Subject

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self.subject.model

    @property
    def v1(self) -> str:
        """The base URL of OpenAI's clients."""
        return self.url + "/v1"

    def until_idle(self) -> None:
        """Return once no request is in flight; the cell's time limit bounds it."""
        while in_flight(self.url):
            pass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cell went."""

    provider: str
    feature: str
    result: str
    """pass, refused or fail."""
    why: str = ""
    """Of a refusal, the reason; of a failure, what was seen."""


class RefusedByDesign(Exception):
    """The server refused, as it should, in the way that was asserted. Its text is the reason."""


Cell = Callable[[At], None]
CELLS: Final[dict[str, Cell]] = {}
"""Those of the client whose module was imported, by feature."""


def cell(feature: str, *providers: str) -> Callable[[Cell], Cell]:
    """Register a cell of this feature, for all providers or these."""

    def register(function: Cell) -> Cell:
        assert feature not in CELLS, feature
        CELLS[feature] = function
        _ONLY[feature] = providers
        return function

    return register


_ONLY: Final[dict[str, tuple[str, ...]]] = {}


def in_flight(url: str) -> list[Any]:
    """The requests that the server is answering."""
    with urllib.request.urlopen(url + "/v1/requests", timeout=10) as reply:
        found: list[Any] = json.load(reply)["data"]
    return found


def outcomes(url: str, locked: str, only: str | None = None) -> Iterator[Outcome]:
    """Run every cell at every subject."""
    for subject in SUBJECTS:
        for feature, function in CELLS.items():
            if only in (None, feature) and (not _ONLY[feature] or subject.provider in _ONLY[feature]):
                yield _outcome(function, feature, At(url, locked, subject))


def _outcome(function: Cell, feature: str, at: At) -> Outcome:
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(CELL_SECONDS)
    try:
        function(at)
    except RefusedByDesign as refusal:
        return Outcome(at.subject.provider, feature, "refused", str(refusal))
    except Exception:
        return Outcome(at.subject.provider, feature, "fail", traceback.format_exc())
    finally:
        signal.alarm(0)
    return Outcome(at.subject.provider, feature, "pass")


def _too_long(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeoutError(f"no end within {CELL_SECONDS} s")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a dialect says that it doesn't do what was asked: what a client must be able to tell from it."""

    status: int
    words: str
    """A pattern of what the message says of the thing that was asked for."""
    kind: str | None = None
    """The error's `type`; None: the dialect has none."""
    code: str | None = None
    param: str | None = None
    """The field that asked for it; None: the route as a whole is refused."""

    def check(self, problem: Any) -> None:
        """Assert that a client's exception says all of that."""
        assert re.search(self.words, str(problem)), f"{self.words!r} isn't in {problem}"
        for name, wanted in (("type", self.kind), ("code", self.code), ("param", self.param)):
            seen = getattr(problem, name, None)
            assert seen == wanted, f"{name}: {seen!r} isn't {wanted!r}"
        assert problem.status_code == self.status, problem.status_code


def refused(calls: Mapping[Callable[[], Any], Refusal], error: type[Exception], why: str) -> NoReturn:
    """Assert that each call is refused as its dialect says it, field and all, and say why that is so by design."""
    for call, refusal in calls.items():
        refusal.check(raises(call, error))
    raise RefusedByDesign(why)


def raises(call: Callable[[], Any], error: type[Exception] | tuple[type[Exception], ...], words: str = "") -> Any:
    """The error that a call must end in, which says these words (a pattern)."""
    seen: Exception | None = None
    try:
        call()
    except error as problem:
        seen = problem
    assert seen is not None, f"no {error} was raised"
    assert re.search(words, str(seen)), f"{words!r} isn't in {seen}"
    return seen


def awaited(work: Coroutine[Any, Any, Said]) -> Said:
    """What it returns, on the process's one loop: some frameworks keep connections beyond a call."""
    return _LOOP.run_until_complete(work)


_LOOP: Final = asyncio.new_event_loop()


def version(client: str) -> str:
    """The version of the client's package."""
    return importlib.metadata.version(client)


def main() -> None:
    """Print how each cell went, as it goes."""
    name, url, locked, *only = sys.argv[1:]
    module = importlib.import_module(f"tests.conformance.clients.{name}")
    print(json.dumps({"version": version(module.PACKAGE)}), flush=True)
    for outcome in outcomes(url, locked, only[0] if only else None):
        fields = [outcome.provider, outcome.feature, outcome.result, outcome.why]
        print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    # As a module of its own name the registry would be another one than the clients import.
    from tests.conformance.cells import main as run

    run()
