"""What a target is, and what it can be told to do: identified by what it answers, never by its name.

These calls are made between measurements, never during one.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final, Literal
from urllib.parse import quote

import aiohttp
import msgspec

from heylook_llm.bench.counters import counters
from heylook_llm.bench.keys import without
from heylook_llm.bench.sample import Kind
from heylook_llm.bench.timeline import Reader, counted_input, error_text
from heylook_llm.errors import TargetFailed

Flavor = Literal["heylook", "llama-server", "vllm", "ollama", "other"]
SECONDS: Final = 10.0
LOAD_SECONDS: Final = 600.0
UNLOAD_SECONDS: Final = 30.0
MOST_ANSWER: Final = 16 << 20
MOST_LINES: Final = 1 << 30
"""Bytes of an answer, of one that has a line for each request: a target may be anything, and never end."""
MOST_WORDS: Final = 2000
"""Of what it says when it refuses."""
MOST_VERSION: Final = 100
MOST_NAME: Final = 1000
"""Characters of a model's name: it goes out with each request."""
LOCAL: Final = (
    "http://127.0.0.1:8080",
    "http://127.0.0.1:11434",
    "http://127.0.0.1:8000",
    "http://127.0.0.1:1234",
    "http://127.0.0.1:8081",
    "http://127.0.0.1:30000",
)
"""Where servers listen: ours and llama-server's, Ollama's, vLLM's, LM Studio's, mlx-lm's beside another, SGLang's."""
FORCING: Final[frozenset[Flavor]] = frozenset({"heylook", "llama-server", "vllm"})
"""Those that take ignore_eos."""


class Found(msgspec.Struct, frozen=True):
    """A target that answers."""

    kind: Kind
    flavor: Flavor
    version: str | None = None
    models: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names of its models."""


def probing() -> aiohttp.ClientSession:
    """A session for such calls."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


class Probe:
    """Asks one target."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None, key: str | None = None
    ) -> None:
        """`headers` hold the key in the target's own way."""
        self._http = http
        self._url = url
        self._headers = headers or {}
        self._key = key

    async def identify(self, kind: Kind | None, name: str = "") -> Found:
        """What answers there. Raises TargetFailed."""
        version = await self.get("/api/version")
        if (await self.get("/v1/capabilities")) is not None:
            health = await self.get("/health") or {}
            return await self._found(kind or "openai", "heylook", health.get("version"))
        if version is not None and "version" in version:
            return await self._found(kind or "ollama", "ollama", version["version"])
        if "default_generation_settings" in (await self.get("/props") or {}):
            return await self._found(kind or "openai", "llama-server", None)
        if (served := await self.get("/version")) is not None and "version" in served:
            return await self._found(kind or "openai", "vllm", served["version"])
        if kind in ("anthropic", "openai") or (await self.get("/v1/models")) is not None:  # some can't list models
            return await self._found(kind or "openai", "other", None)
        raise TargetFailed(f"Nothing at {self._url} speaks the API of OpenAI, Ollama or Anthropic. {name}".rstrip())

    async def _found(self, kind: Kind, flavor: Flavor, version: Any) -> Found:
        listed = await self.get("/v1/models") or {}
        names = tuple(_names(listed.get("data"), "id"))
        loaded: tuple[str, ...] = names
        if flavor in ("heylook", "ollama"):
            running = await self.get("/api/ps") or {}
            loaded = tuple(_listed(name, names) for name in _names(running.get("models"), "name"))
        aliases = tuple(name for one in _objects(listed.get("data")) for name in _texts(one.get("aliases")))
        return Found(kind, flavor, None if version is None else str(version)[:MOST_VERSION], names, loaded, aliases)

    async def count(self, flavor: Flavor, model: str, text: str) -> int | None:
        """A text's tokens without special ones; None: the target doesn't tell."""
        if flavor in ("heylook", "llama-server"):
            told = await self._ask("POST", "/tokenize", {"model": model, "content": text, "add_special": False})
        elif flavor == "vllm":
            body = {"model": model, "prompt": text, "add_special_tokens": False}
            told = await self._ask("POST", "/tokenize", body)
        else:
            return None
        tokens = (told or {}).get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    async def context(self, flavor: Flavor, model: str) -> int | None:
        """Tokens that a request of that model may come to, its answer included; None: the target doesn't tell."""
        if flavor in ("heylook", "llama-server"):
            told = await self.get(f"/props?model={quote(model, safe='')}")
            return _whole((told or {}).get("default_generation_settings"), "n_ctx")
        if flavor == "vllm":
            listed = (await self.get("/v1/models") or {}).get("data")
            return next((_whole(one, "max_model_len") for one in _objects(listed) if one.get("id") == model), None)
        if flavor == "ollama":
            running = _objects((await self.get("/api/ps") or {}).get("models"))
            return next((_whole(one, "context_length") for one in running if _is_called(one, model)), None)
        return None

    async def input_tokens(self, path: str, body: dict[str, Any], reader: Reader) -> int | None:
        """What the target counts of a request's prompt; None: it doesn't say. Raises TargetFailed."""
        try:
            text = await self._text("POST", path, body, LOAD_SECONDS)
        except _Refused as error:
            raise TargetFailed(f"{self._url} refuses POST {path}: {error}") from error
        return counted_input(reader, text.encode())

    async def counters(self, flavor: Flavor) -> dict[str, float]:
        """What the target has counted so far, where it tells. Raises TargetFailed where nothing answers."""
        if flavor != "vllm":
            return {}
        try:
            return counters(await self._text("GET", "/metrics", None, SECONDS))
        except _Refused:
            return {}

    async def make_cold(self, flavor: Flavor, model: str) -> bool:
        """Have the model unloaded, and wait until it is; whether the target does that. Raises TargetFailed."""
        if flavor == "heylook":
            await self.must("POST", f"/v1/models/{quote(model, safe='')}/unload", {})
        elif flavor == "ollama":
            await self.must("POST", "/api/generate", {"model": model, "keep_alive": 0})
            await self._until_gone(model)
        else:
            return False
        return True

    async def _until_gone(self, model: str) -> None:
        """Ollama says that a model is unloaded before it is."""
        until = time.monotonic() + UNLOAD_SECONDS
        while any(_is_called(one, model) for one in _objects((await self.get("/api/ps") or {}).get("models"))):
            if time.monotonic() > until:
                raise TargetFailed(f"{self._url} holds {model} loaded {UNLOAD_SECONDS:g} s after it was to unload it.")
            await asyncio.sleep(0.05)

    async def make_warm(self, flavor: Flavor, model: str) -> None:
        """Have the model loaded and its kept prefixes dropped, where the target does that."""
        if flavor == "heylook":
            await self.must("POST", f"/v1/models/{quote(model, safe='')}/load", {})
            await self.must("DELETE", f"/v1/models/{quote(model, safe='')}/cache", None)
        elif flavor == "ollama":
            await self.must("POST", "/api/generate", {"model": model})

    async def placed(self, flavor: Flavor, model: str) -> dict[str, Any] | None:
        """Where a loaded model is computed and what it takes; None: the target doesn't tell."""
        if flavor == "heylook":
            known = (await self.get("/hardware/live") or {}).get("models")
            told = known.get(model) if isinstance(known, dict) else None
            if not isinstance(told, dict):
                return None
            return {
                "compute": told.get("compute"),
                "bytes": told.get("resident_bytes"),
                "gpu_bytes": told.get("gpu_bytes"),
            }
        if flavor != "ollama":
            return None
        for told in _objects((await self.get("/api/ps") or {}).get("models")):
            whole, on_gpu = told.get("size"), told.get("size_vram")
            if _listed(str(told.get("name")), (model,)) == model and isinstance(whole, int) and isinstance(on_gpu, int):
                mode = "cpu" if on_gpu <= 0 else "gpu" if on_gpu >= whole else "hybrid"
                return {"compute": mode, "bytes": whole, "gpu_bytes": on_gpu}
        return None

    async def rows(self, run_id: str) -> list[dict[str, Any]]:
        """What our server measured of a run's requests; it keeps them from now on."""
        await self.must("POST", f"/v1/performance/runs/{run_id}/pin", {"pinned": True})
        return await self.lines(f"/v1/performance/requests?format=ndjson&run_id={run_id}")

    async def lines(self, path: str) -> list[dict[str, Any]]:
        """The objects of an answer, a line each. Raises TargetFailed."""
        try:
            text = await self._text("GET", path, None, LOAD_SECONDS, MOST_LINES)
            return [msgspec.json.decode(line, type=dict[str, Any]) for line in text.split("\n") if line.strip()]
        except (_Refused, msgspec.MsgspecError, RecursionError) as error:
            raise TargetFailed(f"{self._url} refuses GET {path}: {error}") from error

    async def get(self, path: str) -> dict[str, Any] | None:
        """An object; None: there is none. Raises TargetFailed where nothing answers."""
        return await self._ask("GET", path, None)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            told = json.loads(await self._text(method, path, body, SECONDS))
        except (_Refused, ValueError, RecursionError):
            return None
        return told if isinstance(told, dict) else None

    async def must(self, method: str, path: str, body: dict[str, Any] | None) -> None:
        """Have something done. Raises TargetFailed with what the target says."""
        try:
            await self._text(method, path, body, LOAD_SECONDS)
        except _Refused as error:
            raise TargetFailed(f"{self._url} refuses {method} {path}: {error}") from error

    async def _text(
        self, method: str, path: str, body: dict[str, Any] | None, seconds: float, most: int = MOST_ANSWER
    ) -> str:
        limit = aiohttp.ClientTimeout(total=seconds)
        address = self._url + path
        try:
            async with self._http.request(
                method, address, json=body, headers=self._headers, timeout=limit, allow_redirects=False
            ) as response:
                text = without(await _read(response, most), self._key)
                if response.status >= 300:
                    raise _Refused(_words(error_text(text) or f"status {response.status}"))
                return text
        except TimeoutError as error:
            raise TargetFailed(f"{self._url} didn't answer within {seconds:g} s.") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise TargetFailed(f"{self._url} has a name that no machine goes by; is it misspelt?") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TargetFailed(_unreached(self._url, without(_why(error), self._key))) from error


def _why(error: Exception) -> str:
    """What the system says, in its words; of TLS, whose numbers are its own, OpenSSL."""
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None) or 0
    return str(cause) if isinstance(cause, ssl.SSLError) or number <= 0 else os.strerror(number)


def _unreached(url: str, why: str) -> str:
    return f"Nothing answers at {url} ({_words(why)}); start the server, or name another."


def _words(text: str) -> str:
    """A stranger's words for a message: not endless, and nothing that steers a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:MOST_WORDS])


async def _read(response: aiohttp.ClientResponse, most: int) -> str:
    """A body of bounded size, unpacked as it may be. Raises _Refused."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            raise _Refused(f"an answer of more than {most >> 20} MiB")
    return body.decode("utf-8", "replace")


def _objects(told: Any) -> Iterator[dict[str, Any]]:
    """What of a list are objects: whoever answers may be anything."""
    yield from (one for one in (told if isinstance(told, list) else ()) if isinstance(one, dict))


def _names(told: Any, name: str) -> Iterator[str]:
    """What the objects of a list are called."""
    yield from (one[name] for one in _objects(told) if isinstance(one.get(name), str) and len(one[name]) <= MOST_NAME)


def _texts(told: Any) -> Iterator[str]:
    yield from (one for one in (told if isinstance(told, list) else ()) if isinstance(one, str))


def _listed(name: str, names: tuple[str, ...]) -> str:
    """A loaded model by the name that the list of models has for it, which may lack Ollama's tag."""
    plain = name.removesuffix(":latest")
    return plain if plain in names else name


def _whole(told: Any, name: str) -> int | None:
    """A positive number of an object's; None: it is none."""
    value = told.get(name) if isinstance(told, dict) else None
    return value if type(value) is int and value > 0 else None


def _is_called(listed: dict[str, Any], model: str) -> bool:
    """Whether Ollama's list means that model, with or without its tag."""
    return str(listed.get("name")).removesuffix(":latest") == model.removesuffix(":latest")


class _Refused(Exception):
    """An answer that says no."""
