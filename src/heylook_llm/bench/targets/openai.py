"""OpenAI's API, as ours, llama-server, vLLM and many others speak it; /v1/rerank is Jina's, which they all took."""

import base64
import json
from typing import Any, Final

from heylook_llm.bench.scenario import WHOLE, Task
from heylook_llm.bench.targets.dialect import Wanted, former
from heylook_llm.bench.targets.vectors import Vectors
from heylook_llm.bench.timeline import Event, Framing, Piece, Reader

_PATHS: Final[dict[Task, str]] = {
    "chat": "/v1/chat/completions",
    "image-text": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
}


class OpenAI:
    """The dialect."""

    framing: Framing = "sse"

    def path(self, task: Task) -> str:
        """Where to POST."""
        return _PATHS[task]

    def headers(self, key: str | None) -> dict[str, str]:
        """The key goes as a bearer's."""
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """The token limit is `max_tokens`, which all of them know."""
        body: dict[str, Any] = {"model": wanted.model, **_asked(wanted)}
        if wanted.task not in WHOLE:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            if wanted.output_tokens is not None:
                body["max_tokens"] = wanted.output_tokens
            if wanted.force_length:
                body["ignore_eos"] = True
        return {**body, **wanted.options}

    def reader(self, task: Task) -> Reader:
        """As a dialect's."""
        return Vectors() if task in WHOLE else self

    def read(self, event: Event) -> Piece | None:
        """A chunk of the stream."""
        if event.data == "[DONE]":
            return Piece(ended=True)
        chunk = json.loads(event.data)
        if error := chunk.get("error"):
            return Piece(error=str(error.get("message", error) if isinstance(error, dict) else error))
        choice = (chunk.get("choices") or [{}])[0]
        delta = choice.get("delta") or {}
        usage = chunk.get("usage") or {}
        details, made = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
        told = [chunk.get(name) for name in ("timings", "metrics")]  # llama-server's, vLLM's
        timings = next((one for one in told if isinstance(one, dict)), None)
        finish = choice.get("finish_reason") or None  # some say "" until there is one
        return Piece(
            text=delta.get("content") or choice.get("text") or "",
            reasoning=delta.get("reasoning_content") or delta.get("reasoning") or "",
            call=_called(delta.get("tool_calls")),
            tokens=_counted(choice),
            finish=finish,
            ended=finish is not None,
            in_usage=usage.get("prompt_tokens"),
            out_usage=usage.get("completion_tokens"),
            cached=details.get("cached_tokens"),
            reasoning_tokens=made.get("reasoning_tokens"),
            in_engine=_prompt_tokens(timings),
            out_engine=(timings or {}).get("predicted_n"),
            identity=chunk.get("id"),
            timings=timings,
        )


def _asked(wanted: Wanted) -> dict[str, Any]:
    match wanted.task:
        case "completion":
            return {"prompt": wanted.prompt}
        case "embeddings":
            return {"input": list(wanted.documents)}
        case "rerank":
            return {"query": wanted.prompt, "documents": list(wanted.documents)}
        case _:
            system = [] if wanted.system is None else [{"role": "system", "content": wanted.system}]
            last = {"role": "user", "content": _content(wanted) if wanted.images else wanted.prompt}
            return {"messages": [*system, *former(wanted), last]}


def _content(wanted: Wanted) -> list[dict[str, Any]]:
    urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in wanted.images]
    return [
        {"type": "text", "text": wanted.prompt},
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
    ]


def _called(calls: Any) -> str:
    """The name and the arguments of what is called, as far as this chunk says them."""
    functions = [call.get("function") or {} for call in calls or ()]
    return "".join(f"{one.get('name') or ''}{one.get('arguments') or ''}" for one in functions)


def _counted(choice: dict[str, Any]) -> int | None:
    """How many tokens a chunk holds, where their ids (vLLM) or their log probabilities were asked for."""
    if (ids := choice.get("token_ids")) is not None:
        return len(ids)
    told = choice.get("logprobs") or {}
    entries = told.get("content") or told.get("tokens")
    return None if entries is None else len(entries)


def _prompt_tokens(timings: dict[str, Any] | None) -> int | None:
    """Of llama.cpp's `timings`: those computed and those taken from the cache."""
    if timings is None or timings.get("prompt_n") is None:
        return None
    computed: int = timings["prompt_n"]
    cached: int = timings.get("cache_n") or 0
    return computed + cached
