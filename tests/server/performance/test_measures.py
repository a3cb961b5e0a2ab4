"""What is measured of a request, by its stamps."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.server.performance.measures import Measures, measured
from heylook_llm.server.performance.record import labels_of
from tests.server.recording import MS, finished, timeline

pytestmark = pytest.mark.unit


def test_each_formula() -> None:
    measures = measured(finished(timeline=timeline(1000)))
    assert measures == Measures(
        e2e_ns=90 * MS,
        queue_ns=20 * MS,  # 10 for the lease, 10 for a place in the batch
        load_ns=None,
        ttft_ns=60 * MS,
        tpot_ns=10 * MS,
        prefill_rate=500.0,  # 5 computed tokens in 10 ms
        decode_rate=100.0,
        batch_size=2.0,
    )


def test_a_load_is_not_counted_as_queueing() -> None:
    measures = measured(finished(timeline=timeline(1000, load=True)))
    assert (measures.load_ns, measures.queue_ns, measures.ttft_ns) == (20 * MS, 20 * MS, 80 * MS)


def test_a_load_that_began_before_the_request_counts_from_its_coming() -> None:
    times = timeline(100 * MS, load=True)
    early = msgspec.structs.replace(times, load_start_ns=0)
    assert measured(finished(timeline=early)).load_ns == 20 * MS


def test_what_did_not_happen_is_unknown() -> None:
    assert measured(finished(timeline=core.Timeline(), first=core.Usage())) == Measures()
    one = core.Usage(prompt_tokens=7, output_tokens=1)
    single = measured(finished(timeline=timeline(output=1), first=one))
    assert (single.tpot_ns, single.decode_rate) == (None, None)


@given(st.lists(st.none() | st.integers(0, 10**18), min_size=11, max_size=11), st.integers(0, 9), st.integers(0, 9))
def test_no_measure_is_negative(stamps: list[int | None], prompt: int, output: int) -> None:
    names = [name for name in core.Timeline.__struct_fields__ if name.endswith("_ns")][: len(stamps)]
    given: dict[str, Any] = dict(zip(names, stamps, strict=True))
    times = core.Timeline(**given)
    measures = measured(finished(timeline=times, first=core.Usage(prompt, 0, output)))
    assert all(value is None or value >= 0 for name in Measures.__struct_fields__ if (value := getattr(measures, name)))


def test_labels_are_bounded_and_can_be_shown() -> None:
    labels = labels_of([(b"host", b"x"), (b"x-run-id", b"a\x00\xe9" + b"b" * 500), (b"x-client-tag", b"bench")])
    assert (labels.client, labels.client_request_id) == ("bench", None)
    assert labels.run_id is not None
    assert labels.run_id.startswith("a??bbb")
    assert len(labels.run_id) == 128


@pytest.mark.parametrize(
    ("route", "dialect"),
    [
        ("/v1/chat/completions", "openai"),
        ("/v1/responses", "openai"),
        ("/v1/messages", "anthropic"),
        ("/api/generate", "ollama"),
    ],
)
def test_a_route_is_of_a_dialect(route: str, dialect: str) -> None:
    assert finished(route=route).dialect == dialect
