"""A provider as a client meets it: a model behind the running server, asked over HTTP in all dialects."""

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from benchmarks import random_bert
from heylook_llm import support, tiny
from tests.contract import broken
from tests.serving import Running
from tests.worker import random_gguf, random_llava, random_projector

TINY = Path(tiny.__file__).parent
LIBRARIES = {"llama_cpp": "llama_cpp", "mlx": "mlx_lm", "fake": "heylook_llm"}
ANSWERS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is 3 + 4?": "3 + 4 = 7",
    "Count from 1 to 20.": ", ".join(map(str, range(1, 21))),
    "Repeat after me: blue horse": "blue horse",
}
"""What the bundled model was trained to say, greedily; the fake one is told to."""
COUNT = "Count from 1 to 20."
CAPITAL = "What is the capital of France?"
WAIT_SECONDS = 100.0
WIDTH = 192
"""Of the bundled model."""
PARALLEL = 4
"""Requests that a subject computes together."""
CONTEXT = 512
SMALL_POOL = 256
"""Cells of a subject's small sibling, which has a context of as many: less than PARALLEL long answers need."""
LONG_PARALLEL = 2
LONG_CONTEXT = 4096
"""Of a subject's long sibling, whose endless answers last for seconds; the fake one's are slowed down for that."""

Answer = TypeVar("Answer")


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, error: Any) -> None:
        super().__init__(f"{status}: {error}")
        self.status = status
        self.message = str(error["message"] if isinstance(error, dict) else error)
        self.error = error


def installed(provider: str) -> bool:
    """Whether the provider's engine is installed."""
    return importlib.util.find_spec(LIBRARIES[provider]) is not None


def models(gguf: Path, folder: Path) -> str:
    """models.yaml of every provider: a subject and its siblings, of the bundled model's file `gguf`."""
    paths = {"llama_cpp": gguf, "mlx": TINY / "heylook-tiny-mlx", "fake": Path()}
    more = {"llama_cpp": ", n_threads: 1, type_k: f32, type_v: f32, flash_attn: false", "mlx": "", "fake": ""}
    siblings = (
        ("", CONTEXT, PARALLEL, PARALLEL * CONTEXT),
        ("-small", SMALL_POOL, PARALLEL, SMALL_POOL),
        ("-long", LONG_CONTEXT, LONG_PARALLEL, LONG_PARALLEL * LONG_CONTEXT),
    )
    lines = ["max_loaded_models: 12", "prewarm: false", "limits: {stall_seconds: 300}", "models:"]
    for provider in filter(installed, support.PROVIDERS):
        path = paths[provider] if provider != "fake" else ""
        for suffix, n_ctx, parallel, pool in siblings:
            config = f"n_ctx: {n_ctx}, n_parallel: {parallel}, kv_tokens: {pool}, model_path: '{path}'"
            config += more[provider] + (
                ", decode_tokens_per_second: 50" if (provider, suffix) == ("fake", "-long") else ""
            )
            lines.append(f"  - {{id: {provider}{suffix}, provider: {provider}, config: {{{config}}}}}")
        for name, config in _odd(provider, paths[provider], folder):
            lines.append(f"  - {{id: {provider}-{name}, provider: {provider}, config: {{n_ctx: {CONTEXT}, {config}}}}}")
    return "\n".join(lines)


def _odd(provider: str, path: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Siblings that see, that rank, with an adapter, or with damaged weights."""
    if seeing := _seeing(provider, folder):
        yield "seeing", seeing
    match provider:
        case "llama_cpp":
            adapter = broken.gguf_adapter(folder / "adapter.gguf", WIDTH)
            yield "adapted", f"model_path: '{path}', n_threads: 1, lora: ['{adapter}']"
        case "mlx":
            yield "adapted", f"model_path: '{path}', adapter_path: '{broken.mlx_adapter(folder / 'adapter', path)}'"
    if provider == "fake":
        yield "ranks", "pooling: rank"
    elif provider == "llama_cpp":
        random_bert.write(folder / "ranks.gguf", random_bert.SHAPES["tiny"], "rank")
        yield "ranks", f"model_path: '{folder / 'ranks.gguf'}'"
    for damage in (broken.cut, broken.overwritten):
        name = damage.__name__
        if provider == "fake":
            yield name, f"load_error: 'The weights of \"fake-{name}\" are damaged.'"
        else:
            damaged = damage(path, folder / f"{name}{path.suffix}")
            yield name, f"model_path: '{damaged}'"


def _seeing(provider: str, folder: Path) -> str:
    """The config of a small model that sees, of random weights but for the fake; empty: there is none here."""
    match provider:
        case "llama_cpp":
            model = random_gguf.write(folder / "seeing.gguf", "llama")
            eyes = random_projector.write(folder / "mmproj.gguf", "mlp")
            exact = "n_threads: 1, type_k: f32, type_v: f32, flash_attn: false"
            return f"model_path: '{model}', mmproj_path: '{eyes}', n_parallel: {PARALLEL}, {exact}"
        case "mlx" if importlib.util.find_spec("mlx_vlm") is not None:
            return f"model_path: '{random_llava.write(folder / 'llava')}'"
        case "fake":
            return "image_tokens: 40"
    return ""


class Subject:
    """One provider's model."""

    def __init__(self, provider: str, server: Running, model: str = "") -> None:
        self.provider = provider
        self.server = server
        self.model = model or provider
        self.http = httpx.Client(base_url=server.url, timeout=WAIT_SECONDS)

    @property
    def small(self) -> "Subject":
        """The same provider with a small pool of context memory."""
        return self.sibling("small")

    @property
    def long(self) -> "Subject":
        """The same provider with a long context, and places for LONG_PARALLEL."""
        return self.sibling("long")

    def sibling(self, name: str) -> "Subject":
        """The same provider with another model of this kind."""
        return Subject(self.provider, self.server, f"{self.provider}-{name}")

    def said(self, text: str) -> str:
        """A text that the model answers with what ANSWERS has for it."""
        return f"{text}[[say:{ANSWERS[text]}]]" if self.provider == "fake" and text in ANSWERS else text

    def told(self, text: str, commands: str) -> str:
        """A text with what makes the fake model do what the bundled one was trained to."""
        return text + commands if self.provider == "fake" else text

    # ---- asking ------------------------------------------------------------------------------------------------------

    def post(self, path: str, **body: Any) -> Any:
        """The reply's JSON. Raises Refused."""
        reply = self.http.post(path, json={"model": self.model, **body})
        found = reply.json()
        if reply.status_code != 200:
            raise Refused(reply.status_code, found.get("error", found))
        return found

    def lines(self, path: str, **body: Any) -> Iterator[Any]:
        """The JSON of each event or line of a stream. Raises Refused, also for an error in mid-stream."""
        with self.http.stream("POST", path, json={"model": self.model, "stream": True, **body}) as reply:
            if reply.status_code != 200:
                raise Refused(reply.status_code, json.loads(reply.read()).get("error"))
            for line in reply.iter_lines():
                data = line.removeprefix("data: ")
                if not data or data.startswith(":") or data == "[DONE]":
                    continue
                found = json.loads(data)
                if "error" in found:
                    raise Refused(200, found["error"])
                yield found

    def chat(self, text: str = COUNT, /, **fields: Any) -> Any:
        """A whole chat completion; greedy unless said otherwise."""
        return self.post("/v1/chat/completions", **self._chat(text, fields))

    def chat_lines(self, text: str = COUNT, /, **fields: Any) -> Iterator[Any]:
        """A streamed one."""
        return self.lines("/v1/chat/completions", **self._chat(text, fields))

    def text(self, text: str = COUNT, /, **fields: Any) -> str:
        """The text of a whole chat completion."""
        return str(self.chat(text, **fields)["choices"][0]["message"]["content"])

    def _chat(self, text: str, fields: dict[str, Any]) -> dict[str, Any]:
        messages = fields.pop("messages", None) or [{"role": "user", "content": self.said(text)}]
        return {"messages": messages, "temperature": 0, "max_tokens": 200, **fields}

    def complete(self, prompt: Any, /, **fields: Any) -> Any:
        """A whole raw completion; greedy unless said otherwise."""
        return self.post("/v1/completions", prompt=prompt, **{"temperature": 0, "max_tokens": 40, **fields})

    def ollama(self, path: str, /, *, options: dict[str, Any] | None = None, **body: Any) -> Any:
        """A whole reply of Ollama's API; greedy unless said otherwise."""
        return self.post(path, stream=False, options={"temperature": 0, "num_predict": 200, **(options or {})}, **body)

    def tokens(self, text: str) -> list[int]:
        """The ids of a text's tokens."""
        return list(self.post("/tokenize", content=text)["tokens"])

    # ---- what is so --------------------------------------------------------------------------------------------------

    def in_flight(self) -> list[Any]:
        """The requests that are being answered by this model."""
        return [one for one in self.http.get("/v1/requests").json()["data"] if one["model"] == self.model]

    def flush(self) -> None:
        """Forget every retained prefix."""
        self.http.delete(f"/v1/models/{self.model}/cache").raise_for_status()


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    """What the calls give, made at the same time from a thread each."""
    start = threading.Barrier(len(calls))

    def begun(call: Callable[[], Answer]) -> Answer:
        start.wait(WAIT_SECONDS)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begun, calls))


@contextmanager
def open_stream(subject: Subject, text: str = COUNT, **fields: Any) -> Iterator[Iterator[Any]]:
    """A stream of which some was read; leaving closes its connection, in the midst of it."""
    lines = subject.chat_lines(text, **fields)
    try:
        next(lines)
        yield lines
    finally:
        lines.close()  # type: ignore[attr-defined]  # a generator
