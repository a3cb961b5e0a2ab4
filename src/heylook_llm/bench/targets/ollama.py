"""Ollama's own API: /api/chat, /api/generate and /api/embed."""

import base64
import json
from typing import Any, Final

from heylook_llm.bench.scenario import Task
from heylook_llm.bench.targets.dialect import Wanted, former
from heylook_llm.bench.targets.vectors import Vectors
from heylook_llm.bench.timeline import Event, Framing, Piece, Reader
from heylook_llm.errors import ConfigError

_PATHS: Final[dict[Task, str]] = {
    "chat": "/api/chat",
    "image-text": "/api/chat",
    "completion": "/api/generate",
    "embeddings": "/api/embed",
}
DURATIONS: Final = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_OPTIONS: Final = frozenset(
    {"model", "messages", "prompt", "stream", "think", "keep_alive", "format", "truncate", "raw"}
)
"""Fields that stand beside `options`, not in it."""


class Ollama:
    """The dialect."""

    framing: Framing = "ndjson"

    def path(self, task: Task) -> str:
        """Where to POST."""
        if task not in _PATHS:
            raise ConfigError(f"Ollama's API has no {task}; where the same server speaks OpenAI's, say --kind openai.")
        return _PATHS[task]

    def headers(self, key: str | None) -> dict[str, str]:
        """The key goes as a bearer's."""
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """What samples goes into `options`; a completion is raw, without the model's template."""
        options = {name: value for name, value in wanted.options.items() if name not in _OPTIONS}
        beside = {name: value for name, value in wanted.options.items() if name in _OPTIONS}
        if wanted.task == "embeddings":
            more = {"options": options} if options else {}
            return {"model": wanted.model, "input": list(wanted.documents), **more, **beside}
        if wanted.force_length:
            options["ignore_eos"] = True
        if wanted.output_tokens is not None:
            options = {"num_predict": wanted.output_tokens, **options}
        return {"model": wanted.model, **_asked(wanted), "stream": True, "options": options, **beside}

    def reader(self, task: Task) -> Reader:
        """As a dialect's."""
        return Vectors() if task == "embeddings" else self

    def read(self, event: Event) -> Piece | None:
        """A line of the stream; the last one holds counts and durations."""
        line = json.loads(event.data)
        if error := line.get("error"):
            return Piece(error=str(error))
        message = line.get("message") or {}
        done = bool(line.get("done"))
        return Piece(
            text=message.get("content") or line.get("response") or "",
            reasoning=message.get("thinking") or line.get("thinking") or "",
            call="".join(_called(call) for call in message.get("tool_calls") or ()),
            finish=(line.get("done_reason") or "stop") if done else None,
            ended=done,
            in_usage=line.get("prompt_eval_count"),
            out_usage=line.get("eval_count"),
            in_engine=line.get("prompt_eval_count"),
            out_engine=line.get("eval_count"),
            timings={name: line[name] for name in DURATIONS if name in line} or None,
        )


def _asked(wanted: Wanted) -> dict[str, Any]:
    if wanted.task == "completion":
        return {"prompt": wanted.prompt, "raw": True}
    system = [] if wanted.system is None else [{"role": "system", "content": wanted.system}]
    last: dict[str, Any] = {"role": "user", "content": wanted.prompt}
    if wanted.images:
        last["images"] = [base64.b64encode(image).decode() for image in wanted.images]
    return {"messages": [*system, *former(wanted), last]}


def _called(call: dict[str, Any]) -> str:
    function = call["function"]
    return f"{function['name']}{json.dumps(function.get('arguments') or {}, ensure_ascii=False)}"
