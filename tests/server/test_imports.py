"""Imports over HTTP: preview, difference, apply; where a client may look, and what ends a look."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import registry
from heylook_llm.catalog import importing, profiles, stores
from heylook_llm.catalog.importing import Sources
from heylook_llm.errors import Cancelled
from heylook_llm.server import imports
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.guard import GuardOptions
from heylook_llm.server.imports import Imports
from heylook_llm.server.wire import admin_body
from tests.catalog.places import gguf, mlx, ollama, snapshot
from tests.server.asgi import Client, call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit
PATH = "/v1/models/import"
Ask = Callable[..., Any]


class Machine:
    """A registry, a folder with models that a client may name, and one that it may not."""

    def __init__(self, root: Path, roots: list[Path] | None) -> None:
        self.root = root
        self.file = root / "models.yaml"
        self.file.write_text("# mine\nmodels: [{id: fake, provider: fake}]\n")
        self.models = root / "models"
        gguf(self.models / "one.gguf")
        mlx(self.models / "two")
        (self.models / "bad.gguf").write_bytes(b"GGUF")
        self.secret = gguf(root / "elsewhere" / "secret.gguf").parent
        self.read = 0
        made = Imports(self.file, self._follow, roots)
        self.app = create_app(ScriptedBackend(), Options(imports=made))

    async def _follow(self) -> None:
        self.read += 1

    async def ask(self, status: int = 200, **body: Any) -> Any:
        """The answer's JSON."""
        reply = await call(self.app, "POST", PATH, body)
        assert reply.status == status, reply.body
        return reply.json

    @property
    def overlay(self) -> Path:
        """What an import writes."""
        return registry.overlay_path(self.file)

    def served(self) -> list[str]:
        """The ids of the registry."""
        return [spec.id for spec in registry.load(self.file).models]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, [tmp_path / "models"])


async def test_a_preview_shows_everything_and_writes_nothing(machine: Machine) -> None:
    told = await machine.ask(folders=[str(machine.models)], dry_run=True, profile="fast", overrides={"n_ctx": 512})
    assert (told["object"], told["written"], told["file"]) == ("model.import", False, "models.overlay.yaml")
    one, two = told["models"]
    assert (one["id"], one["kind"], one["provider"], one["path"]) == (
        "one",
        "chat",
        "llama_cpp",
        str(machine.models / "one.gguf"),
    )
    assert (one["config"]["n_ctx"], one["config"]["temperature"], two["provider"]) == (512, 0.3, "mlx")
    assert told["skipped"] == [{"path": str(machine.models / "bad.gguf"), "reason": told["skipped"][0]["reason"]}]
    assert "ends" in told["skipped"][0]["reason"]
    assert told["skipped_count"] == 1
    assert "+  - id: one" in told["difference"]
    assert told["served"] == []
    assert not machine.overlay.exists()
    assert (machine.read, machine.served()) == (0, ["fake"])


async def test_a_preview_is_applied_as_it_was_shown(machine: Machine) -> None:
    asked: dict[str, Any] = {"folders": [str(machine.models)]}
    shown = await machine.ask(**asked, dry_run=True)
    assert (await machine.ask(**asked, dry_run=True))["plan"] == shown["plan"]
    written = await machine.ask(**asked, plan=shown["plan"])
    assert (written["written"], written["difference"]) == (True, shown["difference"])
    assert (machine.read, machine.served()) == (1, ["fake", "one", "two"])
    assert machine.file.read_text().startswith("# mine")
    again = await machine.ask(**asked)
    assert (again["written"], again["models"], again["difference"]) == (False, [], "")
    assert again["served"] == [str(machine.models / "one.gguf"), str(machine.models / "two")]
    assert machine.read == 1


async def test_what_changed_since_the_preview_is_not_written(machine: Machine) -> None:
    asked: dict[str, Any] = {"folders": [str(machine.models)]}
    shown = await machine.ask(**asked, dry_run=True)
    gguf(machine.models / "three.gguf")
    refused = await machine.ask(409, **asked, plan=shown["plan"])
    assert (refused["error"]["code"], refused["error"]["param"]) == ("plan_changed", "plan")
    assert not machine.overlay.exists()


# ---- where a client may look -----------------------------------------------------------------------------------------


async def test_folders_outside_are_refused_whether_they_exist_or_not(machine: Machine) -> None:
    (machine.models / "out").symlink_to(machine.secret)
    (machine.models / "self").symlink_to(machine.models / "self")
    outside = [
        str(machine.secret),
        str(machine.models / "out"),
        str(machine.models / ".." / "elsewhere"),
        str(machine.models) + "-more",
        str(machine.root),
        "/nowhere/at/all",
        "/",
    ]
    for folder in outside:
        told = await machine.ask(403, folders=[str(machine.models), folder])
        assert told["error"]["code"] == "folder_not_allowed"
        assert told["error"]["message"] == (
            f"'{folder}' doesn't lie in a folder that this server may look into. To allow it, start with "
            "--import-root DIR."
        )
    told = await machine.ask(folders=[str(machine.models)], dry_run=True)
    assert {model["id"] for model in told["models"]} == {"one", "two"}
    assert "secret" not in str(told["models"])
    assert any("is a link out of the scanned folders" in skipped["reason"] for skipped in told["skipped"])


@pytest.mark.parametrize("folder", ["models", "", "~/models", "./x", "a\0b", "/a\0b"])
async def test_folders_that_are_no_absolute_paths(machine: Machine, folder: str) -> None:
    told = await machine.ask(400, folders=[folder])
    assert told["error"]["param"] == "folders"


async def test_a_root_may_be_a_link_and_lie_below(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(machine.models)
    made = Imports(machine.file, machine._follow, [tmp_path / "link"])
    machine.app = create_app(ScriptedBackend(), Options(imports=made))
    for folder in (tmp_path / "link", machine.models, machine.models / "two"):
        assert (await machine.ask(folders=[str(folder)], dry_run=True))["models"]
    told = await machine.ask(dry_run=True)
    assert len(told["models"]) == 2, "without a place: all that is allowed"


async def test_files_of_a_model_that_lie_outside_are_no_model(machine: Machine) -> None:
    """A link to any file of the machine, where a model's tokenizer is read."""
    folder = mlx(machine.models / "linked")
    (folder / "tokenizer_config.json").symlink_to("/etc/hostname")
    told = await machine.ask(folders=[str(folder)], dry_run=True)
    assert told["models"] == []
    assert "is a link out of the scanned folders" in told["skipped"][0]["reason"]


async def test_the_stores_of_other_programs_are_allowed_unless_roots_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    file = gguf(snapshot(tmp_path / "hub", "org/name") / "m.gguf")
    ollama(tmp_path / "ollama", "mine", file)
    gguf(tmp_path / ".lmstudio" / "models" / "p" / "r" / "m.gguf")
    machine = Machine(tmp_path, None)
    everything = {model["id"] for model in (await machine.ask(dry_run=True))["models"]}
    assert everything == {"org/name:m", "mine:latest", "p/r:m"}
    for place, name in (("hf_cache", "org/name:m"), ("ollama_store", "mine:latest"), ("lmstudio", "p/r:m")):
        assert [model["id"] for model in (await machine.ask(**{place: True}, dry_run=True))["models"]] == [name]
    assert (await machine.ask(403, folders=[str(machine.models)]))["error"]["code"] == "folder_not_allowed"
    rooted = Machine(tmp_path, [tmp_path / "models"])
    assert (await rooted.ask(403, hf_cache=True))["error"]["code"] == "folder_not_allowed"
    assert {model["id"] for model in (await rooted.ask(dry_run=True))["models"]} == {"one", "two"}


async def test_a_blob_that_is_a_link_out_of_ollamas_store_is_left_out(tmp_path: Path) -> None:
    store = tmp_path / "store"
    ollama(store, "mine", gguf(tmp_path / "m.gguf"))
    (blob,) = (store / "blobs").iterdir()
    blob.unlink()
    blob.symlink_to(tmp_path / "m.gguf")
    findings = importing.find(Sources(ollama=store))
    assert (findings.models, "out of the store" in findings.skipped[0].reason) == ([], True)


async def test_other_machines_need_a_key(machine: Machine) -> None:
    assert (await call(machine.app, "POST", PATH, {"dry_run": True}, peer="10.0.0.9")).status == 403
    locked = create_app(ScriptedBackend(), Options(guard=GuardOptions(api_key="secret")))
    assert (await call(locked, "POST", PATH, {"dry_run": True})).status == 401
    without = await call(create_app(ScriptedBackend()), "POST", PATH, {"dry_run": True})
    assert (without.status, without.json["error"]["code"]) == (400, "unsupported_value")


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"merge": False}, "adds to the registry in force"),
        ({"output": "x.yaml"}, "writes no other file"),
        ({"watch": True}, "heylookllm import --watch"),
        ({"force": True}, "replaces no file"),
        ({"profile": "best"}, "profile"),
        ({"folders": "x"}, "folders"),
        ({"folders": ["/x"] * 65}, "folders"),
        ({"overrides": {"n_cxt": 1}}, "did you mean `n_ctx`"),
        ({"overrides": {"n_ctx": -5}}, "n_ctx"),
        ({"overrides": {"n_ctx": {"a": [1]}}}, "n_ctx"),
        ({"overrides": []}, "overrides"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"hf_cache": 1}, "hf_cache"),
    ],
)
async def test_bodies_that_are_refused(machine: Machine, body: dict[str, Any], words: str) -> None:
    told = await machine.ask(400, **body)
    assert words in told["error"]["message"]
    assert str(machine.root) not in told["error"]["message"]
    assert not machine.overlay.exists()


async def test_neutral_values_and_unknown_keys_are_taken(machine: Machine) -> None:
    body = {"merge": True, "force": False, "watch": None, "dry_run": True, "foo": 1}
    reply = await call(machine.app, "POST", PATH, body)
    assert (reply.status, reply.headers["x-heylook-ignored"]) == (200, "foo")
    assert (await call(machine.app, "POST", PATH, b"")).json["written"]


def test_the_body_names_every_profile() -> None:
    schema = admin_body.ImportBody.model_json_schema()["properties"]["profile"]
    assert set(next(kind["enum"] for kind in schema["anyOf"] if "enum" in kind)) == set(profiles.PROFILES)


async def test_a_broken_registry_is_told(machine: Machine) -> None:
    machine.file.write_text("models: [")
    told = await machine.ask(400, dry_run=True)
    assert told["error"]["message"].startswith("models.yaml")


async def test_names_of_any_bytes_are_shown(machine: Machine) -> None:
    (machine.models / os.fsdecode(b"bad\xff.gguf")).write_bytes(b"")
    mlx(machine.models / os.fsdecode(b"folder\xff"))
    gguf(machine.models / "evil\nname.gguf")
    told = await machine.ask()
    assert {model["id"] for model in told["models"]} == {"one", "two", "evil-name"}
    reasons = {Path(skipped["path"]).name: skipped["reason"] for skipped in told["skipped"]}
    assert reasons["bad\\udcff.gguf"] == reasons["folder\\udcff"] == "has a name that is no text"


# ---- what ends a look ------------------------------------------------------------------------------------------------


def test_a_look_ends_between_two_files(tmp_path: Path) -> None:
    for number in range(5):
        gguf(tmp_path / f"{number}.gguf")
    looks = iter(range(3))

    def check() -> None:
        if next(looks, None) is None:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        importing.find(Sources(folders=(tmp_path,)), check)


async def test_a_client_that_leaves_ends_its_look_and_nothing_is_written(machine: Machine) -> None:
    data = (machine.models / "one.gguf").read_bytes()
    for number in range(3000):
        (machine.models / f"{number}.gguf").write_bytes(data)
    leaving = Client(machine.app, "POST", PATH, {})
    busy = Client(machine.app, "POST", PATH, {})
    told = await busy.end()
    assert (told.status, told.json["error"]["code"], told.headers["retry-after"]) == (503, "model_overloaded", "5")
    leaving.leave()
    await leaving.end()
    assert leaving.status in (0, 499)
    assert not machine.overlay.exists()
    assert (machine.read, machine.served()) == (0, ["fake"])
    assert (await machine.ask(folders=[str(machine.models / "two")]))["written"]


async def test_a_look_that_takes_too_long_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "SCAN_SECONDS", -1.0)
    told = await machine.ask(413)
    assert "name smaller folders" in told["error"]["message"]


def test_places_are_where_the_stores_are() -> None:
    assert len({stores.hugging_face_cache(), stores.ollama_store(), stores.lm_studio_folder()}) == 3
