"""What llama-server's clients send (llama.vim, llama.vscode, chat pages), as raw requests to the running server."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Running

pytestmark = pytest.mark.integration


@pytest.fixture
def http(fake_server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_server.url, timeout=30) as client:
        yield client


@pytest.fixture
def tiny(tiny_server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tiny_server.url, timeout=60) as client:
        yield client


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def chunks(client: httpx.Client, path: str, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", path, json={**body, "stream": True}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line.removeprefix("data: ")) for line in reply.iter_lines() if line.startswith("data: ")]


def test_a_completion_is_that_of_the_openai_route(tiny: httpx.Client) -> None:
    common: dict[str, Any] = {"prompt": "The capital of France is", "temperature": 0}
    told = post(tiny, "/completion", **common, n_predict=8, return_tokens=True, n_probs=2)
    legacy = post(tiny, "/v1/completions", **common, max_tokens=8)
    assert told["content"] == legacy["choices"][0]["text"]
    assert told["tokens_evaluated"] == legacy["usage"]["prompt_tokens"]
    assert told["tokens_predicted"] == legacy["usage"]["completion_tokens"]
    assert told["content"] == post(tiny, "/detokenize", tokens=told["tokens"])["content"]
    assert [one["id"] for one in told["completion_probabilities"]] == told["tokens"]
    assert told["generation_settings"]["temperature"] == 0
    streamed = chunks(tiny, "/completions", **common, n_predict=8)
    assert "".join(chunk["content"] for chunk in streamed) == told["content"]
    props = tiny.get("/props").json()
    assert props["default_generation_settings"]["params"]["temperature"] == 0.8
    assert props["model_path"] == "heylook-tiny.gguf"
    assert streamed[-1]["stop_type"] == told["stop_type"]


def test_vectors_are_those_of_the_openai_route(tiny: httpx.Client) -> None:
    texts = ["Paris is in France.", "7 is a number."]
    plain = post(tiny, "/v1/embeddings", input=texts)["data"]
    for path in ("/embedding", "/embeddings"):
        told = post(tiny, path, content=texts)
        assert [one["embedding"] for one in told] == [[one["embedding"]] for one in plain]
    (scaled,) = post(tiny, "/embedding", input=texts[0], embd_normalize=0)
    assert max(map(abs, scaled["embedding"][0])) == pytest.approx(32760)


@pytest.mark.parametrize("path", ["/completion", "/v1/completions", "/v1/chat/completions"])
def test_a_stream_tells_its_times_and_the_prompts_progress(http: httpx.Client, path: str) -> None:
    said = "[[say:one two three]]"
    prompt: dict[str, Any] = {"messages": [{"role": "user", "content": said}]} if "chat" in path else {"prompt": said}
    asked = {**prompt, "model": "fake", "timings_per_token": True, "return_progress": True, "stream": True}
    with http.stream("POST", path, json=asked) as reply:
        assert "x-heylook-ignored" not in reply.headers
        told = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    (progress, *_) = [chunk["prompt_progress"] for chunk in told if "prompt_progress" in chunk]
    last = told[-1]["timings"]
    assert (progress["processed"], progress["total"]) == (last["prompt_n"] + last["cache_n"],) * 2
    counts = [chunk["timings"]["predicted_n"] for chunk in told if "timings" in chunk]
    assert counts == sorted(counts)
    assert counts[-1] == last["predicted_n"] >= 3


GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "golden" / "llama_server.json").read_text(encoding="utf-8")
)["cases"]
OTHERWISE = {"id_slot", "timings", "message", "n_ctx", "n_prompt_tokens"}
"""What can't be the same: places aren't numbered here, and its words, times and context are its own."""
INNER = {
    *("n_keep", "n_discard", "logit_bias", "min_keep", "grammar", "grammar_lazy", "grammar_triggers", "lora"),
    *("preserved_tokens", "chat_format", "reasoning_format", "reasoning_in_content", "generation_prompt", "samplers"),
    *("speculative.types", "timings_per_token", "post_sampling_probs", "backend_sampling", "dry_sequence_breakers"),
}
"""Settings of llama-server's own works, which `generation_settings` leaves out here."""
UNSET = {"dry_penalty_last_n", "adaptive_target", "top_n_sigma"}
"""Of samplers that are off."""


def same(ours: Any, theirs: Any, place: str = "") -> None:
    """What llama-server says is there, of its type and, but for what can't be, of its value."""
    match theirs:
        case dict():
            for name, value in theirs.items():
                if name in INNER:
                    continue
                assert name in ours, f"{place}.{name}"
                if name not in OTHERWISE | UNSET:
                    same(ours[name], value, f"{place}.{name}")
        case list():
            assert len(ours) == len(theirs), place
            for at, value in enumerate(theirs):
                same(ours[at], value, f"{place}[{at}]")
        case float():
            assert ours == pytest.approx(theirs, abs=0.02), place
        case _:
            assert ours == theirs, place


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_replies_are_those_of_llama_server(tiny: httpx.Client, case: dict[str, Any]) -> None:
    body = {"model": "heylook-tiny", **case["request"]}
    if case["name"] == "long":
        body["prompt"] *= 3  # the context is larger here
    reply = tiny.post("/completion", json=body)
    assert reply.status_code == case["status"]
    told = reply.json() if case["name"] != "stream" else None
    if told is None:
        told = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line]
    same(told, case["reply"])


def test_prompts_of_every_form_are_the_same(tiny: httpx.Client) -> None:
    text = "1, 2, 3,"
    tokens = post(tiny, "/tokenize", content=text, add_special=True)["tokens"]
    half = post(tiny, "/detokenize", tokens=tokens[:-2])["content"]
    told = post(tiny, "/completion", prompt=[text, tokens, [half, *tokens[-2:]]], temperature=0, n_predict=6)
    assert [one["index"] for one in told] == [0, 1, 2]
    assert len({one["content"] for one in told}) == 1
    assert len({one["tokens_evaluated"] for one in told}) == 1
    assert [one["prompt"] for one in told] == [text, text, text]
    mixed = post(tiny, "/tokenize", content=[half, *tokens[-2:]], add_special=True)["tokens"]
    assert mixed == tokens


def test_a_grammar_and_a_schema_hold(http: httpx.Client) -> None:
    said = post(http, "/completion", prompt="x", grammar='root ::= "yes" | "no"')
    assert said["content"] in ("yes", "no")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert isinstance(json.loads(post(http, "/completion", prompt="x", json_schema=schema)["content"])["a"], int)


def test_infill_as_editors_ask_for_it(http: httpx.Client) -> None:
    wanted = ["content", "timings/prompt_n", "timings/predicted_n", "truncated", "tokens_cached", "stop_type"]
    body: dict[str, Any] = {
        "input_prefix": "def f():\n    [[say:return 1\n    # more\nprint(2)]]",
        "input_suffix": "\n\nmain()\n",
        "input_extra": [{"filename": "a.py", "text": "import b\n", "time": 5}],
        "prompt": "",
        "n_predict": 64,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 5000,
        "n_indent": 4,
        "stop": [],
        "response_fields": wanted,
    }
    told = post(http, "/infill", **body)
    assert told["content"] == "return 1\n    # more\n", "what is indented less ends it"
    assert set(told) == set(wanted)
    assert (told["truncated"], told["stop_type"]) == (False, "limit")
    assert post(http, "/infill", **{**body, "n_indent": 0})["content"] == "return 1\n    # more\nprint(2)"


def test_a_context_that_is_too_long_for_infill_is_cut(http: httpx.Client) -> None:
    long = "[[say:gone]]" + "x" * 10_000
    reply = http.post("/infill", json={"input_prefix": long + "[[say:near]]", "input_suffix": "y" * 9_000})
    told = reply.json()
    assert (told["content"], told["truncated"]) == ("near", True)
    assert told["tokens_evaluated"] < 2048
    assert int(reply.headers["x-heylook-truncated"]) > 15_000
    assert "gone" not in told["prompt"]


def test_an_answer_out_of_time_ends_with_its_line(http: httpx.Client) -> None:
    said = "[[say:" + "a" * 20 + "\n" + "b" * 20 + "\nc]]"
    told = post(http, "/completion", model="slow", prompt=said, t_max_predict_ms=1)
    assert (told["content"], told["stop_type"]) == ("a" * 20 + "\n", "limit")


def test_props_and_slots(http: httpx.Client) -> None:
    post(http, "/completion", model="slow", prompt="[[say:x]]")
    props = http.get("/props?model=slow").json()
    assert (props["model_alias"], props["total_slots"], props["is_sleeping"]) == ("slow", 8, False)
    assert props["default_generation_settings"]["n_ctx"] == 2048
    assert props["default_generation_settings"]["params"]["temperature"] == 1.0
    assert (props["eos_token"], props["modalities"]["vision"]) == ("<|im_end|>", False)
    assert "<|im_start|>" in props["chat_template"]
    assert http.get("/props").json()["model_alias"] == "fake", "the default"
    body = {"model": "slow", "prompt": "[[count:500]]", "n_predict": 1000, "stream": True}
    with http.stream("POST", "/completion", json=body) as reply:
        lines = reply.iter_lines()
        next(lines)
        slots = httpx.get(f"{http.base_url}/slots?model=slow").json()
    assert [slot["id"] for slot in slots] == list(range(8))
    (busy,) = [slot for slot in slots if slot["is_processing"]]
    assert busy["next_token"][0]["n_decoded"] > 0
    assert busy["next_token"][0]["n_remain"] <= 1000
    assert http.get("/slots?model=heavy").json() == [], "looking loads nothing"
    free = http.get("/slots?model=heavy&fail_on_no_slot=1")
    assert (free.status_code, free.json()) == (200, []), "a model that isn't loaded has all its places"
    assert http.get("/props?model=heavy").json()["is_sleeping"] is True


def test_a_model_whose_places_are_all_taken_has_no_slot(http: httpx.Client) -> None:
    body = {"model": "slow", "prompt": "[[count:500]]", "n_predict": 1000, "stream": True}
    with contextlib.ExitStack() as streams:
        answers = [streams.enter_context(http.stream("POST", "/completion", json=body)) for _ in range(8)]
        lines = [answer.iter_lines() for answer in answers]  # kept, or they'd close their streams
        assert all(map(next, lines)), "each has begun"
        told = httpx.get(f"{http.base_url}/slots?model=slow&fail_on_no_slot=1")
        assert (told.status_code, told.json()["error"]["message"]) == (503, "no slot available")
        assert told.headers["retry-after"] == "1"


def test_health_and_names_without_v1(http: httpx.Client) -> None:
    assert http.get("/v1/health").json()["status"] == http.get("/health").json()["status"] == "ok"
    assert http.get("/models").json()["data"] == http.get("/v1/models").json()["data"]
    body = {"messages": [{"role": "user", "content": "[[say:x]]"}]}
    assert post(http, "/chat/completions", **body)["choices"][0]["message"]["content"] == "x"


def test_errors_are_llama_servers(http: httpx.Client) -> None:
    for path in ("/completion", "/infill"):
        for body, kind, status in (
            (b"{", "invalid_request_error", 400),
            (b'{"model": "nope", "prompt": "x", "input_prefix": "", "input_suffix": ""}', "not_found_error", 404),
        ):
            reply = http.post(path, content=body)
            assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)
            assert reply.json()["error"]["code"] == status
    long = http.post("/completion", json={"prompt": "x" * 5000})
    assert long.json()["error"]["type"] == "exceed_context_size_error"
    assert long.json()["error"]["n_ctx"] == 2048
    assert http.get("/completion").json()["error"]["code"] == 405
    broken = http.post("/completion", json={"model": "broken", "prompt": "x"})
    assert (broken.json()["error"]["type"], broken.headers["x-should-retry"]) == ("server_error", "false")
