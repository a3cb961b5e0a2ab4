"""How many answers of the tiny models hold to schemas and tools that they never saw, with and without a constraint.

    python -m benchmarks.unseen_schemas --models heylook-tiny heylook-tiny-mlx --count 200 --temperature 0

The schemas, tools and requests are those of tools/tiny_model/evaluate.py ("unseen schemas and tool sets"): random names
of a make that the training never used, up to three levels deep. Half ask for JSON by a schema, half come with tools.
Each is asked twice over HTTP: as it is, and held to the schema (`response_format`) or to a call
(`tool_choice: required`).
Printed for each model: how many whole answers are documents of their schema, or valid calls of a tool; and how many
answers the limit of tokens cut short.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import httpx
from tests.serving import Running, running

sys.path.insert(0, str(Path(__file__).parent.parent / "tools" / "tiny_model"))
import strange  # type: ignore[import-not-found,unused-ignore]  # tools/ has no package

TINY = Path(__file__).parent.parent / "src" / "heylook_llm" / "tiny"
MODELS = {
    "heylook-tiny": f"provider: llama_cpp, config: {{model_path: '{TINY / 'heylook-tiny.gguf'}', n_threads: 1}}",
    "heylook-tiny-mlx": f"provider: mlx, config: {{model_path: '{TINY / 'heylook-tiny-mlx'}'}}",
}
KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def holds(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is a document of one of these schemas, which know few keywords."""
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema["type"]
    if kind == "object":
        known = schema.get("properties", {})
        return (
            isinstance(value, dict)
            and set(schema.get("required", ())) <= set(value)
            and all(holds(value[name], known[name]) for name in set(value) & set(known))
        )
    if kind == "array":
        return isinstance(value, list) and all(holds(item, schema["items"]) for item in value)
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def judged(asked: Any, choice: dict[str, Any]) -> bool:
    """Whether an answer is what was asked for."""
    message = choice["message"]
    try:
        if asked.schema is not None:
            return holds(json.loads(message["content"] or ""), asked.schema)
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in asked.tools}
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        return bool(calls) and all(holds(json.loads(call["arguments"]), schemas[call["name"]]) for call in calls)
    except (ValueError, KeyError):
        return False


def measure(server: Running, model: str, count: int, fields: dict[str, Any]) -> None:
    """Ask all, both ways, and print how many hold."""
    results: dict[str, list[tuple[bool, bool, bool]]] = {"free": [], "held": []}
    with httpx.Client(base_url=server.url, timeout=600) as client:
        for way, told in results.items():
            rng = Random(24)  # noqa: S311  # the same for both ways
            for at in range(count):
                asked = strange.asked(rng, at % 2 == 1)
                body = {"model": model, "messages": [{"role": "user", "content": asked.text}], **fields}
                if asked.tools:
                    body["tools"] = list(asked.tools)
                if way == "held" and asked.tools:
                    body["tool_choice"] = "required"
                elif way == "held":
                    form = {"name": "unseen", "schema": asked.schema, "strict": True}
                    body["response_format"] = {"type": "json_schema", "json_schema": form}
                reply = client.post("/v1/chat/completions", json=body)
                reply.raise_for_status()
                [choice] = reply.json()["choices"]
                told.append((bool(asked.tools), judged(asked, choice), choice["finish_reason"] == "length"))
    for way, told in results.items():
        for name, tools in (("schemas", False), ("tools", True)):
            rows = [row for row in told if row[0] is tools]
            right, cut = sum(row[1] for row in rows), sum(row[2] for row in rows)
            print(f"{model:18} {way:5} {name:8} {right:4} of {len(rows)} hold, {cut} cut short by the limit")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--max-tokens", type=int, default=600)
    arguments = parser.parse_args()
    fields = {"temperature": arguments.temperature, "max_tokens": arguments.max_tokens, "seed": 1}
    entries = "".join(f"\n  - {{id: {name}, {MODELS[name]}}}" for name in arguments.models)
    with tempfile.TemporaryDirectory() as folder, running(f"models:{entries}\n", Path(folder)) as server:
        for model in arguments.models:
            measure(server, model, arguments.count, fields)


if __name__ == "__main__":
    main()
