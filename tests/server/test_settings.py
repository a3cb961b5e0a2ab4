"""Settings over HTTP: what the server was set up with, never its key; a model's settings, seen and changed."""

from pathlib import Path
from typing import Any

import pytest

from heylook_llm import registry
from heylook_llm.server import model_settings
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.guard import GuardOptions
from heylook_llm.server.reload import RegistryWatch
from tests.server.asgi import call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit
FILE = """# mine
default_model: small
models:
  - {id: small, aliases: [gpt-4o], provider: fake, idle_ttl: 5m, config: {n_ctx: 512, temperature: 0.7}}
  - {id: org/large:q4, provider: llama_cpp, config: {model_path: weights.gguf}}
"""
PATH = "/v1/settings/models/small"


class Place:
    """A registry that a server follows."""

    def __init__(self, root: Path) -> None:
        self.file = root / "models.yaml"
        self.file.write_text(FILE)
        self.applied: list[Any] = []
        settings = registry.load(self.file)
        self.watch = RegistryWatch(self.file, lambda: registry.load(self.file), self.applied.append, settings)
        guard = GuardOptions(allow_origins=("https://my.ui",), api_key="hl-secret")
        self.app = create_app(ScriptedBackend(), Options(registry=self.watch, guard=guard))

    async def ask(self, method: str, path: str, body: Any = b"", status: int = 200) -> Any:
        """The answer's JSON."""
        reply = await call(self.app, method, path, body, headers={"authorization": "Bearer hl-secret"})
        assert reply.status == status, reply.body
        assert b"hl-secret" not in reply.body
        return reply.json

    @property
    def overlay(self) -> dict[str, Any]:
        """As a server that begins now reads it."""
        return registry.read_overlay(self.file)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_the_server_tells_what_it_was_set_up_with_but_no_key(place: Place) -> None:
    told = await place.ask("GET", "/v1/settings")
    assert (told["server"]["key_required"], told["callers"]["origins"]) == (True, ["https://my.ui"])
    assert told["models"]["default_model"]["value"] == "small"
    assert told["limits"]["max_queue"] == {"value": 512, "what": told["limits"]["max_queue"]["what"]}
    assert "503" in told["limits"]["max_queue"]["what"]
    kept = told["storage"]["performance"]
    assert (kept["file"], kept["keep_bytes"]) == (None, 32 << 20)
    assert kept["used_bytes"] > 0
    assert told["storage"]["models"]["free_bytes"] > 0
    assert (await call(place.app, "GET", "/v1/settings")).status == 401


async def test_a_models_settings_come_with_what_each_does_and_may_be(place: Place) -> None:
    told = await place.ask("GET", "/v1/settings/models/gpt-4o")
    assert (told["id"], told["provider"], told["file"], told["changed"]) == ("small", "fake", "models.yaml", [])
    assert (told["values"]["config"]["n_ctx"], told["values"]["idle_ttl"]) == (512, 300.0)
    n_ctx = told["schema"]["properties"]["config"]["properties"]["n_ctx"]
    assert (n_ctx["minimum"], n_ctx["default"], n_ctx["x-group"]) == (4, 4096, "engine")
    assert n_ctx["description"].startswith("Tokens that one request may use"), "of llama_cpp, which it is as"
    assert told["schema"]["properties"]["config"]["properties"]["top_k"]["x-group"] == "sampling"
    other = await place.ask("GET", "/v1/settings/models/org/large:q4")
    assert other["values"]["config"]["model_path"] == str(place.file.parent / "weights.gguf")
    assert other["schema"]["properties"]["config"]["properties"]["model_path"]["readOnly"] is True
    assert other["values"]["idle_ttl"] == "never"


@pytest.mark.parametrize("provider", ["llama_cpp", "mlx", "fake"])
def test_every_setting_of_every_provider_is_described(provider: str) -> None:
    schema = model_settings.schema_of(provider)["properties"]
    for name, one in {**schema, **schema["config"]["properties"]}.items():
        assert "see below" not in one.get("description", ""), name
        assert "As for llama_cpp" not in one.get("description", ""), name
        assert "$ref" not in str(one), name


async def test_a_preview_shows_the_difference_and_a_change_is_what_it_showed(place: Place) -> None:
    wanted = {"set": {"config.n_ctx": 1024, "pinned": True, "idle_ttl": "1h"}, "reset": []}
    preview = await place.ask("PATCH", PATH, {**wanted, "dry_run": True})
    assert "+      n_ctx: 1024" in preview["difference"]
    assert (preview["written"], preview["reloads"], preview["values"]["config"]["n_ctx"]) == (False, True, 1024)
    assert not registry.overlay_path(place.file).exists()
    assert place.applied == []
    done = await place.ask("PATCH", PATH, wanted)
    assert (done["written"], done["difference"]) == (True, preview["difference"])
    assert done["changed"] == ["pinned", "idle_ttl", "config.n_ctx"]
    assert place.file.read_text() == FILE
    (settings,) = place.applied
    small = settings.models[0]
    assert (small.config.n_ctx, small.config.temperature, small.pinned, small.idle_ttl) == (1024, 0.7, True, 3600.0)


async def test_what_is_reset_is_the_files_again_and_an_entry_that_says_nothing_goes(place: Place) -> None:
    await place.ask("PATCH", PATH, {"set": {"config.n_ctx": 1024, "description": "mine"}})
    told = await place.ask("PATCH", PATH, {"reset": ["config.n_ctx"]})
    assert (told["values"]["config"]["n_ctx"], told["changed"], told["reloads"]) == (512, ["description"], True)
    told = await place.ask("PATCH", PATH, {"reset": ["description"]})
    assert (told["changed"], told["reloads"], place.overlay["models"]) == ([], False, [])
    told = await place.ask("PATCH", PATH, {})
    assert (told["written"], told["difference"]) == (False, "")


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"set": {"config.n_ctxx": 1}}, 400, "did you mean `config.n_ctx`"),
        ({"set": {"config.n_ctx": 1}}, 400, "n_ctx"),
        ({"set": {"config.n_ctx": {"a": 1}}}, 400, "n_ctx"),
        ({"set": {"provider": "mlx"}}, 400, "no setting 'provider'"),
        ({"set": {"aliases": ["org/large:q4"]}}, 400, "given twice"),
        ({"set": {"config.model_path": "/etc/passwd"}}, 403, "only models.yaml may"),
        ({"reset": ["config.log_file"]}, 403, "only models.yaml may"),
        ({"set": ["config.n_ctx"]}, 400, "set"),
    ],
)
async def test_what_cannot_be_so_is_refused_and_nothing_is_changed(
    place: Place, body: Any, status: int, word: str
) -> None:
    error = (await place.ask("PATCH", PATH, body, status))["error"]
    assert word in error["message"]
    assert str(place.file.parent) not in error["message"]
    assert not registry.overlay_path(place.file).exists()
    assert place.applied == []


async def test_over_a_broken_file_nothing_is_laid(place: Place) -> None:
    place.file.write_text(FILE + "oops: 1\n")
    error = (await place.ask("PATCH", PATH, {"set": {"pinned": True}}, 409))["error"]
    assert "oops" in error["message"]
    await place.ask("GET", "/v1/settings/models/nobody", status=409)


async def test_models_that_are_not_there_and_servers_that_follow_no_file(place: Place) -> None:
    await place.ask("GET", "/v1/settings/models/nobody", status=404)
    app = create_app(ScriptedBackend(), Options())
    assert (await call(app, "GET", PATH)).status == 400
    assert (await call(app, "GET", "/v1/settings")).json["registry"] is None


async def test_a_setting_made_while_another_is_asked_for_keeps_both(place: Place) -> None:
    await place.ask("PATCH", PATH, {"set": {"config.top_k": 3}})
    told = await place.ask("PATCH", PATH, {"set": {"config.top_p": 0.5}})
    assert told["changed"] == ["config.top_k", "config.top_p"]
    assert (told["values"]["config"]["top_k"], told["values"]["config"]["top_p"]) == (3, 0.5)
