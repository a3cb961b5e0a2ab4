"""The examples of CLIENT_INTEGRATION_GUIDE.md that the tests of every commit can't run."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance.cells import At, Cell, cell
from tests.conformance.guide_examples import examples

PACKAGE = "llm"
GUIDE = Path(__file__).parent.parent.parent.parent / "CLIENT_INTEGRATION_GUIDE.md"
SERVED = "http://127.0.0.1:8080"


def ran(command: list[str], **environment: str) -> str:
    """What a command said."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=100, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return done.stdout


def python(text: str) -> Cell:
    """A cell that runs Python."""

    def run(at: At) -> None:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "example.py"
            script.write_text(text.replace(SERVED, at.url))
            ran([sys.executable, str(script)], LITELLM_LOCAL_MODEL_COST_MAP="True")

    return run


def node(text: str) -> Cell:
    """A cell that runs JavaScript, where the packages lie."""

    def run(at: At) -> None:
        script = Path(os.environ["CONFORMANCE_NODE"]) / "example.mjs"
        script.write_text(text.replace(SERVED, at.url))
        ran(["node", str(script)])

    return run


def llms(text: str) -> Cell:
    """A cell that runs the llm command with this list of models."""

    def run(at: At) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "extra-openai-models.yaml").write_text(text.replace(SERVED, at.url))
            asked = ["-m", "llm", "-m", "here", "--no-log", "What is the capital of France?"]
            assert "Paris" in ran([sys.executable, *asked], LLM_USER_PATH=folder)

    return run


for language, kind in (("py", python), ("js", node), ("yml", llms)):
    for number, (heading, example) in enumerate(examples(GUIDE.read_text(encoding="utf-8"))[language], start=1):
        cell(f"{heading} ({number})", "llama_cpp")(kind(example))
