"""The support table itself: every row is asked for by a contract test, and what it says is what the server tells."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from heylook_llm import core, support
from tests.contract.subjects import Subject

HERE = Path(__file__).parent


def asked_for() -> set[str]:
    """The features that the tests of this folder are marked with."""
    found: set[str] = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.asks":
                found |= {str(ast.literal_eval(argument)) for argument in node.args}
    return found


@pytest.mark.unit
def test_every_feature_is_asked_for_and_every_test_asks_for_one() -> None:
    assert asked_for() == {row.name for row in support.FEATURES}


@pytest.mark.unit
def test_the_rows_are_sound() -> None:
    names = [row.name for row in support.FEATURES]
    assert len(set(names)) == len(names)
    for row in support.FEATURES:
        assert {*row.lacking, *row.notes} <= set(support.PROVIDERS)
        assert not set(row.lacking) & set(row.notes)
        assert set(row.fields) <= set(core.Sampling.__struct_fields__)


@pytest.mark.unit
def test_a_marked_test_fails_where_the_refusal_is_missing_or_another(tmp_path: Path) -> None:
    """The hook that turns a lacking provider's tests around, run on tests that it must fail."""
    tests = """
import pytest
from heylook_llm import support
from tests.contract.subjects import Refused, Subject
from tests.contract.conftest import pytest_pyfunc_call
from tests.serving import Running

REASON = "they say no"
support.FEATURES = (support.Feature("probe", "A probe", lacking={"mlx": REASON}),)

@pytest.fixture
def subject():
    return Subject("mlx", Running(None, 1))

@pytest.mark.asks("probe")
@pytest.mark.parametrize("error", [Refused(400, REASON), Refused(500, REASON), Refused(400, "no"), None])
def test_it(subject, error):
    if error:
        raise error
"""
    (tmp_path / "test_probe.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
        "--rootdir",
        str(tmp_path),
    ]
    run = subprocess.run(
        [*command, "-W", "ignore"], capture_output=True, text=True, cwd=HERE.parent.parent, check=False
    )
    assert "3 failed, 1 passed" in run.stdout


@pytest.mark.integration
def test_the_server_tells_what_the_table_says(subject: Subject) -> None:
    told = subject.http.get("/v1/capabilities").json()["providers"][subject.provider]
    assert set(told) == {row.name for row in support.FEATURES}
    for row in support.FEATURES:
        assert told[row.name]["supported"] is (subject.provider not in row.lacking)
        assert row.lacking.get(subject.provider, "") in json.dumps(told[row.name], ensure_ascii=False)
