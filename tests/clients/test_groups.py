"""Several chats in one call: processing_mode, and POST /v1/batch/chat/completions."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serving import Running

pytestmark = pytest.mark.integration
CHAT, BATCH = "/v1/chat/completions", "/v1/batch/chat/completions"


@pytest.fixture
def http(fake_server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_server.url, timeout=30) as client:
        yield client


def turns(*texts: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "s"}, *({"role": "user", "content": text} for text in texts)]
    return {"model": "fake", "messages": messages, **fields}


def texts(told: dict[str, Any]) -> list[str]:
    return [one["choices"][0]["message"]["content"] for one in told["completions"]]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_each_turn_for_itself(http: httpx.Client, mode: str) -> None:
    body = turns(
        "[[say:one]]", "[[say:two]]", "[[say:three]]", processing_mode=mode, include_timing=True, temperature=0
    )
    told = http.post(CHAT, json=body).json()
    assert (told["object"], told["processing_mode"], told["model"]) == ("chat.completion.batch", mode, "fake")
    assert told["id"].startswith("chatcmpl-batch-")
    assert texts(told) == ["one", "two", "three"]
    alone = http.post(CHAT, json=turns("[[say:two]]")).json()
    assert told["completions"][1]["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]
    assert told["batch_info"] == {"groups_processed": 3, "successful": 3, "failed": 0}
    assert told["timing"]["total_time"] == pytest.approx(3 * told["timing"]["average_per_group"], rel=1e-4)


def test_each_turn_behind_those_before_it(http: httpx.Client) -> None:
    body = turns("[[say:one]]", "[[say:two]]", processing_mode="sequential_with_context")
    told = http.post(CHAT, json=body).json()
    whole = turns("[[say:one]]")
    whole["messages"] += [{"role": "assistant", "content": "one"}, {"role": "user", "content": "[[say:two]]"}]
    in_context = http.post(CHAT, json=whole).json()
    assert texts(told) == ["one", "two"]
    assert told["completions"][1]["usage"]["prompt_tokens"] == in_context["usage"]["prompt_tokens"]


def test_choices_in_one_list(http: httpx.Client) -> None:
    body = turns("[[say:a]]", "[[say:b]]", processing_mode="parallel", return_individual=False, n=2)
    told = http.post(CHAT, json=body).json()
    assert [(one["index"], one["message"]["content"]) for one in told["choices"]] == [
        (0, "a"), (1, "a"), (2, "b"), (3, "b"),
    ]  # fmt: skip
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"] > 0
    assert "completions" not in told
    assert "timing" not in told


def test_a_turn_that_fails_stands_in_its_place(http: httpx.Client) -> None:
    body = turns("[[say:a]]", "x" * 5000, "[[say:b]]", processing_mode="sequential_with_context")
    told = http.post(CHAT, json=body).json()
    assert told["batch_info"] == {"groups_processed": 3, "successful": 2, "failed": 1}
    assert told["completions"][1]["error"]["code"] == "context_length_exceeded"
    assert [told["completions"][at]["choices"][0]["message"]["content"] for at in (0, 2)] == ["a", "b"]
    none = http.post(CHAT, json=turns("x" * 5000, "x" * 5000, processing_mode="parallel"))
    assert (none.status_code, none.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": True}, "stream"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages[1].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"processing_mode": "parallel_with_context"}, "processing_mode"),
        ({"temperature": 9}, "temperature"),
    ],
)
def test_what_is_refused(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    reply = http.post(CHAT, json={**turns("x", "y", processing_mode="parallel"), **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_list_of_chats(http: httpx.Client) -> None:
    requests = [turns(f"[[say:answer {at}]]", max_tokens=100) for at in range(5)]
    reply = http.post(BATCH, json={"requests": requests, "completion_batch_size": 2, "prefill_batch_size": 8})
    told = reply.json()
    assert reply.headers["x-heylook-ignored"] == "prefill_batch_size"
    assert [one["choices"][0]["message"]["content"] for one in told["data"]] == [f"answer {at}" for at in range(5)]
    stats = told["batch_stats"]
    assert (told["object"], stats["total_requests"], stats["memory_peak_mb"]) == ("list", 5, None)
    assert stats["elapsed_seconds"] > 0
    assert stats["throughput_tok_per_sec"] > stats["throughput_req_per_sec"] > 0
    assert stats["prefill_time"] >= 0


@pytest.mark.parametrize(
    ("requests", "param"),
    [
        ([turns("x")], "requests"),
        ([turns("x"), {**turns("x"), "stream": True}], "requests[1].stream"),
        ([turns("x"), {**turns("x"), "top_p": 9}], "requests[1].top_p"),
        ([turns("x"), {**turns("x"), "model": "slow"}], "requests"),
        ([turns("x"), turns("y", processing_mode="parallel")], "requests[1].processing_mode"),
    ],
)
def test_a_list_that_is_wrong(http: httpx.Client, requests: list[dict[str, Any]], param: str) -> None:
    reply = http.post(BATCH, json={"requests": requests})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_leaving_ends_them_all(http: httpx.Client, fake_server: Running) -> None:
    body = {"requests": [{**turns("[[count:300]]"), "model": "slow"} for _ in range(4)]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(fake_server.url + BATCH, json=body, timeout=httpx.Timeout(30, read=0.5))
    while http.get("/v1/requests").json()["data"]:
        continue


def test_the_form_takes_no_modes(http: httpx.Client) -> None:
    fields = {"model": "fake", "messages": '[{"role": "user", "content": "x"}]', "processing_mode": "parallel"}
    reply = http.post("/v1/chat/completions/multipart", files={name: (None, text) for name, text in fields.items()})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "processing_mode")
