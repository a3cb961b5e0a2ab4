"""The chat in a real browser: streaming and stopping, reasoning, calls, images, editing, and what is kept."""

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocket, expect

from tests.picture_files import plain
from tests.serving import Running
from tests.ui.chatting import answers, ask, give, open_chat, say, text_of, whole
from tests.ui.pages import WAIT_MS, Watch, audit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
long = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui")

WEATHER = '[{"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]'
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> "
    "[a](javascript:document.title='owned') ![b](https://evil.test/b.png) <svg onload=\"document.title='owned'\"> "
    "</p><iframe srcdoc=\"<script>parent.document.title='owned'</script>\"></iframe>"
)


def in_flight(server: Running) -> int:
    """How many requests the server is answering."""
    with urllib.request.urlopen(f"{server.url}/v1/requests", timeout=30) as reply:
        return len(json.load(reply)["data"])


# ---- streaming -------------------------------------------------------------------------------------------------------


def test_an_answer_streams_and_is_stopped(page: Page, ui_server: Running) -> None:
    open_chat(page, "slow")
    say(page, "[[count:2000]]")
    answer = answers(page).first
    expect(text_of(answer)).to_contain_text("1 2 3", timeout=WAIT_MS)
    early = text_of(answer).inner_text()
    expect(text_of(answer)).to_contain_text("20 21 22", timeout=WAIT_MS)
    assert len(text_of(answer).inner_text()) > len(early)
    page.get_by_role("button", name="Stop").click()
    expect(answer.get_by_text("Stopped")).to_be_visible()
    line = answer.get_by_role("button", name="Timeline of this answer")
    told = line.get_by_role("img").get_attribute("aria-label") or ""
    assert re.search(r"Before the prompt [\d.]+ m?s, Prefill [\d.]+ m?s, Decode [\d.]+ m?s", told), (
        "until it was stopped"
    )
    tokens = re.search(r"(\d+) tokens", line.inner_text())
    assert tokens is not None
    assert int(tokens[1]) >= len("1 2 3 4 5 6 7 8 9")
    page.wait_for_function("() => fetch('/v1/requests').then((r) => r.json()).then((told) => told.data.length === 0)")
    assert in_flight(ui_server) == 0
    text = text_of(answer).inner_text()
    assert text.startswith("1 2 3")
    assert "1999" not in text
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    assert text_of(ask(page, "[[say:still here]]")).inner_text() == "still here"


@long
def test_under_an_answer_is_its_timeline(page: Page) -> None:
    open_chat(page)
    answer = ask(page, "[[say:measured]]")
    line = answer.get_by_role("button", name="Timeline of this answer")
    told = line.get_by_role("img").get_attribute("aria-label") or ""
    assert re.search(r"Prefill [\d.]+ m?s, Decode [\d.]+ m?s", told)
    expect(line).to_contain_text("9 tokens")  # eight letters and the end
    line.click()
    dialog = page.get_by_role("dialog", name="Where the time went")
    expect(dialog.locator(".waterfall")).to_contain_text("decode")
    expect(dialog.get_by_text(re.compile("slower than usual|was expected"))).to_be_visible()
    audit(page)
    dialog.get_by_role("link", name="Open this request").click()
    page.wait_for_url("**/ui/performance/requests/req_*")
    expect(dialog).to_have_count(0)
    page.go_back()
    expect(text_of(answers(page).first)).to_have_text("measured", timeout=WAIT_MS)


@long
def test_an_answer_stopped_early_tells_how_far_it_was_measured(page: Page) -> None:
    open_chat(page, "slow")
    say(page, "[[count:2000]]")
    answer = answers(page).first
    expect(text_of(answer)).to_contain_text("1 2 3", timeout=WAIT_MS)
    page.get_by_role("button", name="Stop").click()
    answer.get_by_role("button", name="Timeline of this answer").click()
    dialog = page.get_by_role("dialog", name="Where the time went")
    expect(dialog.locator(".waterfall-legend")).to_contain_text("before")
    expect(dialog.locator(".waterfall-legend")).to_contain_text("decode")
    expect(dialog).to_contain_text("This is what had been measured until then")
    audit(page)
    page.keyboard.press("Escape")
    page.reload()
    kept = answers(page).first.get_by_role("button", name="Timeline of this answer")
    expect(kept).to_contain_text("tokens", timeout=WAIT_MS)


# ---- calls and images ------------------------------------------------------------------------------------------------


def test_a_tool_is_called_and_answered(page: Page) -> None:
    open_chat(page)
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    page.get_by_label("Tools", exact=True).fill("[{}]")
    expect(page.get_by_text("Each tool needs a name")).to_be_visible()
    page.get_by_label("Tools", exact=True).fill(WEATHER)
    expect(page.get_by_text("Each tool needs a name")).to_have_count(0)
    answer = ask(page, '[[call:weather {"city": "Oslo"}]]')
    expect(answer.get_by_label("Arguments of weather")).to_have_text('{\n  "city": "Oslo"\n}')
    audit(page)
    result = answer.get_by_label("Result of weather")
    expect(result).to_be_focused()
    result.fill("[[say:It rains in Oslo.]]")
    answer.get_by_role("button", name="Send the result").click()
    assert text_of(whole(page, 1)).inner_text() == "It rains in Oslo."
    expect(page.get_by_role("article", name="Result of weather")).to_contain_text("It rains")


@long
def test_images_are_picked_pasted_and_dropped(page: Page, tmp_path: Path) -> None:
    open_chat(page, "seeing")
    path = tmp_path / "<b>red<b>.png"
    path.write_bytes(plain(48, 32))
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Add images").click()
    choosing.value.set_files(path)
    expect(page.get_by_role("img", name="<b>red<b>.png")).to_be_visible()
    give(page, "paste", plain(16, 16))
    give(page, "drop", plain(8, 24))
    expect(page.locator(".composer .thumbnail")).to_have_count(3)
    page.get_by_role("button", name="Remove paste.png").click()
    answer = ask(page, "[[see]]")
    seen = json.loads(text_of(answer).inner_text())
    assert [(image["width"], image["height"]) for image in seen] == [(48, 32), (8, 24)]
    expect(page.locator("article.user img")).to_have_count(2)


# ---- editing, versions, keeping --------------------------------------------------------------------------------------


def test_editing_answering_again_and_what_a_reload_keeps(page: Page) -> None:
    open_chat(page)
    ask(page, "first")
    ask(page, "second")
    page.get_by_role("button", name="Edit the message").last.click()
    page.get_by_label("The message, edited").fill("third")
    page.keyboard.press("Enter")
    assert text_of(whole(page, 1)).inner_text() == "third"
    page.get_by_role("button", name="Answer again").click()
    expect(page.get_by_text("2 / 2")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="Earlier version").click()
    expect(page.get_by_text("1 / 2")).to_be_visible()
    address = page.url
    assert "c=" in address
    page.reload()
    expect(page.locator("article.user")).to_have_text(["first", "third"], timeout=WAIT_MS)
    expect(text_of(answers(page))).to_have_text(["first", "third"])
    expect(page.get_by_text("1 / 2")).to_be_visible()
    assert page.url == address
    page.get_by_role("button", name="Edit the message").first.click()
    page.get_by_label("The message, edited").fill("anew")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    expect(page.locator("article.user")).to_have_text(["anew"])
    assert text_of(whole(page, 0)).inner_text() == "anew"


# ---- S-58: what comes from outside runs nothing ----------------------------------------------------------------------


def test_hostile_output_runs_no_script(page: Page) -> None:
    open_chat(page)
    answer = ask(page, f"[[think:{HOSTILE}]][[say:{HOSTILE}\n\n```html\n{HOSTILE}\n```]]")
    assert "<script>document.title" in text_of(answer).inner_text()
    assert answer.locator("img, script, svg[onload], iframe, a[href^=javascript]").count() == 0
    answer.get_by_text("Thought").click()
    page.reload()
    expect(text_of(answers(page).first)).to_contain_text("onerror", timeout=WAIT_MS)
    assert "owned" not in page.evaluate("() => document.title").split("·")[1]
    assert page.evaluate("() => document.querySelectorAll('main img, main script, main iframe').length") == 0


# ---- the long tier ---------------------------------------------------------------------------------------------------


@long
def test_reasoning_is_folded_once_the_answer_begins(page: Page) -> None:
    open_chat(page, "slow")
    say(page, "[[think:one two three four five]][[say:" + "word " * 20 + "]]")
    thought = answers(page).first.locator("details")
    expect(thought).to_have_attribute("open", "", timeout=WAIT_MS)
    expect(text_of(answers(page).first)).to_contain_text("word", timeout=WAIT_MS)
    expect(thought).not_to_have_attribute("open", "")
    thought.locator("summary").click()
    answer = whole(page, 0)
    expect(answer.locator("details")).to_contain_text("one two three four five")


@long
def test_an_answer_goes_on_while_the_reader_is_elsewhere(page: Page) -> None:
    open_chat(page, "slow")
    say(page, "[[count:60]]")
    expect(text_of(answers(page).first)).to_contain_text("1 2 3", timeout=WAIT_MS)
    page.get_by_role("button", name="New chat").click()
    assert text_of(ask(page, "[[say:beside]]")).inner_text() == "beside"
    page.evaluate("() => import('/ui/lib/route.js').then((it) => it.go('/ui/nowhere'))")
    page.get_by_role("link", name="To the chat").click()
    page.locator(".heads .open", has_text="count:60").click()
    answer = whole(page, 0)
    assert text_of(answer).inner_text() == " ".join(map(str, range(1, 61)))
    assert answers(page).count() == 1


@long
def test_the_end_is_followed_unless_the_reader_scrolled(page: Page) -> None:
    open_chat(page, "slow")
    say(page, "[[say:" + "line\n\n" * 150 + "]]")
    at_end = (
        "() => { const s = document.querySelector('.scroller');"
        " return s.scrollHeight - s.scrollTop - s.clientHeight < 50; }"
    )
    page.wait_for_function("() => document.querySelector('.scroller').scrollHeight > 1400")
    assert page.evaluate(at_end)
    page.evaluate("() => { document.querySelector('.scroller').scrollTop = 100; }")
    expect(page.get_by_role("button", name="Newest")).to_be_visible()
    height = page.evaluate("() => document.querySelector('.scroller').scrollHeight")
    page.wait_for_function("(height) => document.querySelector('.scroller').scrollHeight > height", arg=height)
    assert page.evaluate("() => document.querySelector('.scroller').scrollTop") == 100
    page.get_by_role("button", name="Newest").click()
    page.wait_for_function(at_end)
    page.keyboard.press("Escape")


@long
def test_settings_reach_the_request(page: Page) -> None:
    open_chat(page)
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    for label, value in {
        "System prompt": "Be brief.",
        "Temperature": "0.5",
        "Top p": "0.9",
        "Top k": "40",
        "Min p": "0.05",
        "Repeat penalty": "1.1",
        "Most tokens": "12",
        "Seed": "7",
        "Reasoning budget": "0",
        "Stop at": "STOP\nEND",
        "Tools": WEATHER,
    }.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Thinking").select_option("off")
    page.get_by_label("Calls").select_option("none")
    body = sent_with(page, "hello")
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    numbers = {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "max_tokens": 12}
    assert body | numbers | {"seed": 7, "reasoning_budget": 0, "stop": ["STOP", "END"]} == body
    assert (body["think"], body["tool_choice"]) == (False, "none")
    assert body["tools"][0]["function"]["name"] == "weather"
    page.get_by_role("button", name="Back to the defaults").click()
    left = sent_with(page, "again")
    assert set(left) == {"model", "messages", "stream", "stream_options", "include_performance", "timings_per_token"}


def sent_with(page: Page, text: str) -> dict[str, Any]:
    """The body of the request that a message makes."""
    pieces: list[bytes] = []

    def note(socket: WebSocket) -> None:
        assert socket.url.endswith("/v1/chat/completions")
        socket.on("framesent", lambda piece: pieces.append(piece.encode() if isinstance(piece, str) else piece))

    page.once("websocket", note)
    ask(page, text)
    body: dict[str, Any] = json.loads(b"".join(pieces))
    return body


@long
def test_conversations_are_renamed_exported_imported_and_deleted(page: Page, tmp_path: Path) -> None:
    open_chat(page)
    ask(page, "remember me")
    heads = page.locator(".heads .open")
    expect(heads).to_have_count(1)
    page.get_by_role("button", name="More of remember me").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("<i>mine</i>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="<i>mine</i>")).to_be_visible()
    page.get_by_role("button", name="More of conversations").click()
    with page.expect_download() as got:
        page.get_by_role("menuitem", name="Export all").click()
    path = tmp_path / "all.json"
    got.value.save_as(path)
    page.get_by_role("button", name="More of <i>mine</i>").click()
    with page.expect_download() as written:
        page.get_by_role("menuitem", name="Export as Markdown").click()
    assert written.value.path().read_text() == "# <i>mine</i>\n\n## You\n\nremember me\n\n## fake\n\nremember me\n"
    page.get_by_role("button", name="More of <i>mine</i>").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(heads).to_have_count(0)
    expect(page.get_by_text("What would you like to know?")).to_be_visible()
    bring(page, path)
    heads.first.click()
    expect(text_of(answers(page))).to_have_text(["remember me"])
    (tmp_path / "bad.json").write_text('{"format": "other"}')
    bring(page, tmp_path / "bad.json")
    expect(page.get_by_text("bad.json: This file holds no conversations")).to_be_visible()


def bring(page: Page, path: Path) -> None:
    page.get_by_role("button", name="More of conversations").click()
    with page.expect_file_chooser() as choosing:
        page.get_by_role("menuitem", name="Import").click()
    choosing.value.set_files(path)


@long
def test_an_imported_file_brings_nothing_but_texts(page: Page, tmp_path: Path) -> None:
    turn = {
        "role": "user",
        "text": HOSTILE,
        "images": [
            {"name": "x", "url": "https://evil.test/x.png"},
            {"name": "y", "url": "data:image/svg+xml;base64,PHN2Zz4="},
            "z",
        ],
    }
    answer = {
        "role": "assistant",
        "answers": [{"text": HOSTILE, "calls": [{"name": HOSTILE, "arguments": 3}], "measured": {"x": "y"}}],
        "chosen": 9,
    }
    given = {
        "id": "../x",
        "title": HOSTILE,
        "turns": [turn, answer, {"role": "system"}, None, 7],
        "settings": {"temperature": "hot"},
    }
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps({"format": "heylook.conversations", "conversations": [given, 1, "a", None]}))
    open_chat(page)
    bring(page, path)
    page.locator(".heads .open").first.click()
    expect(text_of(answers(page).first)).to_contain_text("onerror")
    assert page.evaluate("() => document.querySelectorAll('main img, main script, main iframe').length") == 0
    assert "owned" not in page.title().split("·")[1]


@long
def test_errors_are_told_in_the_servers_words(page: Page, watch: Watch) -> None:
    watch.expected.append("the server responded with a status of 50")
    open_chat(page, "broken")
    answer = ask(page, "hello")
    expect(answer.get_by_role("alert")).to_contain_text("the file is damaged")
    audit(page)
    page.get_by_label("Model", exact=True).select_option("fake")
    page.get_by_role("button", name="Answer again").click()
    expect(text_of(answers(page).first)).to_have_text("hello", timeout=WAIT_MS)
    expect(page.get_by_text("/ 2")).to_have_count(0)  # what failed is no version


@long
def test_it_says_that_a_model_is_being_loaded(page: Page) -> None:
    open_chat(page, "late")
    say(page, "hello")
    expect(page.get_by_text(re.compile(r"Loading late"))).to_be_visible(timeout=WAIT_MS)
    answer = whole(page, 0)
    expect(answer.get_by_role("button", name="Timeline of this answer")).to_contain_text(re.compile(r"load \d"))


@long
def test_the_bundled_models_answer(page: Page, tmp_path: Path) -> None:
    open_chat(page, "heylook-tiny")
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    page.get_by_label("Temperature").fill("0")
    assert text_of(ask(page, "What is the capital of France?")).inner_text() == "The capital of France is Paris."


@long
def test_the_keyboard_is_enough(page: Page) -> None:
    open_chat(page)
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    whole(page, 0)
    expect(page.locator("article.user .plain")).to_have_text("one\ntwo")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("The message, edited")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("The message, edited")).to_have_count(0)


@long
@pytest.mark.parametrize("width", [380, 1600])
def test_no_violation_empty_filled_and_with_its_settings(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_chat(page)
    audit(page)
    ask(
        page,
        "[[think:a thought]][[say:# A title\n\n- one\n- two\n\n`code` **bold** [a link](https://example.com)\n\n"
        "|a|b|\n|-|-|\n|1|2|\n\n```js\nlet x;\n```]]",
    )
    audit(page)
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    audit(page)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
