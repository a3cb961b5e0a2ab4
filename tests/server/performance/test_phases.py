"""A request's time, cut into phases."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.server.performance.phases import PHASES, phases, server_timing
from tests.server.recording import MS, timeline

pytestmark = pytest.mark.unit

STAMPS = (
    *(
        "received_ns",
        "parsed_ns",
        "ready_ns",
        "load_start_ns",
        "load_end_ns",
        "submitted_ns",
        "rendered_ns",
        "tokenized_ns",
    ),
    *("queued_ns", "admitted_ns", "first_token_ns", "last_token_ns", "all_tokens_ns", "closed_ns"),
)


def test_each_phase_has_its_own_time() -> None:
    tens = dict.fromkeys(PHASES, 10 * MS)
    assert phases(timeline(7)) == {**tens, "load": 0, "queue": 20 * MS, "prepare": 20 * MS, "decode": 20 * MS}
    assert phases(timeline(7, load=True))["load"] == 20 * MS


@given(st.lists(st.none() | st.integers(0, 10**12), min_size=len(STAMPS), max_size=len(STAMPS)), st.booleans())
def test_together_they_are_the_whole(values: list[int | None], in_order: bool) -> None:
    if in_order:
        rising = iter(sorted(value for value in values if value is not None))
        values = [None if value is None else next(rising) for value in values]
    times = msgspec.structs.replace(core.Timeline(), **dict(zip(STAMPS, values, strict=True)))
    spent = phases(times)
    if times.received_ns is None or times.closed_ns is None:
        assert spent == {}
    else:
        assert min(spent.values()) >= 0
        assert sum(spent.values()) == max(0, times.closed_ns - times.received_ns)


@pytest.mark.parametrize(
    ("last", "phase"),
    [("received_ns", "parse"), ("parsed_ns", "prepare"), ("ready_ns", "queue"),
     ("submitted_ns", "prepare"), ("queued_ns", "queue"),
     ("admitted_ns", "prefill"), ("first_token_ns", "decode")],
)  # fmt: skip
def test_who_ends_early_spent_the_rest_where_it_was(last: str, phase: str) -> None:
    whole = timeline(0)
    later = [name for name in STAMPS[STAMPS.index(last) + 1 :] if name != "closed_ns"]
    cut = msgspec.structs.replace(whole, **dict.fromkeys(later), closed_ns=getattr(whole, last) + 500 * MS)
    assert max(phases(cut).items(), key=lambda item: item[1])[0] == phase


def test_the_other_choices_tokens_are_decoding_not_flushing() -> None:
    whole = timeline(0)
    assert whole.last_token_ns is not None
    more = msgspec.structs.replace(
        whole, all_tokens_ns=whole.last_token_ns + 50 * MS, closed_ns=whole.last_token_ns + 60 * MS
    )
    assert (phases(more)["decode"], phases(more)["flush"]) == (70 * MS, 10 * MS)


def test_images_are_prepared_before_the_wait_for_the_model() -> None:
    whole = timeline(0)
    assert whole.parsed_ns is not None
    seen = msgspec.structs.replace(whole, images_ns=whole.parsed_ns + 4 * MS, ready_ns=whole.parsed_ns + 4 * MS)
    assert phases(seen)["prepare"] == phases(whole)["prepare"] + 4 * MS
    assert phases(seen)["queue"] == phases(whole)["queue"] - 4 * MS
    assert "parse;dur=10.000, checks;dur=4.000, lease;dur=" in server_timing(seen)


def test_the_header_says_what_is_known() -> None:
    assert server_timing(
        core.Timeline(
            received_ns=0, parsed_ns=1_500_000, ready_ns=1_500_000, submitted_ns=2_000_000, first_byte_ns=9_000_000
        )
    ) == ("parse;dur=1.500, checks;dur=0.000, lease;dur=0.500, first-byte;dur=9.000")
    assert server_timing(timeline(0, load=True)) == (
        "parse;dur=10.000, checks;dur=0.000, load;dur=20.000, lease;dur=10.000, prepare;dur=20.000, batch;dur=10.000, "
        "prefill;dur=10.000, decode;dur=20.000, first-byte;dur=81.000, total;dur=110.000"
    )
