"""Answers and pulls by WebSocket, and by a request where none opens; large ones, keys, ends."""

import json

import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect

from tests.serving import Running, running
from tests.ui.chatting import answers, ask, open_chat, say, text_of
from tests.ui.pages import MODELS, WAIT_MS, Watch, long

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), long]

NONE_OPENS = """class None_ {
  constructor() { setTimeout(() => this.onclose?.({wasClean: false})); }
  close() {}
}
window.WebSocket = None_;"""
"""What a proxy that knows no WebSockets looks like from within a page."""


def test_where_no_socket_opens_an_answer_streams_all_the_same(page: Page) -> None:
    page.add_init_script(NONE_OPENS)
    open_chat(page, "slow")
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page, "[[count:2000]]")
    assert json.loads(sent.value.post_data or "")["stream"] is True
    expect(text_of(answers(page).first)).to_contain_text("1 2 3", timeout=WAIT_MS)
    page.get_by_role("button", name="Stop").click()
    expect(answers(page).first.get_by_text("Stopped")).to_be_visible()
    page.wait_for_function("() => fetch('/v1/requests').then((r) => r.json()).then((told) => told.data.length === 0)")


def test_what_is_said_is_cut_within_no_letter(page: Page) -> None:
    """A message of several pieces, of letters of one to four bytes."""
    pieces: list[bytes] = []

    def note(socket: WebSocket) -> None:
        socket.on("framesent", lambda piece: pieces.append(piece.encode() if isinstance(piece, str) else piece))

    open_chat(page)
    page.on("websocket", note)
    said = "a\u00fc\u20ac\U0001f600" * 40_000
    say(page, said)
    expect(answers(page).first.get_by_role("alert")).to_contain_text("context", timeout=WAIT_MS)
    assert len(pieces) > 1
    assert max(map(len, pieces)) == 1 << 18
    assert json.loads(b"".join(pieces))["messages"] == [{"role": "user", "content": said}]


def test_a_key_is_asked_for_when_an_answer_needs_it(browser: Browser, locked: Running) -> None:
    context = browser.new_context(base_url=locked.url)
    context.add_init_script("sessionStorage.setItem('heylook.key', 'schl\u00fcssel')")
    page = context.new_page()
    watch = Watch(page)
    open_chat(page)
    assert text_of(ask(page, "[[say:first]]")).inner_text() == "first"
    page.evaluate("() => import('/ui/lib/key.js').then((it) => it.forgetKey())")
    say(page, "[[say:second]]")
    dialog = page.get_by_role("dialog", name="Key")
    dialog.get_by_label("API key").fill("schl\u00fcssel", timeout=WAIT_MS)
    page.keyboard.press("Enter")
    expect(text_of(answers(page).nth(1))).to_have_text("second", timeout=WAIT_MS)
    watch.expected += ["status of 401", "HTTP Authentication failed"]
    watch.check()
    context.close()


def test_a_server_that_ends_is_told(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    context = browser.new_context()
    page = context.new_page()
    with running(MODELS, tmp_path_factory.mktemp("ending")) as server:
        page.goto(f"{server.url}/ui/chat?model=slow")
        expect(page.get_by_label("Model", exact=True)).to_have_value("slow", timeout=WAIT_MS)
        say(page, "[[count:2000]]")
        expect(text_of(answers(page).first)).to_contain_text("1 2 3", timeout=WAIT_MS)
        server.process.kill()
        expect(answers(page).first.get_by_role("alert")).to_contain_text("broke", timeout=WAIT_MS)
        expect(text_of(answers(page).first)).to_contain_text("1 2 3")
        page.get_by_role("button", name="Answer again").click()
        expect(answers(page).first.get_by_role("alert")).to_contain_text("doesn't answer", timeout=WAIT_MS)
    context.close()
