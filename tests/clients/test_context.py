"""What becomes of a prompt or an answer longer than the context, and what the reply says of it; on every engine."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from heylook_llm import tiny
from tests.serving import Running, running

pytestmark = pytest.mark.integration

BUNDLED = Path(tiny.__file__).parent
ENGINES = {
    "fake": "{id: fake, provider: fake, config: {n_ctx: 256}}",
    "llama_cpp": "{id: llama_cpp, provider: llama_cpp, config: "
    f"{{model_path: {BUNDLED}/heylook-tiny.gguf, n_ctx: 256}}}}",
    "mlx": f"{{id: mlx, provider: mlx, config: {{model_path: {BUNDLED}/heylook-tiny-mlx, n_ctx: 256}}}}",
}
INSTALLED = [name for name in ENGINES if name == "fake" or importlib.util.find_spec(name) is not None]
LONG = [
    {"role": role, "content": f"This is turn number {turn}, which says nothing but takes its room."}
    for turn in range(12)
    for role in ("user", "assistant")
]
CHAT: dict[str, Any] = {"messages": [*LONG, {"role": "user", "content": "Hello"}], "options": {"num_predict": 8}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a model of each engine that is installed here."""
    models = "\n".join(f"  - {ENGINES[name]}" for name in INSTALLED)
    text = f"prewarm: false\nmax_loaded_models: 3\nmodels:\n{models}\n"
    with running(text, tmp_path_factory.mktemp("contexts")) as it:
        yield it


@pytest.fixture(params=INSTALLED)
def model(request: pytest.FixtureRequest) -> str:
    """Each model by turns."""
    name: str = request.param
    return name


def post(server: Running, path: str, **body: Any) -> httpx.Response:
    """A reply, whatever its status."""
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


def last_line(reply: httpx.Response) -> dict[str, Any]:
    """The line with done:true."""
    line: dict[str, Any] = json.loads(reply.text.strip().splitlines()[-1])
    return line


def test_a_long_chat_loses_its_oldest_turns_and_says_so(server: Running, model: str) -> None:
    whole = post(server, "/api/chat", model=model, stream=False, **CHAT)
    streamed = post(server, "/api/chat", model=model, **CHAT)
    assert whole.status_code == streamed.status_code == 200
    dropped = int(whole.headers["x-heylook-truncated"])
    assert streamed.headers["x-heylook-truncated"] == whole.headers["x-heylook-truncated"]
    assert dropped > 0
    for told in (whole.json(), last_line(streamed)):
        assert told["dropped_tokens"] == dropped
        assert told["prompt_eval_count"] < 256
    short = post(server, "/api/chat", model=model, stream=False, messages=LONG[:1], options={"num_predict": 1})
    assert "x-heylook-truncated" not in short.headers
    assert "dropped_tokens" not in short.json()


def test_without_truncation_it_is_refused_with_the_two_numbers(server: Running, model: str) -> None:
    refused = post(server, "/api/chat", model=model, truncate=False, **CHAT)
    assert refused.status_code == 400
    assert "the context has 256" in refused.json()["error"]
    openai = post(server, "/v1/chat/completions", model=model, messages=CHAT["messages"])
    assert openai.status_code == 400
    assert openai.json()["error"]["code"] == "context_length_exceeded"
    assert "256" in openai.json()["error"]["message"]


def test_a_request_may_have_a_smaller_context(server: Running, model: str) -> None:
    refused = post(server, "/v1/completions", model=model, prompt="word " * 60, num_ctx=32, max_tokens=1)
    assert refused.status_code == 400
    assert "32 tokens" in refused.json()["error"]["message"]
    asked = {"prompt": "word " * 60, "raw": True, "options": {"num_ctx": 32, "num_predict": 1}}
    cut = post(server, "/api/generate", model=model, stream=False, **asked)
    assert cut.json()["prompt_eval_count"] < 32
    assert int(cut.headers["x-heylook-truncated"]) == cut.json()["dropped_tokens"] > 0


def test_a_full_context_is_shifted_or_ends(server: Running, model: str) -> None:
    """An answer of 80 tokens in a context of 48: the end of text is made impossible to say where the engine can."""
    asked = {"prompt": "1 2 3 4 5 6 7 8 9 [[count:99]]", "raw": True, "stream": False}
    options = {"num_ctx": 48, "num_predict": 80, "temperature": 0}
    shifted = post(server, "/api/generate", model=model, **asked, options=options).json()
    ended = post(server, "/api/generate", model=model, **asked, options=options, shift=False).json()
    assert ended["eval_count"] + ended["prompt_eval_count"] <= 48
    assert "dropped_tokens" not in ended
    if shifted["done_reason"] == "length":
        assert shifted["eval_count"] == 80
        assert shifted["dropped_tokens"] > 0
        assert ended["done_reason"] == "length"


def test_a_shift_keeps_what_it_is_told_to(server: Running) -> None:
    asked = {"model": "fake", "prompt": "x" * 40 + "[[count:99]]", "raw": True, "stream": False}

    def dropped(**keep: int) -> int:
        options = {"num_ctx": 64, "num_predict": 64, **keep}
        told = post(server, "/api/generate", **asked, options=options).json()
        assert told["eval_count"] == 64
        return int(told["dropped_tokens"])

    assert dropped() == dropped(num_keep=4) != dropped(num_keep=-1) == dropped(num_keep=10_000)


def test_a_larger_context_than_loaded_is_loaded(server: Running) -> None:
    asked = {"model": "fake", "prompt": "y" * 300, "raw": True, "stream": False, "truncate": False}
    assert post(server, "/api/generate", **asked, options={"num_predict": 1}).status_code == 400
    larger = post(server, "/api/generate", **asked, options={"num_predict": 1, "num_ctx": 512})
    assert larger.status_code == 200
    assert larger.json()["prompt_eval_count"] >= 300
