"""A spec as a person writes it: a file of YAML, and a command line where options can say it. Pure."""

import shlex
from collections.abc import Iterator
from typing import Any, Final

import yaml

from heylook_llm.bench.load import Kind
from heylook_llm.bench.scenario import WHOLE
from heylook_llm.bench.spec import RunSpec

FILE: Final = "bench.yaml"
"""What the command calls the file of a spec that options can't say."""
_PLAIN: Final = {
    "task": "--task",
    "requests": "--requests",
    "duration_seconds": "--duration",
    "warmup_requests": "--warmup",
    "cooldown_requests": "--cooldown",
    "parallel": "--parallel",
    "count": "--count",
    "repeats": "--repeats",
    "seed": "--seed",
    "timeout_seconds": "--timeout",
    "name": "--name",
}
_LISTS: Final = {"scenarios": "--scenario", "cache": "--cache"}
_SAID: Final = {*_PLAIN, *_LISTS, "targets", "loads", "slo"}
_ARRIVALS: Final[tuple[Kind, ...]] = ("poisson", "constant", "gamma", "max")


def as_yaml(spec: RunSpec) -> str:
    """What differs from the defaults, in the order of the spec's fields."""
    return yaml.safe_dump(
        _plain_number(_given(spec)), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110
    )


def as_command(spec: RunSpec) -> str:
    """The command that begins this run; of a spec that options can't say, with a file."""
    try:
        words = [*_targets(spec), *_plain(spec), *_loads(spec)]
    except _Unsayable:
        words = ["--spec", FILE]
    return shlex.join(["heylookllm", "bench", "run", *words])


class _Unsayable(Exception):
    """There is no option for it."""


def _given(spec: RunSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)


def _targets(spec: RunSpec) -> Iterator[str]:
    """Of all targets alike but for their address."""
    first = spec.targets[0]
    for target in spec.targets:
        if target.model_copy(update={"url": first.url}) != first or target.name or target.price_in or target.price_out:
            raise _Unsayable
        yield from ("--target", target.url)
    for option, value in (("--kind", first.kind), ("--key", first.key)):
        yield from () if value is None else (option, value)
    for model in first.models:
        yield from ("--model", model)


def _plain(spec: RunSpec) -> Iterator[str]:
    given = _given(spec)
    if spec.task in WHOLE and not spec.options:
        given.pop("options", None)  # which it is of such a task where nobody says otherwise
    if not given.keys() <= _SAID:
        raise _Unsayable
    for name, option in _LISTS.items():
        for value in given.get(name, ()):
            yield from (option, value)
    for name, option in _PLAIN.items():
        if name in given:
            yield from (option, _number(given[name]))
    for measure, limit in given.get("slo", {}).items():
        yield from ("--slo", f"{measure}={_number(limit)}")


def _loads(spec: RunSpec) -> Iterator[str]:
    """At most a closed loop, one that is planned, and a sweep, in the order in which the options are read."""
    kinds = [load.kind if load.kind in ("closed", "sweep") else "open" for load in spec.loads]
    if kinds != [kind for kind in ("closed", "open", "sweep") if kind in kinds]:
        raise _Unsayable
    for load in spec.loads:
        if (load.burstiness, load.ramp_from, load.ramp_seconds) != (1, 0, 0):
            raise _Unsayable
        levels = ",".join(map(_number, load.levels))
        if load.kind == "closed":
            yield from ("--concurrency", levels)
        elif load.kind == "sweep":
            yield from ("--sweep", levels)
        elif load.kind in _ARRIVALS:
            yield from ("--rate", levels, "--arrival", load.kind)
        else:
            raise _Unsayable


def _number(value: Any) -> str:
    return str(_plain_number(value))


def _plain_number(value: Any) -> Any:
    """Whole numbers without a point, wherever they stand."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_plain_number(one) for one in value]
        case dict():
            return {name: _plain_number(one) for name, one in value.items()}
    return value
