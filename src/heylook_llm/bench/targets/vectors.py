"""Answers that come whole: vectors and scores, in OpenAI's, Jina's and Ollama's form."""

import json
from typing import Any, Final

from heylook_llm.bench.timeline import Event, Framing, Piece

_DURATIONS: Final = ("total_duration", "load_duration")


class Vectors:
    """Reads the body as one event."""

    framing: Framing = "json"

    def read(self, event: Event) -> Piece | None:
        """How many results it holds, and what it says that it counted."""
        said = json.loads(event.data)
        if error := said.get("error"):
            return Piece(error=str(error.get("message", error) if isinstance(error, dict) else error))
        found = next(said[name] for name in ("data", "embeddings", "results") if name in said)
        usage = said.get("usage") or {}
        return Piece(
            ended=True,
            results=sum(map(_is_result, found)),
            in_usage=_first(usage, "prompt_tokens", "total_tokens", "input_tokens"),
            in_engine=said.get("prompt_eval_count"),
            cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            identity=said.get("id"),
            timings={name: said[name] for name in _DURATIONS if name in said} or None,
        )


def _is_result(one: Any) -> bool:
    """A vector, or the place of a document with its score."""
    if isinstance(one, list):
        return bool(one)
    return bool(one.get("embedding")) or _first(one, "relevance_score", "score") is not None


def _first(said: dict[str, Any], *names: str) -> Any:
    return next((said[name] for name in names if said.get(name) is not None), None)
