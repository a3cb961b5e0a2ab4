"""schemathesis: every operation of the OpenAPI document, by its rules and against them; none may be a 5xx."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance.cells import At, cell

PACKAGE = "schemathesis"
BUDGET_SECONDS = 75
"""Below a cell's time limit; what isn't reached by then isn't asked."""


@cell("no route answers with a 5xx", "fake")
def no_server_error(at: At) -> None:
    command = [str(Path(sys.executable).parent / "st"), "run", f"{at.url}/openapi.json", "--warnings", "off"]
    budget = ["--max-examples", "3", "--max-time", str(BUDGET_SECONDS), "--generation-deterministic", "--no-shrink"]
    with tempfile.TemporaryDirectory() as folder:  # it keeps notes where it runs
        ran = subprocess.run(
            [*command, *budget, "--checks", "not_a_server_error", "--continue-on-failure", "--request-timeout", "30"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
    assert ran.returncode == 0, _told(ran.stdout)
    assert "No issues found" in ran.stdout


def _told(printed: str) -> str:
    """The first request that failed, and how to send it again, in few lines; else all that was printed."""
    _, found, failures = printed.partition("\n1. Test Case ID")
    lines = [line for line in failures.partition("Reproduce with:")[2].splitlines() if line.strip()]
    said = [line for line in failures.splitlines()[:8] if line.strip()]
    return "\n".join([*said, *lines[:2]]) if found else printed
