"""Run the tests that name a module changed since a commit: what `make test_changed` runs.

A test file counts if it changed itself, or if its text names a changed module (`heylook_llm.server.router`, or
`server import router`). That is a guess on the safe side of speed, not of coverage: `make test` is the full answer.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Ends with pytest's exit status, or 0 when nothing changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", default="HEAD")
    parser.add_argument("pytest_arguments", nargs="*")
    options = parser.parse_args()
    changed = changed_files(options.since)
    tests = affected_tests(changed, sorted(Path("tests").rglob("test_*.py")))
    if not tests:
        print(f"no test names what changed since {options.since}")
        return
    command = [sys.executable, "-m", "pytest", *map(str, tests), *options.pytest_arguments]
    raise SystemExit(subprocess.run(command, check=False).returncode)


def changed_files(since: str) -> list[Path]:
    """Tracked files that differ from that commit, and files that git doesn't know yet."""
    lists = (["diff", "--name-only", since], ["ls-files", "--others", "--exclude-standard"])
    names = [
        subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout for arguments in lists
    ]
    return [Path(name) for text in names for name in text.splitlines()]


def affected_tests(changed: list[Path], tests: list[Path]) -> list[Path]:
    """The tests among `tests` that changed or name a changed module; all of them if a conftest changed."""
    if any(path.name == "conftest.py" for path in changed):
        return tests
    stems = {path.stem for path in changed if path.parts[:1] == ("src",) and path.suffix == ".py"}
    if not stems:
        return [test for test in tests if test in changed]
    named = re.compile(rf"heylook_llm[\w. ,]*(?:import [\w ,(]*)?\b(?:{'|'.join(map(re.escape, sorted(stems)))})\b")
    return [test for test in tests if test in changed or named.search(test.read_text())]


if __name__ == "__main__":
    main()
