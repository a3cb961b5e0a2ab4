"""Where time went: what takes longer moves its own phase and no other; what can't be of a request is left out."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.bench.breakdown import SERVERS, Breakdown, Phase, breakdown, mean_ms, slowest
from heylook_llm.bench.pairing import residual_ns
from heylook_llm.bench.sample import Pair, Sample
from tests.bench.answers import MS, answer, remarks_of, row_of

pytestmark = pytest.mark.unit

CLIENT: tuple[Phase, ...] = ("wait", "connect", "upload")
WAYS = ("there", "back")
PARTS = (*CLIENT, "there", *SERVERS, "back")
USUAL = {part: 0 if part == "load" else 2 * MS for part in PARTS}


def story(ordinal: int = 0, start: int = 0, **spent: int) -> tuple[Sample, Pair]:
    """A request as client and server would stamp it, whose phases take as many nanoseconds as given, else USUAL."""
    took = {**USUAL, **spent}
    due = start
    begun = due + took["wait"]
    ready = begun + took["connect"]
    sent = ready + took["upload"]
    received = sent + took["there"]
    admitted = received + sum(took[phase] for phase in ("parse", "queue", "load", "prepare"))
    first = admitted + took["prefill"]
    last = first + took["decode"]
    closed = last + took["flush"]
    end = closed + took["back"]
    sample = answer(
        ordinal,
        gaps_ms=(),
        t_due=due,
        t_start=begun,
        t_tcp=ready,
        t_sent=sent,
        t_headers=first + took["back"],
        t_first_event=first + took["back"],
        t_first_token=first + took["back"],
        t_last_token=last + took["back"],
        chunk_times=b"",
        chunk_tokens=b"",
        t_end=end,
        out_usage=11,
        client_request_id=f"r-{ordinal}",
        server_request_id=f"s-{ordinal}",
    )
    told = {
        "client_request_id": f"r-{ordinal}",
        "clock_id": "clock",
        "phases_ms": {phase: round(took[phase] / 1e6, 3) for phase in SERVERS},
        "timeline": {
            "received_ns": received,
            "admitted_ns": admitted,
            "first_byte_ns": first,
            "last_token_ns": last,
            "closed_ns": closed,
        },
    }
    return sample, Pair(sample.id, "heylook", msgspec.json.encode(told).decode())


def cut(sample: Sample, *pairs: Pair) -> Breakdown:
    found = breakdown(sample, True, pairs)
    assert found is not None
    return found


microseconds = st.integers(0, 10**7).map(lambda value: value * 1000)


@settings(deadline=None, max_examples=30)
@given(st.fixed_dictionaries(dict.fromkeys(PARTS, microseconds)))
def test_every_phase_is_what_it_took_and_together_they_are_the_whole(took: dict[str, int]) -> None:
    sample, pair = story(**took)
    found = cut(sample, pair)
    assert (found.source, found.one_clock, found.mismatched) == ("heylook", True, False)
    assert {phase: found.phases[phase] for phase in (*CLIENT, *SERVERS)} == {
        phase: took[phase] for phase in (*CLIENT, *SERVERS)
    }
    assert (
        found.phases["residual"] == took["there"] + took["back"] == residual_ns(sample, json.loads(pair.timeline_json))
    )
    assert sum(found.phases.values()) == (sample.t_end or 0) - (sample.t_due or 0)


@pytest.mark.parametrize("moved", PARTS)
def test_20_ms_move_the_phase_that_they_were_in_and_no_other(moved: str) -> None:
    before, after = cut(*story()), cut(*story(**{moved: USUAL[moved] + 20 * MS}))
    named = "residual" if moved in WAYS else moved
    assert {phase: after.phases[phase] - spent for phase, spent in before.phases.items()} == {
        phase: 20 * MS if phase == named else 0 for phase in before.phases
    }


def test_an_upload_that_the_server_reads_meanwhile_counts_once() -> None:
    sample, pair = story(there=-1 * MS, upload=3 * MS)
    found = cut(sample, pair)
    assert found.phases["upload"] == 2 * MS
    assert sum(found.phases.values()) == (sample.t_end or 0) - (sample.t_due or 0)


def test_with_another_clock_only_durations_count() -> None:
    sample, pair = story()
    elsewhere = msgspec.structs.replace(sample, clock_id="other")
    found = cut(elsewhere, pair)
    assert (found.one_clock, found.in_batch) == (False, None)
    assert residual_ns(elsewhere, json.loads(pair.timeline_json)) is None
    assert found.phases["network"] == 4 * MS
    assert "residual" not in found.phases


def test_shuffled_pairs_are_found_out_and_left_out() -> None:
    stories = [story(n, start=n * 1000 * MS) for n in range(4)]
    samples = [sample for sample, _ in stories]
    shuffled = [
        msgspec.structs.replace(stories[(n + 1) % 4][1], sample_id=sample.id) for n, sample in enumerate(samples)
    ]
    row = row_of(samples, pairs=shuffled)
    assert row.paired == 0
    assert "pairs-mismatched" in remarks_of(row)
    assert "decode" not in row.where
    # ... and without ids, by their times alone.
    bare = [msgspec.structs.replace(sample, client_request_id=None) for sample in samples]
    assert row_of(bare, pairs=shuffled).paired == 0
    right = [pair for _, pair in stories]
    assert row_of(bare, pairs=right).paired == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"phases_ms": {"decode": 1e306}}',
        '{"phases_ms": {"decode": -1}}',
        "nonsense",
        "[]",
        '{"phases_ms": []}',
        '{"timeline": {"received_ns": "x"}}',
        '{"phases_ms": {"a": "b"}}',
    ],
)
def test_what_a_stranger_says_that_is_no_timeline_is_left_out(text: str) -> None:
    sample, pair = story()
    found = cut(sample, msgspec.structs.replace(pair, timeline_json=text))
    assert found.source is None
    assert set(found.phases) == {"wait", "connect", "upload", "first-token", "stream", "rest"}


def test_rivals_own_times_leave_blank_what_they_dont_say() -> None:
    sample, _ = story()
    ollama = {"load_duration": 3 * MS, "prompt_eval_duration": 4 * MS, "eval_duration": 5 * MS, "total_duration": 1}
    found = cut(sample, Pair(sample.id, "ollama", msgspec.json.encode(ollama).decode()))
    assert {phase: ns for phase, ns in found.phases.items() if phase not in CLIENT} == {
        "load": 3 * MS,
        "prefill": 4 * MS,
        "decode": 5 * MS,
        "network": 4 * MS,
    }
    timings = {"prompt_ms": 4.0, "predicted_ms": 5.5, "predicted_n": 9}
    found = cut(sample, Pair(sample.id, "llama-server", msgspec.json.encode(timings).decode()))
    assert (found.phases["prefill"], found.phases["decode"]) == (4 * MS, 5_500_000)
    longer = cut(sample, Pair(sample.id, "llama-server", '{"prompt_ms": 99999}'))
    assert (longer.mismatched, longer.source) == (True, None)
    for nonsense in ('{"prompt_ms": -1}', '{"prompt_ms": true}', '{"prompt_ms": 1e300}', '"x"'):
        assert cut(sample, Pair(sample.id, "llama-server", nonsense)).source is None


def slowed(**spent: int) -> tuple[Any, int | None]:
    """The verdict on one request of thirty that took longer, and how many were computed beside it."""
    told = [story(n, start=n * 10 * MS) for n in range(29)] + [story(29, start=2000 * MS, **spent)]
    found = slowest([(sample, cut(sample, pair)) for sample, pair in told], 1)[0]
    assert found.ordinal == 29
    return found.verdict, found.shared_with


@pytest.mark.parametrize("moved", PARTS)
def test_a_slow_request_is_told_by_the_phase_that_made_it_so(moved: str) -> None:
    named = "residual" if moved in WAYS else moved
    assert slowed(**{moved: 40 * MS})[0] == f"{named}-bound"


def test_a_longer_prompt_is_no_cause() -> None:
    long, pair = story(29, prefill=200 * MS)
    long = msgspec.structs.replace(long, in_usage=2000)
    told = [story(n) for n in range(29)]
    found = slowest([(one, cut(one, its)) for one, its in [*told, (long, pair)]], 1)[0]
    assert (found.ordinal, found.verdict) == (29, "normal")
    assert found.shared_with == 29


def test_of_few_requests_only_waiting_is_judged() -> None:
    told = [story(n, start=n * 100 * MS) for n in range(5)] + [story(5, prefill=90 * MS, queue=50 * MS)]
    found = slowest([(sample, cut(sample, pair)) for sample, pair in told], 1)[0]
    assert [cause.phase for cause in found.causes] == ["queue"]


def test_requests_that_waited_for_a_load_are_in_no_latency_of_a_warm_row() -> None:
    told = [story(n, start=n * 1000 * MS, load=0 if n else 3000 * MS) for n in range(5)]
    samples, pairs = [sample for sample, _ in told], [pair for _, pair in told]
    warm = row_of(samples, pairs=pairs)
    assert (warm.counts.loading, warm.measures["e2e"].n) == (1, 4)
    assert "loading" in remarks_of(warm)
    assert mean_ms([cut(*told[1])])["load"] == 0


def test_what_is_a_cause_is_the_servers_own_rule() -> None:
    def judged(usual: list[dict[str, int]], **spent: int) -> tuple[int, str]:
        told = [story(n, start=n * 1000 * MS, **each) for n, each in enumerate([*usual, spent])]
        found = slowest([(sample, cut(sample, pair)) for sample, pair in told], 1)[0]
        return found.ordinal, found.verdict

    plain = [{"decode": 100 * MS}] * 30
    assert judged(plain, decode=100 * MS, queue=9 * MS) == (30, "normal"), "8 % of a request are no cause"
    assert judged(plain, decode=100 * MS, queue=14 * MS) == (30, "queue-bound")
    wide = [{"prefill": (20 + 5 * (n % 5)) * MS} for n in range(30)]
    assert judged(wide, prefill=45 * MS) == (30, "normal"), "others are as far off, too"
