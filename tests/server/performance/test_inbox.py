"""A queue whose reader sleeps through what isn't urgent: nothing is lost, nothing passes another, nobody waits long."""

import threading
from queue import Full

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.server.performance.inbox import Inbox

pytestmark = pytest.mark.unit

LONG_SECONDS = 60.0
"""Longer than a test may take."""


def inbox(capacity: int = 100, most: int = 10) -> Inbox[int]:
    """Negative numbers are urgent."""
    return Inbox(capacity, most, lambda item: item < 0)


def test_what_is_urgent_ends_the_wait_and_comes_with_what_was_before() -> None:
    box = inbox()
    for item in (1, 2, -3, 4):
        box.put(item)
    assert box.take(LONG_SECONDS) == [1, 2, -3]
    assert box.take(LONG_SECONDS) == [4], "the rest doesn't wait again"


def test_many_end_the_wait_too() -> None:
    box = inbox(most=3)
    for item in range(7):
        box.put(item)
    assert [box.take(LONG_SECONDS) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_others_come_after_a_while() -> None:
    box = inbox()
    box.put(1)
    assert box.take(0.01) == [1]
    assert len(box) == 0


def test_no_more_than_its_capacity() -> None:
    box = inbox(capacity=2)
    box.put(1)
    box.put(2)
    with pytest.raises(Full):
        box.put(3)
    box.force(-4)
    assert box.take(LONG_SECONDS) == [1, 2, -4]


def test_an_urgent_item_wakes_a_reader_that_lingers() -> None:
    box = inbox()
    taken: list[list[int]] = []
    reader = threading.Thread(target=lambda: taken.append(box.take(LONG_SECONDS)))
    box.put(1)
    reader.start()
    box.put(-2)
    reader.join(LONG_SECONDS / 2)
    assert taken == [[1, -2]]


@given(st.lists(st.integers(-2, 5), max_size=30), st.integers(1, 8))
def test_all_come_in_order_from_threads_beside_the_reader(items: list[int], most: int) -> None:
    box = inbox(capacity=1000, most=most)
    taken: list[int] = []

    def read() -> None:
        while len(taken) < 2 * len(items) + 1:
            taken.extend(box.take(0.0))

    def write() -> None:
        for item in items:
            box.put(item)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    box.force(-9)
    reader.join(LONG_SECONDS)
    assert taken[-1] == -9
    assert sorted(taken[:-1]) == sorted(items * 2)
