"""A run of the bench over HTTP, and its result in the browser."""

import json

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.ui.pages import WAIT_MS


def executed(url: str, spec: dict[str, object]) -> str:
    """Have a spec executed; its run's id."""
    with httpx.Client(base_url=url, timeout=300) as http:
        answer = http.post("/v1/bench/runs?calibrate=false", json=spec)
        assert answer.status_code == 201, answer.text
        identity = str(answer.json()["id"])
        with http.stream("GET", f"/v1/bench/runs/{identity}/events") as events:
            for line in events.iter_lines():
                told = json.loads(line[6:]) if line.startswith("data: ") else {}
                if (told.get("type"), told.get("state")) == ("run.state", "done"):
                    return identity
    raise AssertionError("the run never ended")


def open_result(page: Page, run: str) -> Locator:
    """The page of a run that is done; its result."""
    page.goto(f"/ui/bench/runs/{run}")
    place = page.locator(".result")
    expect(place.get_by_role("heading", name="Rows", exact=True)).to_be_visible(timeout=WAIT_MS)
    expect(place.locator(".plot .main-svg").first).to_be_visible(timeout=WAIT_MS)
    return place
