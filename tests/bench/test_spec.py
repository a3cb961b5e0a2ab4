"""Run specs: every mistake has its place, and one spec makes the same cells whoever wrote it."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heylook_llm.bench.load import Load
from heylook_llm.bench.sample import Target
from heylook_llm.bench.spec import (
    FASTEST,
    SLOWEST,
    SWEPT,
    RunSpec,
    TargetSpec,
    as_json,
    cells_of,
    checked,
    hash_of,
    load_of,
    parse,
    read,
    seed_of,
    target_of,
    warmup_of,
)
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

TEXT = """
name: night
targets:
  - {url: "127.0.0.1:8080", models: [small, large]}
  - {url: "https://models.lan/v1/", kind: openai, models: [small], key: env:LAN_KEY, name: lan}
scenarios: ["D(100, 50)", "N(480,240,300,150)"]
loads:
  - {kind: closed, levels: [1, 4]}
  - {kind: poisson, levels: [2.5]}
requests: 20
repeats: 2
cache: [warm, prefix50]
slo: {ttft: 200}
"""


def resolved(spec: RunSpec) -> dict[TargetSpec, tuple[Target, tuple[str, ...]]]:
    return {given: (target_of(given, given.kind or "openai"), given.models) for given in spec.targets}


def minimal(**more: Any) -> RunSpec:
    return checked({"targets": [{"url": "http://h:1"}], "requests": 5, **more})


def test_yaml_json_and_its_own_text_are_one_spec(tmp_path: Path) -> None:
    spec = parse(TEXT)
    path = tmp_path / "spec.json"
    path.write_text(as_json(spec))
    assert read(path) == spec
    assert [target.url for target in spec.targets] == ["http://127.0.0.1:8080", "https://models.lan"]
    assert spec.scenarios == ("D(100,50)", "N(480,240)/(300,150)")


def test_the_hash_is_of_what_is_measured() -> None:
    spec = parse(TEXT)
    assert hash_of(spec) == hash_of(parse(TEXT.replace("night", "day")))
    assert hash_of(spec) != hash_of(parse(TEXT.replace("requests: 20", "requests: 21")))


def test_targets_take_turns_within_all_else() -> None:
    spec = parse(TEXT)
    cells = cells_of(spec, "run", 1.0, resolved(spec))
    assert len(cells) == 2 * 2 * 2 * 3 * 3
    assert [cell.ordinal for cell in cells] == list(range(72))
    first = [(cell.model, cell.scenario, cell.load, cell.level, cell.repeat) for cell in cells[:6]]
    assert first[:3] == [(model, "D(100,50)", "closed", 1, 0) for model in ("small", "large", "small")]
    assert first[3][3] == 4
    assert len({cell.id for cell in cells}) == 72
    assert {load_of(spec, cell).kind for cell in cells} == {"closed", "poisson"}


def test_targets_get_the_same_prompts_and_other_cells_get_others() -> None:
    spec = parse(TEXT)
    seeds = [seed_of(spec, cell) for cell in cells_of(spec, "run", 1.0, resolved(spec))]
    assert len(set(seeds)) == 72 / 3
    assert seed_of(spec, cells_of(spec, "other run", 1.0, resolved(spec))[0]) not in seeds
    fixed = parse(TEXT + "salt: fixed\n")
    assert seed_of(fixed, cells_of(fixed, "a", 1.0, resolved(fixed))[0]) == seed_of(
        fixed, cells_of(fixed, "b", 1.0, resolved(fixed))[0]
    )


def test_a_short_spec_that_names_billions_of_cells_is_refused_before_they_are_made() -> None:
    loads = [{"kind": "closed", "levels": list(range(1, 1001))}]
    target = {"url": "http://h:1", "models": ["m"]}
    caches, scenarios = [f"prefix{share}" for share in range(100)], [f"D({tokens},5)" for tokens in range(1, 1001)]
    spec = minimal(targets=[target], repeats=100, cache=caches, scenarios=scenarios, loads=loads)
    with pytest.raises(ConfigError, match="10000000000 cells are too many; 10000 are the most"):
        cells_of(spec, "run", 1.0, resolved(spec))
    sweep = minimal(targets=[target], loads=[{"kind": "sweep", "levels": [20]}], scenarios=scenarios[:501])
    with pytest.raises(ConfigError, match="10020 cells"):
        cells_of(sweep, "run", 1.0, resolved(sweep))


def test_each_client_warms_up_unless_told() -> None:
    spec = minimal(loads=[{"kind": "closed", "levels": [4]}, {"kind": "poisson", "levels": [2]}])
    loads = [load for each in spec.loads for load in each.loads()]
    assert [warmup_of(spec, load) for load in loads] == [4, 1]
    assert warmup_of(minimal(warmup_requests=0), loads[0]) == 0


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"requests": None}, "requests or duration_seconds"),
        ({"requets": 5}, "requets"),
        ({"targets": []}, "targets"),
        ({"targets": [{"url": "ftp://h"}]}, "targets.0.url"),
        ({"targets": [{"url": "http://user:secret@h"}]}, "targets.0.url"),
        ({"targets": [{"url": "http://h:99999"}]}, "targets.0.url"),
        ({"targets": [{"url": "http://h", "key": "sk-abcdef"}]}, "targets.0.key"),
        ({"scenarios": ["D(1)"]}, "scenarios"),
        ({"task": "chat", "scenarios": ["E(5)"]}, "no traffic of task chat"),
        ({"scenarios": ["D(5,5)", "E(5)"]}, "no traffic of task chat"),
        ({"scenarios": ["dataset"]}, "needs a dataset"),
        ({"loads": [{"kind": "replay"}]}, "sends the rows of a dataset's file"),
        ({"loads": [{"kind": "replay"}], "dataset": {"prompts": ["a"]}, "scenarios": ["dataset"]}, "a dataset's file"),
        (
            {"loads": [{"kind": "replay"}], "dataset": {"path": "a"}, "scenarios": ["dataset"], "cooldown_requests": 1},
            "a replay has no cool-down",
        ),
        ({"scenarios": ["D(5,5)", "D( 5, 5)"]}, "scenarios: D(5,5) stands there twice"),
        ({"cache": ["warm", "warm"]}, "cache: warm stands there twice"),
        ({"loads": [{"levels": [1, 2, 1]}]}, "loads: closed 1 stands there twice; repeats (--repeats 2)"),
        ({"loads": [{"levels": [4, 1]}, {"kind": "sweep", "levels": [3]}]}, "loads: closed 1 stands there twice"),
        (
            {"loads": [{"kind": "gamma", "levels": [5], "burstiness": each} for each in (1, 0.2)]},
            "loads: gamma 5 stands there twice",
        ),
        ({"targets": [{"url": "http://h"}, {"url": "http://h/v1"}]}, "targets: http://h stands there twice"),
        ({"targets": [{"url": "http://h", "models": ["m", "m"]}]}, "models of http://h: m stands there twice"),
        ({"task": "rerank", "scenarios": ["D(5,5)"]}, "no traffic of task rerank"),
        ({"task": "sing"}, "task"),
        ({"task": ["chat"]}, "task"),
        ({"count": "engine", "scenarios": ["T(2)*D(5,5)"]}, "count: engine has no meaning for T(2)*D(5,5)"),
        ({"cache": ["cold"], "loads": [{"kind": "poisson", "levels": [1]}]}, "needs loads of kind closed"),
        ({"loads": [{"kind": "sweep", "levels": [2]}]}, "a sweep has 3 to 20 loads"),
        ({"slo": {"ttft": 0}}, "slo.ttft"),
        ({"slo": {"ttft": -5}}, "slo.ttft"),
        ({"loads": [{"kind": "closed", "levels": [0]}]}, "above 0"),
        ({"loads": [{"kind": "ramp", "levels": [1]}]}, "ramp"),
        ({"cache": ["tepid"]}, "cache.0: 'tepid' is no state of a cache: say cold, warm, or prefix and a per cent"),
        ({"cache": ["prefix101"]}, "cache.0: 'prefix101'"),
        ({"scenarios": ["Q(5,5)"]}, "'Q(5,5)' is no scenario: there is no Q, but D, N, U, T, E, R, I and dataset"),
        ({"scenarios": ["R(5)"]}, "R is not written with these numbers, but as R(document,query)"),
        ({"loads": [{"kind": "closed", "levels": [1e9]}]}, "10000 are the most"),
        ({"requests": 10**30}, "requests"),
        ({"seed": 10**30}, "seed"),
        ({"cooldown_requests": 10**19}, "cooldown_requests"),
        ({"timeout_seconds": math.inf}, "timeout_seconds"),
        ({"slo": {"ttft": math.inf}}, "slo.ttft"),
        ({"targets": [{"url": "http://h", "price_in": math.nan}]}, "targets.0.price_in"),
        ({"targets": [{"url": "http://h/" + "x" * 5000}]}, "targets.0.url"),
        ({"slo": {"speed": 1}}, "slo"),
    ],
)
def test_a_mistake_is_named_with_its_place(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as error:
        minimal(**changes)
    assert place in error.value.message
    assert "secret" not in error.value.message
    assert "sk-abcdef" not in error.value.message


def test_files_that_hold_no_spec(tmp_path: Path) -> None:
    for name, text in {"broken": "a: [", "list": "[1]", "empty": ""}.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ConfigError, match=name):
            read(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read(tmp_path / "missing")


def test_a_targets_id_is_of_its_content() -> None:
    one, same = TargetSpec(url="http://h:1"), TargetSpec(url="h:1")
    assert target_of(one, "openai") == target_of(same, "openai")
    assert target_of(one, "openai").id != target_of(one, "ollama").id
    assert target_of(one, "openai").name == "h:1"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"loads": [{"kind": "closed", "levels": [0]}]}, "it is wrong: loads.0: A load of 0 sends nothing: give a"),
        ({"slo": {"luck": 3}}, "it is wrong: slo.luck: Input should be 'ttft'"),
        ({"scenarios": ["D(1"]}, "write it as D(100,100), N(480,240)/(300,150) or U(50,100)/(20,40)."),
    ],
)
def test_a_mistake_is_told_once_and_in_words_of_specs(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked({"targets": [{"url": "http://h:1"}], "requests": 5, **more}, "it")
    assert words in caught.value.message
    assert ";" not in caught.value.message
    assert "[key]" not in caught.value.message


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml can't be read: No such file or directory$"):
        read(tmp_path / "none.yaml")


def test_what_is_not_said_follows_from_what_is() -> None:
    assert (minimal(scenarios=["R(5,5)"]).task, minimal(scenarios=["R(5,5)"]).options) == ("rerank", {})
    assert (minimal().task, minimal().options, minimal().scenarios) == ("chat", {"temperature": 0}, ("D(100,100)",))
    assert minimal(task="embeddings").scenarios == ("E(256)",)
    mine = minimal(dataset={"path": "mine.jsonl"})
    assert (mine.task, mine.scenarios) == ("chat", ("dataset",))
    assert mine.dataset is not None
    assert mine.dataset.path == str(Path.cwd() / "mine.jsonl")
    assert checked(mine.model_dump(mode="json")) == mine


def test_a_sweep_has_its_ends_and_rates_that_are_not_known_yet() -> None:
    spec = minimal(loads=[{"kind": "sweep", "levels": [5]}], targets=[{"url": "h:1", "models": ["m"]}])
    cells = cells_of(spec, "run", 1.0, resolved(spec))
    assert [(cell.load, cell.level, cell.flags) for cell in cells] == [
        ("closed", 1, (SLOWEST,)),
        ("closed", 32, (FASTEST,)),
        *(("poisson", share, (SWEPT,)) for share in (0.25, 0.5, 0.75)),
    ]
    measured = msgspec.structs.replace(cells[2], level=2.5)
    assert load_of(spec, measured) == Load("poisson", 2.5)
    assert load_of(spec, cells[1]) == Load("closed", 32)
