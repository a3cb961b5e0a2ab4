"""Models made over the Ollama API: by its own client and by hand, over a server that follows a models.yaml."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
import yaml

from heylook_llm import registry
from tests.commands_at_work import Home, Server
from tests.conftest import TINY

pytestmark = pytest.mark.integration
MODELS = f"""
default_model: fake
prewarm: false
models:
  - {{id: fake, aliases: [gpt-4o], provider: fake, config: {{n_ctx: 2048}}}}
  - {{id: tiny, provider: llama_cpp, config: {{model_path: {TINY}, n_ctx: 1024, n_threads: 1, n_parallel: 2}}}}
"""
HTTP = httpx.Client(timeout=60)
GO = """{{ if .System }}[{{ .System }}]{{ end }}{{ range .Messages }}{{ if ne .Role "system" }}<{{ .Role }}>
{{- .Content }}{{ end }}{{ end }}<assistant>"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("home"))
    made.models.write_text(MODELS)
    return made


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Server]:
    with home.serving("--port", "0", OLLAMA_SCHED_SPREAD="1") as it:
        yield it


@pytest.fixture(scope="module")
def client(server: Server) -> ollama.Client:
    return ollama.Client(server.url)


def data(home: Home) -> Path:
    """Where models lie that came by pulls and uploads."""
    return home.folder / ".local" / "share" / "heylookllm" / "models"


def post(server: Server, path: str, body: Any) -> tuple[int, Any]:
    reply = HTTP.post(server.url + path, json=body)
    return reply.status_code, reply.json() if reply.content else None


def prompt_of(server: Server, model: str, *texts: str) -> str:
    messages = [{"role": "user", "content": text} for text in texts]
    return str(post(server, "/apply-template", {"model": model, "messages": messages})[1]["prompt"])


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_model_is_made_of_another_and_every_dialect_honours_it(
    home: Home, server: Server, client: ollama.Client
) -> None:
    before = home.models.read_text()
    steps = client.create(
        "pirate",
        from_="gpt-4o",
        system='You are "Ü\u2028".',
        messages=[{"role": "user", "content": "ahoy"}, {"role": "assistant", "content": "arr"}],
        parameters={"temperature": 0, "stop": ["STOP"], "num_ctx": 1024, "num_predict": 9, "num_gpu": 1},
        license=["MIT", "more"],
        stream=True,
    )
    told = [step.status or "" for step in steps]
    assert told[0] == "reading model metadata"
    assert "leaving num_gpu out, which the engine of this model doesn't have" in told
    assert sum(status.startswith("creating new layer sha256:") for status in told) == 4
    assert told[-2:] == ["writing manifest", "success"]
    assert home.models.read_text() == before, "the user's own file stays as it is"

    begin = '<|im_start|>system\nYou are "Ü\u2028".<|im_end|>\n<|im_start|>user\nahoy<|im_end|>\n'
    begin += "<|im_start|>assistant\narr<|im_end|>\n"
    assert prompt_of(server, "pirate", "hi").startswith(begin + "<|im_start|>user\nhi")
    own = [{"role": "system", "content": "Own."}, *user("hi")]
    shown = post(server, "/apply-template", {"model": "pirate", "messages": own})[1]["prompt"]
    assert shown.startswith("<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user\nahoy")

    said = user("[[say:one two three four]]")
    counts: set[int | None] = set()
    reply = client.chat("pirate", said, think=False)
    assert (reply.message.content, reply.done_reason) == ("one two t", "length")
    counts.add(reply.prompt_eval_count)
    counts.add(client.generate("pirate", said[0]["content"], think=False).prompt_eval_count)
    openai = post(server, "/v1/chat/completions", {"model": "pirate", "messages": said})[1]
    assert openai["choices"][0]["message"]["content"] == "one two t"
    counts.add(openai["usage"]["prompt_tokens"])
    anthropic = post(server, "/v1/messages", {"model": "pirate", "messages": said, "max_tokens": 4})[1]
    counts.add(sum(anthropic["usage"][name] for name in ("input_tokens", "cache_read_input_tokens")))
    assert len(counts) == 1, "one prompt in every dialect"
    client.generate("pirate", keep_alive=0)
    counted = post(server, "/v1/messages/count_tokens", {"model": "pirate", "messages": said})[1]["input_tokens"]
    assert {counted} == counts, "also where the model isn't loaded"
    plain = client.chat("fake", said, think=False)
    assert (plain.prompt_eval_count or 0) < (reply.prompt_eval_count or 0)
    assert client.chat("pirate", user("[[say:a STOP b]]"), think=False).message.content == "a "
    assert client.chat("pirate", user("[[say:a STOP b]]"), think=False, options={"stop": ["b"]}).message.content == (
        "a STOP "
    ), "a request's options stand above the model's"


def test_what_was_made_is_shown_and_made_again(home: Home, server: Server, client: ollama.Client) -> None:
    shown = client.show("pirate")
    assert shown.details is not None
    assert shown.details.parent_model == "fake"
    assert shown.license == "MIT\nmore"
    assert (shown.parameters or "").splitlines() == [
        f"{'num_ctx':<30} 1024",
        f"{'temperature':<30} 0.0",
        f'{"stop":<30} "STOP"',
        f"{'num_predict':<30} 9",
    ]
    raw = post(server, "/api/show", {"model": "pirate"})[1]
    assert raw["system"] == 'You are "Ü\u2028".'
    assert raw["messages"] == [{"role": "user", "content": "ahoy"}, {"role": "assistant", "content": "arr"}]
    overlaid = post(
        server,
        "/api/show",
        {"model": "pirate", "system": "Other.", "options": {"temperature": 1, "stop": ["X", "Y"], "seed": 7}},
    )[1]
    assert overlaid["system"] == raw["system"], "what is overlaid is the text of the Modelfile alone"
    lines = overlaid["modelfile"].splitlines()
    assert 'SYSTEM """Other."""' in lines
    assert [line for line in lines if line.startswith("PARAMETER")] == [
        "PARAMETER num_ctx 1024", "PARAMETER num_predict 9", "PARAMETER temperature 1", 'PARAMETER stop "X"',
        'PARAMETER stop "Y"', "PARAMETER seed 7",
    ]  # fmt: skip
    (home.folder / "Modelfile").write_text(shown.modelfile or "")
    done = home.run("create", "again", "--url", server.url)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "success"), done.stderr
    again = post(server, "/api/show", {"model": "again"})[1]
    for key in ("system", "messages", "parameters", "license", "template"):
        assert again[key] == raw[key]
    assert again["details"]["parent_model"] == "pirate"
    tags = {model.model: model.digest for model in client.list().models}
    assert len({tags["fake:latest"], tags["pirate:latest"], tags["again:latest"]}) == 3


def test_a_model_is_made_anew_copied_and_deleted(home: Home, server: Server, client: ollama.Client) -> None:
    def system_of(model: str) -> Any:
        return post(server, "/api/show", {"model": model})[1].get("system")

    client.create("changing", from_="fake", system="One")
    assert "system\nOne<" in prompt_of(server, "changing", "hi")
    assert client.create("changing", from_="changing", system="Two").status == "success"
    assert "system\nTwo<" in prompt_of(server, "changing", "hi"), "what was loaded is loaded anew"
    assert client.show("changing").details.parent_model == "fake"  # type: ignore[union-attr]  # of every model
    done = home.run("cp", "changing", "claude-sonnet-4-5", "--url", server.url)
    assert done.stdout == "copied 'changing' to 'claude-sonnet-4-5'\n"
    assert client.copy("changing", "changing:latest").status == "success"
    assert client.delete("changing").status == "success"
    assert system_of("claude-sonnet-4-5:latest") == "Two"
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.chat("changing", user("x"))
    client.delete("claude-sonnet-4-5")
    health = HTTP.get(server.url + "/health").json()
    assert "claude-sonnet-4-5" not in health["models"]
    assert health["registry"]["valid"]


def test_templates_of_go_are_followed(server: Server, client: ollama.Client) -> None:
    client.create("go", from_="fake", template=GO, system="Sys")
    assert prompt_of(server, "go", "hi") == "[Sys]<user>hi<assistant>"
    assert client.show("go").template == GO
    template = "<|im_start|>system\nB<|im_end|>\n<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"
    asked = {"model": "fake", "prompt": "[[say:x]]", "template": template, "stream": False, "think": False}
    status, reply = post(server, "/api/generate", asked)
    assert (status, reply["response"]) == (200, "x")
    plain = client.generate("fake", "[[say:x]]", think=False)
    assert reply["prompt_eval_count"] > (plain.prompt_eval_count or 0)
    for template in ("{{ .Nope }}", "{% if %}"):
        status, reply = post(server, "/api/generate", asked | {"template": template})
        assert status == 400, reply
        assert "template" in reply["error"]
    status, reply = post(server, "/api/create", {"model": "no", "from": "fake", "template": "{{ .Nope }}"})
    assert (status, reply) == (400, {"error": "the template uses .Nope, which isn't offered"})


def upload(client: ollama.Client, path: Path) -> str:
    return str(client.create_blob(path))


def test_an_uploaded_file_is_served_quantized_and_shared(
    home: Home, server: Server, client: ollama.Client, tmp_path: Path
) -> None:
    digest = upload(client, TINY)
    assert HTTP.head(f"{server.url}/api/blobs/{digest}").status_code == 200
    assert upload(client, TINY) == digest, "what is there already is taken again"
    making = client.create("mine", files={"any name": digest}, parameters={"num_ctx": 1024}, stream=True)
    steps = [step.status or "" for step in making]
    assert steps[:2] == [f"using existing layer {digest}", "parsing GGUF"]
    question = user("What is the capital of France?")
    options = {"temperature": 0}
    assert client.chat("mine", question, think=False, options=options).message.content == (
        "The capital of France is Paris."
    )
    told = list(client.create("small", from_="mine", quantize="q8_0", stream=True))
    words = "quantizing F16 model to Q8_0"
    counted = [step for step in told if step.status == words and step.total]
    assert counted[-1].completed == counted[-1].total == TINY.stat().st_size
    assert [step.status for step in told][-3:] == ["verifying conversion", "writing manifest", "success"]
    sizes = {model.model: (model.size, model.details) for model in client.list().models}
    assert sizes["small:latest"][0] < 0.6 * sizes["mine:latest"][0]  # type: ignore[operator]  # both have files
    assert sizes["small:latest"][1].quantization_level == "Q8_0"  # type: ignore[union-attr]  # of every model
    answer = client.chat("small", question, think=False, options=options).message.content or ""
    assert "Paris" in answer
    beyond = list(client.create("wide", from_="small", parameters={"num_ctx": 1 << 20}, stream=True))
    assert "num_ctx is 4096: the model was trained for no more" in [step.status for step in beyond]
    client.delete("wide")
    (loaded,) = (model for model in client.ps().models if model.model == "small:latest")
    assert loaded.details is not None
    assert (loaded.details.quantization_level, loaded.size_vram, loaded.context_length) == ("Q8_0", 0, 1024)

    client.copy("mine", "copied")
    client.delete("mine")
    assert client.chat("copied", question, think=False, options=options).message.content
    assert len(list(data(home).glob("created/*/*/*.gguf"))) == 2
    client.delete("copied")
    assert HTTP.head(f"{server.url}/api/blobs/{digest}").status_code == 404, "it went with the last of its models"
    client.delete("small")
    assert list(data(home).glob("created/*/*")) == []


def test_files_go_with_the_model_that_is_made_anew_of_others(
    home: Home, server: Server, client: ollama.Client, tmp_path: Path
) -> None:
    folder = TINY.parent
    names = ("heylook-tiny-vision.gguf", "heylook-tiny-vision-mmproj.gguf")
    digests = {name: upload(client, folder / name) for name in names}
    client.create("seeing", files=digests, parameters={"num_ctx": 1024})
    shown = client.show("seeing")
    assert "vision" in (shown.capabilities or ())
    assert post(server, "/api/show", {"model": "seeing"})[1]["projector_info"]["general.architecture"] == "clip"
    mlx = {file.name: upload(client, file) for file in (folder / "heylook-tiny-mlx").iterdir()}
    config = json.loads((folder / "heylook-tiny-mlx" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization": {"bits": 7, "group_size": 64}}))
    with pytest.raises(ollama.ResponseError, match="`bits` of 2, 3, 4, 5, 6, 8, and") as bad:
        client.create("folder", files={**mlx, "config.json": upload(client, tmp_path / "config.json")})
    assert bad.value.status_code == 400
    client.create("folder", files=mlx)
    told = post(server, "/api/show", {"model": "folder"})[1]
    assert (told["details"]["format"], told["details"]["family"]) == ("safetensors", "qwen2")
    assert told["model_info"]["qwen2.context_length"] > 0
    assert {"name", "type", "shape"} == set(told["tensors"][0])
    assert told["template"]
    client.create("folder", from_="seeing")
    remade = post(server, "/api/show", {"model": "folder"})[1]
    assert remade["details"]["format"] == "gguf"
    assert len(list(data(home).glob("created/*"))) == 1, "the folder went, the file that both use is there"
    for name in ("seeing", "folder"):
        client.delete(name)
    assert list(data(home).glob("created/*")) == []


def test_the_command_makes_a_model_of_a_file(home: Home, server: Server) -> None:
    folder = home.folder / "weights"
    folder.mkdir()
    (folder / "my model.gguf").write_bytes(TINY.read_bytes())
    (folder / "Modelfile").write_text(
        "# mine\nFROM ./my model.gguf\nPARAMETER temperature 0\nPARAMETER num_ctx 512\n"
        'SYSTEM """You are terse,\nand kind."""\nMESSAGE user hello\nMESSAGE assistant "hi\\nthere"\n'
    )
    done = home.run("create", "own", "-f", "weights/Modelfile", "-q", "Q8_0", "--url", server.url)
    assert done.returncode == 0, done.stderr
    shown = home.run("show", "own", "--modelfile", "--url", server.url).stdout
    for line in ("You are terse,", "PARAMETER num_ctx 512", 'MESSAGE assistant """hi', "PARAMETER temperature 0.0"):
        assert line in shown
    assert post(server, "/api/show", {"model": "own"})[1]["details"]["quantization_level"] == "Q8_0"
    assert post(server, "/api/copy", {"source": "own", "destination": "owned"})[0] == 200
    assert home.run("rm", "own", "owned", "--url", server.url).returncode == 0
    refused = home.run("push", "tiny", "--url", server.url)
    assert (refused.returncode, "no registry" in refused.stderr) == (1, True)


def test_show_tells_what_the_file_says(server: Server) -> None:
    short = post(server, "/api/show", {"model": "tiny"})[1]
    info = short["model_info"]
    assert info["general.architecture"] == "qwen2"
    assert info["qwen2.context_length"] > 0
    assert info["tokenizer.ggml.tokens"] == info["tokenizer.ggml.merges"] == []
    assert info["tokenizer.ggml.add_bos_token"] is False
    assert "tokenizer.chat_template" not in info
    assert {"name": "token_embd.weight", "type": "F16", "shape": [192, 1024]} in short["tensors"]
    long = post(server, "/api/show", {"model": "tiny", "verbose": True})[1]["model_info"]
    assert len(long["tokenizer.ggml.tokens"]) == 1024
    assert info.keys() == long.keys()


def test_wrong_uploads(home: Home, server: Server, tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    url = f"{server.url}/api/blobs/"
    for wrong in ("sha256:abc", "md5:" + 64 * "0", "sha256:" + 63 * "0" + "g"):
        reply = HTTP.post(url + wrong, content=b"x")
        assert (reply.status_code, reply.json()["error"]) == (400, "invalid digest format")
    assert HTTP.head(url + digest).status_code == 404
    reply = HTTP.post(url + digest, content=content[1:])
    got = hashlib.sha256(content[1:]).hexdigest()
    assert reply.status_code == 400
    assert reply.json()["error"] == f'digest mismatch, expected "{digest}", got "sha256:{got}"'
    blobs = data(home) / "blobs"
    assert [file for file in blobs.iterdir() if file.suffix == ".part"] == []
    with socket.create_connection(("127.0.0.1", server.port)) as huge:
        head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 60}\r\n\r\n"
        huge.sendall(head.encode())
        assert huge.recv(100).startswith(b"HTTP/1.1 507")
    threads = [threading.Thread(target=lambda: HTTP.post(url + digest, content=iter([content]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert HTTP.head(url + digest.replace("sha256:", "sha256-")).status_code == 200
    assert (blobs / digest.replace(":", "-")).read_bytes() == content
    assert [file for file in blobs.iterdir() if file.suffix == ".part"] == []
    status, told = post(server, "/api/create", {"model": "bad", "files": {"m.gguf": digest}, "stream": False})
    assert (status, "are no GGUF" in told["error"]) == (400, True)
    broken = b"GGUF" + bytes(100)
    name = f"sha256:{hashlib.sha256(broken).hexdigest()}"
    assert HTTP.post(url + name, content=broken).status_code == 201
    status, told = post(server, "/api/create", {"model": "bad", "files": {"m.gguf": name}, "stream": False})
    assert status == 400
    assert told["error"].startswith("m.gguf: ")
    nameless = {"model": "bad", "files": {"a/": digest, "m.gguf": name}, "stream": False}
    assert post(server, "/api/create", nameless) == (400, {"error": "'a/' is no name for a file"})
    with HTTP.stream("POST", server.url + "/api/create", json={"model": "bad", "files": {"m.gguf": name}}) as reply:
        lines = [json.loads(line) for line in reply.iter_lines()]
    assert (reply.status_code, list(lines[-1])) == (200, ["error"])
    assert list(data(home).glob("created/*/*")) == [], "nothing half made stays"


ERRORS: list[tuple[str, Any, int, str]] = [
    ("/api/create", {"from": "fake"}, 400, "invalid model name"),
    ("/api/create", {"model": "bad name", "from": "fake"}, 400, "invalid model name"),
    ("/api/create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
    ("/api/create", {"model": "x", "from": "nope"}, 404, "model 'nope' not found"),
    ("/api/create", {"model": "x", "files": {"/abs": "sha256:" + 64 * "0"}}, 400, "file path must be relative"),
    ("/api/create", {"model": "x", "files": {"../up": "sha256:" + 64 * "0"}}, 400, "file path must be relative"),
    ("/api/create", {"model": "x", "files": {"m.gguf": ""}}, 400, "invalid digest format"),
    ("/api/create", {"model": "x", "files": {"m.gguf": "sha256:" + 64 * "0"}}, 400, "upload it first"),
    ("/api/create", {"model": "x", "from": "tiny", "quantize": "q9"}, 400, "unsupported quantization type q9"),
    ("/api/create", {"model": "x", "from": "fake", "messages": [{"role": "tool"}]}, 400, "messages[0].role"),
    ("/api/create", {"model": "x", "from": "fake", "messages": [{"role": "user", "images": ["x"]}]}, 400, "images"),
    ("/api/create", {"model": "x", "from": "fake", "template": "{% if %}"}, 400, "the template can't be read: "),
    ("/api/create", {"model": "x", "from": "fake", "template": "x" * 300_000}, 400, "is longer than 262144"),
    ("/api/create", {"model": "x", "from": "fake", "parameters": {"top_k": "x"}}, 400, "must be of type integer"),
    ("/api/create", {"model": "x", "from": "tiny", "parameters": {"num_ctx": 10**18}}, 400, "at most 2147483647"),
    ("/api/chat", {"model": "tiny", "options": {"num_ctx": 10**18}}, 400, "at most 2147483647"),
    ("/api/create", {"model": "fake", "from": "tiny"}, 409, "never changed"),
    ("/api/create", {"model": "GPT-4o:latest", "from": "tiny"}, 409, "never changed"),
    ("/api/copy", {"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
    ("/api/copy", {"source": "a b", "destination": "x"}, 400, 'source "a b" is invalid'),
    ("/api/copy", {"source": "fake"}, 400, 'destination "" is invalid'),
    ("/api/copy", {"source": "tiny", "destination": "fake"}, 409, "never changed"),
    ("/api/push", {}, 400, "model is required"),
    ("/api/push", {"name": "nope"}, 404, "model 'nope' not found"),
    ("/api/push", {"model": "fake"}, 400, "no registry"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), ERRORS, ids=[f"{row[0]} {row[3]}" for row in ERRORS])
def test_the_catalogue_of_errors(server: Server, path: str, body: Any, status: int, words: str) -> None:
    found, told = post(server, path, body)
    assert (found, list(told)) == (status, ["error"]), told
    assert words in told["error"]


def test_late_errors_are_lines_and_the_rest_keep_their_status(server: Server) -> None:
    body = {"model": "x", "from": "fake", "quantize": "q8_0"}
    lines = HTTP.post(server.url + "/api/create", json=body).text.splitlines()
    assert json.loads(lines[0]) == {"status": "reading model metadata"}
    assert "Only GGUF files" in json.loads(lines[-1])["error"]
    status, told = post(server, "/api/create", {**body, "stream": False})
    assert (status, "Only GGUF files" in told["error"]) == (400, True)
    outside = {"model": "x", "from": "fake", "parameters": {"temperature": 9}, "stream": False}
    status, told = post(server, "/api/create", outside)
    assert (status, "temperature" in told["error"]) == (400, True)
    for path in ("/api/create", "/api/copy", "/api/push"):
        assert HTTP.post(server.url + path).json() == {"error": "missing request body"}


def test_it_survives_a_restart(home: Home, server: Server) -> None:
    assert any("OLLAMA_SCHED_SPREAD" in line for line in server.errors), "what has no effect is named"
    with home.serving("--port", "0") as second:
        told = post(second, "/api/show", {"model": "pirate"})[1]
    assert (told["system"], len(told["messages"])) == ('You are "Ü\u2028".', 2)
    written = yaml.safe_load(registry.overlay_path(home.models).read_text())
    assert {entry["id"]: entry.get("parent") for entry in written["models"]}["pirate"] == "fake"


def test_there_is_no_cloud(server: Server) -> None:
    told = HTTP.get(server.url + "/api/status").json()
    assert told == {"cloud": {"disabled": True, "source": "config"}}
    models = HTTP.get(server.url + "/api/experimental/model-recommendations").json()["recommendations"]
    assert {"model", "description"} == set(models[0])
