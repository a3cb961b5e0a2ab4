"""A folder with models of every kind, and files that can't be served: imported by one command, and served."""

import importlib
import importlib.util
import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import gguf
import pytest

from benchmarks import random_bert, random_model
from heylook_llm import config, tiny
from tests.catalog.handmade import Made, pair, tensor
from tests.catalog.places import mlx
from tests.commands_at_work import Home, Server
from tests.worker import lora_file, random_gguf, random_llava, random_projector

LONG = os.environ.get("HEYLOOK_TEST_TIER") == "long"
ENGINES = ("llama_cpp", "mlx_lm", "mlx_vlm")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ENGINES), reason="needs both engines and mlx-vlm"
    ),
]
BUNDLED = Path(tiny.__file__).parent
KINDS = {
    "chat": ("llama_cpp", "chat"),
    "base": ("llama_cpp", "base"),
    "split": ("llama_cpp", "chat"),
    "draft": ("llama_cpp", "chat"),
    "vectors": ("llama_cpp", "embedding"),
    "ranks": ("llama_cpp", "reranker"),
    "sees": ("llama_cpp", "chat"),
    "mlx-4bit": ("mlx", "chat"),
    "mlx-sees": ("mlx", "chat"),
}
LEFT_OUT = {
    "lora.gguf": "is an adapter, which belongs to the config of its base model",
    "pickled": "holds its weights as a pickle (pytorch_model.bin), which is never opened",
    "code": "its config.json has `auto_map`, which asks to run code",
    "cut.gguf": "is truncated",
    "half-00001-of-00002.gguf": "is split in 2 parts, of which number 2 is missing",
}
SERVED = tuple(KINDS) if LONG else ("split", "vectors", "mlx-4bit")


# ---- the folder ------------------------------------------------------------------------------------------------------


def every_kind(folder: Path) -> None:
    """Write them; what each is, its header says."""
    folder.mkdir()
    bundled = BUNDLED / "heylook-tiny.gguf"
    shutil.copy(bundled, folder / "chat.gguf")
    random_model.write(folder / "draft.gguf", random_model.Shape(1, 64, 4, 2, 128, 1024, 4096))
    without_template(folder / "draft.gguf", folder / "base.gguf")
    split(bundled, folder / "split")
    random_bert.write(folder / "vectors.gguf", random_bert.SHAPES["tiny"], "mean")
    random_bert.write(folder / "ranks.gguf", random_bert.SHAPES["tiny"], "rank")
    (folder / "eyes").mkdir()
    random_gguf.write(folder / "eyes" / "sees.gguf", "llama")
    random_projector.write(folder / "eyes" / "mmproj.gguf", "mlp")
    quantized(folder / "mlx-4bit")
    random_llava.write(folder / "mlx-sees")
    not_to_be_served(folder)


def not_to_be_served(folder: Path) -> None:
    """An adapter, a pickle, code, a file cut short, half a model."""
    lora_file.write(folder / "lora.gguf", up=0.1)
    (folder / "pickled").mkdir()
    (folder / "pickled" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    mlx(folder / "code", auto_map={"AutoModel": "modeling.Model"})
    (folder / "cut.gguf").write_bytes((folder / "chat.gguf").read_bytes()[:1_000_000])
    shutil.copy(folder / "split-00001-of-00002.gguf", folder / "half-00001-of-00002.gguf")


Pairs = list[tuple[str, bytes]]


def taken_apart(path: Path) -> tuple[Pairs, list[gguf.ReaderTensor]]:
    """A GGUF file's metadata, each with its bytes, and its tensors."""
    reader, raw = gguf.GGUFReader(path), path.read_bytes()
    fields = [one for one in reader.fields.values() if not one.name.startswith("GGUF.")]
    ends = [*(one.offset for one in fields[1:]), reader.tensors[0].field.offset]
    pairs = [(one.name, raw[one.offset : end]) for one, end in zip(fields, ends, strict=True)]
    return pairs, list(reader.tensors)


def put_together(pairs: list[bytes], tensors: list[gguf.ReaderTensor]) -> bytes:
    """A GGUF file of these."""
    data, entries = b"", []
    for one in tensors:
        data += bytes(-len(data) % 32)
        shape = tuple(int(size) for size in one.shape)
        entries.append(tensor(one.name, shape, int(one.tensor_type), len(data)))
        data += one.data.tobytes()
    return Made(pairs=pairs, tensors=entries, data=data).bytes_()


def without_template(path: Path, target: Path) -> None:
    """The same model, as a base model."""
    pairs, tensors = taken_apart(path)
    target.write_bytes(put_together([raw for key, raw in pairs if key != "tokenizer.chat_template"], tensors))


def split(path: Path, target: Path) -> None:
    """The same model in two files."""
    pairs, tensors = taken_apart(path)
    half = len(tensors) // 2
    for number, (kept, some) in enumerate((([raw for _, raw in pairs], tensors[:half]), ([], tensors[half:]))):
        told = [pair("split.no", 2, number), pair("split.count", 2, 2), pair("split.tensors.count", 5, len(tensors))]
        target.with_name(f"{target.name}-{number + 1:05}-of-00002.gguf").write_bytes(put_together([*kept, *told], some))


def quantized(folder: Path) -> None:
    """The bundled MLX model in 4 bits."""
    mx: Any = importlib.import_module("mlx.core")
    nn: Any = importlib.import_module("mlx.nn")
    utils: Any = importlib.import_module("mlx.utils")
    shutil.copytree(BUNDLED / "heylook-tiny-mlx", folder)
    model, found = importlib.import_module("mlx_lm.utils").load_model(folder)
    nn.quantize(model, group_size=64, bits=4)
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(utils.tree_flatten(model.parameters())), {"format": "mlx"}
    )
    (folder / "config.json").write_text(json.dumps({**found, "quantization": {"group_size": 64, "bits": 4}}))


# ---- asked -----------------------------------------------------------------------------------------------------------


def asked(server: Server, path: str, body: dict[str, Any]) -> Any:
    """The answer's JSON."""
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answered:
        assert answered.status == 200
        return json.load(answered)


def answers(server: Server, model: str, kind: str) -> bool:
    """Whether a model does what its kind does."""
    if kind == "embedding":
        return len(asked(server, "/v1/embeddings", {"model": model, "input": ["a", "b"]})["data"]) == 2
    if kind == "reranker":
        ranked = asked(server, "/v1/rerank", {"model": model, "query": "a", "documents": ["a", "b"]})
        return len(ranked["results"]) == 2
    done = asked(server, "/v1/completions", {"model": model, "prompt": "1, 2, 3", "max_tokens": 3, "ignore_eos": True})
    return bool(done["usage"]["completion_tokens"] == 3)


def test_a_folder_of_every_kind_is_imported_by_one_command_and_served(tmp_path: Path) -> None:
    every_kind(tmp_path / "models")
    (tmp_path / "home").mkdir()
    home = Home(tmp_path / "home")
    done = home.run("import", "--folder", str(tmp_path / "models"), "-o", "out.yaml")
    assert done.returncode == 0, done.stderr
    home.models = home.folder / "out.yaml"
    specs = {spec.id: spec for spec in config.load(home.models).enabled}
    assert {name: (spec.provider, spec.tags[0]) for name, spec in specs.items()} == KINDS
    assert "9 models written" in done.stdout
    told = {
        Path(line.removeprefix("left out: ").split(": ")[0]).name: line
        for line in done.stdout.splitlines()
        if line.startswith("left out: ")
    }
    assert set(told) == set(LEFT_OUT)
    for name, words in LEFT_OUT.items():
        assert words in told[name]
    seeing = specs["sees"].config
    assert isinstance(seeing, config.LlamaCppConfig)
    assert seeing.mmproj_path == str(tmp_path / "models" / "eyes" / "mmproj.gguf")
    assert {"vision"} <= set(specs["sees"].tags) & set(specs["mlx-sees"].tags)
    assert "draft: can draft for chat, split" in done.stdout
    with home.serving("--port", "0") as server:
        for name in SERVED:
            assert answers(server, name, KINDS[name][1]), name


def test_a_folder_is_imported_over_http_and_served_at_once(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(BUNDLED / "heylook-tiny.gguf", models / "imported.gguf")
    home = Home(tmp_path)
    with home.serving("--port", "0", "--import-root", str(models)) as server:
        order = {"folders": [str(models)], "overrides": {"n_ctx": 256}}
        shown = asked(server, "/v1/models/import", {**order, "dry_run": True})
        assert [model["id"] for model in shown["models"]] == ["imported"]
        written = asked(server, "/v1/models/import", {**order, "plan": shown["plan"]})
        assert (written["written"], written["difference"]) == (True, shown["difference"])
        assert answers(server, "imported", "chat")
