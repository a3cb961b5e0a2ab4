"""An image as a file of a form, beside the same image in base64 within JSON: what the form saves.

    python -m benchmarks.multipart [--kilobytes 100 1000 5000] [--rounds 15]

Photographs of about those sizes, as JPEG. Printed for each, medians over the rounds, form and base64 in turns:
bytes of the body; milliseconds of CPU to make it as a client does; milliseconds of CPU that the server takes from the
body to the request; and milliseconds of a whole request to a fake model over loopback, the client's work included. The
image is decoded before the first round and kept, so that decoding, which both do alike, isn't in it. Then the
milliseconds that the form saves, and the ratio.
"""

import argparse
import base64
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
from PIL import Image
from tests.serving import running

from heylook_llm.server.wire import openai, openai_multipart
from heylook_llm.server.wire.exchange import Arrival

MODEL: Final = "models: [{id: fake, provider: fake, config: {image_tokens: 8, reply: seen}}]"
ARRIVAL: Final = Arrival(id="req_0", received_ns=0, created=0)


class Body(NamedTuple):
    """A request's body, as it is sent."""

    content_type: str
    data: bytes


def photograph(kilobytes: int) -> bytes:
    """A JPEG of about that size: smooth colours with some noise."""
    side = round((kilobytes * 1000 / 0.3) ** 0.5)
    chance = np.random.default_rng(kilobytes)
    coarse = Image.fromarray(chance.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((side, side))
    pixels = np.asarray(coarse, dtype=np.int16) + chance.integers(-24, 25, (side, side, 3), dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def messages(url: str) -> list[dict[str, Any]]:
    """A question about one image."""
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    return [{"role": "user", "content": parts}]


def as_form(image: bytes) -> Body:
    """The image beside the messages."""
    fields = {"model": "fake", "messages": json.dumps(messages(openai_multipart.PLACEHOLDER))}
    request = httpx.Request("POST", "http://x/", data=fields, files={"images": ("a.jpg", image, "image/jpeg")})
    return Body(request.headers["content-type"], request.read())


def as_json(image: bytes) -> Body:
    """The image in the messages."""
    url = "data:image/jpeg;base64," + base64.b64encode(image).decode()
    return Body("application/json", json.dumps({"model": "fake", "messages": messages(url)}).encode())


WAYS: Final[dict[str, tuple[str, Callable[[bytes], Body]]]] = {
    "form": ("/v1/chat/completions/multipart", as_form),
    "base64": ("/v1/chat/completions", as_json),
}


def understood(way: str, body: Body) -> None:
    """What the server does with a body before anything else."""
    if way == "form":
        openai_multipart.parse(body.data, body.content_type, ARRIVAL)
    else:
        openai.parse_chat(body.data, ARRIVAL)


def milliseconds(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """How long work takes by a clock."""
    start = clock()
    work()
    return 1e3 * (clock() - start)


def ask(client: httpx.Client, way: str, image: bytes) -> None:
    """One whole request, its body made for it."""
    path, make = WAYS[way]
    body = make(image)
    client.post(path, content=body.data, headers={"content-type": body.content_type}).raise_for_status()


def measure(client: httpx.Client, image: bytes, rounds: int) -> None:
    """Print the figures of one image."""
    bodies = {way: make(image) for way, (_, make) in WAYS.items()}
    figures: dict[str, dict[str, list[float]]] = {way: {"make": [], "read": [], "whole": []} for way in WAYS}
    for way in WAYS:
        ask(client, way, image)
    for _ in range(rounds):
        for way, (_, make) in WAYS.items():
            body, found = bodies[way], figures[way]
            found["make"].append(milliseconds(time.process_time, lambda: make(image)))  # noqa: B023  # called at once
            found["read"].append(milliseconds(time.process_time, lambda: understood(way, body)))  # noqa: B023
            found["whole"].append(milliseconds(time.perf_counter, lambda: ask(client, way, image)))  # noqa: B023
    print(f"an image of {len(image):,} bytes")
    medians = {way: {what: statistics.median(seen) for what, seen in found.items()} for way, found in figures.items()}
    for way, median in medians.items():
        shown = ", ".join(f"{what} {value:7.2f} ms" for what, value in median.items())
        print(f"  {way:8} {len(bodies[way].data):>12,} bytes, {shown}")
    saved = medians["base64"]["whole"] - medians["form"]["whole"]
    print(f"  the form saves {saved:.2f} ms, ratio {medians['form']['whole'] / medians['base64']['whole']:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kilobytes", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(MODEL, Path(folder)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for kilobytes in arguments.kilobytes:
            measure(client, photograph(kilobytes), arguments.rounds)


if __name__ == "__main__":
    main()
