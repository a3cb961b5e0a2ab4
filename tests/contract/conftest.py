"""Every provider in turn; where one lacks what a test asks for, that test must meet the refusal of the table."""

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from heylook_llm import support
from tests.contract.subjects import TINY, Refused, Subject, installed, models
from tests.contract.widened import widened
from tests.serving import Running, running


@pytest.fixture(scope="session")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over every provider whose engine is installed."""
    folder = tmp_path_factory.mktemp("contract")
    with running(models(widened(TINY / "heylook-tiny.gguf", folder / "heylook-tiny.gguf"), folder), folder) as server:
        yield server


@pytest.fixture(scope="session", params=support.PROVIDERS)
def subject(request: pytest.FixtureRequest, contract_server: Running) -> Subject:
    """A provider."""
    if not installed(request.param):
        pytest.skip(f"the engine of {request.param} isn't installed")
    return Subject(request.param, contract_server)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run the test; where its provider lacks the feature that it asks for, it must meet the refusal instead."""
    reason = _lacking(pyfuncitem)
    if reason is None:
        return (yield)
    with pytest.raises(Refused) as refused:
        yield
    assert refused.value.status == 400
    assert reason in refused.value.message
    return True


def _lacking(item: pytest.Function) -> str | None:
    subject = item.funcargs.get("subject")
    if not isinstance(subject, Subject):
        return None
    for mark in item.iter_markers("asks"):
        for name in mark.args:
            if (reason := support.feature(name).lacking.get(subject.provider)) is not None:
                return reason
    return None
