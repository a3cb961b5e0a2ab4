"""A spec as a command and as YAML says the same spec."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.bench import spec as specs
from heylook_llm.bench.expected import Pace, seconds_of
from heylook_llm.bench.load import SWEEP_CLIENTS
from heylook_llm.bench.spec import RunSpec
from heylook_llm.bench.spelling import FILE, as_command, as_yaml
from heylook_llm.cli import bench_run
from heylook_llm.commands import bench as benches

pytestmark = pytest.mark.unit
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)
NUMBERS = st.floats(0.001, 1e6, allow_nan=False) | st.integers(1, 10**6).map(float)


@st.composite
def a_spec(draw: st.DrawFn) -> RunSpec:
    """Whatever a builder may make."""
    sweeps = draw(st.booleans())
    clients = st.integers(1, 999).filter(lambda count: not sweeps or count not in (1, SWEEP_CLIENTS))
    loads: list[dict[str, Any]] = [
        {"kind": "closed", "levels": draw(st.lists(clients, min_size=1, max_size=3, unique=True))}
    ]
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["poisson", "constant", "gamma", "ramp", "max"]))
        more = {"ramp_seconds": 5.0} if kind == "ramp" else {}
        loads.append({"kind": kind, "levels": draw(st.lists(NUMBERS, min_size=1, max_size=2, unique=True)), **more})
    if sweeps:
        loads.append({"kind": "sweep", "levels": [draw(st.integers(3, 20))]})
    target = {
        "kind": draw(st.none() | st.sampled_from(["openai", "ollama"])),
        "models": draw(st.lists(NAMES, max_size=2, unique=True)),
    }
    urls = draw(
        st.lists(st.sampled_from(["http://127.0.0.1:1", "https://x.example"]), min_size=1, max_size=2, unique=True)
    )
    given_: dict[str, Any] = {
        "targets": [{"url": url, **target} for url in urls],
        "loads": loads[draw(st.integers(0, len(loads) - 1)) :],
        "requests": draw(st.integers(1, 999)),
        "name": draw(st.none() | NAMES),
        "seed": draw(st.integers(-(2**40), 2**40)),
        "repeats": draw(st.integers(1, 9)),
        "cache": draw(st.sampled_from([["warm"], ["prefix25", "prefix75"]])),
        "cooldown_requests": draw(st.integers(0, 9)),
        "parallel": draw(st.sampled_from(["none", "host", "all"])),
        "slo": draw(st.dictionaries(st.sampled_from(["ttft", "tpot", "itl", "e2e"]), NUMBERS, max_size=2)),
        "duration_seconds": draw(st.none() | NUMBERS),
        "timeout_seconds": draw(NUMBERS),
    }
    tasks: list[dict[str, Any]] = [{}, {}, {"task": "embeddings"}, {"scenarios": ["R(9,9,2)"]}]
    more_ = [*tasks, {"force_length": False}, {"salt": "x"}]
    return specs.checked({**given_, **draw(st.sampled_from(more_))})


@settings(max_examples=25, deadline=None)
@given(spec=a_spec())
def test_the_file_and_the_command_say_the_spec(spec: RunSpec) -> None:
    assert specs.parse(as_yaml(spec)) == spec
    words = shlex.split(as_command(spec))
    assert words[:3] == ["heylookllm", "bench", "run"]
    if words[3:] == ["--spec", FILE]:
        kinds = {load.kind for load in spec.loads}
        assert "ramp" in kinds or not spec.force_length or spec.salt, "options say everything else"
        return
    assert specs_equal(ordered(words[3:]), spec)


def specs_equal(one: RunSpec, other: RunSpec) -> bool:
    return specs.as_json(one) == specs.as_json(other)


def ordered(words: list[str]) -> RunSpec:
    """The spec that these options order, by the command's own reading of them."""
    with bench_run.make_context("run", list(words)) as context:
        return benches.spec_of(benches.Order(**context.params), None)


def test_a_command_s_words_are_those_of_the_command_line(tmp_path: Path) -> None:
    shown = CliRunner().invoke(bench_run, ["--help"]).output
    spec = specs.checked({"targets": [{"url": "http://a"}], "requests": 2, "warmup_requests": 1, "task": "completion"})
    options = [word for word in shlex.split(as_command(spec)) if word.startswith("--")]
    assert options == ["--target", "--task", "--requests", "--warmup", "--concurrency"]
    assert all(option in shown for option in options)


def test_how_long_a_run_takes_is_told_by_the_nearest_earlier_level() -> None:
    spec = specs.checked(
        {
            "targets": [{"url": "http://a", "models": ["m"]}],
            "scenarios": ["D(100,11)"],
            "requests": 8,
            "warmup_requests": 0,
            "loads": [{"levels": [1, 4]}, {"kind": "constant", "levels": [2]}],
        }
    )
    target = specs.target_of(spec.targets[0], "openai")
    cells = specs.cells_of(spec, "", 0.0, {spec.targets[0]: (target, ("m",))})
    place = (target.id, "m")
    assert seconds_of(spec, cells, {}) is None, "nothing is known"
    one = Pace("run", 1, True, prefill_ms=1, decode_ms=10)
    # 8 of 200 ms one after the other, 2 rounds of 4, and 8 at 2 per second; a second between each.
    assert seconds_of(spec, cells, {place: [one]}) == pytest.approx(1.6 + 0.4 + 4 + 3)
    busy = Pace("run", 4, True, prefill_ms=2, decode_ms=20)
    assert seconds_of(spec, cells, {place: [one, busy]}) == pytest.approx(1.6 + 0.8 + 4 + 3)
    timed = spec.model_copy(update={"requests": None, "duration_seconds": 30.0})
    assert seconds_of(timed, cells, {}) == pytest.approx(93)
