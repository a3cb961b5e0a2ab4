"""Fields whose bounds the model sets, and numbers that no double holds."""

import json

import httpx
import pytest

from heylook_llm.worker.providers.fake_script import N_VOCAB
from tests.serving import Running

pytestmark = pytest.mark.integration

ASKED = {"model": "fake", "messages": [{"role": "user", "content": "[[say:ok]]"}], "prompt": "[[say:ok]]"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_logit_bias_names_tokens_of_the_model(fake_server: Running, path: str, stream: bool) -> None:
    def ask(token: int) -> httpx.Response:
        return httpx.post(fake_server.url + path, json=ASKED | {"stream": stream, "logit_bias": {str(token): 5}})

    assert ask(N_VOCAB - 1).status_code == 200
    refused = ask(N_VOCAB)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "logit_bias"
    assert str(N_VOCAB) in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/api/generate"])
def test_a_keep_alive_beyond_a_double_is_refused(fake_server: Running, path: str) -> None:
    reply = httpx.post(fake_server.url + path, content=json.dumps(ASKED | {"keep_alive": 10**400}).encode())
    assert reply.status_code == 400
    assert "too large" in reply.text
