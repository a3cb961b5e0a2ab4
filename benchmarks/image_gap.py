"""What an image costs the answers beside it: the gaps between a stream's tokens, with and without images encoded.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.image_gap /tmp/half.gguf --images 3 --layers 24 --rounds 5
    python -m benchmarks.random_mlx /tmp/text && python -m benchmarks.image_gap /tmp/text --layers 6

A worker in a process of its own, as the server starts it. One stream decodes; in every second round requests with an
image come beside it, each with pixels of its own, so that all are encoded (by a ViT as large as LLaVA's, of random
weights) and computed (576 tokens). Printed: of each round the median, the 95th percentile and the longest gap
in milliseconds, and how long each image request took; then the ratios of the medians over the rounds. Goal: a stream's
gaps at most double.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from tests.worker import random_llava, random_projector
from tests.worker.client import Client, chat
from tests.worker.pictures import shown

from heylook_llm import core
from heylook_llm.catalog import gguf_header

VIT: Final = random_projector.Shape(336, 14, 1024, 16, 4096, 24)
WARM_TOKENS: Final = 50
"""Of the stream, before the images come."""


class Round(NamedTuple):
    """A stream's gaps from when the images came, or would have, to when the last was answered, or the stream ended."""

    gaps_ms: list[float]
    images_seconds: list[float]

    def figures(self) -> tuple[float, float, float]:
        """Median, 95th percentile, longest."""
        return (
            statistics.median(self.gaps_ms),
            float(np.percentile(self.gaps_ms, 95)),
            max(self.gaps_ms),
        )


def drawing(seed: int) -> core.ImagePart:
    """Pixels that no other request has."""
    return core.ImagePart(np.random.default_rng(seed).bytes(3 * VIT.side**2), VIT.side, VIT.side)


def measure(client: Client, tokens: int, images: int, seed: int) -> Round:
    """One stream, and so many images beside it."""
    greedy = {"temperature": 0.0, "ignore_eos": True}
    stream = client.submit(chat("Hello."), max_tokens=tokens, **greedy)
    pictures = [drawing(seed + at) for at in range(images)]
    stamps: list[float] = []
    asked: dict[int, float] = {}
    took: list[float] = []
    open_requests = {stream}
    while open_requests:
        message = client.receive()
        now = time.perf_counter()
        assert isinstance(message, core.Step), message
        for number, event in message.events:
            if number == stream and isinstance(event, core.Text) and len(took) < max(1, images):
                stamps.append(now)
            if isinstance(event, core.Done | core.Failed):
                assert isinstance(event, core.Done), event
                open_requests.discard(number)
                if number in asked:
                    took.append(now - asked[number])
        if len(stamps) == WARM_TOKENS and not asked:
            for picture in pictures:
                number = client.submit(shown("Look: ", picture, " What is it?"), max_tokens=1, **greedy)
                asked[number] = now
                open_requests.add(number)
    gaps = np.diff(stamps[WARM_TOKENS:]) * 1000
    return Round(gaps.tolist(), took)


def compare(client: Client, arguments: argparse.Namespace) -> None:
    """Rounds in turns, the first of each to warm up."""
    alone: list[Round] = []
    beside: list[Round] = []
    for at in range(arguments.rounds + 1):
        for images, rounds in ((0, alone), (arguments.images, beside)):
            one = measure(client, arguments.tokens, images, 1000 * at)
            rounds.append(one)
            shown_seconds = " ".join(f"{seconds:.1f}" for seconds in one.images_seconds)
            figures = "  ".join(f"{figure:7.2f}" for figure in one.figures())
            print(f"  {images} images: median, p95, longest gap {figures} ms   images took {shown_seconds or '-'} s")
    for name, place in (("median", 0), ("p95", 1), ("longest", 2)):
        medians = [statistics.median(one.figures()[place] for one in rounds[1:]) for rounds in (alone, beside)]
        print(
            f"{name}: {medians[0]:.2f} ms alone, {medians[1]:.2f} ms beside images, {medians[1] / medians[0]:.2f} times"
        )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--layers", type=int, default=VIT.layers)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shape = VIT._replace(layers=arguments.layers)
        with seeing(arguments.model.resolve(), Path(folder), shape) as client:
            compare(client, arguments)


def seeing(model: Path, folder: Path, shape: random_projector.Shape) -> Client:
    """A worker with that model and random eyes: a GGUF with a projector, or an MLX folder made a LLaVA."""
    sizes: dict[str, Any] = {"n_ctx": 4096, "kv_tokens": 16384}
    if model.is_dir():
        vision = random_llava.VISION | {
            "image_size": shape.side,
            "patch_size": shape.patch,
            "hidden_size": shape.width,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers + 1,  # the last is never computed
        }
        return Client("mlx", str(random_llava.around(model, folder / "llava", vision)), **sizes)
    width = gguf_header.read(model, model.stem).embedding_length
    assert width is not None, "a file that doesn't say how wide it is"
    eyes = random_projector.write(folder / "mmproj.gguf", "mlp", width=width, shape=shape)
    return Client("llama_cpp", str(model), mmproj_path=str(eyes), **sizes)


if __name__ == "__main__":
    main()
