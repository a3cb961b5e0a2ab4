"""A stand-in hub for the tests of pulling."""

from collections.abc import Iterator

import pytest

from heylook_llm.catalog import pull as pulling
from tests.catalog.hub import Hub
from tests.catalog.pulling import DATA


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository; whoever pulls from it in this process waits hardly between attempts."""
    monkeypatch.setattr(pulling, "MOST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    made = Hub()
    made.repositories["org/model"] = {"m-Q4_K_M.gguf": DATA, "m-Q8_0.gguf": DATA * 2, "README.md": b"hello"}
    with made.running():
        yield made
