"""A trace is replayed: as long, as alike and at the moments that its file says."""

import json
import random
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from heylook_llm.bench import dataset
from heylook_llm.bench.dataset import Row
from heylook_llm.bench.load import MILLISECOND, Load, schedule
from heylook_llm.bench.workload import ASSUMED, Trace, Vocabulary, vocabulary
from heylook_llm.errors import ConfigError
from tests.bench.recording import recording
from tests.bench.test_runs import LONG, bench, samples_of
from tests.bench.test_tasks import report_of
from tests.bench.test_workload import by_letters
from tests.commands_at_work import Home
from tests.serving import Running

LETTERED = vocabulary(by_letters)
BYTEWISE = vocabulary(lambda text: len(text.encode()))
rows_of = some.lists(
    some.builds(
        lambda tokens, blocks: Row((), None, 5, tokens, tuple(blocks)),
        some.integers(1, 300),
        some.lists(some.integers(0, 3), max_size=6),
    ),
    min_size=1,
    max_size=8,
)


def traced(*rows: Row, words: Vocabulary = LETTERED, **more: Any) -> Trace:
    return Trace(rows, words, "seed", 32, **more)


@pytest.mark.unit
@settings(max_examples=60)
@given(rows_of, some.integers(0, 3))
def test_every_prompt_is_as_long_as_its_row_says(rows: list[Row], warmup: int) -> None:
    trace = traced(*rows, warmup=warmup)
    for place, row in enumerate(rows):
        (prompt,) = trace.conversation(warmup + place)
        assert by_letters(prompt.text) == prompt.tokens == row.input_tokens
        assert prompt.output_tokens == 5


@pytest.mark.unit
def test_equal_blocks_are_equal_words_and_others_are_not() -> None:
    first, same, other = (Row((), None, 5, 80, blocks) for blocks in ((1, 2, 3), (1, 2, 4), (5, 2, 3)))
    trace = traced(first, same, other, first)
    texts = [trace.conversation(place)[0].text.split(" ") for place in range(8)]

    def alike(one: int, two: int) -> int:
        words = zip(texts[one], texts[two], strict=False)
        return next((place for place, (a, b) in enumerate(words) if a != b), len(texts[one]))

    assert by_letters(" ".join(texts[0][: alike(0, 1)])) in range(64, 72), (
        "two blocks of 32, and what is alike by chance"
    )
    assert alike(0, 2) < 4
    assert texts[0] == texts[3], "all three blocks, which hold the whole prompt"
    assert alike(0, 4) < 4, "once all rows were sent, they come again as others"


@pytest.mark.unit
def test_what_warms_up_is_in_no_row_and_rows_come_in_their_order() -> None:
    rows = (Row(("one",), None, 7), Row(("two", "three")))
    trace = traced(*rows, warmup=2, output_tokens=9)
    (warm,) = trace.conversation(1)
    assert (by_letters(warm.text), warm.output_tokens) == (16, 9)
    assert [[turn.text for turn in trace.conversation(place)] for place in (2, 3, 4)] == [
        ["one"],
        ["two", "three"],
        ["one"],
    ]
    assert trace.exact, "nothing was to be made"
    assert not traced(Row((), None, None, 5), words=ASSUMED).exact


@pytest.mark.unit
def test_what_a_template_adds_is_part_of_the_length() -> None:
    (prompt,) = traced(Row((), None, None, 80, (1, 2, 3)), beside=12).conversation(0)
    assert (by_letters(prompt.text), prompt.tokens) == (68, 80)
    (short,) = traced(Row((), None, None, 3), beside=12).conversation(0)
    assert by_letters(short.text) >= 1, "there is a text, however short"
    (bytewise,) = traced(Row((), None, None, 5), words=BYTEWISE).conversation(0)
    assert len(bytewise.text) == bytewise.tokens
    assert len(bytewise.text) >= 5, "of no words that cost so much, it is the next length"


@pytest.mark.unit
@given(some.lists(some.floats(0, 1e9), min_size=1, max_size=50), some.floats(0.01, 100))
def test_requests_are_due_as_the_file_says_so_many_times_as_fast(times: list[float], speed: float) -> None:
    times.sort()
    dues = list(schedule(Load("replay", speed), random.Random(0), times))
    assert dues == sorted(dues)
    assert dues[0] == 0
    for due, at in zip(dues, times, strict=True):
        assert due == pytest.approx((at - times[0]) * MILLISECOND / speed, abs=1)


@pytest.mark.unit
def test_what_of_a_trace_stood_in_it_before() -> None:
    rows = [Row((), None, None, 80, blocks) for blocks in ((1, 2, 3), (1, 2, 4), (5, 2, 3))]
    assert dataset.alike(rows, 32) == pytest.approx(64 / 240), "behind another beginning nothing is alike"
    assert dataset.alike([Row(("text",))], 32) is None
    assert dataset.lengths([*rows, Row((), None, 7, 10)], 6) == (80 * 5 + 10, 7)
    assert dataset.lengths([Row(("one", "two"))], 10**9, 5) == (0, 5 * 10**9), "at once, however many there are"


MOONCAKE: list[dict[str, Any]] = [
    {"timestamp": 27482, "input_length": 96, "output_length": 3, "hash_ids": [0, 1, 2]},
    {"timestamp": 27582, "input_length": 96, "output_length": 4, "hash_ids": [0, 1, 3]},
    {"timestamp": 27432, "input_length": 20, "output_length": 2},
]


def written(folder: Path, rows: list[dict[str, Any]] = MOONCAKE) -> str:
    (folder / "trace.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return "trace.jsonl"


@pytest.mark.unit
def test_mooncakes_rows_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    path = tmp_path / written(tmp_path)
    rows = dataset.read(path).rows
    assert rows[0] == Row((), None, 3, 96, (0, 1, 2), 27482)
    assert [row.at_ms for row in dataset.in_time(rows)] == [27432, 27482, 27582]
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"input_length": 0}, "row 1: input_length"),
        ({"input_length": 5, "hash_ids": ["a"]}, "row 1: hash_ids"),
        ({"input_length": 5, "hash_ids": [True]}, "row 1: hash_ids"),
    ]
    for wrong, words in wrongs:
        written(tmp_path, [wrong])
        with pytest.raises(ConfigError, match=words):
            dataset.read(path)
    written(tmp_path, [{"input_length": 5, "timestamp": "2024-05-10 00:00"}])
    with pytest.raises(ConfigError, match="Row 1 of the dataset has no timestamp"):
        dataset.in_time(dataset.read(path).rows)


@pytest.mark.integration
@pytest.mark.timeout(180)
def test_a_trace_is_replayed_through_the_command(tmp_path: Path) -> None:
    home = Home(tmp_path)
    options = ("--dataset", written(tmp_path), "--block-tokens", "32", "--replay", "2", "--warmup", "1")
    with recording() as target:
        bench(home, "run", "--target", target.url, "--model", "m", *options)
        bodies = [one.body for one in target.asked]
    texts = [body["messages"][0]["content"].split() for body in bodies]
    assert [len(text) for text in texts] == [16, 20, 96, 96]
    assert texts[2][:64] == texts[3][:64]
    assert texts[0][:4] != texts[1][:4]
    assert [body["max_tokens"] for body in bodies[1:]] == [2, 3, 4]
    measured = [one for one in samples_of(home) if one.phase == "measure"]
    dues = [one.t_due or 0 for one in measured]
    assert [due - dues[0] for due in dues] == [0, 25_000_000, 75_000_000]
    report = report_of(home)
    assert [(row["load"], row["level"], row["counts"]["planned"]) for row in report["rows"]] == [("replay", 2, 3)]
    assert report["manifest"]["dataset_shared"] == pytest.approx(64 / 212)


@LONG
@pytest.mark.integration
@pytest.mark.timeout(180)
def test_what_our_server_recorded_is_sent_to_it_again(tmp_path: Path, fake_server: Running) -> None:
    home = Home(tmp_path)
    options = ("--model", "fake", "--scenario", "D(200,4)", "--cache", "prefix75", "--requests", "4", "--warmup", "0")
    bench(home, "run", "--target", fake_server.url, *options)
    recorded = samples_of(home)
    asked = f"{fake_server.url}/v1/performance/trace?block_tokens=64&run_id={recorded[0].run_id}"
    with urllib.request.urlopen(asked, timeout=60) as reply:
        (tmp_path / "mine.jsonl").write_bytes(reply.read())
    trace = ("--dataset", "mine.jsonl", "--block-tokens", "64", "--requests", "4", "--warmup", "0")
    bench(home, "run", "--target", fake_server.url, "--model", "fake", *trace, "--count", "engine")
    again = samples_of(home)
    assert [one.in_usage for one in again] == [one.in_usage for one in recorded]
    cached = [one.cached or 0 for one in again[1:]]
    assert min(cached) >= 128 - 32, "what began alike begins alike, but for what the template has behind the text"
