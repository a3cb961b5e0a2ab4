"""The bench measures itself: its stamps beside what the null target wrote when."""

import json

import pytest

from heylook_llm.bench.calibrate import errors_ns
from tests.bench.tapes import exchange, tape
from tests.commands_at_work import Home


def chunk(text: str, finish: str = "null") -> bytes:
    return b'data: {"choices": [{"delta": {"content": "%s"}, "finish_reason": %s}]}\n\n' % (
        text.encode(),
        finish.encode(),
    )


@pytest.mark.unit
def test_an_error_is_by_how_much_a_stamp_is_late() -> None:
    pieces = tape((20, chunk("a")), (33, chunk("b")), (40, chunk("", '"stop"')))
    assert errors_ns([exchange(pieces)], {"0": [18, 30, 39]}) == [2, 3]


@pytest.mark.integration
def test_a_calibration_is_made_and_kept(home: Home) -> None:
    done = home.run("bench", "calibrate", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["chunks"] == 24 * 40
    assert 0 <= made["error_p50_ms"] <= made["error_p99_ms"] <= made["worst_ms"]
    (kept,) = home.folder.rglob("bench-calibration.json")
    assert json.loads(kept.read_bytes()) == made


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))
