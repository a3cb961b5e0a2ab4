"""What llama.cpp's own helper of mtmd makes of a prompt with images: the answer that ours must be."""

import ctypes
import importlib
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np

from heylook_llm import core


def answer(model: Path, projector: Path, prompt: Seq[str | core.ImagePart], count: int) -> list[int]:
    """The likeliest tokens behind a prompt, evaluated by the helper in one piece; images as they are."""
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    mtmd: Any = importlib.import_module("llama_cpp.mtmd_cpp")
    quiet = native.llama_log_callback(lambda level, text, data: None)
    native.llama_log_set(quiet, ctypes.c_void_p(0))
    mtmd.mtmd_helper_log_set(quiet, ctypes.c_void_p(0))
    loaded = native.llama_model_load_from_file(str(model).encode(), native.llama_model_default_params())
    params = native.llama_context_default_params()
    params.n_ctx = 1024
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = 0
    params.flash_attn_type = 0
    context = native.llama_init_from_model(loaded, params)
    seeing = mtmd.mtmd_context_params_default()
    seeing.n_threads = 1
    eyes = mtmd.mtmd_init_from_file(str(projector).encode(), loaded, seeing)
    try:
        past = _evaluated(mtmd, eyes, context, prompt)
        return _greedy(native, loaded, context, past, count)
    finally:
        mtmd.mtmd_free(eyes)
        native.llama_free(context)
        native.llama_model_free(loaded)
        native.llama_log_set(native.llama_log_callback(0), ctypes.c_void_p(0))
        mtmd.mtmd_helper_log_set(native.llama_log_callback(0), ctypes.c_void_p(0))


def _evaluated(mtmd: Any, eyes: Any, context: Any, prompt: Seq[str | core.ImagePart]) -> int:
    marker = mtmd.mtmd_default_marker().decode()
    text = "".join(part if isinstance(part, str) else marker for part in prompt).encode()
    images = [part for part in prompt if isinstance(part, core.ImagePart)]
    bitmaps = [
        mtmd.mtmd_bitmap_init(image.width, image.height, (ctypes.c_uint8 * len(image.rgb)).from_buffer_copy(image.rgb))
        for image in images
    ]
    chunks = mtmd.mtmd_input_chunks_init()
    asked = mtmd.mtmd_input_text(text, len(text), False, True)
    array = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
    assert mtmd.mtmd_tokenize(eyes, chunks, ctypes.byref(asked), array, len(bitmaps)) == 0
    past = ctypes.c_int32(0)
    assert mtmd.mtmd_helper_eval_chunks(eyes, context, chunks, 0, 0, 512, True, ctypes.byref(past)) == 0
    mtmd.mtmd_input_chunks_free(chunks)
    for bitmap in bitmaps:
        mtmd.mtmd_bitmap_free(bitmap)
    return past.value


def _greedy(native: Any, model: Any, context: Any, past: int, count: int) -> list[int]:
    size = native.llama_vocab_n_tokens(native.llama_model_get_vocab(model))
    found: list[int] = []
    batch = native.llama_batch_init(1, 0, 1)
    for at in range(count):
        row = np.ctypeslib.as_array(native.llama_get_logits_ith(context, -1), shape=(size,))
        found.append(int(row.argmax()))
        batch.n_tokens = 1
        batch.token[0], batch.pos[0], batch.n_seq_id[0], batch.seq_id[0][0] = found[-1], past + at, 1, 0
        batch.logits[0] = 1
        assert native.llama_decode(context, batch) == 0
    native.llama_batch_free(batch)
    return found
