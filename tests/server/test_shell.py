"""The files of the web pages: where they are, how they are kept by browsers, and what they never do."""

import asyncio
import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import drawing
from heylook_llm.errors import ConfigError
from heylook_llm.server import shell
from heylook_llm.server.app import create_app
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit

FILES = sorted(file for file in shell.FOLDER.rglob("*") if file.is_file())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
OURS = ("http://www.w3.org", "http://127.0.0.1")
"""SVG's namespace, which nobody fetches, and this machine."""
FORBIDDEN = (
    r"\b(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|setHTML|DOMParser"
    r"|createContextualFragment|importScripts|set(Timeout|Interval)\(\s*[\"'`]"
)


def app() -> Any:
    return create_app(ScriptedBackend())


def name_of(file: Path) -> str:
    return file.relative_to(shell.FOLDER).as_posix()


@pytest.mark.parametrize("path", ["/ui", "/ui/", "/ui/chat", "/ui/performance/requests/req_1", "/ui/bench/runs/a.b"])
async def test_every_page_is_the_shell(path: str) -> None:
    reply = await call(app(), "GET", path)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.body == (shell.FOLDER / "index.html").read_bytes()


@pytest.mark.parametrize(
    "path", ["/ui/nope.js", "/ui/lib/nope.js", "/ui/lib", "/ui/../pages.py", "/ui/lib/../../app.py"]
)
async def test_what_is_no_file_of_the_pages_is_not_found(path: str) -> None:
    reply = await call(app(), "GET", path)
    assert (reply.status, "There is no file" in reply.json["error"]["message"]) == (404, True)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_kept_by_its_content(file: Path) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    path = "/ui" if file.name == shell.SHELL else f"/ui/{name_of(file)}"
    plain = asyncio.run(_get(path))
    assert (plain.status, plain.body) == (200, file.read_bytes())
    assert plain.headers["content-type"].partition(";")[0] == types[file.suffix]
    assert plain.headers["vary"] == "Accept-Encoding"
    packed = asyncio.run(_get(path, {"accept-encoding": "br, gzip"}))
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["etag"] != plain.headers["etag"]
    for first, encoding in ((plain, "gzip;q=0"), (packed, "gzip")):
        known = {"if-none-match": f'"other", {first.headers["etag"]}', "accept-encoding": encoding}
        again = asyncio.run(_get(path, known))
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])


@pytest.mark.parametrize("path", shell.ELSEWHERE)
async def test_what_draws_comes_packed_and_is_kept_by_its_content(path: str) -> None:
    content = shell.ELSEWHERE[path]().read_bytes()
    packed = await _get(f"/ui/{path}", {"accept-encoding": "gzip"})
    assert (packed.status, packed.headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(packed.body) == content
    assert packed.headers["content-type"].partition(";")[0] == "text/javascript"
    again = await _get(f"/ui/{path}", {"accept-encoding": "gzip", "if-none-match": packed.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert (await _get(f"/ui/{path}")).body == content


async def test_without_plotly_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise ConfigError("Plots are drawn by plotly, which isn't installed: pip install plotly")

    monkeypatch.setitem(shell.ELSEWHERE, "plotly.js", missing)
    reply = await _get("/ui/plotly.js")
    assert (reply.status, "isn't installed" in reply.json["error"]["message"]) == (404, True)


def test_our_figures_make_no_markup_of_texts() -> None:
    assert not re.search(FORBIDDEN, drawing.FIGURES.read_text(encoding="utf-8"))


def test_an_edited_file_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "FOLDER", tmp_path)
    page = tmp_path / "index.html"
    page.write_text("one")
    first = asyncio.run(_get("/ui"))
    page.write_text("another")
    second = asyncio.run(_get("/ui", {"if-none-match": first.headers["etag"]}))
    assert (first.body, second.status, second.body) == (b"one", 200, b"another")


async def _get(path: str, headers: dict[str, str] | None = None) -> Client:
    return await call(app(), "GET", path, headers=headers)


async def test_the_policy_lets_no_foreign_content_in() -> None:
    headers = (await call(app(), "GET", "/ui")).headers
    rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == rules["script-src"] == rules["connect-src"] == "'self'"
    assert rules["style-src"] == "'self' 'unsafe-inline'"
    assert rules["img-src"] == "'self' data: blob:"
    assert rules["object-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("file", SCRIPTS, ids=name_of)
def test_a_script_makes_no_markup_of_texts(file: Path) -> None:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        assert not re.search(FORBIDDEN, line), f"{name_of(file)}:{number}: {line.strip()}"


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix != ".svg"], ids=name_of)
def test_nothing_comes_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    foreign = {url for url in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text) if url not in OURS}
    assert not foreign, foreign
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=\"|javascript:", text)


@pytest.mark.parametrize("file", SCRIPTS, ids=name_of)
def test_what_a_script_imports_is_there(file: Path) -> None:
    for target in re.findall(
        r"^(?:import|export)\b[^;]*?from \"([^\"]+)\"", file.read_text(encoding="utf-8"), re.MULTILINE
    ):
        assert (file.parent / target).resolve() in FILES or target.startswith("/ui/"), target


def test_every_page_of_the_table_is_there() -> None:
    table = (shell.FOLDER / "app.js").read_text(encoding="utf-8")
    modules = re.findall(r'module: "(\w+)"', table)
    assert modules
    for module in modules:
        text = (shell.FOLDER / "pages" / f"{module}.js").read_text(encoding="utf-8")
        assert "export const title" in text, module
        assert "export async function open(" in text, module
