"""What constraints cost: hostile ones to whoever sends them and to a stream beside, and honest ones to each token.

    python -m benchmarks.constraints [--rounds 5] [--only hostile|masks]
    python -m benchmarks.constraints --model src/heylook_llm/tiny/heylook-tiny.gguf --vocabulary 150000

Two parts, each in turns with its baseline:

    hostile    each schema, grammar and regex of tests/attacks/test_grammars.py is sent to a server, changed so that no
               verdict on it is known, while a stream of the tiny model decodes beside it. Printed: how long the slowest
               took to be answered or refused, and the stream's 99th percentile of gaps and the longest, over those of
               the stream alone. Goals: 1 s, and at most twice.
    masks      an answer by a schema is followed token by token, over a vocabulary of so many words. Printed:
               microseconds for computing a mask, for applying it to a row of logits in numpy and finding the
               likeliest, and for telling the guide of a token.

The server's HTTP is used, so what a client sees is measured. The stream is read by a process of its own, since whoever
writes a megabyte of JSON can't stamp lines meanwhile. Nothing else should run on the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.attacks.test_grammars import GRAMMARS, REGEXES, SCHEMAS
from tests.serving import Running, running

from heylook_llm.helper import grammar
from heylook_llm.worker.guidance import Trie
from heylook_llm.worker.guide import GrammarGuide

TINY = Path(__file__).parent.parent / "src" / "heylook_llm" / "tiny" / "heylook-tiny.gguf"
QUESTION = [{"role": "user", "content": "Count from 1 to 100."}]
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "notes": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
    },
    "required": ["name", "age", "notes"],
    "additionalProperties": False,
}
SAID = json.dumps(
    {"name": "Ann Example", "age": 42, "notes": ["likes tea", "reads a lot", "Grüße"]}, ensure_ascii=False
)


# ---- hostile ones beside a stream ------------------------------------------------------------------------------------


def hostile(salt: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each hostile request; the salt keeps a verdict on an earlier one from being used again."""
    for name, schema in SCHEMAS.items():
        salted = {**schema, "description": f"{salt}"} if isinstance(schema, dict) else schema
        yield name, {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": salted}}}
    for name, text in GRAMMARS.items():
        mark = "//" if name.startswith("lark") else "#"
        yield name, {"grammar": f"{text}\n{mark} {salt}\n"}
    for name, text in REGEXES.items():
        yield name, {"guided_regex": f"{text}{salt}"}


def read_stream(url: str) -> None:
    """Read one endless answer after another, and print when each line came."""
    body = {"model": "beside", "messages": QUESTION, "stream": True, "ignore_eos": True, "max_tokens": 3000}
    with httpx.Client(timeout=60) as client:
        while True:
            with client.stream("POST", url, json={**body, "temperature": 0}) as reply:
                for line in reply.iter_lines():
                    if line.startswith("data: {"):
                        print(time.perf_counter(), flush=True)


class Stream(threading.Thread):
    """An answer that is read as it comes, by a process of its own, until it is told to stop."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.stamps: list[float] = []
        self.begun = threading.Event()
        command = [sys.executable, "-m", "benchmarks.constraints", "--read", url]
        self._reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def run(self) -> None:
        """Take what it prints."""
        assert self._reader.stdout is not None
        for line in self._reader.stdout:
            self.stamps.append(float(line))
            self.begun.set()

    def stop(self) -> None:
        """End it, and have all that it printed."""
        self._reader.kill()
        self._reader.wait()
        self.join(60)


def gaps_of(url: str, work: Any) -> list[float]:
    """The gaps, in milliseconds, of a stream while something else is done."""
    stream = Stream(url)
    stream.start()
    stream.begun.wait(60)
    start = time.perf_counter()
    work()
    end = time.perf_counter()
    stream.stop()
    within = [stamp for stamp in stream.stamps if start <= stamp <= end]
    return [1000 * gap for gap in np.diff(within)]


def ask_all(url: str, salt: int, took: dict[str, float]) -> None:
    """Send the hostile ones, one after the other, noting how long each took at most."""
    with httpx.Client(timeout=90) as client:
        for name, fields in hostile(salt):
            body = json.dumps({"model": "asked", "messages": QUESTION, "max_tokens": 8, **fields})
            start = time.perf_counter()
            reply = client.post(url, content=body, headers={"content-type": "application/json"})
            seconds = time.perf_counter() - start
            assert reply.status_code in (200, 400), (name, reply.text)
            took[name] = max(seconds, took.get(name, 0.0))


def measure_hostile(server: Running, rounds: int) -> None:
    """Rounds in turns, the first of each to warm up."""
    url = f"{server.url}/v1/chat/completions"
    took: dict[str, float] = {}
    figures: list[tuple[float, ...]] = []
    for at in range(rounds + 1):
        beside = gaps_of(url, lambda at=at: ask_all(url, at, took))
        alone = gaps_of(url, lambda: time.sleep(5))
        if not at:
            took.clear()
            continue
        found = [float(np.percentile(gaps, part)) for part in (99, 100) for gaps in (alone, beside)]
        figures.append(tuple(found))
        print(
            f"  gaps in ms, alone and beside: p99 {found[0]:.2f} {found[1]:.2f}, longest {found[2]:.2f} {found[3]:.2f}"
        )
    for name, place in (("p99", 0), ("longest", 2)):
        ratio = statistics.median(one[place + 1] / one[place] for one in figures)
        print(f"gap's {name} beside hostile constraints: {ratio:.2f} times (goal: at most 2)")
    slowest = sorted(took, key=took.__getitem__)[::-1][:3]
    print("slowest: " + ", ".join(f"{name} {took[name]:.2f} s" for name in slowest) + " (goal: under 1 s)")


# ---- honest ones, by the token ---------------------------------------------------------------------------------------


def vocabulary(size: int) -> list[bytes]:
    """The bytes, then random words, the common ones short: what a byte-level vocabulary looks like."""
    random = np.random.default_rng(1)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjxqz", dtype=np.uint8)
    words = {bytes((byte,)): None for byte in range(256)}
    while len(words) < size - 1:
        length = int(random.integers(2, 9))
        word = bytes(random.choice(letters, length, p=_chances(len(letters))))
        words[b" " * int(random.integers(0, 2)) + word] = None
    return [*words, b""]


def _chances(count: int) -> Any:
    weights = 1 / np.arange(2, count + 2)
    return weights / weights.sum()


def measure_masks(size: int, rounds: int) -> None:
    """Follow the answer so many times."""
    pieces = vocabulary(size)
    end = len(pieces) - 1
    start = time.perf_counter()
    trie = Trie(pieces, [end])
    print(f"a vocabulary of {len(pieces)}: indexed in {time.perf_counter() - start:.2f} s")
    source = grammar.text(grammar.answer("json_schema", json.dumps(PERSON)))
    start = time.perf_counter()
    matcher = trie.matcher("llguidance", source)
    print(f"the schema: compiled in {1000 * (time.perf_counter() - start):.1f} ms")
    row = np.random.default_rng(2).standard_normal(len(pieces)).astype(np.float32)
    took: dict[str, list[float]] = {"mask": [], "apply": [], "accept": []}
    for _ in range(rounds):
        guide = GrammarGuide(matcher.copy(), frozenset((end,)))
        for byte in SAID.encode():
            stamps = [time.perf_counter()]
            [mask] = guide.masks()
            stamps.append(time.perf_counter())
            assert mask is not None
            assert mask[byte]
            np.where(mask, row, -np.inf).argmax()
            stamps.append(time.perf_counter())
            guide.accept(byte)
            stamps.append(time.perf_counter())
            for name, seconds in zip(took, np.diff(stamps), strict=True):
                took[name].append(1e6 * float(seconds))
    for name, found in took.items():
        figures = (statistics.median(found), float(np.percentile(found, 99)), max(found))
        print(f"{name:>7}: median {figures[0]:8.1f} µs   p99 {figures[1]:8.1f}   longest {figures[2]:8.1f}")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=TINY, help="what streams beside, and is asked")
    parser.add_argument("--vocabulary", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("hostile", "masks"))
    parser.add_argument("--read", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_stream(arguments.read)
    if arguments.only != "hostile":
        measure_masks(arguments.vocabulary, arguments.rounds)
    if arguments.only == "masks":
        return
    config = f"{{model_path: '{arguments.model.resolve()}', n_ctx: 4096, n_parallel: 2, n_threads: 1}}"
    models = "\n".join(f"  - {{id: {name}, provider: llama_cpp, config: {config}}}" for name in ("beside", "asked"))
    with tempfile.TemporaryDirectory() as folder, running(f"models:\n{models}", Path(folder)) as server:
        measure_hostile(server, arguments.rounds)


if __name__ == "__main__":
    main()
