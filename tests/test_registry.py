"""models.yaml with its overlay."""

from pathlib import Path
from typing import Any

import pytest

from heylook_llm import config, registry
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

BASE = """
# mine
models:
  - {id: one, provider: fake, aliases: [uno], config: {n_ctx: 100, reply: hello}}
  - {id: two, provider: fake}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "models.yaml"
    file.write_text(BASE)
    return file


def lay(path: Path, text: str) -> None:
    registry.overlay_path(path).write_text(text)


def test_without_an_overlay_the_file_is_what_it_is(path: Path) -> None:
    assert registry.load(path) == config.load(path)
    assert registry.read_overlay(path) == {"models": []}


def test_an_overlay_changes_adds_and_removes(path: Path) -> None:
    lay(path, "models: [{id: One, config: {n_ctx: 50}}, {id: three, provider: fake}]\nremoved: [TWO]\n")
    settings = registry.load(path)
    assert [spec.id for spec in settings.models] == ["One", "three"]
    assert settings.models[0].aliases == ("uno",)
    assert settings.models[0].config.n_ctx == 50
    assert getattr(settings.models[0].config, "reply", None) == "hello"
    assert path.read_text() == BASE


def test_another_engine_leaves_nothing_of_the_old_config(path: Path) -> None:
    lay(path, "models: [{id: one, provider: mlx, config: {model_path: m}}]")
    spec = registry.load(path).models[0]
    assert isinstance(spec.config, config.MlxConfig)
    assert spec.path == path.parent / "m"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [{id: one, config: {n_cxt: 5}}]", "n_ctx"),
        ("models: [{provider: fake}]", "`id`"),
        ("models: [5]", "`id`"),
        ("models: []\nremoved: two", "removed"),
        ("models: {}", "must be a list"),
        ("models: [", "line 1"),
        ("models: [{id: new, provider: fake, aliases: [uno]}]", "given twice"),
    ],
)
def test_errors_name_the_overlay(path: Path, text: str, words: str) -> None:
    lay(path, text)
    with pytest.raises(ConfigError) as error:
        registry.load(path)
    assert str(registry.overlay_path(path)) in error.value.message
    assert words in error.value.message
    assert "\n" not in error.value.message


def test_entries_are_replaced_in_their_place_and_come_back(path: Path) -> None:
    over: dict[str, Any] = {
        "models": [{"id": "a", "provider": "fake"}, {"id": "b", "provider": "fake"}],
        "removed": ["c", "d"],
    }
    over = registry.with_models(over, [{"id": "C", "provider": "fake"}, {"id": "A", "provider": "mlx"}])
    assert [entry["id"] for entry in over["models"]] == ["A", "b", "C"]
    assert over["removed"] == ["d"]


def test_a_written_overlay_is_what_was_read(path: Path) -> None:
    over = {"models": [{"id": "x", "provider": "fake", "tags": ["a", "ü"], "config": {"reply": "a: b\n- c"}}]}
    registry.write(registry.overlay_path(path), registry.overlay_text(over))
    assert registry.read_overlay(path) == over
    assert [file.name for file in sorted(path.parent.iterdir())] == ["models.overlay.yaml", "models.yaml"]


def test_what_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be written"):
        registry.write(tmp_path / "file" / "models.yaml", "")


def test_the_bundled_registry_has_its_overlay_with_the_user() -> None:
    assert registry.overlay_path(config.BUNDLED).parent != config.BUNDLED.parent
