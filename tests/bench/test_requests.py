"""The requests of a cell that are still to be sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from heylook_llm.bench.probe import Flavor, Found
from heylook_llm.bench.requests import CellRequests
from heylook_llm.bench.scenario import Exact
from heylook_llm.bench.spec import checked
from heylook_llm.bench.store import Store
from heylook_llm.bench.workload import ASSUMED, Workload
from tests.bench.records import MACHINE, TARGET, cell, run, sample

pytestmark = pytest.mark.unit


def test_a_resumed_cell_sends_again_what_was_cut_and_what_never_reached_its_target(tmp_path: Path) -> None:
    spec = checked({"targets": [{"url": TARGET.base_url}], "requests": 4, "warmup_requests": 0})
    mine = cell(planned=4)
    requests = CellRequests(
        spec, mine, TARGET, Workload(Exact(8, 4), ASSUMED, "seed"), found=Found("openai", "other"), key=None
    )
    with Store(tmp_path / "bench.sqlite3") as store:
        store.create(run(), MACHINE, [TARGET], [mine])
        store.add_samples([sample(0), sample(1, outcome="error", error_class="http_500")])
        store.add_samples([sample(2, outcome="error", error_class="connect"), sample(3, outcome="cut")])
        requests.settle(store)
    assert requests.expected == 2
    assert [(item.ordinal, item.attempt) for item in requests.ready(8)] == [(2, 1), (3, 1)]


def planned(flavor: Flavor = "other", **more: Any) -> CellRequests:
    spec = checked({"targets": [{"url": TARGET.base_url}], "requests": 8, **more})
    return CellRequests(
        spec, cell(planned=8), TARGET, Workload(Exact(8, 4), ASSUMED, "seed"), found=Found("openai", flavor), key=None
    )


def test_05_no_measured_request_is_one_of_the_warm_up() -> None:
    """A cache that was warmed by the same prompts would answer for the model."""
    items = planned(warmup_requests=4).ready(99)
    assert [item.phase for item in items] == ["warmup"] * 4 + ["measure"] * 8
    assert len({item.body for item in items}) == 12


@pytest.mark.parametrize("flavor", ["heylook", "llama-server", "vllm", "other"])
@pytest.mark.parametrize("more", [{}, {"force_length": False}, {"options": {"ignore_eos": True}}])
def test_13_whoever_forces_a_length_says_so(flavor: Flavor, more: dict[str, Any]) -> None:
    requests = planned(flavor, **more)
    forced = ["ignore_eos" in json.loads(item.body) for item in requests.ready(99)]
    assert set(forced) == {"ignore-eos" in requests.flags}


@pytest.mark.parametrize(
    ("flavor", "option"), [("heylook", "return_token_ids"), ("vllm", "include_metrics"), ("llama-server", None)]
)
def test_a_target_is_asked_to_say_what_it_can(flavor: Flavor, option: str | None) -> None:
    """Which tokens a chunk holds, without which answers that think have no ITL; its own times."""
    told = {"return_token_ids", "include_metrics"}
    bodies = [json.loads(item.body) for item in planned(flavor).ready(99)]
    assert all({name for name in told if body.get(name)} == ({option} if option else set()) for body in bodies)
    refused = [json.loads(item.body) for item in planned(flavor, options=dict.fromkeys(told, False)).ready(99)]
    assert not any(body[name] for body in refused for name in told), "a user's word stands above it"
