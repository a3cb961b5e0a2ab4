"""The chat page as a reader uses it."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.ui.pages import WAIT_MS

_GIVE = """([kind, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: "image/png"}));
  const options = {clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true};
  const event = kind === "paste" ? new ClipboardEvent("paste", options) : new DragEvent("drop", options);
  document.querySelector(kind === "paste" ? ".composer textarea" : ".thread").dispatchEvent(event);
}"""


def open_chat(page: Page, model: str = "fake") -> None:
    """An empty conversation with a model."""
    page.goto(f"/ui/chat?model={model}")
    expect(page.get_by_label("Model", exact=True)).to_have_value(model, timeout=WAIT_MS)


def say(page: Page, text: str) -> None:
    """Write a message, and send it."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def ask(page: Page, text: str) -> Locator:
    """The whole answer to a message."""
    before = answers(page).count()
    say(page, text)
    return whole(page, before)


def whole(page: Page, at: int) -> Locator:
    """The answer at a place, once it is whole."""
    answer = answers(page).nth(at)
    expect(answer).to_have_class(re.compile(r"\bwhole\b"), timeout=WAIT_MS)
    return answer


def answers(page: Page) -> Locator:
    """All answers."""
    return page.locator("article.assistant")


def text_of(answer: Locator) -> Locator:
    """What an answer says, without its reasoning."""
    return answer.locator("> .md")


def give(page: Page, kind: str, picture: bytes) -> None:
    """Paste or drop a PNG, which is named after the way it came."""
    page.evaluate(_GIVE, [kind, list(picture)])
