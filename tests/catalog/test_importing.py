"""What a person's folders become: entries, names, reasons."""

import json
import os
from pathlib import Path

import pytest

from heylook_llm.catalog import importing, stores
from heylook_llm.catalog.importing import Findings, Sources
from tests.catalog.places import gguf, llava, made, mlx, ollama, safetensors, snapshot
from tests.worker import random_projector

pytestmark = pytest.mark.unit


def found(folder: Path, *more: Path) -> Findings:
    return importing.find(Sources(folders=(folder, *more)))


def kinds(findings: Findings) -> dict[str, str]:
    return {model.id: model.facts.kind for model in findings.models}


def reasons(findings: Findings) -> dict[str, str]:
    return {skipped.path.name: skipped.reason for skipped in findings.skipped}


def test_ten_models_of_every_kind(tmp_path: Path) -> None:
    """The kinds come from the files; every name here is misleading."""
    gguf(tmp_path / "embedding.gguf", general__name="Chatty", llama__context_length=4096, general__file_type=15)
    gguf(tmp_path / "chat.gguf", template=None)
    gguf(tmp_path / "base.gguf", architecture="bert", template=None)
    gguf(tmp_path / "mmproj.gguf", architecture="qwen2", template=None, qwen2__pooling_type=4)
    gguf(tmp_path / "pooled.gguf", architecture="qwen2", qwen2__pooling_type=3)
    for part in (1, 2):
        gguf(tmp_path / f"split-{part:05}-of-00002.gguf", split__count=2)
    gguf(tmp_path / "eyes" / "llava.gguf", width=128)
    random_projector.write(tmp_path / "eyes" / "model.gguf", "mlp", width=128)
    mlx(tmp_path / "gguf-model", tokenizer={"chat_template": "{{ tools }}<think>"})
    mlx(tmp_path / "blind", vision_config={"image_size": 8})
    llava(tmp_path / "seeing")
    llava(tmp_path / "unknown", model_type="nobodys_eyes")
    gguf(tmp_path / "lora.gguf", general__type="adapter", template=None)
    findings = found(tmp_path)
    assert kinds(findings) == {
        "embedding": "chat",
        "chat": "base",
        "base": "embedding",
        "mmproj": "reranker",
        "pooled": "embedding",
        "split": "chat",
        "llava": "chat",
        "gguf-model": "chat",
        "blind": "base",
        "seeing": "base",
    }
    by_id = {model.id: model for model in findings.models}
    assert by_id["embedding"].facts.quantization == "Q4_K_M"
    assert by_id["llava"].projector == tmp_path / "eyes" / "model.gguf"
    assert by_id["gguf-model"].facts.abilities == ("tools", "thinking")
    assert by_id["seeing"].facts.abilities == ("vision",)
    assert by_id["blind"].facts.abilities == ()
    assert "nobodys_eyes" in reasons(findings)["unknown"]
    assert by_id["split"].path.name == "split-00001-of-00002.gguf"
    assert "adapter" in reasons(findings)["lora.gguf"]


def test_a_projector_goes_to_the_model_it_is_as_wide_as(tmp_path: Path) -> None:
    gguf(tmp_path / "small.gguf", width=64)
    gguf(tmp_path / "large.gguf", width=96)
    random_projector.write(tmp_path / "a.gguf", "mlp", width=96, keys={"projection_dim": 64})
    random_projector.write(tmp_path / "b.gguf", "mlp", width=7)
    gguf(tmp_path / "c.gguf", architecture="clip", template=None, tokenizer=None)
    findings = found(tmp_path)
    assert {model.id: model.projector and model.projector.name for model in findings.models} == {
        "small": None,
        "large": "a.gguf",
    }
    assert reasons(findings) == {
        "b.gguf": "is a projector, and no model in its folder fits it",
        "c.gguf": "is no projector of images",
    }
    large = next(model for model in findings.models if model.id == "large")
    entry = importing.entry(large, None, {})
    assert entry["config"]["mmproj_path"] == str(tmp_path / "a.gguf")
    assert "vision" in entry["tags"]


def test_what_can_not_be_served_says_why(tmp_path: Path) -> None:
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF")
    gguf(tmp_path / "painter.gguf", architecture="flux")
    gguf(tmp_path / "mute.gguf", tokenizer=None)
    gguf(tmp_path / "half-00001-of-00003.gguf", split__count=3)
    mlx(tmp_path / "code", auto_map={"AutoModel": "x.Y"})
    mlx(tmp_path / "unknown", model_type="nobody_knows_this")
    mlx(tmp_path / "vectors", model_type="bert")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    safetensors(tmp_path / "adapter" / "adapters.safetensors", {"x": ("F16", [1], 2)})
    findings = found(tmp_path)
    assert findings.models == []
    told = reasons(findings)
    for name, words in {
        "damaged.gguf": "ends",
        "painter.gguf": "an image or video model (flux)",
        "mute.gguf": "holds no tokenizer",
        "half-00001-of-00003.gguf": "number 2 is missing",
        "code": "auto_map",
        "unknown": "nobody_knows_this",
        "vectors": "embedding model in safetensors",
        "pickled": "pytorch_model.bin",
        "adapter": "adapter",
    }.items():
        assert words in told.pop(name), name
    assert told == {}


def test_odd_folders_are_left_out_with_a_reason(tmp_path: Path) -> None:
    outside = gguf(tmp_path / "outside" / "far.gguf")
    root = tmp_path / "models"
    gguf(root / "ok.gguf")
    os.mkfifo(root / "pipe.gguf")
    (root / "loop").symlink_to(root)
    (root / "self.gguf").symlink_to(root / "self.gguf")
    (root / "far.gguf").symlink_to(outside)
    (root / "gone.gguf").symlink_to(root / "nothing")
    gguf(root / ".hidden" / "no.gguf")
    (root / os.fsdecode(b"bad\xff.gguf")).write_bytes(b"")
    findings = found(root)
    assert [model.id for model in findings.models] == ["ok"]
    told = reasons(findings)
    assert told.pop("pipe.gguf") == "is not a regular file"
    assert "out of the scanned folders" in told.pop("far.gguf")
    assert told.pop("gone.gguf") == told.pop("self.gguf") == "is a link to nothing"
    assert told.pop(os.fsdecode(b"bad\xff.gguf")) == "has a name that is no text"
    assert told == {}
    assert {model.id for model in found(root, tmp_path / "outside").models} == {"ok", "far", "far-2"}


def test_an_unreadable_folder_is_no_end(tmp_path: Path) -> None:
    gguf(tmp_path / "ok.gguf")
    assert reasons(found(tmp_path / "none")) == {"none": "does not exist"}
    assert reasons(found(tmp_path / "ok.gguf")) == {"ok.gguf": "is not a folder"}
    deep = tmp_path
    for _ in range(40):
        deep = deep / "d"
    gguf(deep / "deep.gguf")
    findings = found(tmp_path)
    assert [model.id for model in findings.models] == ["ok"]
    assert any("folders deep" in skipped.reason for skipped in findings.skipped)


def test_names_in_any_script_become_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("模型", "Modèle à moi", "a b", "a-b", "evil\nname", "x" * 200):
        gguf(tmp_path / f"{name}.gguf")
    names = [model.id for model in found(tmp_path).models]
    assert len(set(names)) == 6
    assert {"Modele-a-moi", "a-b", "a-b-2", "evil-name", "x" * 120} <= set(names)


def test_sizes_are_parameters_and_bytes_not_names(tmp_path: Path) -> None:
    """The original took 0.6B for 6B, and compared billions with gigabytes."""
    gguf(tmp_path / "qwen-0.6B.gguf")
    (model,) = found(tmp_path).models
    assert model.facts.parameters == 64 * 8 + 32
    assert "small" in importing.tags(model)


def test_packed_weights_count_as_what_they_stand_for(tmp_path: Path) -> None:
    folder = mlx(tmp_path / "q", quantization={"bits": 4, "group_size": 64})
    packed = {"a.weight": ("U32", [64, 8], 2048), "a.scales": ("F16", [64, 1], 128), "a.biases": ("F16", [64, 1], 128)}
    safetensors(folder / "model.safetensors", packed | {"norm.weight": ("F16", [64], 128)})
    (model,) = found(tmp_path).models
    assert (model.facts.parameters, model.facts.quantization) == (64 * 64 + 64, "4bit")


def test_a_small_model_of_the_same_vocabulary_can_draft(tmp_path: Path) -> None:
    gguf(tmp_path / "small.gguf")
    gguf(tmp_path / "large.gguf", rows=10_000)
    gguf(tmp_path / "other.gguf", vocabulary=9)
    drafts = {model.id: model.drafts_for for model in found(tmp_path).models}
    assert drafts == {"small": ("large",), "large": (), "other": ()}


# ---- other programs' stores ------------------------------------------------------------------------------------------


def test_the_hugging_face_cache_names_models_by_repository(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "org/some--name")
    blob = gguf(tmp_path / "models--org--some--name" / "blobs" / "0123")
    (folder / "q4.gguf").symlink_to(blob)
    gguf(snapshot(tmp_path, "org/some--name", "old", current=False) / "q4.gguf")
    mlx(snapshot(tmp_path, "mlx/model-4bit"))
    findings = importing.find(Sources(hugging_face=tmp_path))
    assert [model.id for model in findings.models] == ["mlx/model-4bit", "org/some--name:q4"]
    assert findings.skipped == []


def test_ollamas_store_names_models_as_ollama_does(tmp_path: Path) -> None:
    model, eye = gguf(tmp_path / "m"), random_projector.write(tmp_path / "e", "mlp")
    deaf = gguf(tmp_path / "d", architecture="clip", template=None, tokenizer=None)
    store = tmp_path / "store"
    ollama(store, "deaf", model, deaf)
    ollama(store, "llama3:8b", model)
    ollama(store, "llava", model, eye)
    ollama(store, "evil", None, digest="sha256:../../../etc/passwd")
    ollama(store, "cloud", None, digest="sha256:" + "0" * 64)
    (store / "manifests" / "stray").write_text("{}")
    (store / "manifests" / "registry.ollama.ai" / "library" / "llama3" / "bad").write_text("[")
    findings = importing.find(Sources(ollama=store))
    assert {model.id: model.projector is not None for model in findings.models} == {
        "llama3:8b": False,
        "llava:latest": True,
        "deaf:latest": False,
    }
    assert sorted(skipped.path.name[:6] for skipped in findings.skipped) == [
        "bad",
        "latest",
        "latest",
        "sha256",
        "stray",
    ]
    assert any("is no projector of images" in skipped.reason for skipped in findings.skipped)
    assert any("sha256 digest" in skipped.reason for skipped in findings.skipped)


def test_lm_studio_names_models_by_publisher(tmp_path: Path) -> None:
    gguf(tmp_path / "publisher" / "repo" / "model-Q4.gguf")
    mlx(tmp_path / "publisher" / "other")
    findings = importing.find(Sources(lm_studio=tmp_path))
    assert [model.id for model in findings.models] == ["publisher/other", "publisher/repo:model-Q4"]


def test_places_follow_the_environment() -> None:
    assert stores.hugging_face_cache({"HF_HUB_CACHE": "/a"}) == Path("/a")
    assert stores.hugging_face_cache({"HF_HOME": "/b"}) == Path("/b/hub")
    assert stores.hugging_face_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")
    assert stores.hugging_face_cache({}) == Path("~/.cache/huggingface/hub").expanduser()
    assert stores.ollama_store({"OLLAMA_MODELS": "/d"}) == Path("/d")


def test_a_cache_without_a_reference_is_read_whole(tmp_path: Path) -> None:
    gguf(snapshot(tmp_path, "a/b", current=False) / "m.gguf")
    assert [model.id for model in importing.find(Sources(hugging_face=tmp_path)).models] == ["a/b:m"]


def test_many_files_are_walked(tmp_path: Path) -> None:
    """The goal is 5 s for 10,000; they take a second here, so the count alone is asserted."""
    data = made().bytes_()
    for at in range(1000):
        (tmp_path / str(at % 10)).mkdir(exist_ok=True)
        (tmp_path / str(at % 10) / f"{at}.gguf").write_bytes(data)
        (tmp_path / str(at % 10) / f"{at}.txt").write_text(json.dumps(at))
    assert len(found(tmp_path).models) == 1000


@pytest.mark.timeout(60)
def test_models_of_one_vocabulary_are_not_compared_each_with_each(tmp_path: Path) -> None:
    """20,000 of them took minutes."""
    small, large = (found(gguf(tmp_path / str(rows) / "m.gguf", rows=rows).parent).models[0] for rows in (1, 10_000))
    named = [importing._Named(f"m{at}", Path(str(at)), small.facts) for at in range(20_000)]
    findings = Findings()
    importing._join([*named, importing._Named("large", Path("large"), large.facts)], findings)
    assert {model.drafts_for for model in findings.models[:-1]} == {("large",)}
    assert findings.models[-1].drafts_for == ()
