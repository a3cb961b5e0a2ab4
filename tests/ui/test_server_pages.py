"""The pages performance, request, models and settings, in a real browser against a real server."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.catalog.hub import Hub
from tests.catalog.places import gguf
from tests.serving import Running, running
from tests.ui.pages import Watch, violations
from tests.worker.tiers import LONG

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
long_tier = pytest.mark.skipif(not LONG, reason="a longer flow: HEYLOOK_TEST_TIER=long")
HOSTILE = "<img src=x onerror=alert(1)>"
MODELS = """
default_model: fake
prewarm: false
max_loaded_models: 3
models:
  - {id: fake, aliases: [gpt-4o], provider: fake, description: Says it again, config: {n_ctx: 2048, temperature: 0.7}}
  - {id: spare, provider: fake, config: {n_ctx: 2048, temperature: 0.7}}
  - {id: slow, provider: fake, config: {n_ctx: 2048, decode_tokens_per_second: 20}}
  - {id: late, provider: fake, config: {load_seconds: 1}}
  - {id: broken, provider: fake, config: {load_error: the file is damaged}}
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model to import, one that can't be served, and room for what is pulled."""
    root = tmp_path_factory.mktemp("places")
    gguf(root / "found" / "one.gguf")
    (root / "found" / "damaged.gguf").write_bytes(b"GGUF")
    return root


@pytest.fixture(scope="module")
def models_hub() -> Iterator[Hub]:
    """A hub on loopback to pull from."""
    made = Hub()
    with made.running():
        yield made


@pytest.fixture(scope="module")
def ui_server(tmp_path_factory: pytest.TempPathFactory, places: Path, models_hub: Hub) -> Iterator[Running]:
    """A server whose registry can be changed."""
    environment = {"HEYLOOK_MODELS": str(places / "pulled"), "HF_ENDPOINT": models_hub.url}
    folder = tmp_path_factory.mktemp("served")
    with running(MODELS, folder, environment=environment, import_roots=[str(places / "found")], record_text=True) as it:
        yield it


def ask(server: Running, text: str = "one two three", **fields: Any) -> str:
    """A finished request; its id."""
    body = {"model": "fake", "messages": [{"role": "user", "content": text}], **fields}
    headers = fields.pop("headers", None)
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    assert reply.status_code == 200, reply.text
    return str(reply.headers["x-request-id"])


def told(server: Running, path: str) -> Any:
    reply = httpx.get(server.url + path, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()


# ---- performance and one request -------------------------------------------------------------------------------------


def test_the_performance_page_shows_what_was_measured_and_leads_to_a_request(page: Page, ui_server: Running) -> None:
    identity = ask(ui_server, HOSTILE)
    page.goto("/ui/performance")
    expect(page.locator(".tile", has_text="In flight").locator(".figure-value")).to_have_text("0")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    distribution = page.get_by_role("region", name="Percentiles of fake")
    expect(distribution.get_by_role("row", name=re.compile("^TTFT"))).to_contain_text(re.compile(r"\d m?s"))
    requests = page.get_by_role("region", name="Finished requests")
    link = requests.locator(f'a[href$="{identity}"]')
    link.click()
    expect(page).to_have_url(re.compile(f"/ui/performance/requests/{identity}$"))
    whole = told(ui_server, f"/v1/performance/requests/{identity}")
    expect(page.get_by_role("heading", name="Request", exact=True)).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("It took")
    page.get_by_text("As a table").click()
    cells = page.locator(".waterfall-table tbody tr").evaluate_all(
        "rows => rows.map(row => [row.cells[0].textContent, Number(row.cells[3].textContent)])"
    )
    sums: dict[str, float] = {}
    for phase, spent in cells:
        sums[phase] = sums.get(phase, 0.0) + spent
    for phase, spent in whole["phases_ms"].items():
        assert sums.get(phase, 0.0) == pytest.approx(spent, abs=0.01), phase
    expect(page.locator(".kept-text").first).to_contain_text(HOSTILE)
    assert page.locator("img").count() <= 1, "nothing that was said is markup: the one image is the mark"
    page.reload()
    expect(page.get_by_role("region", name="Stamps")).to_contain_text("received")


@long_tier
def test_a_request_in_flight_is_shown_and_cancelled(page: Page, watch: Watch) -> None:
    watch.expected.append("status of 499")
    page.goto("/ui/performance")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    page.evaluate(
        """() => { window.asked = fetch("/v1/chat/completions", {method: "POST", headers: {"x-client-tag": "tester"},
        body: JSON.stringify({model: "slow", max_tokens: 2000, min_tokens: 2000, stream: true,
        messages: [{role: "user", content: "go on"}]})})
        .then(r => r.text()) }"""
    )
    flight = page.get_by_role("region", name="Requests in flight")
    expect(flight.get_by_role("row").filter(has_text="slow")).to_be_visible()
    flight.get_by_role("button", name=re.compile("^Cancel")).first.click()
    expect(flight).to_have_count(0)
    page.get_by_role("button", name="Show 1 new").click()
    rows = page.get_by_role("region", name="Finished requests").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("slow")
    expect(rows.nth(1)).to_contain_text("cancelled")


@long_tier
def test_requests_are_chosen_paged_and_found_again_after_a_reload(page: Page, ui_server: Running) -> None:
    for _ in range(35):
        ask(ui_server, headers={"x-run-id": "paged", "x-client-tag": HOSTILE})
    ask(ui_server)
    page.goto("/ui/performance")
    page.get_by_label("Run", exact=True).fill("paged")
    page.keyboard.press("Tab")
    rows = page.get_by_role("region", name="Finished requests").locator("tbody tr")
    expect(rows).to_have_count(25)
    expect(rows.first).to_contain_text(HOSTILE)
    page.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(10)
    page.get_by_role("button", name="Newer").click()
    expect(rows).to_have_count(25)
    page.reload()
    expect(page.get_by_label("Run", exact=True)).to_have_value("paged")
    expect(rows).to_have_count(25)
    page.get_by_label("Outcome").select_option("error")
    expect(page.get_by_role("heading", name="No request is like that")).to_be_visible()


@long_tier
def test_windows_profile_exports_and_clearing(page: Page, ui_server: Running) -> None:
    ask(ui_server)
    reply = httpx.post(f"{ui_server.url}/v1/chat/completions", json={"model": "broken", "messages": []}, timeout=30)
    assert reply.status_code >= 400
    page.goto("/ui/performance?window=24h")
    expect(page.get_by_role("radio", name="24h").first).to_be_checked()
    page.get_by_role("group", name="Window").get_by_role("radio", name="5m").check()
    expect(page).to_have_url(re.compile("window=5m"))
    expect(page.get_by_role("region", name="Errors by type")).to_be_visible()
    expect(page.get_by_role("region", name="Bottlenecks by model")).to_contain_text("fake")
    page.get_by_role("group", name="Span of the profile").get_by_role("radio", name="6h").check()
    expect(page).to_have_url(re.compile("profile=6h"))
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Requests as CSV").click()
    assert download.value.suggested_filename == "performance.csv"
    assert Path(download.value.path()).read_text().startswith("id,object,model")
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert told(ui_server, "/v1/performance/requests")["data"]
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="No request was measured yet")).to_be_visible()
    assert told(ui_server, "/v1/performance/requests")["data"] == []


@long_tier
def test_a_request_that_is_not_kept_says_so(page: Page, watch: Watch) -> None:
    watch.expected.append("404")
    page.goto("/ui/performance/requests/req_nothing")
    expect(page.get_by_role("heading", name="This request isn't kept")).to_be_visible()


# ---- models ----------------------------------------------------------------------------------------------------------


def test_a_model_is_loaded_pinned_and_unloaded_and_its_settings_changed(page: Page, ui_server: Running) -> None:
    page.goto("/ui/models")
    row = page.locator('[data-model="spare"]')
    row.get_by_role("button", name="Load", exact=True).click()
    expect(row.get_by_role("button", name="Unload")).to_be_visible()
    row.get_by_role("button", name="More for spare").click()
    page.get_by_role("menuitem", name="Pin").click()
    expect(row).to_contain_text("pinned")
    row.get_by_role("link", name="spare").click()
    page.get_by_text("Sampling, where a request says nothing").click()
    temperature = page.locator('[data-setting="config.temperature"]')
    temperature.get_by_role("textbox").fill("0.25")
    page.get_by_role("button", name="Preview").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("+      temperature: 0.25")
    dialog.get_by_role("button", name="Save").click()
    expect(temperature).to_contain_text("changed here")
    assert told(ui_server, "/v1/settings/models/spare")["values"]["config"]["temperature"] == 0.25
    temperature.get_by_role("button", name="Reset").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(temperature).not_to_contain_text("changed here")
    assert told(ui_server, "/v1/settings/models/spare")["values"]["config"]["temperature"] == 0.7


@long_tier
def test_what_a_setting_cannot_be_is_said_beside_it_or_by_the_server(page: Page, watch: Watch) -> None:
    watch.expected.append("400")
    page.goto("/ui/models/fake")
    page.get_by_label("Find a setting").fill("n_ctx")
    n_ctx = page.locator('[data-setting="config.n_ctx"]')
    n_ctx.get_by_role("textbox").fill("many")
    expect(n_ctx.get_by_role("textbox")).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator(".toast")).to_contain_text("no number")
    n_ctx.get_by_role("textbox").fill("1")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator(".toast").filter(has_text="n_ctx")).to_be_visible()
    page.get_by_role("button", name="Discard").click()
    expect(n_ctx.get_by_role("textbox")).to_have_value("2048")
    page.get_by_label("Find a setting").fill("log_file")
    expect(page.locator('[data-setting="config.log_file"]').get_by_role("textbox")).to_have_attribute("readonly", "")


@long_tier
def test_a_load_shows_its_progress_and_a_broken_one_its_reason(page: Page, watch: Watch) -> None:
    watch.expected.append("status of 5")
    page.goto("/ui/models")
    late = page.locator('[data-model="late"]')
    late.get_by_role("button", name="Load", exact=True).click()
    expect(late).to_contain_text("loading")
    expect(late.get_by_role("button", name="Unload")).to_be_visible()
    page.locator('[data-model="broken"]').get_by_role("button", name="Load", exact=True).click()
    expect(page.locator('[data-model="broken"]')).to_contain_text("damaged")


@long_tier
def test_models_of_this_machine_are_previewed_imported_and_deleted(page: Page, places: Path) -> None:
    page.goto("/ui/models")
    page.get_by_role("button", name="Import").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Look").click()
    found = dialog.get_by_role("region", name="Models that would be added")
    expect(found).to_contain_text("one")
    dialog.get_by_text("1 file can't be served").click()
    expect(dialog).to_contain_text(str(places / "found" / "damaged.gguf"))
    dialog.get_by_text("What changes in").click()
    expect(dialog.get_by_role("region", name="Difference")).to_contain_text("+  - id: one")
    dialog.get_by_role("button", name="Import 1 model").click()
    row = page.locator('[data-model="one"]')
    expect(row).to_be_visible()
    row.get_by_role("button", name="More for one").click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert (places / "found" / "one.gguf").exists()


@long_tier
def test_a_pull_is_followed_cancelled_and_goes_on(page: Page, models_hub: Hub, watch: Watch, places: Path) -> None:
    watch.expected.append("status of (404|502)")
    weights = gguf(places / "hubs" / "model-Q4_K_M.gguf", rows=40_000).read_bytes()
    models_hub.repositories["org/model"] = {"model-Q4_K_M.gguf": weights}
    models_hub.gate = threading.Event()
    page.goto("/ui/models")
    page.get_by_role("button", name="Pull").click()
    page.get_by_label("Name").fill("org/model")
    page.get_by_role("dialog").get_by_role("button", name="Pull").click()
    pull = page.locator('[data-pull="org/model"]')
    expect(pull.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="Performance").click()
    page.get_by_role("navigation").get_by_role("link", name="Models").click()
    expect(pull).to_be_visible()
    pull.get_by_role("button", name="Cancel").click()
    expect(pull).to_have_count(0)
    models_hub.gate.set()
    page.get_by_role("button", name="Pull").click()
    page.get_by_label("Name").fill("org/model")
    page.get_by_role("dialog").get_by_role("button", name="Pull").click()
    expect(pull).to_contain_text("It is here")
    expect(page.locator('[data-model="org/model"]')).to_be_visible()
    page.get_by_role("button", name="Pull", exact=True).click()
    page.get_by_label("Name").fill("org/nothing")
    page.get_by_role("dialog").get_by_role("button", name="Pull").click()
    expect(page.locator('[data-pull="org/nothing"]').get_by_role("alert")).to_be_visible()


# ---- settings --------------------------------------------------------------------------------------------------------


def test_the_settings_page_tells_what_is_set_up(page: Page, ui_server: Running) -> None:
    page.goto("/ui/settings")
    expect(page.get_by_role("region", name="Limits of models.yaml")).to_contain_text("max_queue")
    expect(page.locator("main")).to_contain_text("On loopback no key is needed")
    expect(page.locator("main")).to_contain_text("In memory: forgotten when the server ends.")
    page.get_by_text("What each can do").click()
    expect(page.get_by_role("region", name="Features of the engines")).to_contain_text("Tool calls")
    expect(page.locator("main")).to_contain_text(told(ui_server, "/hardware")["processor"]["name"])
    page.get_by_role("group", name="Theme").get_by_role("radio", name="Dark").check()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    computed = page.get_by_role("group", name="Models of llama.cpp").get_by_role("link")
    listed = [one["id"] for one in told(ui_server, "/v1/settings/models")["data"] if one["provider"] == "llama_cpp"]
    assert computed.all_inner_texts() == listed


@long_tier
def test_a_key_is_written_once_never_shown_and_goes_with_its_address(page: Page, ui_server: Running) -> None:
    page.goto("/ui/settings")
    page.get_by_role("button", name="Add").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(HOSTILE)
    dialog.get_by_label("Address").fill("http://127.0.0.1:9/v1")
    dialog.get_by_label("Key").fill("sk-a-secret-of-twenty")
    dialog.get_by_role("button", name="Keep").click()
    row = (
        page.get_by_role("region", name="Servers that benchmarks know by name")
        .get_by_role("row")
        .filter(has_text=HOSTILE)
    )
    expect(row).to_contain_text("••••enty")
    page.reload()
    expect(row).to_contain_text("••••enty")
    assert "sk-a-secret" not in page.content()
    row.get_by_role("button", name=f"More for {HOSTILE}").click()
    page.get_by_role("menuitem", name="Change").click()
    expect(dialog.get_by_label("Key")).to_have_value("")
    dialog.get_by_label("Address").fill("http://127.0.0.1:10/v1")
    dialog.get_by_role("button", name="Keep").click()
    expect(row).to_contain_text("none")
    expect(page.locator(".toast")).to_contain_text("its key was dropped")
    (target,) = told(ui_server, "/v1/bench/targets")["data"]
    assert (target["url"], target["key"]) == ("http://127.0.0.1:10", None)
    row.get_by_role("button", name=f"More for {HOSTILE}").click()
    page.get_by_role("menuitem", name="Remove").click()
    dialog.get_by_role("button", name="Forget").click()
    expect(row).to_have_count(0)


@long_tier
def test_no_page_has_serious_violations_wide_or_narrow(page: Page, ui_server: Running) -> None:
    identity = ask(ui_server)
    for path in ("performance", f"performance/requests/{identity}", "models", "models/fake", "settings"):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": 1600, "height": 900})
            page.emulate_media(
                color_scheme=scheme, reduced_motion="reduce"
            )  # before it opens: nothing changes meanwhile
            page.goto(f"/ui/{path}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert violations(page) == [], f"{path}, {scheme}"
        page.set_viewport_size({"width": 380, "height": 800})
        wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{path} is {wide} pixels wider than the screen"
