"""The page of the conformance matrix says what was run, and what came of it."""

import re
from pathlib import Path

import pytest

from tests.conformance.cells import Outcome
from tests.conformance.page import CLIENTS, Column, page

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parent


def test_every_client_has_its_cells() -> None:
    for client in CLIENTS:
        folder, ending = ("node", "mjs") if client.runtime == "node" else ("clients", "py")
        assert (FOLDER / folder / f"{client.name}.{ending}").exists(), client.name


def test_the_page_counts_and_gives_reasons() -> None:
    first, second = CLIENTS[:2]
    told = page(
        [
            Column(
                first, "1.0", [Outcome("fake", "chat", "pass"), Outcome("mlx", "chat", "fail", "seen")], "abcdef0123"
            ),
            Column(second, "2.0", [Outcome("fake", "sound", "refused", "it is deaf")]),
        ]
    )
    assert "3 cells: 1 pass, 1 refused by design, 1 fail." in told
    assert f"| {first.title} | 1.0 | {first.dialect} | abcdef01 | 2 | 1 | 0 | 1 |" in told
    assert "| chat | pass |  | fail |" in told
    assert f"| {second.title}: sound | it is deaf |" in told


def test_what_is_installed_is_pinned_and_names_no_host() -> None:
    pinned = (FOLDER / "requirements.txt").read_text()
    assert "://" not in pinned
    assert all("==" in line for line in re.findall(r"^[a-z].*", pinned, re.MULTILINE))
    assert not re.search(r'"[\^~>]', (FOLDER / "package.json").read_text())
