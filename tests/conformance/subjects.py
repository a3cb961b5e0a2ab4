"""The models that every client is asked to talk to, and questions whose answers are known. Standard library only."""

import base64
import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

MODELS: Final = """
default_model: heylook-tiny
max_loaded_models: 6
models:
  - id: fake
    aliases: [gpt-4o, claude-sonnet-4-5, "org/name:tag"]
    provider: fake
    config: {n_ctx: 4096, n_parallel: 8}
  - {id: fake-slow, provider: fake, config: {n_ctx: 4096, decode_tokens_per_second: 40}}
  - {id: fake-seeing, provider: fake, config: {n_ctx: 4096, image_tokens: 16}}
  - {id: fake-long, provider: fake, config: {n_ctx: 400000}}
  - id: heylook-tiny
    provider: llama_cpp
    config: {model_path: TINY/heylook-tiny.gguf, n_ctx: 4096}
  - id: heylook-tiny-vision
    provider: llama_cpp
    config:
      model_path: TINY/heylook-tiny-vision.gguf
      mmproj_path: TINY/heylook-tiny-vision-mmproj.gguf
      n_ctx: 4096
  - id: heylook-tiny-mlx
    provider: mlx
    config: {model_path: TINY/heylook-tiny-mlx, n_ctx: 4096}
  - id: heylook-tiny-vision-mlx
    provider: mlx
    config: {model_path: TINY/heylook-tiny-vision-mlx, n_ctx: 4096, vision: true}
  - {id: infilling, provider: llama_cpp, config: {model_path: infilling.gguf, n_ctx: 4096}}
  - {id: infilling-mlx, provider: mlx, config: {model_path: infilling-mlx, n_ctx: 4096}}
"""
"""TINY is where the bundled models lie; what has no path lies beside the file."""
REPOSITORY: Final = "org/model"
"""What can be pulled."""
KEY: Final = "a-key-of-the-operators"
"""What the locked server asks for."""
WEATHER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
"""The parameters of get_weather."""
WEATHER_TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Get the weather in a city", "parameters": WEATHER},
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A provider's models, and what to ask them."""

    provider: str
    model: str
    seeing: str
    long: str
    """The one whose answers take long, or have most room."""
    infilling: str
    """The one with tokens for the middle of a text."""
    file: str = ""
    """Its weights, to be uploaded, below the folder of the bundled models; empty: it has none."""
    ask: str = "What is the capital of France?"
    answer: str = "The capital of France is Paris."
    stopped: tuple[str, str] = (" Paris", "The capital of France is")
    """A stop string, and what is said before it."""
    weather: str = "What is the weather in Paris?"
    """A question that calls get_weather for Paris."""
    observed: str = json.dumps({"temperature": 18, "condition": "sunny"})
    """What get_weather returns."""
    told: str = "18"
    """Part of the answer that follows."""
    think: str = "What is 7 + 5?"
    thought: str = "7 + 5 = 12"
    person: str = "Reply in JSON with the keys name and city"
    count: str = "Count from 1 to 100."
    """A long answer."""
    see: str = "What colour is the circle?"
    seen: str = "The circle is red."


SUBJECTS: Final = (
    Subject(
        "fake",
        "fake",
        "fake-seeing",
        "fake-slow",
        "fake",
        ask="[[say:The capital of France is Paris.]]",
        weather='[[call:get_weather {"city": "Paris"}]]',
        observed="[[say:It is 18 degrees in Paris.]]",
        think="[[think:I work out 7 + 5.]][[say:7 + 5 = 12]]",
        person='[[say:{"name":"Ada","city":"Paris"}]]',
        count="[[count:500]]",
        see="[[see]]",
        seen='"width": 72',
    ),
    Subject("llama_cpp", "heylook-tiny", "heylook-tiny-vision", "heylook-tiny", "infilling", "heylook-tiny.gguf"),
    Subject(
        *("mlx", "heylook-tiny-mlx", "heylook-tiny-vision-mlx", "heylook-tiny-mlx", "infilling-mlx"),
        file="heylook-tiny-mlx",
    ),
)


def circle(side: int = 72) -> bytes:
    """A PNG file: a red circle on white."""
    half, rows = (side - 1) / 2, bytearray()
    for y in range(side):
        rows.append(0)
        for x in range(side):
            within = (x - half) ** 2 + (y - half) ** 2 <= (side / 3) ** 2
            rows += b"\xff\x00\x00" if within else b"\xff\xff\xff"
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    )


def circle_base64() -> str:
    """The same as text."""
    return base64.b64encode(circle()).decode()


def circle_url() -> str:
    """The same as a data URL."""
    return "data:image/png;base64," + circle_base64()
