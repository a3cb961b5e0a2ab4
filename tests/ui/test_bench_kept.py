"""What the builder keeps in the browser, and servers with any name, in a real browser."""

import os
import re

import pytest
from playwright.sync_api import Page, expect

from tests.bench.asking import Asking
from tests.serving import Running
from tests.ui.pages import WAIT_MS, audit
from tests.ui.test_bench import Builder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="long tier: make test_ui"),
]
ODD = 'a/b "quoted" <b>ünï</b> 🐙 ' + "long" * 12


def test_presets_are_kept_chosen_and_forgotten(page: Page) -> None:
    builder = Builder(page).open()
    builder.press("Add a load")
    builder.fill("Requests", "7")
    before = builder.fill("Seconds", "9")
    builder.ready()
    builder.root.get_by_role("button", name="Keep as a preset…").click()
    dialog = page.get_by_role("dialog", name="Keep as a preset")
    dialog.get_by_label("Name").fill(ODD)
    dialog.get_by_role("button", name="Keep").click()
    presets = builder.root.get_by_role("group", name="Presets")
    expect(presets.get_by_role("button", name=ODD)).to_have_attribute("aria-pressed", "true")
    audit(page)
    builder.press("Start over")
    builder.ready()
    page.reload()
    builder.ready()
    again = builder.spec(lambda: presets.get_by_role("button", name=ODD).click())
    assert {**again, "targets": None} == {**before, "targets": None}
    builder.root.get_by_role("button", name=f"Forget the preset {ODD}").click()
    expect(presets.get_by_role("button", name=ODD)).to_have_count(0)
    page.reload()
    builder.ready()
    expect(presets.get_by_role("button", name=ODD)).to_have_count(0)


def test_prompts_come_in_named_sets(page: Page) -> None:
    builder = Builder(page).open()
    builder.root.get_by_text("Your own prompts", exact=True).click()
    sets = builder.field("Kept sets of prompts")
    spec = builder.spec(lambda: sets.select_option(label="Code"))
    assert spec["scenarios"][-1] == "dataset"
    shipped = spec["dataset"]["prompts"]
    assert len(shipped) > 2
    builder.root.get_by_role("button", name="Keep as…").click()
    dialog = page.get_by_role("dialog", name="Keep these prompts")
    dialog.get_by_label("Name").fill(ODD)
    dialog.get_by_role("button", name="Save").click()
    assert builder.spec(lambda: sets.select_option(label="Reasoning"))["dataset"]["prompts"] != shipped
    assert builder.spec(lambda: sets.select_option(label=ODD))["dataset"]["prompts"] == shipped
    builder.root.get_by_role("button", name=f"Forget the set {ODD}").click()
    expect(sets.get_by_role("option", name=ODD)).to_have_count(0)


def test_a_server_of_an_odd_name_is_measured_shown_and_compared(page: Page, ui_server: Running) -> None:
    """The name is a chip's, a row's, a plot's and a path's; this server by another of its addresses has it."""
    url = ui_server.url.replace("127.0.0.1", "localhost")
    builder = Builder(page).open()
    builder.root.get_by_role("button", name="Add a server").click()
    dialog = page.get_by_role("dialog", name="Add a server")
    dialog.get_by_label("Name").fill(ODD)
    dialog.get_by_label("Address").fill(url)
    dialog.get_by_role("button", name="Keep").click()
    expect(builder.root.get_by_role("checkbox", name=ODD)).to_be_checked(timeout=WAIT_MS)
    other = builder.field(f"Another model of {ODD}")
    other.fill("fake")
    builder.spec(lambda: other.press("Enter"))
    for label, value in (("Requests", "4"), ("Clients, as 1, 4, 16", "1, 2")):
        builder.fill(label, value)
    builder.ready()
    builder.root.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile("/ui/bench/runs/[0-9A-Z]{26}$"))
    identity = page.url.rpartition("/")[2]
    expect(page.locator(".heading")).to_contain_text(ODD)
    Asking(ui_server.url).until(identity, "done")
    expect(page.get_by_role("region", name="Rows of the run")).to_contain_text(ODD, timeout=WAIT_MS)
    expect(page.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    audit(page)
    page.goto(f"/ui/bench/compare?runs={identity}")
    expect(page.get_by_role("region", name="What is compared")).to_contain_text(ODD, timeout=WAIT_MS)
    expect(page.locator(".compared-sides").first).to_contain_text(ODD)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page.goto("/ui/settings")
    page.get_by_role("button", name=f"More for {ODD}").click()
    page.get_by_role("menuitem", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.get_by_text(ODD)).to_have_count(0)
