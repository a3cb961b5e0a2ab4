"""What a request is in each API."""

from typing import Any

import pytest

from heylook_llm.bench.sample import Kind
from heylook_llm.bench.scenario import Task
from heylook_llm.bench.targets import dialect_of
from heylook_llm.bench.targets.dialect import Wanted
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
SYSTEM = {"role": "system", "content": "s"}


def body(kind: Kind, task: Task = "chat", **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"task": task, "model": "m", "prompt": "c", "output_tokens": 5}
    given |= {"force_length": False, "options": {}}
    return dialect_of(kind).body(Wanted(**{**given, **more}))


def test_a_conversation_in_each_api() -> None:
    more: dict[str, Any] = {"history": (("a", "b"),), "system": "s"}
    assert body("openai", **more)["messages"] == [SYSTEM, *TALK]
    assert body("ollama", **more)["messages"] == [SYSTEM, *TALK]
    anthropic = body("anthropic", **more)
    assert (anthropic["system"], anthropic["messages"]) == ("s", TALK)


def test_an_image_in_each_api() -> None:
    more: dict[str, Any] = {"task": "image-text", "images": (b"png",)}
    (openai,) = body("openai", **more)["messages"]
    assert openai["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}
    (ollama,) = body("ollama", **more)["messages"]
    assert (ollama["content"], ollama["images"]) == ("c", ["cG5n"])
    (anthropic,) = body("anthropic", **more)["messages"]
    source = {"type": "base64", "media_type": "image/png", "data": "cG5n"}
    assert anthropic["content"] == [{"type": "text", "text": "c"}, {"type": "image", "source": source}]


def test_vectors_and_scores_are_asked_for_without_what_is_of_texts() -> None:
    more: dict[str, Any] = {"documents": ("x", "y")}
    assert body("openai", "embeddings", **more) == {"model": "m", "input": ["x", "y"]}
    assert body("openai", "rerank", **more) == {"model": "m", "query": "c", "documents": ["x", "y"]}
    assert body("ollama", "embeddings", options={"num_ctx": 64, "truncate": False}, **more) == {
        **{"model": "m", "input": ["x", "y"]},
        **{"options": {"num_ctx": 64}, "truncate": False},
    }


def test_a_length_that_nobody_says_is_left_out_where_it_may() -> None:
    assert "max_tokens" not in body("openai", output_tokens=None)
    assert "num_predict" not in body("ollama", output_tokens=None)["options"]
    with pytest.raises(ConfigError, match="output_tokens"):
        body("anthropic", output_tokens=None)


@pytest.mark.parametrize(
    ("kind", "task", "path"),
    [
        ("openai", "rerank", "/v1/rerank"),
        ("openai", "embeddings", "/v1/embeddings"),
        ("ollama", "embeddings", "/api/embed"),
        ("ollama", "rerank", None),
        ("anthropic", "image-text", "/v1/messages"),
        ("anthropic", "completion", None),
    ],
)
def test_what_an_api_lacks_is_said(kind: Kind, task: Task, path: str | None) -> None:
    if path is None:
        with pytest.raises(ConfigError, match=f"has no {task}"):
            dialect_of(kind).path(task)
    else:
        assert dialect_of(kind).path(task) == path
