"""Adapters, damaged files and workers that are killed: what goes wrong is said, and harms nobody else."""

import os
import signal
from pathlib import Path

import pytest

from heylook_llm import config
from heylook_llm.errors import ConfigError
from tests.contract.subjects import ANSWERS, CAPITAL, Refused, Subject

pytestmark = pytest.mark.integration


@pytest.mark.asks("adapters")
def test_an_adapter_of_the_configuration_changes_the_answers(subject: Subject) -> None:
    if subject.provider == "fake":
        with pytest.raises(ConfigError, match="lora"):
            config.parse("models: [{id: x, provider: fake, config: {lora: [a.gguf]}}]", Path("models.yaml"))
        return
    adapted = subject.sibling("adapted")
    assert subject.text(CAPITAL) == ANSWERS[CAPITAL]
    assert adapted.text(CAPITAL, max_tokens=20) != ANSWERS[CAPITAL]


@pytest.mark.asks("damaged")
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_weights_are_refused_and_the_server_goes_on(subject: Subject, damage: str) -> None:
    damaged = subject.sibling(damage)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            damaged.text(CAPITAL)
        assert refused.value.status == 500
        told = "model_load_failed" if subject.provider == "fake" else "model_file_invalid"
        assert refused.value.error["code"] == told
        assert damaged.model in refused.value.message
        assert "/" not in refused.value.message.replace("</", ""), "no path is told"
    assert subject.text(CAPITAL) == ANSWERS[CAPITAL]


@pytest.mark.asks("killed")
def test_a_worker_that_is_killed_in_mid_stream_fails_its_own_requests_alone(subject: Subject) -> None:
    mortal = subject.sibling("long")
    before = mortal.http.post(f"/v1/models/{mortal.model}/load").json()
    stream = mortal.chat_lines(ignore_eos=True, max_tokens=100_000)
    next(stream)
    os.kill(before["pid"], signal.SIGKILL)
    with pytest.raises(Refused) as died:
        list(stream)
    assert died.value.status == 200, "it comes in the stream, whose status is told already"
    assert died.value.error["code"] == "worker_died"
    assert subject.text(CAPITAL) == ANSWERS[CAPITAL]
    assert mortal.text(CAPITAL) == ANSWERS[CAPITAL]
    after = mortal.http.post(f"/v1/models/{mortal.model}/load").json()
    assert after["pid"] != before["pid"]
    assert after["crashes"] == before["crashes"] + 1
