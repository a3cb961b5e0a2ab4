"""llama.cpp's own objects as numpy and Python see them: its log, a batch, the rows of logits, a file's metadata.

Trap of the binding: the log callback must be kept referenced or the process segfaults.
"""

import ctypes
import logging
import re
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Any, Final

import numpy as np

from heylook_llm.worker.providers.base import Feed, Floats

_LOG_LEVELS: Final = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
"""ggml.h's; the table in llama-cpp-python is another one. 5 continues the line before."""
_NOISE: Final = ("n_ctx_seq (", "failed to find a memory slot", "model default pooling_type")
"""It takes the pool for one sequence's context; a full pool is the scheduler's daily business; we pool ourselves."""
_BUFFER: Final = re.compile(r"(\S+)\s+(model|KV|compute|output) buffer size\s*=\s*([\d.]+) MiB")
_OFFLOADED: Final = re.compile(r"offloaded (\d+)/\d+ layers")

Integers = np.ndarray[Any, np.dtype[Any]]

log = logging.getLogger("heylook_llm.worker.llama_cpp")


class Log:
    """What llama.cpp logs: warnings go on to our log; errors and buffer sizes are kept."""

    def __init__(self, native: Any) -> None:
        self.errors: deque[str] = deque(maxlen=8)
        self.buffers: list[tuple[str, str, float]] = []
        """(device, kind, MiB)"""
        self.layers_gpu: int | None = None
        self._level = logging.INFO
        self._native = native
        self.callback = native.llama_log_callback(self._take)
        self.no_callback = native.llama_log_callback(0)
        native.llama_log_set(self.callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level in _LOG_LEVELS:
            self._level = _LOG_LEVELS[level]
        line = text.decode("utf-8", "replace").strip()
        if not line or line == "." or any(noise in line for noise in _NOISE):
            return
        if self._level >= logging.ERROR:
            self.errors.append(line)
        if found := _BUFFER.search(line):
            self.buffers.append((found.group(1), found.group(2), float(found.group(3))))
        if found := _OFFLOADED.search(line):
            self.layers_gpu = int(found.group(1))
        log.log(self._level if self._level >= logging.WARNING else logging.DEBUG, "%s", line)

    def mebibytes(self, kind: str | None = None, *, gpu: bool = False) -> float:
        """The sum of the buffers of one kind; `gpu`: only those on GPUs."""
        return sum(
            size
            for device, k, size in self.buffers
            if (kind is None or k == kind) and not (gpu and device.startswith(("CPU", "BLAS", "AMX")))
        )

    def close(self) -> None:
        """llama.cpp logs to stderr again."""
        self._native.llama_log_set(self.no_callback, ctypes.c_void_p(0))


class Batch:
    """A llama_batch over arrays of our own, filled from numpy without a Python object per token."""

    def __init__(self, native: Any, capacity: int) -> None:
        self.capacity = capacity
        self._token = (ctypes.c_int32 * capacity)()
        self._position = (ctypes.c_int32 * capacity)()
        self._counts = (ctypes.c_int32 * capacity)(*([1] * capacity))
        self._slot = (ctypes.c_int32 * capacity)()
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._slot_pointers = (pointer * capacity)()
        base, size = ctypes.addressof(self._slot), ctypes.sizeof(ctypes.c_int32)
        addresses = np.frombuffer(memoryview(self._slot_pointers).cast("B"), dtype=np.uintp)
        addresses[:] = base + size * np.arange(capacity, dtype=np.uintp)
        self._wanted = (ctypes.c_int8 * capacity)()
        self.struct = native.llama_batch(
            0, self._token, None, self._position, self._counts, self._slot_pointers, self._wanted
        )
        self.tokens: Integers = np.ctypeslib.as_array(self._token)
        self.positions: Integers = np.ctypeslib.as_array(self._position)
        self.slots: Integers = np.ctypeslib.as_array(self._slot)
        self.wanted: Integers = np.ctypeslib.as_array(self._wanted)
        self._steps = np.arange(capacity, dtype=np.int32)

    def fill(self, feeds: Seq[Feed]) -> list[int]:
        """Put the feeds in; returns, for each feed that wants tokens drawn, the place of the first that gets logits."""
        at = 0
        places: list[int] = []
        token, position, slot, wanted = self._token, self._position, self._slot, self._wanted
        for feed in feeds:
            count = len(feed.tokens)
            if count == 1:
                token[at] = feed.tokens[0]
                position[at] = feed.start
                slot[at] = feed.slot
                wanted[at] = rows_of(feed)
            else:
                end = at + count
                self.tokens[at:end] = feed.tokens
                self.positions[at:end] = self._steps[:count]
                self.positions[at:end] += feed.start
                self.slots[at:end] = feed.slot
                self.wanted[at:end] = 0
                self.wanted[end - rows_of(feed) : end] = 1
            at += count
            if feed.sample:
                places.append(at - 1 - feed.drafts)
        self.struct.n_tokens = at
        return places


def rows_of(feed: Feed) -> int:
    """How many of a feed's tokens, its last ones, get logits."""
    if feed.scores is not None:
        return len(feed.tokens)
    return 1 + feed.drafts if feed.sample else 0


class RowBatch:
    """A llama_batch of one slot's rows instead of tokens, none of which gets logits."""

    def __init__(self, native: Any, capacity: int) -> None:
        self._native = native
        self._counts = (ctypes.c_int32 * capacity)(*([1] * capacity))
        self._slot = ctypes.c_int32()
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._slot_pointers = (pointer * capacity)(*([ctypes.pointer(self._slot)] * capacity))
        self._wanted = (ctypes.c_int8 * capacity)()

    def filled(self, slot: int, rows: Floats, positions: Integers) -> Any:
        """A batch of rows [n, width] at these positions [n], or [4, n] of two dimensions; both must outlive it."""
        self._slot.value = slot
        return self._native.llama_batch(
            len(rows),
            None,
            rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._counts,
            self._slot_pointers,
            self._wanted,
        )


class Logits:
    """The rows of logits of the last batch, as numpy views on llama.cpp's own buffer."""

    def __init__(self, native: Any, context: Any, n_vocab: int, rows: int) -> None:
        self._address_of = native._lib["llama_get_logits"]
        self._address_of.argtypes = [ctypes.c_void_p]
        self._address_of.restype = ctypes.c_void_p
        self._context = ctypes.cast(context, ctypes.c_void_p)
        self._shape = (rows, n_vocab)
        self._views: dict[int, Floats] = {}

    def view(self, rows: int) -> Floats:
        """The first rows: [rows, n_vocab], one per token that wanted logits, in the batch's order."""
        address = self._address_of(self._context)
        view = self._views.get(address)
        if view is None:
            buffer = (ctypes.c_float * (self._shape[0] * self._shape[1])).from_address(address)
            view = self._views[address] = np.ctypeslib.as_array(buffer).reshape(self._shape)
        return view[:rows]


def metadata_of(native: Any, model: Any) -> Iterator[tuple[str, Any]]:
    """Key and value of the file's metadata; arrays and the chat template are left out."""
    buffer = ctypes.create_string_buffer(1 << 16)
    for at in range(native.llama_model_meta_count(model)):
        if native.llama_model_meta_key_by_index(model, at, buffer, len(buffer)) < 0:
            continue
        key = buffer.value.decode("utf-8", "replace")
        if native.llama_model_meta_val_str_by_index(model, at, buffer, len(buffer)) < 0 or "chat_template" in key:
            continue
        yield key, _plain_value(buffer.value.decode("utf-8", "replace"))


def _plain_value(text: str) -> Any:
    """llama.cpp gives every value as text; numbers and booleans become what they were."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", text):
        return float(text)
    return text
