"""Run the conformance matrix: each client against a running server, and write what came of it to docs/conformance.md.

python -m tests.conformance [CLIENT ...] [--feature NAME]

How a client went is kept with a digest of the package that it was run against. So clients can be run one by one: the
page is written once all have been, and says which.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import heylook_llm.tiny
from tests.catalog.hub import Hub
from tests.commands_at_work import Home
from tests.conformance import infilling
from tests.conformance.cells import Outcome
from tests.conformance.page import CLIENTS, Client, Column, page
from tests.conformance.subjects import KEY, MODELS, REPOSITORY, SUBJECTS, WEATHER_TOOL, circle_base64

ROOT: Final = Path(__file__).parent.parent.parent
TINY: Final = Path(heylook_llm.tiny.__file__).parent
BUILD: Final = ROOT / "build" / "conformance"
REFUSED_AT_MOST: Final = 0.05
"""Of all cells."""
TOLD_LINES: Final = 12
"""Of a failure's traceback."""
PAGE: Final = ROOT / "docs" / "conformance.md"


@contextlib.contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The addresses of a server over all models, and of one that wants a key."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Home(Path(folder))
        infilling.gguf(TINY / "heylook-tiny.gguf", home.folder / "infilling.gguf")
        infilling.folder(TINY / "heylook-tiny-mlx", home.folder / "infilling-mlx")
        home.models.write_text(MODELS.replace("TINY", str(TINY)))
        hub = Hub()
        hub.repositories[REPOSITORY] = {"m-Q8_0.gguf": (TINY / "heylook-tiny.gguf").read_bytes()}
        stack.enter_context(hub.running())
        free = stack.enter_context(home.serving("--port", "0", HF_ENDPOINT=hub.url))
        locked = stack.enter_context(home.serving("--port", "0", "--api-key", KEY))
        yield free.url, locked.url


def command(client: Client) -> list[str]:
    """How a client's cells are run."""
    if client.runtime == "node":
        return ["node", str(Path(__file__).parent / "node" / f"{client.name}.mjs")]
    python = sys.executable if client.runtime == "own" else str(BUILD / "python" / "bin" / "python")
    return [python, "-m", "tests.conformance.cells", client.name]


def column(client: Client, free: str, locked: str, feature: str | None) -> Column:
    """How a client's cells went."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CONFORMANCE_NODE": str(BUILD / "node"),
        "CONFORMANCE_TINY": str(TINY),
        "CONFORMANCE_SUBJECTS": json.dumps(
            {
                "subjects": [asdict(one) for one in SUBJECTS],
                "key": KEY,
                "tool": WEATHER_TOOL,
                "picture": circle_base64(),
            }
        ),
        **client.environment,
    }
    process = subprocess.Popen(
        [*command(client), free, locked, *([feature] if feature else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    out, err = process.communicate()
    lines = [json.loads(line) for line in out.splitlines() if line.startswith(("{", "["))]
    if process.returncode or not lines:
        sys.exit(f"{client.name} ended with {process.returncode}:\n{out}\n{err}")
    return Column(client, lines[0]["version"], [Outcome(*fields) for fields in lines[1:]])


def digest() -> str:
    """Of all files of the package."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            found.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()


def kept(client: Client) -> Path:
    """Where it is written down how a client went."""
    return BUILD / "columns" / f"{client.name}.json"


def keep(told: Column, source: str) -> None:
    """Write down how a client went against this source."""
    place = kept(told.client)
    place.parent.mkdir(parents=True, exist_ok=True)
    outcomes = [asdict(one) for one in told.outcomes]
    place.write_text(json.dumps({"source": source, "version": told.version, "outcomes": outcomes}), encoding="utf-8")


def whole() -> list[Column] | None:
    """How all clients went when they were last run; None: some haven't been."""
    if not all(kept(client).exists() for client in CLIENTS):
        return None
    return [
        Column(client, told["version"], [Outcome(**one) for one in told["outcomes"]], told["source"])
        for client in CLIENTS
        for told in [json.loads(kept(client).read_text(encoding="utf-8"))]
    ]


def main() -> None:
    """Ends with 1 if any cell failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "clients", nargs="*", metavar="CLIENT", help="only these: " + ", ".join(c.name for c in CLIENTS)
    )
    parser.add_argument("--feature", help="only this one")
    options = parser.parse_args()
    source, ran = digest(), []
    with servers() as (free, locked):
        for client in CLIENTS:
            if options.clients and client.name not in options.clients:
                continue
            started = time.monotonic()
            ran.append(told := column(client, free, locked, options.feature))
            if not options.feature:
                keep(told, source)
            print(f"{told.summary}  {time.monotonic() - started:.0f} s", flush=True)
            for one in told.failed:
                seen = one.why.strip().splitlines()[-TOLD_LINES:]
                print("\n    ".join([f"  FAIL {one.provider}: {one.feature}", *seen]), flush=True)
    columns = None if options.feature else whole()
    if columns is not None:
        PAGE.write_text(page(columns), encoding="utf-8")
    refused = sum(one.result == "refused" for told in columns or () for one in told.outcomes)
    if refused > REFUSED_AT_MOST * sum(len(told.outcomes) for told in columns or ()):
        sys.exit(f"{refused} cells are refused by design: too many")
    sys.exit(any(one.failed for one in columns or ran))


if __name__ == "__main__":
    main()
