"""Fixtures of the bench's tests: a user's home, and a target that does nothing but answer on time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.places import Null, null_target
from tests.commands_at_work import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of its own for each test."""
    return Home(tmp_path)


@pytest.fixture(scope="module")
def null() -> Iterator[Null]:
    """One for a file."""
    with null_target(ttft_ms=20, itl_ms=2, tokens=8) as it:
        yield it
