"""The bench measures itself: its stamps beside what the null target wrote when."""

import json

import msgspec
import pytest

from heylook_llm.bench.calibrate import Calibration, doubt, errors_ns, is_good_for
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


@pytest.mark.unit
def test_a_poor_calibration_is_said_and_made_anew() -> None:
    good = Calibration(1000.0, "1", "here", 960, 0.2, 0.9, 2.0, 0.5, 0.1)
    poor = msgspec.structs.replace(good, error_p99_ms=51.0)
    assert doubt(good) is None
    assert "late by up to 51 ms (p99)" in (doubt(poor) or "")
    assert is_good_for(good, "1", "here", 1001.0)
    for found, version, machine, wall in (
        (poor, "1", "here", 1001.0),
        (good, "2", "here", 1001.0),
        (good, "1", "there", 1001.0),
        (good, "1", "here", 1000.0 + 86_400),
        (good, "1", "here", 999.0),
    ):
        assert not is_good_for(found, version, machine, wall)


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
