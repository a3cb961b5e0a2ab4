"""A bounded queue between threads, whose reader wakes at once for what is urgent, and for the rest now and then.

Whoever puts something in pays for no wake-up of another thread, which would cost an answer more than what is put in.
"""

import threading
from collections import deque
from collections.abc import Callable
from queue import Full
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Any thread may put; one takes."""

    def __init__(self, capacity: int, most: int, urgent: Callable[[T], bool]) -> None:
        """`most`: items of one taking. `urgent`: whether an item is to be taken at once, with those before it."""
        self._capacity = capacity
        self._most = most
        self._is_urgent = urgent
        self._items: deque[T] = deque()
        self._some = threading.Event()
        self._soon = threading.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Take an item in. Never waits; raises queue.Full."""
        if len(self._items) >= self._capacity:
            raise Full
        self.force(item)

    def force(self, item: T) -> None:
        """As `put`, however many there are."""
        self._items.append(item)  # first: who clears the events looks at the items after that
        if not self._soon.is_set() and (self._is_urgent(item) or len(self._items) >= self._most):
            self._soon.set()
        if not self._some.is_set():
            self._some.set()

    def take(self, linger_seconds: float) -> list[T]:
        """Waits for an item, and so long for more; up to the first urgent one, which may come at any time."""
        self._some.wait()
        self._soon.wait(linger_seconds)
        self._some.clear()
        self._soon.clear()
        taken: list[T] = []
        while self._items and len(taken) < self._most:
            taken.append(self._items.popleft())
            if self._is_urgent(taken[-1]):
                break
        if self._items:  # who put them in may have seen the events set
            self._some.set()
            self._soon.set()
        return taken

    def drain(self) -> list[T]:
        """All that is there."""
        return [self._items.popleft() for _ in range(len(self._items))]
