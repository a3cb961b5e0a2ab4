"""Quantizes a GGUF file by llama.cpp, in a process of its own, which an assertion of llama.cpp's may end.

python -m heylook_llm.worker.providers.llama_cpp_quantize SOURCE TARGET TYPE

TYPE is a number of llama.cpp's file types. It writes `DONE TOTAL` a line, in tensors, and at last why it failed, if it
did. It ends with its standard input.
"""

import ctypes
import os
import re
import sys
import threading
from typing import Any, Final

NICENESS: Final = 5
_TENSOR: Final = re.compile(rb"^\[\s*(\d+)/\s*(\d+)\]")
_FAILED: Final = re.compile(rb"failed to quantize: (.*)")


def main() -> int:
    """Quantize; 0: the target is whole."""
    source, target, kind = sys.argv[1:4]
    output = os.fdopen(os.dup(1), "w", buffering=1)  # a library's print must not stand among the lines
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICENESS)

    import llama_cpp.llama_cpp as native  # noqa: PLC0415

    reason = "llama.cpp can't quantize it"

    def log(_: int, text: bytes, __: Any) -> None:
        nonlocal reason
        if (tensor := _TENSOR.match(text)) is not None:
            output.write(f"{int(tensor[1])} {int(tensor[2])}\n")
        if (failed := _FAILED.search(text)) is not None:
            reason = failed[1].decode("utf-8", "replace").strip()

    callback = native.llama_log_callback(log)
    native.llama_log_set(callback, ctypes.c_void_p(0))
    native.llama_backend_init()
    params = native.llama_model_quantize_default_params()
    params.ftype = int(kind)
    if native.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)):
        output.write(f"{reason}\n")
        return 1
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main())
