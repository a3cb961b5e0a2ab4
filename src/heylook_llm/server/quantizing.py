"""Makes a smaller GGUF of one in half or full precision, by llama.cpp in a process of its own."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from heylook_llm.catalog import gguf_header
from heylook_llm.errors import BadRequest, EngineError, InsufficientStorage, UnsupportedFeature

MODULE: Final = "heylook_llm.worker.providers.llama_cpp_quantize"
WHOLE: Final = ("F32", "F16", "BF16")
_BITS: Final = {
    **{"F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q5_K_S": 5.6, "Q5_1": 6.0},
    **{"Q5_0": 5.5, "Q4_K_M": 4.9, "Q4_K_S": 4.6, "Q4_1": 5.0, "Q4_0": 4.6, "IQ4_NL": 4.6, "IQ4_XS": 4.4},
    **{"Q3_K_L": 4.3, "Q3_K_M": 4.0, "Q3_K_S": 3.6, "Q2_K": 3.4},
}
"""Types that need no importance matrix -> about how many bits a weight takes, in a small model at most."""
_NUMBERS: Final = {name: number for number, name in gguf_header.FILE_TYPES.items()}


def type_of(text: str) -> str:
    """A type by its name, in any case. Raises BadRequest."""
    name = text.strip().upper()
    if name not in _BITS:
        known = ", ".join(known for known in _BITS if known not in WHOLE)
        raise BadRequest(f"unsupported quantization type {text[:32]}: it must be one of {known}", param="quantize")
    return name


def check_source(quantization: str | None) -> None:
    """Raises UnsupportedFeature for a file that is quantized already: it would lose twice."""
    if quantization not in WHOLE:
        raise UnsupportedFeature(
            f"quantization is only supported for {', '.join(WHOLE)} models, and this one is "
            f"{quantization or 'of an unknown type'}",
            param="quantize",
        )


async def quantized(source: Path, target: Path, kind: str) -> AsyncGenerator[tuple[int, int], None]:
    """Make the file; yields tensors done, of all. Nothing is left of a file that isn't whole.

    Raises InsufficientStorage, EngineError.
    """
    _check_space(source, target.parent, kind)
    part = target.with_name(f".{target.name}.part")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", MODULE, str(source), str(part), str(_NUMBERS[kind])),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
    )
    assert process.stdout is not None
    reason = "llama.cpp ended before it was done"
    try:
        async for line in process.stdout:
            words = line.decode("utf-8", "replace").split()
            if len(words) == 2 and all(word.isdecimal() for word in words):
                yield int(words[0]), int(words[1])
            else:
                reason = line.decode("utf-8", "replace").strip()
        if await process.wait():
            raise EngineError(f"It can't be quantized to {kind}: {reason}", code="quantization_failed")
        os.replace(part, target)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        part.unlink(missing_ok=True)


def _check_space(source: Path, folder: Path, kind: str) -> None:
    header = gguf_header.read(source, source.stem)
    needed, free = int(header.parameters * _BITS[kind] / 8) + header.data_start, shutil.disk_usage(folder).free
    if free < needed:
        raise InsufficientStorage(f"It takes about {needed / 1e9:.2f} GB as {kind}, and {free / 1e9:.2f} GB are free.")
