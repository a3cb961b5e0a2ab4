"""Greedy answers about pictures by the exported GGUF (llama.cpp's mtmd), by torch and by mlx-vlm."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from engines import LlamaCpp
from model import Cache
from vision import Seer


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids with one image token per picture, and the pictures as RGB bytes (side, side, 3)."""

    tokens: list[int]
    squares: tuple[numpy.ndarray, ...]


class VisionEngine(Protocol):
    """Continues prompts greedily until the end token."""

    def complete(self, prompts: Sequence[Prompt], limit: int) -> list[list[int]]:
        """The new tokens of each prompt, the end token included where it came within `limit`."""
        ...

    def rows(self, square: numpy.ndarray) -> numpy.ndarray:
        """What a picture is to the decoder, (patches, width)."""
        ...


class Mtmd(LlamaCpp):
    """llama.cpp on the CPU with mtmd for the pictures, one prompt at a time."""

    def __init__(self, path: Path, mmproj: Path, image_token: int, threads: int = 1) -> None:
        super().__init__(path, threads=threads)
        from llama_cpp import mtmd_cpp

        self.mtmd, self.image_token = mtmd_cpp, image_token
        mtmd_cpp.mtmd_log_set(self._quiet, ctypes.c_void_p(0))
        options = mtmd_cpp.mtmd_context_params_default()
        options.use_gpu, options.n_threads, options.warmup = False, threads, False
        self.eyes = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), self.model, options)
        if not self.eyes:
            raise RuntimeError(f"mtmd can't read {mmproj}")

    def rows(self, square: numpy.ndarray) -> numpy.ndarray:
        """See `VisionEngine`."""
        api, side = self.mtmd, square.shape[0]
        pixels = numpy.ascontiguousarray(square).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = api.mtmd_bitmap_init(side, side, pixels)
        chunks = api.mtmd_input_chunks_init()
        marker = api.mtmd_default_marker()
        text = api.mtmd_input_text(marker, len(marker), False, True)
        if api.mtmd_tokenize(self.eyes, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1):
            raise RuntimeError("mtmd_tokenize failed")
        chunk = api.mtmd_input_chunks_get(chunks, 0)
        count = api.mtmd_input_chunk_get_n_tokens(chunk)
        if api.mtmd_encode_chunk(self.eyes, chunk):
            raise RuntimeError("mtmd_encode_chunk failed")
        width = self.api.llama_model_n_embd(self.model)
        rows = numpy.ctypeslib.as_array(api.mtmd_get_output_embd(self.eyes), shape=(count, width)).copy()
        api.mtmd_input_chunks_free(chunks)
        api.mtmd_bitmap_free(bitmap)
        return rows

    def feed_rows(self, rows: numpy.ndarray, position: int) -> None:
        """Compute a picture's rows behind `position` tokens."""
        batch = self.api.llama_batch_init(len(rows), rows.shape[1], 1)
        batch.n_tokens = len(rows)
        ctypes.memmove(batch.embd, numpy.ascontiguousarray(rows, numpy.float32).ctypes.data, rows.nbytes)
        for index in range(len(rows)):
            batch.pos[index], batch.n_seq_id[index], batch.logits[index] = position + index, 1, False
            batch.seq_id[index][0] = 0
        failed = self.api.llama_decode(self.context, batch)
        self.api.llama_batch_free(batch)
        if failed:
            raise RuntimeError("llama_decode failed")

    def complete(self, prompts: Sequence[Prompt], limit: int) -> list[list[int]]:
        """See `VisionEngine`."""
        return [self.answer(prompt, limit) for prompt in prompts]

    def answer(self, prompt: Prompt, limit: int) -> list[int]:
        """The continuation of one prompt, which ends with text."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        position, pending, best = 0, [], 0
        squares = iter(prompt.squares)
        for token in [*prompt.tokens, None]:
            if token in (self.image_token, None) and pending:
                best = self.best(pending)
                position, pending = position + len(pending), []
            if token == self.image_token:
                rows = self.rows(next(squares))
                self.feed_rows(rows, position)
                position += len(rows)
            elif token is not None:
                pending.append(token)
        output = [best]
        while output[-1] != self.end and len(output) < limit:
            output.append(self.best(output[-1:]))
        return output


class TorchSeer:
    """The rounded weights in PyTorch, prompts of one length together."""

    def __init__(self, seer: Seer, end: int, image_token: int, width: int = 50) -> None:
        self.seer, self.end, self.image_token, self.width = seer, end, image_token, width

    @torch.inference_mode()
    def rows(self, square: numpy.ndarray) -> numpy.ndarray:
        """See `VisionEngine`."""
        return self.seer.rows(torch.from_numpy(square.copy())[None])[0].numpy()

    @torch.inference_mode()
    def complete(self, prompts: Sequence[Prompt], limit: int) -> list[list[int]]:
        """See `VisionEngine`."""
        results: list[list[int]] = [[] for _ in prompts]
        lengths: dict[tuple[int, int], list[int]] = {}
        for index, prompt in enumerate(prompts):
            lengths.setdefault((len(prompt.tokens), len(prompt.squares)), []).append(index)
        for alike in lengths.values():
            for start in range(0, len(alike), self.width):
                chosen = alike[start : start + self.width]
                outputs = self.group([prompts[index] for index in chosen], limit)
                for index, output in zip(chosen, outputs, strict=True):
                    results[index] = output
        return results

    def group(self, prompts: list[Prompt], limit: int) -> list[list[int]]:
        """Continue prompts of one length together."""
        patches = self.seer.vision_tower.shape.patches
        long = [
            [token for token in prompt.tokens for _ in range(patches if token == self.image_token else 1)]
            for prompt in prompts
        ]
        squares = [square for prompt in prompts for square in prompt.squares]
        pixels = torch.from_numpy(numpy.stack(squares)) if squares else torch.zeros(0)
        decoder = self.seer.language_model
        cache, outputs = Cache(decoder.shape.layers), [[] for _ in prompts]
        states = decoder.compute(self.seer.embed(torch.tensor(long), pixels, self.image_token), cache=cache)
        live = set(range(len(prompts)))
        while True:
            tokens = decoder.logits(states[:, -1]).argmax(-1)
            for row in list(live):
                outputs[row].append(int(tokens[row]))
                if outputs[row][-1] == self.end or len(outputs[row]) == limit:
                    live.discard(row)
            if not live:
                return outputs
            states = decoder(tokens[:, None], cache=cache)


class MlxVlm:
    """mlx-vlm's LLaVA on the exported folder."""

    def __init__(self, folder: Path, end: int, image_token: int) -> None:
        import mlx.core
        from mlx_vlm.models.cache import make_prompt_cache
        from mlx_vlm.utils import load_model

        self.mx, self.make_cache, self.end, self.image_token = mlx.core, make_prompt_cache, end, image_token
        self.model: Any = load_model(folder)

    def pixels(self, square: numpy.ndarray) -> Any:
        """(1, 3, side, side), scaled to -1 to 1."""
        return self.mx.array(((square.astype(numpy.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])

    def rows(self, square: numpy.ndarray) -> numpy.ndarray:
        """See `VisionEngine`."""
        *_, states = self.model.vision_tower(self.pixels(square).transpose(0, 2, 3, 1), output_hidden_states=True)
        rows = self.model.multi_modal_projector(states[self.model.vision_feature_layer])[0]
        return numpy.array(rows.astype(self.mx.float32))

    def complete(self, prompts: Sequence[Prompt], limit: int) -> list[list[int]]:
        """See `VisionEngine`."""
        return [self.answer(prompt, limit) for prompt in prompts]

    def answer(self, prompt: Prompt, limit: int) -> list[int]:
        """The continuation of one prompt."""
        decoder = self.model.language_model
        parts, squares = [], iter(prompt.squares)
        for token in prompt.tokens:
            if token == self.image_token:
                parts.append(self.mx.array(self.rows(next(squares))))
            else:
                parts.append(decoder.model.embed_tokens(self.mx.array([token])))
        states = self.mx.concatenate([part.astype(parts[0].dtype) for part in parts])[None]
        cache = self.make_cache(decoder)
        scores = decoder(None, inputs_embeds=states, cache=cache).logits
        output = [int(self.mx.argmax(scores[0, -1]))]
        while output[-1] != self.end and len(output) < limit:
            scores = decoder(self.mx.array([output[-1:]]), cache=cache).logits
            output.append(int(self.mx.argmax(scores[0, -1])))
        return output
