"""What a step costs by the number of its tokens: prompt tokens of one sequence beside streams that each decode one.

    python -m benchmarks.random_model 0.5b /tmp/half.gguf --quantize Q4_K_M
    python -m benchmarks.prompt_chunks /tmp/half.gguf --sizes 56 57 121 249 505 --beside 7 --past 0 3000

A bare loop over llama-cpp-python's low-level binding with flash attention. For each length of the prompt so far, chunks
of each size are computed in turns, each taken back before the next. Printed: the medians of milliseconds a step, and of
prompt tokens per second after the time of a step that only decodes is taken off.
"""

import argparse
import ctypes
import importlib
import os
import statistics
import time
from pathlib import Path
from typing import Any

from heylook_llm.worker.providers.llama_cpp_threads import physical_cores

STREAM_TOKENS = 64
"""What each stream has behind it."""
FIRST_ID = 100
MOST_TOKENS = 512


class Steps:
    """One context with streams in sequences 1 and up, and a prompt in sequence 0."""

    def __init__(self, path: Path, beside: int, cells: int, threads: int) -> None:
        native: Any = importlib.import_module("llama_cpp.llama_cpp")
        self._native, self._beside = native, beside
        self._silent = native.llama_log_callback(lambda *_: None)
        native.llama_log_set(self._silent, ctypes.c_void_p(0))
        model_params = native.llama_model_default_params()
        model_params.n_gpu_layers = 0
        params = native.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = cells, beside + 1, True
        params.n_batch = params.n_ubatch = MOST_TOKENS
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = 1
        self._model = native.llama_model_load_from_file(os.fsencode(path), model_params)
        self._context = native.llama_init_from_model(self._model, params)
        self._memory = native.llama_get_memory(self._context)
        self._batch = native.llama_batch_init(MOST_TOKENS, 0, 1)
        for stream in range(beside):
            self._compute([(stream + 1, position, False) for position in range(STREAM_TOKENS)])

    def extend(self, start: int, end: int) -> None:
        """Compute the prompt from `start` to `end`, to be kept."""
        for at in range(start, end, MOST_TOKENS):
            self._compute([(0, position, False) for position in range(at, min(end, at + MOST_TOKENS))])

    def seconds(self, past: int, tokens: int) -> float:
        """A step of so many prompt tokens behind `past`, and one of each stream; taken back afterwards."""
        streams = [(stream + 1, STREAM_TOKENS, True) for stream in range(self._beside)]
        began = time.perf_counter()
        self._compute([*streams, *((0, past + at, False) for at in range(tokens))])
        took = time.perf_counter() - began
        self._native.llama_memory_seq_rm(self._memory, 0, past, -1)
        for stream in range(self._beside):
            self._native.llama_memory_seq_rm(self._memory, stream + 1, STREAM_TOKENS, -1)
        return took

    def _compute(self, rows: list[tuple[int, int, bool]]) -> None:
        batch = self._batch
        for at, (slot, position, wanted) in enumerate(rows):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = FIRST_ID + position % 1000, position, 1
            batch.seq_id[at][0], batch.logits[at] = slot, wanted
        batch.n_tokens = len(rows)
        if self._native.llama_decode(self._context, batch) != 0:
            raise SystemExit("llama_decode failed")
        self._native.llama_synchronize(self._context)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="What a step costs by the number of its tokens.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 56, 57, 64, 120, 121, 128, 249, 505])
    parser.add_argument("--past", type=int, nargs="+", default=[0, 1500, 3000])
    parser.add_argument("--beside", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=physical_cores())
    options = parser.parse_args()
    cells = max(options.past) + MOST_TOKENS + options.beside * (STREAM_TOKENS + 1)
    steps = Steps(options.model, options.beside, -(-cells // 256) * 256, options.threads)
    reached = 0
    for past in sorted(options.past):
        steps.extend(reached, past)
        reached = past
        took: dict[int, list[float]] = {size: [] for size in (0, *options.sizes)}
        for _ in range(options.rounds):
            for size, measured in took.items():
                measured.append(steps.seconds(past, size) if size or options.beside else 0.0)
        alone = statistics.median(took.pop(0))
        print(f"behind {past} tokens, {options.beside} streams: {1000 * alone:.0f} ms without a prompt")
        for size, measured in took.items():
            step = statistics.median(measured)
            print(f"  {size:4} + {options.beside}  {1000 * step:7.0f} ms  {size / (step - alone):7.0f} prompt tokens/s")


if __name__ == "__main__":
    main()
