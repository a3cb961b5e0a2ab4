"""Anthropic's API: /v1/messages."""

import base64
import json
from typing import Any, Final

from heylook_llm.bench.scenario import Task
from heylook_llm.bench.targets.dialect import Wanted, former
from heylook_llm.bench.timeline import Event, Framing, Piece, Reader
from heylook_llm.errors import ConfigError

VERSION: Final = "2023-06-01"


class Anthropic:
    """The dialect."""

    framing: Framing = "sse"

    def path(self, task: Task) -> str:
        """Where to POST."""
        if task not in ("chat", "image-text"):
            raise ConfigError(f"Anthropic's API has no {task}.")
        return "/v1/messages"

    def headers(self, key: str | None) -> dict[str, str]:
        """The key has a header of its own."""
        named = {"anthropic-version": VERSION}
        return named if key is None else {**named, "x-api-key": key}

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """It knows no ignore_eos, and must be told how long an answer may be."""
        if wanted.output_tokens is None:
            raise ConfigError("Anthropic's API must be told how long answers may be: give the dataset output_tokens.")
        system = {} if wanted.system is None else {"system": wanted.system}
        return {
            "model": wanted.model,
            **system,
            "messages": [*former(wanted), {"role": "user", "content": _content(wanted)}],
            "max_tokens": wanted.output_tokens,
            "stream": True,
            **wanted.options,
        }

    def reader(self, task: Task) -> Reader:
        """As a dialect's."""
        return self

    def read(self, event: Event) -> Piece | None:  # noqa: PLR0911 (a table)
        """An event of the stream."""
        said = json.loads(event.data)
        match said.get("type"):
            case "error":
                return Piece(error=str(said["error"].get("message", said["error"])))
            case "message_start":
                message = said["message"]
                return _counted(message.get("usage") or {}, identity=message.get("id"))
            case "content_block_start":
                block = said["content_block"]
                name = block["name"] if block["type"] == "tool_use" else ""
                return Piece(call=name, text=block.get("text") or "", reasoning=block.get("thinking") or "")
            case "content_block_delta":
                delta = said["delta"]
                return Piece(
                    text=delta.get("text") or "",
                    reasoning=delta.get("thinking") or "",
                    call=delta.get("partial_json") or "",
                )
            case "message_delta":
                reason = said["delta"].get("stop_reason")
                return _counted(said.get("usage") or {}, finish=reason)
            case "message_stop":
                return Piece(ended=True)
            case _:
                return None


def _content(wanted: Wanted) -> Any:
    if not wanted.images:
        return wanted.prompt
    sources = [
        {"type": "base64", "media_type": "image/png", "data": base64.b64encode(image).decode()}
        for image in wanted.images
    ]
    return [{"type": "text", "text": wanted.prompt}, *({"type": "image", "source": one} for one in sources)]


def _counted(usage: dict[str, Any], *, identity: str | None = None, finish: str | None = None) -> Piece:
    """Input tokens are told in three parts: read from a cache, written to it, and the rest."""
    parts = [usage.get(name) for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")]
    return Piece(
        in_usage=None if parts[0] is None else sum(part or 0 for part in parts),
        cached=parts[1],
        out_usage=usage.get("output_tokens"),
        identity=identity,
        finish=finish,
    )
