"""S-58: hostile output, names and files are texts on every page that shows what comes from outside."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.bench.asking import Asking
from tests.catalog.hub import Hub
from tests.catalog.places import gguf
from tests.picture_files import plain
from tests.serving import Running, running
from tests.ui.chatting import answers, ask, open_chat, text_of
from tests.ui.hostile import EVIL, NAME, SCRIPT, hostile, runs_nothing
from tests.ui.pages import WAIT_MS, Watch, long

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), long]

FILE = "<img src=x onerror=window.hacked=1> \u202ecod"
"""A name that a file may have."""
MODELS = f"""
default_model: fake
prewarm: false
models:
  - {{id: fake, provider: fake, config: {{n_ctx: 4096}}}}
  - id: evil
    provider: fake
    description: {json.dumps(EVIL)}
    tags: [{json.dumps(SCRIPT)}]
    license: [{json.dumps(EVIL)}]
    config: {{n_ctx: 4096, image_tokens: 16, reply: {json.dumps(EVIL)}}}
  - id: broken
    provider: fake
    description: {json.dumps(EVIL)}
    config: {{load_error: {json.dumps(EVIL)}}}
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places")
    gguf(root / "found" / FILE / f"{FILE}.gguf", general__name=EVIL)
    (root / "found" / f"damaged {FILE}.gguf").write_bytes(b"GGUF")
    return root


@pytest.fixture(scope="module")
def ui_server(tmp_path_factory: pytest.TempPathFactory, places: Path) -> Iterator[Running]:
    """A server whose models, files and hub are hostile, and which keeps what is said."""
    hub = Hub()
    with hub.running():
        environment = {"HEYLOOK_MODELS": str(places / "pulled"), "HF_ENDPOINT": hub.url}
        folder, roots = tmp_path_factory.mktemp("served"), [str(places / "found")]
        with running(MODELS, folder, environment=environment, import_roots=roots, record_text=True) as it:
            yield it


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with hostile() as it:
        yield it


@pytest.fixture(autouse=True)
def nothing_runs(page: Page, watch: Watch) -> Iterator[None]:
    """After each test too; dialogs of the browser are a script's."""
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog came: {dialog.message}"))
    watch.expected.append("the server responded with a status of [45]")
    yield
    runs_nothing(page)


def test_the_chat(page: Page, tmp_path: Path) -> None:
    page.goto("/ui/chat")
    page.get_by_label("Model", exact=True).select_option("evil")
    picture = tmp_path / f"{FILE}.png"
    picture.write_bytes(plain(16, 16))
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Add images").click()
    choosing.value.set_files(picture)
    answer = ask(page, EVIL)
    assert SCRIPT.partition("<svg")[0] in text_of(answer).inner_text()
    expect(page.locator("article.user")).to_contain_text("<script>window.hacked=1</script>")
    runs_nothing(page)
    page.get_by_role("button", name="Timeline of this answer").click()
    expect(page.get_by_role("dialog").locator(".waterfall")).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()
    expect(text_of(answers(page).first)).to_contain_text("window.hacked", timeout=WAIT_MS)


def test_an_error_in_the_chat(page: Page) -> None:
    open_chat(page, "broken")
    expect(ask(page, "hello").get_by_role("alert")).to_contain_text("<script>window.hacked=1</script>")


def test_a_call_of_a_tool(page: Page) -> None:
    open_chat(page)
    page.get_by_role("button", name="Settings of this conversation", exact=True).click()
    page.get_by_label("Tools", exact=True).fill('[{"name": "look", "parameters": {"type": "object"}}]')
    answer = ask(page, f"[[call:look {json.dumps({'at': SCRIPT})}]]")
    expect(answer.get_by_label("Arguments of look")).to_contain_text("window.hacked")


def test_performance_and_a_request(page: Page, ui_server: Running) -> None:
    headers = {"content-type": "application/json", "x-client-tag": SCRIPT, "x-run-id": SCRIPT, "user-agent": SCRIPT}
    body = json.dumps({"model": "evil", "messages": [{"role": "user", "content": EVIL}], "user": SCRIPT}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{ui_server.url}/v1/chat/completions", body, headers)) as reply:
        identity = reply.headers["x-request-id"]
    page.goto("/ui/performance")
    rows = page.get_by_role("region", name="Finished requests")
    expect(rows.get_by_text("<script>").first).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("region", name="Percentiles of evil")).to_be_visible()
    runs_nothing(page)
    page.goto(f"/ui/performance/requests/{identity}")
    expect(page.locator(".kept-text").first).to_contain_text("window.hacked", timeout=WAIT_MS)


def test_models_and_their_settings(page: Page) -> None:
    page.goto("/ui/models")
    row = page.locator('[data-model="evil"]')
    expect(row).to_contain_text("4,096 tokens", timeout=WAIT_MS)
    page.locator('[data-model="broken"]').get_by_role("button", name="Load", exact=True).click()
    expect(page.locator('[data-model="broken"]')).to_contain_text("<script>", timeout=WAIT_MS)
    runs_nothing(page)
    row.get_by_role("link").first.click()
    expect(page.locator("main")).to_contain_text("<script>window.hacked=1</script>", timeout=WAIT_MS)
    page.get_by_label("Find a setting").fill(SCRIPT)


def test_files_of_this_machine(page: Page) -> None:
    page.goto("/ui/models")
    page.get_by_role("button", name="Import").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Look").click()
    expect(dialog.get_by_role("region", name="Models that would be added")).to_contain_text("img", timeout=WAIT_MS)
    dialog.get_by_text("can't be served").click()
    expect(dialog).to_contain_text("damaged <img src=x onerror=window.hacked=1> \\u202ecod.gguf")
    dialog.get_by_text("What changes in").click()
    expect(dialog.get_by_role("region", name="Difference")).to_contain_text("onerror")
    runs_nothing(page)
    dialog.get_by_role("button", name="Import 1 model").click()
    expect(page.locator("[data-model]").filter(has_text="img src").last).to_be_visible()


def test_a_pull_of_what_is_none(page: Page) -> None:
    page.goto("/ui/models")
    page.get_by_role("button", name="Pull", exact=True).click()
    page.get_by_label("Name").fill(SCRIPT)
    page.get_by_role("dialog").get_by_role("button", name="Pull").click()
    expect(page.locator("[data-pull]").get_by_role("alert")).to_be_visible(timeout=WAIT_MS)


def test_a_benchmark_of_a_hostile_server(page: Page, target: str, ui_server: Running, browser: Browser) -> None:
    page.goto("/ui/bench")
    builder = page.get_by_role("region", name="New benchmark")
    builder.get_by_role("button", name="Add a server").click()
    dialog = page.get_by_role("dialog", name="Add a server")
    dialog.get_by_label("Name").fill(NAME)
    dialog.get_by_label("Address").fill(target)
    dialog.get_by_role("button", name="Keep").click()
    expect(builder).to_contain_text(NAME, timeout=WAIT_MS)
    own = builder.get_by_role("checkbox", name="This server")
    if own.is_checked():
        own.uncheck()
    model = builder.get_by_placeholder("another model")
    model.fill(SCRIPT)
    model.press("Enter")
    builder.get_by_text("More about the run", exact=True).click()
    builder.get_by_label("Name", exact=True).fill(EVIL)
    builder.get_by_label("Requests", exact=True).fill("12")
    builder.get_by_label("Measure the bench itself first").uncheck()
    run = builder.get_by_role("button", name="Run", exact=True)
    expect(run).to_be_enabled(timeout=WAIT_MS)
    runs_nothing(page)
    run.click()
    page.wait_for_url(re.compile("/ui/bench/runs/[0-9A-Z]{26}$"))
    identity = page.url.rpartition("/")[2]
    expect(page.locator(".heading .badge")).to_have_text(re.compile("done|failed"), timeout=WAIT_MS)
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>")
    expect(page.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    samples = page.locator("section.card").filter(has=page.get_by_role("heading", name="Samples", exact=True))
    samples.get_by_label("Outcome").select_option("error")
    expect(samples.locator("tbody tr").first).to_be_visible()
    runs_nothing(page)
    told = Asking(ui_server.url).ask("GET", f"/v1/bench/runs/{identity}")
    counts = {name: sum(cell["outcomes"].get(name, 0) for cell in told["cells"]) for name in ("ok", "error")}
    assert counts["ok"] > 0
    assert counts["error"] > 0
    page.goto(f"/ui/bench/compare?runs={identity}")
    expect(page.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    runs_nothing(page)
    page.goto("/ui/bench")
    expect(page.get_by_role("row", name=re.compile("<script>")).first).to_be_visible(timeout=WAIT_MS)
    runs_nothing(page)
    page.goto("/ui/settings")
    expect(page.get_by_role("region", name="Servers that benchmarks know by name")).to_contain_text(NAME)
    runs_nothing(page)
    report_runs_nothing(browser, Asking(ui_server.url).raw("GET", f"/v1/bench/runs/{identity}/export?format=html")[2])


def report_runs_nothing(browser: Browser, report: bytes) -> None:
    """The HTML file of that run, opened as a file."""
    context = browser.new_context()
    page = context.new_page()
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.route("http://report.test/", lambda route: route.fulfill(body=report, content_type="text/html"))
    page.goto("http://report.test/")
    expect(page.locator(".main-svg").first).to_be_visible(timeout=WAIT_MS)
    assert page.evaluate("() => window.hacked") is None
    assert not seen
    context.close()
