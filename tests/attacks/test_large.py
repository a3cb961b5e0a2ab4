"""Large bodies: while one is understood, everybody else is served."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from heylook_llm.server.offloop import ON_LOOP, off_loop
from tests.attacks.raw import connection, post, read_all
from tests.serving import Running

pytestmark = pytest.mark.integration

TOKENS = json.dumps({"model": "fake", "prompt": [9999] * 1_000_000, "tokens": [1] * 1_000_000}).encode()


@pytest.mark.parametrize(("path", "status"), [("/v1/completions", 400), ("/detokenize", 200)])
def test_others_are_served_while_a_large_body_is_parsed(fake_server: Running, path: str, status: int) -> None:
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=fake_server.url) as client:
        begun = time.monotonic()
        large = pool.submit(httpx.post, fake_server.url + path, content=TOKENS, timeout=60)
        longest = 0.0
        while not large.done():
            asked = time.monotonic()
            assert client.get("/health").status_code == 200
            longest = max(longest, time.monotonic() - asked)
        assert large.result().status_code == status
        assert longest < (time.monotonic() - begun) / 2


def test_what_a_slow_reader_leaves_lying_is_bounded(fake_server: Running) -> None:
    asked = {"model": "fake", "messages": [{"role": "user", "content": "[[count:450]]"}], "stream": True, "n": 16}
    with connection(fake_server) as sock:
        sock.sendall(post("/v1/chat/completions", json.dumps(asked | {"logprobs": True, "top_logprobs": 20}).encode()))
        behind = {"model": "fake", "messages": [{"role": "user", "content": "[[say:ok]]"}]}
        assert httpx.post(fake_server.url + "/v1/chat/completions", json=behind, timeout=60).status_code == 200
        rest = read_all(sock)
    assert b'"request_cancelled"' in rest
    assert b"[DONE]" not in rest


async def test_much_work_leaves_the_loop_and_little_stays() -> None:
    assert await off_loop(ON_LOOP, threading.get_ident) == threading.get_ident()
    assert await off_loop(ON_LOOP + 1, threading.get_ident) != threading.get_ident()
