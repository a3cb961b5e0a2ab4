"""What a file of results is that somebody gives us: our own exports become Reports, others are called by their name."""

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from heylook_llm.bench.metrics import VERSION, Report, report
from heylook_llm.bench.sample import Cell, Pair, PairSource, Run, Sample, Target, packed_stamps, packed_tokens
from heylook_llm.errors import BadRequest

READ: Final = "`heylookllm bench export RUN --format json` and `--format jsonl` make files that can be compared here."
_FOREIGN: Final[tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...]] = (
    (
        "genai-bench",
        lambda it: not {"aggregated_metrics", "individual_request_metrics", "traffic_scenario"}.isdisjoint(it),
    ),
    ("guidellm", lambda it: isinstance(it.get("benchmarks"), list)),
    ("SGLang's bench_serving", lambda it: "mean_ttft_ms" in it and "sharegpt_output_len" in it),
    ("vLLM's benchmark", lambda it: "mean_ttft_ms" in it or "request_goodput" in it),
    ("llama-bench", lambda it: "build_commit" in it and "n_prompt" in it),
    ("LLMPerf", lambda it: any(name.startswith("results_") for name in it)),
    ("GenAI-Perf", lambda it: isinstance(it.get("time_to_first_token"), dict) or "input_config" in it),
    ("Ollama", lambda it: "eval_duration" in it or "prompt_eval_count" in it),
    ("k6", lambda it: isinstance(it.get("metrics"), dict) and "http_req_duration" in it["metrics"]),
)
"""Other tools, by what their files have."""
_TABLES: Final = (
    ("Locust", "Type,Name,Request Count"),
    ("llama-bench", "build_commit,"),
    ("hey", "response-time,"),
)


class _Line(msgspec.Struct, frozen=True):
    """A line of JSON lines, as report/tables.py writes it; the fields of a Sample stand beside these."""

    run_id: str
    cell_id: str
    cell: dict[str, Any]
    chunk_times: list[int]
    chunk_tokens: list[int] | None
    extra: Any = None
    pairs: dict[PairSource, Any] = {}


def read(content: bytes) -> Report:
    """The report that a file holds, or that its samples make. Raises BadRequest, which says what it is instead."""
    text = _text(content)
    values = _values(text)
    if not values:
        raise BadRequest(_unknown(text))
    first = values[0]
    if isinstance(first, dict) and "rows" in first and "spec_hash" in first:
        return reported(first)
    if isinstance(first, dict) and {"cell_id", "chunk_times", "cell"} <= first.keys():
        return _of_samples(values)
    raise BadRequest(_foreign(first, text))


def reported(value: dict[str, Any]) -> Report:
    """A report as JSON has it. Raises BadRequest."""
    if value.get("version") != VERSION:
        version = str(value.get("version"))[:20]
        raise BadRequest(f"The report is of version {version}; this one reads version {VERSION}.")
    rows = value.get("rows")
    if isinstance(rows, list):
        rows = [_with_level(row) if isinstance(row, dict) else row for row in rows]
    try:
        return msgspec.convert(value | {"rows": rows}, Report)
    except msgspec.ValidationError as error:
        raise BadRequest(f"It looks like a report of ours, but is damaged: {_plain(error)}. {READ}") from error


def _with_level(axes: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which is the level of a load without a limit."""
    return axes | {"level": math.inf} if axes.get("load") == "max" and axes.get("level") is None else axes


# ---- samples ---------------------------------------------------------------------------------------------------------


def _of_samples(values: list[Any]) -> Report:
    cells: dict[str, Cell] = {}
    samples: dict[str, Sample] = {}
    pairs: dict[str, list[Pair]] = {}
    targets: dict[str, Target] = {}
    for number, value in enumerate(values, 1):
        try:
            line, sample = _line(value)
            cell = cells.setdefault(line.cell_id, _cell(line, len(cells)))
        except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
            raise BadRequest(f"Line {number} is no sample of ours: {_plain(error)}. {READ}") from error
        samples[sample.id] = sample
        pairs[sample.id] = [Pair(sample.id, source, json.dumps(told)) for source, told in line.pairs.items()]
        name = str(line.cell.get("target") or "unknown")
        targets.setdefault(cell.target_id, Target(cell.target_id, name, "openai", ""))
    run_ids = {sample.run_id for sample in samples.values()}
    if len(run_ids) > 1:
        raise BadRequest(f"The samples are of {len(run_ids)} runs; give each run's file by itself.")
    run = Run(run_ids.pop(), spec_json="{}", spec_hash="", state="done", created=0.0, origin="import")
    try:
        return report(run, list(cells.values()), samples.values(), targets, pairs)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise BadRequest(f"The samples can't be summed up: {_plain(error)}. {READ}") from error


def _line(value: Any) -> tuple[_Line, Sample]:
    line = msgspec.convert(value, _Line)
    fields = {name: told for name, told in value.items() if name in Sample.__struct_fields__}
    fields |= {
        "chunk_times": packed_stamps(line.chunk_times),
        "chunk_tokens": b"" if line.chunk_tokens is None else packed_tokens(line.chunk_tokens),
        "extra_json": None if line.extra is None else json.dumps(line.extra),
    }
    return line, msgspec.convert(fields, Sample)


def _cell(line: _Line, ordinal: int) -> Cell:
    known = {name: told for name, told in _with_level(line.cell).items() if name in Cell.__struct_fields__}
    target = str(known.get("target_id") or line.cell.get("target") or "unknown")
    given = {"ordinal": ordinal, "seed": 0, "planned": None, **known}
    return msgspec.convert({**given, "id": line.cell_id, "run_id": line.run_id, "target_id": target}, Cell)


# ---- what else it may be ---------------------------------------------------------------------------------------------


def _text(content: bytes) -> str:
    if content.startswith(b"PK\x03\x04"):
        raise BadRequest(f"It is a workbook or an archive, which holds no exact samples. {READ}")
    if content.startswith(b"SQLite format 3"):
        raise BadRequest(f"It is a database, as the store of runs; a run of it is exported. {READ}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"It is no text. {READ}") from error


def _values(text: str) -> list[Any]:
    """One JSON value, or the values of JSON lines; none where it is neither."""
    for parts in ([text], [line for line in text.splitlines() if line.strip()]):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return [msgspec.json.decode(part.encode()) for part in parts]
    return []


def _foreign(value: Any, text: str) -> str:
    one = value[0] if isinstance(value, list) and value else value
    if isinstance(one, dict):
        for name, has in _FOREIGN:
            if has(one):
                return _of(name)
    return _unknown(text)


def _unknown(text: str) -> str:
    head = text[:200].lstrip()
    for name, start in _TABLES:
        if head.startswith(start):
            return _of(name)
    if head.startswith("target,model,task"):
        return f"It is the CSV of a report of ours, which is for spreadsheets and doesn't hold everything. {READ}"
    if head[:15].lower().startswith(("<!doctype html", "<html")):
        return f"It is a page; a report's page is for reading. {READ}"
    return f"It is no file of results that is known here. {READ}"


def _of(name: str) -> str:
    return f"It is a result of {name}, which can't be read yet: its numbers are summed up in other ways. {READ}"


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].removesuffix(".")
