"""Files of results that somebody gives us: ours come back as they were, others are called by their name."""

import contextlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.bench import dropped
from heylook_llm.bench.metrics import Report
from heylook_llm.bench.report import page, tables
from heylook_llm.errors import BadRequest
from tests.bench.answers import answer, report_of
from tests.bench.records import TARGET, cell
from tests.bench.test_report_forms import RIVAL, a_run, evil, made

pytestmark = pytest.mark.unit


def jsonl() -> bytes:
    cells, samples, pairs = a_run()
    by_id = {pair.sample_id: [pair] for pair in pairs}
    return b"".join(tables.as_jsonl(cells, samples, by_id, {TARGET.id: TARGET, RIVAL.id: RIVAL}))


def test_a_report_comes_back_as_it_was() -> None:
    assert dropped.read(tables.as_json(made())) == made()
    assert dropped.read(b"\xef\xbb\xbf" + tables.as_json(evil()[0])) == evil()[0]


def test_a_load_without_a_limit_comes_back_although_json_has_no_infinity() -> None:
    endless = report_of([answer()], cells=[cell(load="max", level=math.inf)])
    assert dropped.read(tables.as_json(endless)) == endless
    lines = b"".join(tables.as_jsonl([cell(load="max", level=math.inf)], [answer()]))
    assert dropped.read(lines).rows[0].level == math.inf


def test_samples_make_the_report_that_they_made() -> None:
    cells, samples, pairs = a_run()
    found = dropped.read(jsonl())
    whole = report_of(samples, cells=cells, pairs=pairs, targets=(TARGET, RIVAL))
    assert found.rows == whole.rows
    assert found.run == "run-1"


def test_a_report_of_samples_is_made_with_its_windows() -> None:
    windowed = cell(window_start=0, window_end=2_000_000_000, planned=None)
    lines = b"".join(tables.as_jsonl([windowed], [answer(n, n * 100) for n in range(10)], {}, {TARGET.id: TARGET}))
    assert dropped.read(lines).rows[0].rates.window_seconds == 2


FOREIGN: dict[str, Any] = {
    "genai-bench": {"aggregated_metrics": {"scenario": "D(100,100)"}, "individual_request_metrics": []},
    "guidellm": {"metadata": {}, "benchmarks": [{"metrics": {}}]},
    "SGLang's bench_serving": {"backend": "sglang", "sharegpt_output_len": None, "mean_ttft_ms": 1.0},
    "vLLM's benchmark": {"backend": "vllm", "model_id": "m", "mean_ttft_ms": 1.0},
    "llama-bench": [{"build_commit": "abc", "n_prompt": 512, "avg_ts": 1.0}],
    "LLMPerf": {"version": "2023-08-31", "results_ttft_s_mean": 1.0},
    "GenAI-Perf": {"time_to_first_token": {"unit": "ms", "avg": 1.0}},
    "Ollama": {"model": "m", "done": True, "eval_duration": 1},
    "k6": {"metrics": {"http_req_duration": {}}},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_others_are_called_by_their_name(name: str) -> None:
    for content in (json.dumps(FOREIGN[name]), json.dumps(FOREIGN[name], indent=1)):
        with pytest.raises(BadRequest) as caught:
            dropped.read(content.encode())
        assert caught.value.message.startswith(f"It is a result of {name}, ")
        assert "heylookllm bench export RUN --format json" in caught.value.message


def test_ours_that_cannot_be_compared_say_so() -> None:
    for content, what in (
        (tables.as_csv(made()).encode(), "the CSV of a report of ours"),
        (page.as_html(made()).encode(), "a report's page is for reading"),
        (b"PK\x03\x04more", "a workbook or an archive"),
        (b"SQLite format 3\0", "a database"),
        (b"Type,Name,Request Count,Failure Count\n", "a result of Locust"),
        (b"\xff\xfe\x00", "no text"),
        (b"", "no file of results"),
        (b"[1, 2]", "no file of results"),
        (b"{broken", "no file of results"),
    ):
        with pytest.raises(BadRequest, match=what):
            dropped.read(content)


def test_what_is_damaged_says_where() -> None:
    told = json.loads(tables.as_json(made()))
    told["rows"][0]["counts"]["ok"] = "many"
    with pytest.raises(BadRequest, match=r"is damaged: Expected `int`, got `str` - at `\$\.rows\[0\]\.counts\.ok`"):
        dropped.read(json.dumps(told).encode())
    endless = {**json.loads(tables.as_json(made())), "rows": [{**told["rows"][1], "level": None}]}
    with pytest.raises(BadRequest, match=r"is damaged: Expected `float`, got `null` - at `\$\.rows\[0\]\.level`"):
        dropped.read(json.dumps(endless).encode())
    with pytest.raises(BadRequest, match="no file of results"):
        dropped.read(b"[" * 100_000)
    with pytest.raises(BadRequest, match="of version 99; this one reads version 1"):
        dropped.read(json.dumps({**told, "version": 99}).encode())
    lines = jsonl().splitlines()
    first = json.loads(lines[0])
    for change in ({"t_start": "soon"}, {"chunk_times": [2**70]}, {"chunk_tokens": [-1]}, {"cell": {"model": 3}}):
        broken = json.dumps({**first, **change}).encode()
        with pytest.raises(BadRequest, match="Line 2 is no sample of ours"):
            dropped.read(b"\n".join([lines[1], broken]))
    with pytest.raises(BadRequest, match="is no sample of ours"):
        dropped.read(json.dumps({**first, "cell": {**first["cell"], "level": None}}).encode())
    odd = b"".join(tables.as_jsonl([cell(cache="prefixes")], [answer(cached=5)]))
    with pytest.raises(BadRequest, match="can't be summed up"):
        dropped.read(odd)
    other = json.dumps({**first, "run_id": "another", "id": "x"}).encode()
    with pytest.raises(BadRequest, match="of 2 runs"):
        dropped.read(b"\n".join([*lines, other]))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: (
            st.lists(one)
            | st.dictionaries(
                st.sampled_from(["rows", "spec_hash", "version", "cell_id", "chunk_times", "cell", "metrics"])
                | st.text(),
                one,
            )
        ),
    )
)
def test_whatever_is_dropped_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(dropped.read(json.dumps(value).encode()), Report)


def test_a_report_of_a_foreign_page_is_held_to_its_types() -> None:
    """What a client sends to be compared is a Report or nothing."""
    told = msgspec.json.decode(tables.as_json(made()))
    assert dropped.reported(told) == made()
    with pytest.raises(BadRequest, match="is damaged"):
        dropped.reported({**told, "rows": {"a": 1}})
