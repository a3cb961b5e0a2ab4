"""Benchmarks in a real browser: the builder's every control, a run from the click to its report, what is kept of it."""

import os
import re
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, expect

from tests.bench.asking import Asking
from tests.serving import Running
from tests.ui.pages import WAIT_MS, Watch, audit

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
long = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui")

SCENARIO: Final = "D(20,8)"


@pytest.fixture
def asking(ui_server: Running) -> Asking:
    return Asking(ui_server.url)


class Builder:
    """The builder of an open page, and the specs that it asks an estimate of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root = page.get_by_role("region", name="New benchmark")

    def open(self) -> "Builder":
        """Open the page, and wait until its servers are there and the footer tells what it comes to."""
        self.page.goto("/ui/bench")
        expect(self.root.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=WAIT_MS)
        self.page.evaluate(WATCHED)
        return self

    def spec(self, act: Callable[[], object]) -> dict[str, Any]:
        """The spec after something was done."""
        with self.page.expect_request(lambda request: request.url.endswith("/v1/bench/estimate")) as asked:
            act()
        found = asked.value.post_data_json
        assert isinstance(found, dict)
        return found

    def field(self, label: str) -> Locator:
        """A control by its label."""
        return self.root.get_by_label(label, exact=True)

    def fill(self, label: str, value: str) -> dict[str, Any]:
        """The spec after a field was filled."""
        return self.spec(lambda: self.field(label).fill(value))

    def press(self, name: str) -> dict[str, Any]:
        """The spec after a button or a chip was pressed."""
        return self.spec(lambda: self.root.get_by_role("button", name=name, exact=True).click())

    def ready(self) -> None:
        """Until the footer tells what it comes to."""
        expect(self.root.get_by_role("button", name="Run", exact=True)).to_be_enabled(timeout=WAIT_MS)


WATCHED: Final = """() => {
  const labelled = (one) => one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent;
  window.nameOf = (one) => labelled(one) ?? (one.title || one.textContent);
  window.touched = new Set();
  const note = (event) => {
    const control = event.target.closest("input, select, textarea, button");
    if (control) window.touched.add(window.nameOf(control));
  };
  for (const type of ["input", "change", "click"]) document.addEventListener(type, note, true);
}"""
"""Notes by its name what was touched: many controls are drawn anew when something changes."""
UNTOUCHED: Final = """() => [...document.querySelectorAll(".bench-builder :is(input, select, textarea, button.chip)")]
  .map(window.nameOf).filter((name) => !window.touched.has(name))"""


@long
def test_every_control_of_the_builder_changes_the_spec(page: Page, ui_server: Running, watch: Watch) -> None:
    watch.expected.append(r"status of 400 .*/v1/bench/(estimate|targets/elsewhere)")
    builder = Builder(page).open()
    for summary in ("Your own prompts", "More about prompts", "More about the run"):
        builder.root.get_by_text(summary, exact=True).click()
    changes_workload(builder)
    changes_load(builder)
    changes_targets(builder, ui_server.url)
    left = [one for one in page.evaluate(UNTOUCHED) if one not in ALIKE]
    assert left == [], "every control is changed by this test"
    audit(page)


ALIKE: Final = frozenset(
    {
        "Measure the bench itself first",
        "Pull what is missing",
        "Quick look",
        "Chat",
        "RAG",
        "Code",
        "Long output",
        "My traffic",
    }
)
"""What other tests change: it isn't in the spec, or it is all of it."""


def changes_workload(builder: Builder) -> None:
    shape = builder.field("How lengths are drawn")
    for task, name, fields, text in (
        ("embeddings", "documents", {"Tokens each": "99", "Tokens at once": "3"}, "E(99,3)"),
        ("rerank", "ranked", {"Tokens each": "9", "Tokens query": "8", "Tokens documents": "7"}, "R(9,8,7)"),
        (
            "image-text",
            "images",
            {"Tokens wide": "64", "Tokens high": "32", "Tokens images": "2"},
            "I(64,32,2)/(50,100)",
        ),
        ("chat", "turns", {"Tokens turns": "3", "Tokens in": "9", "Tokens out": "8"}, "T(3)*D(9,8)"),
    ):
        spec = builder.spec(lambda task=task: builder.field("Task").select_option(task))  # type: ignore[misc]
        assert (spec["task"], len(spec["scenarios"])) == (task, 1)
        shape.select_option(name)
        for label, value in fields.items():
            builder.field(label).fill(value)
        assert builder.press("Add")["scenarios"][-1] == text
    builder.press("Remove T(3)*D(9,8)")
    assert builder.spec(lambda: builder.field("Task").select_option("completion"))["task"] == "completion"
    builder.root.get_by_role("button", name="Remove D(100,100)").click()
    expect(builder.root.get_by_text("Choose some traffic")).to_be_visible()
    for name, fields, text in (
        ("normal", {"Tokens in": "50", "Tokens out": "9"}, "N(50,240)/(9,150)"),
        ("uniform", {"Tokens in from": "5", "Tokens to": "60"}, "U(5,60)/(20,200)"),
        ("exact", {"Tokens in": "20", "Tokens out": "8"}, SCENARIO),
    ):
        shape.select_option(name)
        for label, value in fields.items():
            builder.field(label).first.fill(value)
        assert builder.press("Add")["scenarios"][-1] == text
    for name in ("N(50,240)/(9,150)", "U(5,60)/(20,200)"):
        assert name not in builder.press(f"Remove {name}")["scenarios"]
    tiers = builder.root.get_by_role("group", name="Context tiers")
    for at, tokens in enumerate((1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)):
        spec = builder.spec(lambda at=at: tiers.get_by_role("button").nth(at).click())  # type: ignore[misc]
        assert spec["scenarios"][-1] == f"D({tokens - 64},64)"
    expect(builder.root.get_by_text(re.compile("^8k, 16k, 32k, 64k, 128k: beyond the 4096 tokens"))).to_be_visible()
    for at in range(8):
        spec = builder.spec(lambda at=at: tiers.get_by_role("button").nth(at).click())  # type: ignore[misc]
    assert spec["scenarios"] == [SCENARIO]
    caches = ["warm"]
    for name, value in (("cold", "cold"), ("25 % shared", "prefix25"), ("50 % shared", "prefix50")):
        caches.append(value)
        assert builder.press(name)["cache"] == caches
    for name, value in (("75 % shared", "prefix75"), ("90 % shared", "prefix90")):
        caches.append(value)
        assert builder.press(name)["cache"] == caches
    assert builder.press("warm")["cache"] == caches[1:]
    assert builder.spec(lambda: builder.field("Hold answers to their length").uncheck())["force_length"] is False
    assert builder.fill("Fields of every request", '{"temperature": 0.7}')["options"] == {"temperature": 0.7}
    assert builder.spec(lambda: builder.field("Lengths are tokens of").select_option("engine"))["count"] == "engine"
    changes_prompts(builder)
    assert builder.fill("Seed", "42")["seed"] == 42
    assert builder.fill("Salt", "pepper")["salt"] == "pepper"


def changes_prompts(builder: Builder) -> None:
    spec = builder.fill("Prompts", "What is heat?\n\n  And cold? ")
    assert (spec["dataset"], spec["scenarios"]) == ({"prompts": ["What is heat?", "And cold?"]}, [SCENARIO, "dataset"])
    assert builder.fill("Tokens of an answer", "16")["dataset"]["output_tokens"] == 16
    builder.root.get_by_role("button", name="Keep as…").click()
    dialog = builder.page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("questions")
    dialog.get_by_role("button", name="Save").click()
    assert "dataset" not in builder.fill("Prompts", "")
    kept = builder.field("Kept sets of prompts")
    kept.select_option("")
    assert builder.spec(lambda: kept.select_option("questions"))["dataset"]["prompts"] == spec["dataset"]["prompts"]
    assert "dataset" not in builder.fill("Prompts", "")


def changes_load(builder: Builder) -> None:
    kind = builder.field("How requests come").first
    levels = builder.field("Clients, as 1, 4, 16")
    assert builder.spec(lambda: levels.fill("1, 2 8"))["loads"] == [{"kind": "closed", "levels": [1, 2, 8]}]
    rate = "Requests per second, as 2, 5"
    for name in ("poisson", "constant"):
        builder.spec(lambda name=name: kind.select_option(name))  # type: ignore[misc]
        assert builder.fill(rate, "3")["loads"] == [{"kind": name, "levels": [3]}]
    builder.spec(lambda: kind.select_option("gamma"))
    gamma = builder.fill("Burstiness: below 1, requests come in bursts", "0.25")["loads"]
    assert gamma == [{"kind": "gamma", "levels": [3], "burstiness": 0.25}]
    builder.spec(lambda: kind.select_option("ramp"))
    builder.fill("Requests per second at the beginning", "1")
    ramp = builder.fill("Seconds until the rate is reached", "12")["loads"]
    assert ramp == [{"kind": "ramp", "levels": [3], "ramp_from": 1, "ramp_seconds": 12}]
    builder.spec(lambda: kind.select_option("sweep"))
    assert builder.fill("Loads in all, 3 to 20", "4")["loads"] == [{"kind": "sweep", "levels": [4]}]
    assert builder.spec(lambda: kind.select_option("max"))["loads"] == [{"kind": "max", "levels": [1]}]
    assert len(builder.press("Add a load")["loads"]) == 2
    builder.spec(builder.root.get_by_role("button", name="Remove this load").first.click)
    spec = builder.spec(lambda: builder.field("How requests come").select_option("closed"))
    assert spec["loads"] == [{"kind": "closed", "levels": [2]}]
    for label, name, value in (
        ("Requests", "requests", 7),
        ("Seconds", "duration_seconds", 30),
        ("Runs", "repeats", 2),
        ("Warm-up", "warmup_requests", 0),
        ("Name", "name", "named"),
        ("Give up after, s", "timeout_seconds", 90),
        ("Drain, s", "drain_seconds", 5),
        ("Silent for at most, s", "stall_seconds", 7),
        ("Cool-down", "cooldown_requests", 3),
    ):
        assert builder.fill(label, str(value))[name] == value
    assert builder.spec(lambda: builder.field("Side by side").select_option("all"))["parallel"] == "all"
    limits: dict[str, int] = {}
    for label, name in (
        ("First token", "ttft"),
        ("Per token", "tpot"),
        ("Between tokens", "itl"),
        ("Whole answer", "e2e"),
    ):
        limits[name] = 100 + len(limits)
        assert builder.fill(label, str(limits[name]))["slo"] == limits
    builder.fill("Requests", "0")
    expect(builder.root.get_by_text(re.compile("requests: Input should be greater than or equal to 1"))).to_be_visible()
    expect(builder.root.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    assert builder.fill("Requests", "7")["requests"] == 7


def changes_targets(builder: Builder, url: str) -> None:
    models = builder.root.get_by_role("group", name="Models of This server")
    here = {"broken", "fake", "heylook-tiny", "heylook-tiny-vision", "late", "seeing", "slow"}
    chosen = builder.press("Look for servers again")["targets"][0]["models"]
    assert len(chosen) == 1
    for model in sorted(here):
        spec = builder.spec(lambda model=model: models.get_by_title(model, exact=True).click())  # type: ignore[misc]
        (target,) = spec["targets"]
        assert (model in target["models"]) == (model not in chosen)
    another = builder.field("Another model of This server")
    another.fill("org/other")
    assert "org/other" in builder.spec(lambda: another.press("Enter"))["targets"][0]["models"]
    expect(builder.root.get_by_text(re.compile("org/other: not there yet"))).to_be_visible()
    expect(builder.field("Pull what is missing")).to_be_visible()
    builder.spec(lambda: models.get_by_title("org/other", exact=True).click())
    add_server(builder, url)


def add_server(builder: Builder, url: str) -> None:
    page = builder.page
    builder.root.get_by_role("button", name="Add a server").click()
    dialog = page.get_by_role("dialog", name="Add a server")
    dialog.get_by_label("Name").fill("elsewhere")
    dialog.get_by_label("Address").fill("nonsense://x")
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog.get_by_text(re.compile("must be http"))).to_be_visible()
    dialog.get_by_label("Address").fill("http://127.0.0.1:9/v1")
    dialog.get_by_label("API").select_option("openai")
    dialog.get_by_label("Key").fill("sk-a-key-of-elsewhere")
    dialog.get_by_label("Price in").fill("1.5")
    dialog.get_by_label("Price out").fill("2")
    spec = builder.spec(lambda: dialog.get_by_role("button", name="Keep").click())
    added = next(one for one in spec["targets"] if one["url"] == "http://127.0.0.1:9")
    prices = {"price_in": 1.5, "price_out": 2}
    assert added == {
        "url": "http://127.0.0.1:9",
        "key": "kept:elsewhere",
        "kind": "openai",
        "name": "elsewhere",
        **prices,
    }
    expect(builder.root.get_by_text("key ••••here")).to_be_visible()
    assert "sk-a-key" not in page.content()
    other = builder.field("Another model of elsewhere")
    other.fill("m")
    builder.spec(lambda: other.press("Enter"))
    assert not [
        one for one in builder.spec(lambda: box(builder, "This server").uncheck())["targets"] if one["url"] == url
    ]
    assert len(builder.spec(lambda: box(builder, "This server").check())["targets"]) == 2
    builder.root.get_by_role("button", name="More about elsewhere").click()
    page.get_by_role("menuitem", name="Forget its key").click()
    expect(builder.root.get_by_text("key ••••here")).to_have_count(0)
    builder.root.get_by_role("button", name="More about elsewhere").click()
    page.get_by_role("menuitem", name="Remove").click()
    with page.expect_request(lambda request: removed(request, url)):  # others are of what was done before
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()


def removed(request: Request, url: str) -> bool:
    """Whether it asks an estimate of this server alone."""
    spec = request.post_data_json if request.url.endswith("/v1/bench/estimate") else None
    return isinstance(spec, dict) and [one["url"] for one in spec["targets"]] == [url]


def box(builder: Builder, name: str) -> Locator:
    """The checkbox of a server."""
    return builder.root.get_by_role("checkbox", name=name)


# ---- a run -----------------------------------------------------------------------------------------------------------


def small(builder: Builder, model: str = "fake", requests: str = "5", clients: str = "2") -> None:
    """A benchmark of one cell, of this server."""
    builder.press("Start over")
    builder.ready()
    builder.root.get_by_role("button", name="Remove D(100,100)").click()
    for label, value in (("Tokens in", "20"), ("Tokens out", "8")):
        builder.field(label).fill(value)
    builder.press("Add")
    builder.fill("Requests", requests)
    builder.fill("Clients, as 1, 4, 16", clients)
    models = builder.root.get_by_role("group", name="Models of This server")
    for chip in models.locator(".chip[aria-pressed=true]").all():
        chip.click()
    builder.spec(lambda: models.get_by_title(model, exact=True).click())
    builder.root.get_by_text("More about the run").click()
    builder.field("Measure the bench itself first").uncheck()
    builder.ready()


def begin(builder: Builder) -> str:
    """Press Run; the run's id, which its address has."""
    builder.root.get_by_role("button", name="Run", exact=True).click()
    builder.page.wait_for_url(re.compile("/ui/bench/runs/[0-9A-Z]{26}$"))
    return builder.page.url.rpartition("/")[2]


def state(page: Page) -> Locator:
    """The state of the run whose page is open."""
    return page.locator(".heading .badge")


def test_a_benchmark_from_the_click_to_its_report(page: Page, asking: Asking) -> None:
    builder = Builder(page).open()
    small(builder)
    expect(builder.root.get_by_text("1 cell · 5 requests", exact=False)).to_be_visible()
    run = begin(builder)
    expect(state(page)).to_have_text("done", timeout=WAIT_MS)
    told = asking.ask("GET", f"/v1/bench/runs/{run}")
    assert (told["state"], told["cells"][0]["outcomes"]) == ("done", {"ok": 5})
    assert told["spec"]["targets"] == [{**told["spec"]["targets"][0], "models": ["fake"]}]
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text(run[-8:].lower())
    page.get_by_role("link", name="Benchmarks").first.click()
    row = page.get_by_role("row", name=re.compile(run[-8:].lower()))
    expect(row.get_by_text("done")).to_be_visible()
    expect(row.locator(".bench-verdict")).not_to_be_empty(timeout=WAIT_MS)


@long
def test_a_run_is_followed_over_a_reload_and_cancelled(page: Page, asking: Asking) -> None:
    builder = Builder(page).open()
    small(builder, "slow", requests="400")
    run = begin(builder)
    figures = page.locator(".bench-figures")
    expect(figures.locator(".figure-value").first).to_have_text(re.compile("^[1-9]"), timeout=WAIT_MS)
    expect(page.get_by_label("What happened").get_by_text(re.compile("^Cell 1 running"))).to_be_visible()
    before = page.get_by_label("What happened").get_by_role("listitem").count()
    page.reload()
    expect(page.get_by_label("What happened").get_by_role("listitem")).to_have_count(before, timeout=WAIT_MS)
    expect(page.get_by_role("img", name=re.compile("First token: how often|First token: [1-9]")).first).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("running slow|running .* slow"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(state(page)).to_have_text("cancelled", timeout=WAIT_MS)
    assert asking.ask("GET", f"/v1/bench/runs/{run}")["state"] == "cancelled"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(state(page)).to_have_text("cancelled", timeout=WAIT_MS)
    audit(page)


@long
def test_the_history_resumes_deletes_and_picks(page: Page, asking: Asking) -> None:
    url = asking.url
    spec = {"targets": [{"url": url, "models": ["fake"]}], "scenarios": [SCENARIO], "requests": 3}
    runs = [
        asking.ask("POST", "/v1/bench/runs?calibrate=false", {**spec, "name": name}, 201)["id"] for name in ("a", "b")
    ]
    for run in runs:
        asking.until(run, "done")
    page.goto("/ui/bench")
    for name in ("a", "b"):
        page.get_by_label(f"Pick {name} to compare").check()
    page.get_by_role("button", name="Compare 2").click()
    page.wait_for_url(re.compile(r"/ui/bench/compare\?runs="))
    assert set(page.url.partition("runs=")[2].split(",")) == set(runs)
    page.goto("/ui/bench")
    page.get_by_role("button", name="What to do with a", exact=True).click()
    page.get_by_role("menuitem", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="a", exact=True)).to_have_count(0)
    asking.refused("GET", f"/v1/bench/runs/{runs[0]}", 404)
    page.get_by_role("button", name="What to do with b", exact=True).click()
    page.get_by_role("menuitem", name="Run again").click()
    page.wait_for_url("**/ui/bench")
    expect(page.get_by_role("region", name="New benchmark").get_by_text(SCENARIO)).to_be_visible()


@long
def test_presets_traffic_and_copies(page: Page, context: BrowserContext, asking: Asking, watch: Watch) -> None:
    watch.expected.append(r"status of \d+ .*/api/pull")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    builder = Builder(page).open()
    for preset in asking.ask("GET", "/v1/bench/presets")["data"]:
        spec = builder.press(preset["title"])
        assert {name: spec[name] for name in preset["spec"]} == preset["spec"]
    body = b'{"model": "fake", "messages": [{"role": "user", "content": "[[count:20]]"}], "max_tokens": 20}'
    for _ in range(5):
        request = urllib.request.Request(
            f"{asking.url}/v1/chat/completions", body, {"content-type": "application/json"}
        )
        urllib.request.urlopen(request).read()
    (traffic,) = builder.press("My traffic")["scenarios"]
    assert re.fullmatch(r"N\(\d+,\d+\)/\(\d+,\d+\)", traffic)
    builder.ready()
    for name, begins in (("As a command", "heylookllm bench run --target"), ("As YAML", "targets:\n")):
        builder.root.get_by_role("button", name="Copy as…").click()
        page.get_by_role("menuitem", name=name).click()
        page.wait_for_function(
            "(begins) => navigator.clipboard.readText().then((text) => text.startsWith(begins))", arg=begins
        )
    pull = builder.field("Another model of This server")
    pull.fill("nobody/nothing")
    builder.spec(lambda: pull.press("Enter"))
    builder.field("Pull what is missing").check()
    builder.root.get_by_role("button", name="Run", exact=True).click()
    expect(builder.root.get_by_role("alert")).to_be_visible(timeout=WAIT_MS)


MANY = """() => import('/ui/pages/bench/statistics.js').then(({course, rates}) => {
  const points = Array.from({length: 300_000}, (_, at) => ({at: (at + 1) / 1000, outcome: "ok", tokens: 8}));
  return [rates(points), course(points).length];
})"""


@long
def test_a_run_of_very_many_requests_is_told_too(page: Page) -> None:
    """More values than a function takes arguments."""
    page.goto("/ui/nowhere")
    assert page.evaluate(MANY) == [{"requests": 1000, "tokens": 8000}, 60]
