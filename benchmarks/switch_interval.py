"""What rendering prompts beside the step loop costs a step, by sys.setswitchinterval.

    python -m benchmarks.switch_interval src/heylook_llm/tiny/heylook-tiny.gguf

One thread renders a chat of 40 messages over and over, as a preparer does under load, while the step loop decodes one
stream. Printed per interval: median and p99 of a step, in microseconds.
"""

import argparse
import datetime
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from random import SystemRandom

from heylook_llm import core
from heylook_llm.worker.__main__ import Engine, Mark, Outlet, Prepared
from heylook_llm.worker.prepare import Model
from heylook_llm.worker.providers.llama_cpp import open_model

INTERVALS_SECONDS = (0.005, 0.001, 0.0002, 0.00005)


def steps(engine: Engine, marks: dict[int, Mark], tokens: int) -> list[float]:
    """Microseconds of each decode step of one stream."""
    sampling = core.Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    body = core.Request("r", "bench", (core.TokenPrompt(tuple(range(10, 26))),), sampling)
    mark = marks[1] = Mark(1)
    engine.take(Prepared(mark, engine.model.prepare(1, body), time.monotonic_ns()))
    found: list[float] = []
    while not engine.scheduler.idle:
        began = time.perf_counter()
        engine.step()
        found.append((time.perf_counter() - began) * 1e6)
    return found[1:]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Steps beside rendering, by switch interval.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=600)
    arguments = parser.parse_args()
    load = core.Load("bench", "llama_cpp", str(arguments.model), {"n_parallel": 1, "n_threads": 1, "n_gpu_layers": 0})
    model = Model("bench", open_model(load, lambda fraction: None), SystemRandom(), time.monotonic_ns)
    marks: dict[int, Mark] = {}
    engine = Engine(model, Outlet(os.open(os.devnull, os.O_WRONLY)), {}, marks)
    messages = tuple(core.Message(("user", "assistant")[at % 2], (core.TextPart("word " * 50),)) for at in range(39))
    template, now = model.template, datetime.datetime.now().astimezone()
    assert template is not None, "the model has no chat template"
    stop = threading.Event()

    def render() -> None:
        while not stop.is_set():
            template.render(core.ChatPrompt(messages), now)

    report("alone", steps(engine, marks, arguments.tokens))
    thread = threading.Thread(target=render)
    thread.start()
    for interval in INTERVALS_SECONDS:
        sys.setswitchinterval(interval)
        report(f"{interval * 1e3:.2f} ms", steps(engine, marks, arguments.tokens))
    stop.set()
    thread.join()


def report(name: str, found: list[float]) -> None:
    """One line."""
    print(f"{name:10} median {statistics.median(found):8.0f} us   p99 {statistics.quantiles(found, n=100)[98]:8.0f} us")


if __name__ == "__main__":
    main()
