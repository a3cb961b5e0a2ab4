"""Runs that are ordered: whoever asks at once, and whoever listens as others leave."""

import asyncio
from pathlib import Path

import pytest

from heylook_llm.bench import spec as specs
from heylook_llm.bench.following import Following
from heylook_llm.bench.jobs import Jobs, Setting
from heylook_llm.bench.kept import Kept
from heylook_llm.bench.sample import Run
from heylook_llm.bench.store import Store
from heylook_llm.errors import Conflict
from tests.bench.records import MACHINE, run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with an interrupted run, whose target is gone."""
    spec = specs.checked({"targets": [{"url": "http://127.0.0.1:1", "models": ["m"]}], "requests": 1})
    with Store(tmp_path / "bench.sqlite3") as store:
        store.create(run(state="interrupted", spec_json=specs.as_json(spec)), MACHINE, [], [])
    return tmp_path / "bench.sqlite3"


async def test_of_two_who_resume_a_run_at_once_one_does(path: Path) -> None:
    setting = Setting(path, Kept(path.with_name("targets.json")), "0", path.with_name("calibration.json"), None)
    jobs, others = Jobs(setting), Jobs(setting)
    asked = [jobs.resume("run-1"), jobs.resume("run-1"), others.resume("run-1")]
    found = await asyncio.gather(*asked, return_exceptions=True)
    await jobs.close()
    await others.close()
    assert sorted(type(one).__name__ for one in found) == ["Conflict", "Conflict", "Run"], found
    taken = next(one for one in found if isinstance(one, Run))
    assert taken.state == "queued"
    assert all(one.code == "run_goes_on" for one in found if isinstance(one, Conflict))
    with Store(path) as store:
        states = [one.data_json for one in store.events("run-1") if one.type == "run.state"]
        assert states.count('{"state": "queued"}') == 1


async def test_who_begins_to_listen_as_the_last_one_leaves_hears_what_happens(path: Path) -> None:
    following = Following(path)
    async with following.listen(None, None):
        pass
    async with following.listen(None, None) as listener:
        with Store(path) as store:
            store.add_event("run-1", 5.0, "note", {"text": "hear"})
        message = await asyncio.wait_for(listener.next(), 30)
    assert message is not None
    assert '"text":"hear"' in message.text
