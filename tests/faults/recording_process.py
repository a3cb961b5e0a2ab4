"""Records requests without end, and prints the id of each that a question has found: python -m ... FILE START"""

import itertools
import sys
from pathlib import Path

from heylook_llm.server.performance.database import Database
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.performance.selection import Selection
from tests.server.recording import finished


def main(path: Path, start: int) -> None:
    """Never returns."""
    recorder = Recorder(path)
    for number in itertools.count(start):
        recorder.record(finished(number))
        if number % 8 == 7:
            print(recorder.question(newest).result(), flush=True)


def newest(database: Database) -> str:
    """The id of the last row."""
    ((_, row),) = database.select(Selection(), limit=1)
    return row.id


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
