"""What llama-server's clients send (llama.vim, llama.vscode, chat pages, retrievers), as raw requests."""

import json
from typing import Any

import httpx

from tests.conformance.cells import At, cell
from tests.conformance.subjects import KEY, WEATHER

PACKAGE = "httpx"


def post(at: At, path: str, **body: Any) -> Any:
    reply = httpx.post(at.url + path, json={"model": at.model, **body}, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def chunks(at: At, path: str, **body: Any) -> list[dict[str, Any]]:
    asked = {"model": at.model, "stream": True, **body}
    with httpx.stream("POST", at.url + path, json=asked, timeout=60) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line.removeprefix("data: ")) for line in reply.iter_lines() if line.startswith("data: {")]


def prompt(at: At) -> str:
    return str(post(at, "/apply-template", messages=[{"role": "user", "content": at.subject.ask}])["prompt"])


@cell("/completion")
def completion(at: At) -> None:
    asked = {"prompt": prompt(at), "temperature": 0, "n_predict": 300}
    told = post(at, "/completion", **asked, return_tokens=True)
    assert (told["content"], told["stop"], told["stop_type"]) == (at.subject.answer, True, "eos")
    assert told["timings"]["predicted_n"] == told["tokens_predicted"]
    assert post(at, "/detokenize", tokens=told["tokens"])["content"] == at.subject.answer
    assert told["generation_settings"]["temperature"] == 0
    cut = post(at, "/completions", **{**asked, "n_predict": 2})
    assert (cut["stop_type"], cut["tokens_predicted"]) == ("limit", 2)


@cell("/completion, streamed")
def streamed(at: At) -> None:
    told = chunks(at, "/completion", prompt=prompt(at), temperature=0, n_predict=300)
    assert "".join(chunk["content"] for chunk in told) == at.subject.answer
    assert [chunk["stop"] for chunk in told] == [False] * (len(told) - 1) + [True]


@cell("/completion: token ids, log probabilities, stop strings")
def details(at: At) -> None:
    stop, before = at.subject.stopped
    tokens = post(at, "/tokenize", content=prompt(at), parse_special=True)["tokens"]
    told = post(at, "/completion", prompt=tokens, temperature=0, n_predict=300, n_probs=3, stop=[stop])
    assert (told["content"], told["stop_type"], told["stopping_word"]) == (before, "word", stop)
    assert all(len(one["top_logprobs"]) == 3 for one in told["completion_probabilities"])


@cell("/completion: a schema, a grammar")
def held(at: At) -> None:
    schema = {**WEATHER, "properties": {"city": {"enum": ["Paris", "Rome"]}}}
    told = post(at, "/completion", prompt="The city as JSON:", json_schema=schema, n_predict=100)
    assert json.loads(told["content"])["city"] in ("Paris", "Rome")
    told = post(at, "/completion", prompt="x", grammar='root ::= "yes" | "no"', n_predict=9)
    assert told["content"] in ("yes", "no")


@cell("/infill")
def infill(at: At) -> None:
    asked = {"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n", "n_predict": 8}
    told = post(at, "/infill", **asked, model=at.subject.infilling, input_extra=[{"filename": "a.py", "text": "x = 1"}])
    assert told["tokens_predicted"] >= 1
    assert told["stop_type"] in ("eos", "limit")


@cell("/infill of a model without tokens for it names why")
def no_infill(at: At) -> None:
    if at.model == at.subject.infilling:
        return
    asked = {"model": at.model, "input_prefix": "a", "input_suffix": "b"}
    told = httpx.post(f"{at.url}/infill", json=asked, timeout=60)
    assert (told.status_code, told.json()["error"]["type"]) == (400, "not_supported_error")
    assert "Infill is not supported by this model" in told.json()["error"]["message"]


@cell("/tokenize, /detokenize, /apply-template")
def tokens(at: At) -> None:
    found = post(at, "/tokenize", content="Hello, world", with_pieces=True)["tokens"]
    assert "".join(one["piece"] for one in found) == "Hello, world"
    assert post(at, "/detokenize", tokens=[one["id"] for one in found])["content"] == "Hello, world"
    assert at.subject.ask in prompt(at)


@cell("/embedding and /embeddings")
def vectors(at: At) -> None:
    texts = ["Paris is in France.", "7 is a number."]
    (one, other) = post(at, "/embedding", content=texts)
    assert (one["index"], other["index"]) == (0, 1)
    plain = httpx.post(f"{at.v1}/embeddings", json={"model": at.model, "input": texts}, timeout=60).json()["data"]
    for native, openais in zip((one, other), plain, strict=True):
        assert max(abs(a - b) for a, b in zip(native["embedding"][0], openais["embedding"], strict=True)) < 1e-6
    assert len(post(at, "/embeddings", input=texts[0])) == 1


@cell("/props and /slots")
def state(at: At) -> None:
    post(at, "/completion", prompt="x", n_predict=1)
    props = httpx.get(f"{at.url}/props", params={"model": at.model}).json()
    assert (props["model_alias"], props["total_slots"] > 0) == (at.model, True)
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["chat_template"]
    slots = httpx.get(f"{at.url}/slots", params={"model": at.model}).json()
    assert len(slots) == props["total_slots"]
    assert {slot["is_processing"] for slot in slots} <= {True, False}


@cell("/health, /v1/health, /models, /metrics")
def health(at: At) -> None:
    for path in ("/health", "/v1/health"):
        assert httpx.get(at.url + path).json()["status"] == "ok"
    assert at.model in [one["id"] for one in httpx.get(f"{at.url}/models").json()["data"]]
    assert "# TYPE" in httpx.get(f"{at.url}/metrics").text


@cell("timings in every chunk, and the prompt's progress")
def progress(at: At) -> None:
    told = chunks(
        at, "/completion", prompt=prompt(at), n_predict=8, timings_per_token=True, return_progress=True, ignore_eos=True
    )
    said = [chunk for chunk in told if not chunk["stop"] and chunk["content"]]
    assert [chunk["timings"]["predicted_n"] for chunk in said] == sorted(
        chunk["timings"]["predicted_n"] for chunk in said
    )
    seen = [chunk["prompt_progress"] for chunk in told if "prompt_progress" in chunk]
    assert seen[-1]["processed"] == seen[-1]["total"] == told[-1]["tokens_evaluated"]


@cell("errors in its form")
def errors(at: At) -> None:
    for body, status, kind, param in (
        ({"prompt": "x", "model": "nope"}, 404, "not_found_error", "model"),
        ({"model": at.model}, 400, "invalid_request_error", "prompt"),
        ({"model": at.model, "prompt": "x", "temperature": "hot"}, 400, "invalid_request_error", "temperature"),
        ({"model": at.model, "prompt": "x", "image_data": [1]}, 400, "not_supported_error", "image_data"),
        ({"model": at.model, "prompt": "x", "lora": [{"id": 0}]}, 400, "not_supported_error", "lora"),
    ):
        reply = httpx.post(f"{at.url}/completion", json=body, timeout=60)
        told = reply.json()["error"]
        assert (reply.status_code, told["code"], told["type"], told["param"]) == (status, status, kind, param), told


@cell("a key where one is wanted")
def key(at: At) -> None:
    asked = {"model": "fake", "prompt": "x", "n_predict": 1}
    assert httpx.post(f"{at.locked}/completion", json=asked).status_code == 401
    given = {"authorization": f"Bearer {KEY}"}
    assert httpx.post(f"{at.locked}/completion", json=asked, headers=given).status_code == 200
