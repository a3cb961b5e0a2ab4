"""The page of the conformance matrix says what was run, and what came of it."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.conformance import __main__ as conformance
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


def test_one_feature_that_fails_fails_the_run_and_leaves_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conformance, "BUILD", tmp_path)
    monkeypatch.setattr(conformance, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(conformance, "servers", lambda: nullcontext(("", "")))
    for client in CLIENTS:
        conformance.keep(Column(client, "1.0", [Outcome("fake", "chat", "pass")]), "")
    failed = Column(CLIENTS[0], "1.0", [Outcome("fake", "chat", "fail", "seen")])
    monkeypatch.setattr(conformance, "column", lambda *_: failed)
    monkeypatch.setattr("sys.argv", ["conformance", CLIENTS[0].name, "--feature", "chat"])
    with pytest.raises(SystemExit, match="True"):
        conformance.main()
    assert not (tmp_path / "page.md").exists()


def test_what_is_installed_is_pinned_and_names_no_host() -> None:
    pinned = (FOLDER / "requirements.txt").read_text()
    assert "://" not in pinned
    assert all("==" in line for line in re.findall(r"^[a-z].*", pinned, re.MULTILINE))
    assert not re.search(r'"[\^~>]', (FOLDER / "package.json").read_text())
