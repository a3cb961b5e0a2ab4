"""What `make screenshots` shows: each page as a reader sees it at work."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from playwright.sync_api import Page, expect

from tests.ui import pages
from tests.ui.chatting import ask, open_chat

_ANSWER = """<think>
They want a short comparison. A table is easiest to read, then a word on when each is better.
</think>

Both hold weights in fewer bits; they differ in *where* the scale lies.

| Format | Bits | Scale | Good for |
|---|--:|---|---|
| `Q8_0` | 8.5 | one for 32 weights | when memory is no problem |
| `Q4_K_M` | 4.8 | two levels of blocks | most chats |

1. Measure with **your** prompts, not with someone else's.
2. Compare at the same context length.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="unused")
print(client.models.list().data[0].id)
```

> A difference that lies within the noise is no difference.
"""
MODELS = f"""{pages.MODELS}
  - id: qwen3-4b-instruct
    provider: fake
    description: As a real one would look
    config:
      n_ctx: 32768
      prefill_tokens_per_second: 4000
      decode_tokens_per_second: 900
      reply: {json.dumps(_ANSWER)}
"""
"""What the pictures are taken of: the tests' models, and one that answers as a real one would."""


class Scene(NamedTuple):
    """A page, and what is done there before the picture is taken."""

    name: str
    prepare: Callable[[Page], object]


def _chat(page: Page) -> None:
    open_chat(page, "qwen3-4b-instruct")
    ask(page, "How do Q8_0 and Q4_K_M differ, and how do I list what my server has?")


def _chat_settings(page: Page) -> None:
    _chat(page)
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    page.get_by_label("System prompt").fill("Answer briefly, with a table where it helps.")
    page.get_by_role("button", name="Insert an example").click()
    page.get_by_label("System prompt").focus()


def _chat_timeline(page: Page) -> None:
    _chat(page)
    page.get_by_role("button", name="Timeline of this answer").click()
    page.locator(".waterfall").wait_for()


def _measured(page: Page) -> None:
    """Requests of several models, one of them at work."""
    for model in ("fake", "fake", "fake", "slow", "heylook-tiny", "broken"):
        body = {"model": model, "max_tokens": 24, "messages": [{"role": "user", "content": _ANSWER}]}
        page.request.post("/v1/chat/completions", data=body, headers={"x-client-tag": "docs"})


def _performance(page: Page) -> None:
    page.goto("/ui/chat")
    _measured(page)
    page.goto("/ui/performance")
    page.get_by_role("region", name="Finished requests").wait_for()


def _live(page: Page) -> None:
    """A while of answers, one after another, so that the lines have something to show."""
    _performance(page)
    page.evaluate(
        """() => {
          const messages = [{role: "user", content: "Go on, please, at length."}];
          const body = JSON.stringify({model: "slow", max_tokens: 60, messages});
          const ask = () => fetch("/v1/chat/completions", {method: "POST", body}).then(ask);
          ask();
        }"""
    )
    page.wait_for_function(
        "() => (document.querySelector('.spark-line')?.getAttribute('d') ?? '').split('L').length > 12"
    )


def _request(page: Page) -> None:
    _performance(page)
    page.get_by_role("region", name="Finished requests").get_by_role("row").filter(has_text="slow").first.click()
    page.locator(".waterfall").wait_for()


def _models(page: Page) -> None:
    page.goto("/ui/models")
    page.get_by_text("Main memory").wait_for()


def _model(page: Page) -> None:
    page.goto("/ui/models/heylook-tiny")
    page.get_by_text("Engine, context and batching").click()


def _settings(page: Page) -> None:
    page.goto("/ui/settings")
    page.get_by_role("heading", name="Machine").wait_for()


def _bench(page: Page) -> None:
    page.goto("/ui/bench")
    builder = page.get_by_role("region", name="New benchmark")
    expect(builder.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=pages.WAIT_MS)


def _bench_live(page: Page) -> None:
    page.goto("/ui/chat")
    spec = {
        "targets": [{"url": page.evaluate("location.origin"), "models": ["slow", "fake"]}],
        "scenarios": ["D(40,20)"],
        "loads": [{"levels": [4, 8]}],
        "requests": 200,
    }
    for earlier in page.request.get("/v1/bench/runs").json()["data"]:  # of another size's picture
        if earlier["ended"] is None:
            page.request.post(f"/v1/bench/runs/{earlier['id']}/cancel")
    run = page.request.post("/v1/bench/runs?calibrate=false", data=spec).json()
    page.goto(f"/ui/bench/runs/{run['id']}")
    expect(page.locator(".bench-figures .figure-value").first).to_have_text(
        re.compile("^[1-9][0-9]"), timeout=pages.WAIT_MS
    )


SCENES = (
    Scene("chat", _chat),
    Scene("chat-settings", _chat_settings),
    Scene("chat-timeline", _chat_timeline),
    Scene("chat-empty", lambda page: open_chat(page, "heylook-tiny")),
    Scene("performance", _live),
    Scene("request", _request),
    Scene("bench", _bench),
    Scene("bench-live", _bench_live),
    Scene("models", _models),
    Scene("model", _model),
    Scene("settings", _settings),
)
