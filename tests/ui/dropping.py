"""Dropping files onto a page, as a reader does."""

from pathlib import Path

from playwright.sync_api import Page

_DROP = """(files) => {
  const held = new DataTransfer();
  for (const {name, text} of files) held.items.add(new File([text], name));
  for (const type of ["dragover", "drop"]) {
    document.dispatchEvent(new DragEvent(type, {dataTransfer: held, bubbles: true, cancelable: true}));
  }
}"""


def dropped(page: Page, *files: Path) -> None:
    """Drop files onto the page."""
    page.evaluate(_DROP, [{"name": file.name, "text": file.read_text(encoding="utf-8")} for file in files])
