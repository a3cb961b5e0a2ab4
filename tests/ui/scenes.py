"""What `make screenshots` shows: each page as a reader sees it at work."""

import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from playwright.sync_api import Page, expect

from tests.ui import pages
from tests.ui.chatting import answers, ask, open_chat, say, text_of

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
  - id: llama-3.2-3b-instruct
    provider: fake
    description: Another, half as fast
    config: {{n_ctx: 8192, n_parallel: 4, prefill_tokens_per_second: 2500, decode_tokens_per_second: 350}}
"""
"""What the pictures are taken of: the tests' models, and two that answer as real ones would."""


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
    run = page.get_by_role("region", name="New benchmark").get_by_role("button", name="Run", exact=True)
    expect(run).to_be_enabled(timeout=pages.WAIT_MS)
    expect(page.locator(".bench-history table, .bench-history .empty")).to_be_visible(timeout=pages.WAIT_MS)


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


def _run(page: Page, name: str, spec: dict[str, object], until: str = "done") -> dict[str, Any]:
    """The run of this name, which the first picture of it has begun; as it is once it is so far."""
    runs = page.request.get("/v1/bench/runs?limit=1000").json()["data"]
    found = next((run for run in runs if run["name"] == name), None)
    if found is None:
        found = page.request.post("/v1/bench/runs?calibrate=false", data={"name": name, **spec}).json()
    deadline = time.monotonic() + pages.WAIT_MS / 100
    while found["state"] != until and time.monotonic() < deadline:
        found = page.request.get(f"/v1/bench/runs/{found['id']}").json()
        page.wait_for_timeout(200)
        if until == "cancelled" and found["samples"] > LEAST_SAMPLES:
            page.request.post(f"/v1/bench/runs/{found['id']}/cancel")
    assert found["state"] == until, found
    return dict(found)


LEAST_SAMPLES = 12
"""That a run has before it is cancelled."""


def _spec(page: Page, models: list[str], name: str = "this machine") -> dict[str, object]:
    return {
        "targets": [{"url": page.evaluate("location.origin"), "name": name, "models": models}],
        "scenarios": ["N(250,80)/(60,20)"],
        "loads": [{"levels": [1, 4, 8]}],
        "requests": 110,
        "slo": {"ttft": 500, "tpot": 50},
    }


def _two(page: Page) -> dict[str, Any]:
    return _run(page, "Two models", _spec(page, ["qwen3-4b-instruct", "llama-3.2-3b-instruct"]))


def _bench_result(page: Page) -> None:
    page.goto("/ui/chat")
    page.goto(f"/ui/bench/runs/{_two(page)['id']}")
    page.locator(".plot .main-svg").first.wait_for()


def _bench_slowest(page: Page) -> None:
    """Where the slowest requests of a run spent their time, by both clocks."""
    _bench_result(page)
    drawn = page.locator(".slow .waterfall")
    drawn.wait_for()
    page.evaluate("() => document.querySelector('.slow').closest('.card').scrollIntoView()")


def _bench_compare(page: Page) -> None:
    page.goto("/ui/chat")
    other = _run(page, "After the update", _spec(page, ["qwen3-4b-instruct"], "next version"))
    page.goto(f"/ui/bench/compare?runs={_two(page)['id']},{other['id']}")
    page.locator(".compared-group").first.wait_for()
    page.locator(".plot .main-svg").first.wait_for()


def _bench_failed(page: Page) -> None:
    page.goto("/ui/chat")
    run = _run(page, "A model that can't be loaded", _spec(page, ["broken"]), "failed")
    page.goto(f"/ui/bench/runs/{run['id']}")
    page.locator(".result, .notice").first.wait_for()


def _bench_cancelled(page: Page) -> None:
    page.goto("/ui/chat")
    spec = {**_spec(page, ["slow"]), "loads": [{"levels": [2]}]}
    run = _run(page, "Stopped halfway", spec, "cancelled")
    page.goto(f"/ui/bench/runs/{run['id']}")
    page.locator(".plot .main-svg").first.wait_for()


def _compare_empty(page: Page) -> None:
    page.goto("/ui/bench/compare")
    page.get_by_text("Nothing to compare yet").wait_for()


def _chat_stopped(page: Page) -> None:
    open_chat(page, "slow")
    say(page, "[[count:2000]]")
    expect(text_of(answers(page).first)).to_contain_text("20 21 22", timeout=pages.WAIT_MS)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Timeline of this answer").click()
    page.locator(".waterfall").wait_for()


def _chat_error(page: Page) -> None:
    open_chat(page, "broken")
    ask(page, "Are you there?")


def _performance_empty(page: Page) -> None:
    page.goto("/ui/performance")
    page.get_by_text("No request in this window").wait_for()
    expect(page.locator(".tile .figure-value").nth(4)).not_to_have_text("–", timeout=pages.WAIT_MS)


def _settings_server(page: Page) -> None:
    """The dialog in which another server is added, with what is wrong with its address."""
    _settings(page)
    page.get_by_role("button", name="Add").click()
    page.get_by_role("dialog").get_by_label("Name").fill("office")
    page.get_by_role("dialog").get_by_label("Address").fill("ftp://10.0.0.7")
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("alert").wait_for()


SCENES = (
    Scene("performance-empty", _performance_empty),  # first, while nothing was asked
    Scene("chat", _chat),
    Scene("chat-settings", _chat_settings),
    Scene("chat-timeline", _chat_timeline),
    Scene("chat-stopped", _chat_stopped),
    Scene("chat-error", _chat_error),
    Scene("chat-empty", lambda page: open_chat(page, "heylook-tiny")),
    Scene("performance", _live),
    Scene("request", _request),
    Scene("bench-result", _bench_result),
    Scene("bench-slowest", _bench_slowest),
    Scene("bench-compare", _bench_compare),
    Scene("bench-compare-empty", _compare_empty),
    Scene("bench-failed", _bench_failed),
    Scene("bench-cancelled", _bench_cancelled),
    Scene("bench", _bench),
    Scene("bench-live", _bench_live),
    Scene("models", _models),
    Scene("model", _model),
    Scene("settings", _settings),
    Scene("settings-server", _settings_server),
    Scene("lost", lambda page: page.goto("/ui/nowhere")),
)
