"""What a frame of one step costs: encode and decode of 8 events. Goal: under 40 µs together.

python -m benchmarks.pipe_frame
"""

import time
from collections.abc import Callable

from heylook_llm import core, pipe

ROUNDS = 20_000


def microseconds(work: Callable[[], object]) -> float:
    """CPU time of one call, the best of five runs."""
    times: list[float] = []
    for _ in range(5):
        begun = time.process_time_ns()
        for _ in range(ROUNDS):
            work()
        times.append((time.process_time_ns() - begun) / ROUNDS / 1000)
    return min(times)


def main() -> None:
    """Print the figures."""
    step = core.Step(tuple((number, core.Text(0, " token", (number * 100,))) for number in range(8)))
    encoder = pipe.Encoder()
    decoder: pipe.Decoder[core.Upward] = pipe.Decoder(core.Upward)  # type: ignore[arg-type]  # a union
    frame = encoder.encode(step)
    encoding, decoding = microseconds(lambda: encoder.encode(step)), microseconds(lambda: decoder.feed(frame))
    print(f"frame of 8 events, {len(frame)} bytes: encode {encoding:.1f} µs, decode {decoding:.1f} µs")


if __name__ == "__main__":
    main()
