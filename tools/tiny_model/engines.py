"""Greedy continuation of prompts by the exported GGUF (llama.cpp), by torch and by mlx_lm, for the evaluation."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy
import torch
from model import Cache, Decoder
from tokenizers import Tokenizer


class Engine(Protocol):
    """Continues prompts greedily until the end token."""

    def complete(self, prompts: Sequence[list[int]], limit: int) -> list[list[int]]:
        """The new tokens of each prompt, the end token included where it came within `limit`."""
        ...


class LlamaCpp:
    """llama.cpp on the CPU, one prompt at a time, on the low-level binding."""

    def __init__(self, path: Path, context: int = 4608, threads: int = 1) -> None:
        import llama_cpp

        self.api = llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_threads, options.n_threads_batch = context, context, threads, threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary = vocabulary
        self.size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self.end = llama_cpp.llama_vocab_eos(vocabulary)

    def tokens(self, text: str) -> list[int]:
        """llama.cpp's own tokens of a text, special tokens parsed."""
        raw = text.encode()
        room = (self.api.llama_token * (len(raw) + 8))()
        count = self.api.llama_tokenize(self.vocabulary, raw, len(raw), room, len(room), False, True)
        return list(room[:count])

    def best(self, tokens: list[int]) -> int:
        """Feed tokens and return the likeliest next one."""
        array = (self.api.llama_token * len(tokens))(*tokens)
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama_decode failed; is the prompt longer than the context?")
        scores = self.api.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(scores, shape=(self.size,)).argmax())

    def complete(self, prompts: Sequence[list[int]], limit: int) -> list[list[int]]:
        """See `Engine`."""
        return [self.one(prompt, limit) for prompt in prompts]

    def one(self, prompt: list[int], limit: int) -> list[int]:
        """The continuation of one prompt."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        output = [self.best(prompt)]
        while output[-1] != self.end and len(output) < limit:
            output.append(self.best(output[-1:]))
        return output


class Torch:
    """The rounded weights in PyTorch, many prompts at a time, padded on the left."""

    def __init__(self, model: Decoder, end: int, width: int = 50) -> None:
        self.model, self.end, self.width = model, end, width

    @torch.inference_mode()
    def complete(self, prompts: Sequence[list[int]], limit: int) -> list[list[int]]:
        """See `Engine`."""
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        results: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), self.width):
            chosen = order[start : start + self.width]
            for index, output in zip(chosen, self.group([prompts[index] for index in chosen], limit), strict=True):
                results[index] = output
        return results

    def group(self, prompts: list[list[int]], limit: int) -> list[list[int]]:
        """Continue one group together."""
        longest = max(map(len, prompts))
        padding = torch.tensor([longest - len(prompt) for prompt in prompts])
        tokens = torch.tensor([[self.end] * (longest - len(prompt)) + prompt for prompt in prompts])
        cache, outputs, live = Cache(self.model.shape.layers), [[] for _ in prompts], set(range(len(prompts)))
        while live and len(outputs[next(iter(live))]) < limit:
            place = torch.arange(cache.length, cache.length + tokens.shape[1])
            seen = torch.arange(cache.length + tokens.shape[1])
            mask = (seen[None, None, :] <= place[None, :, None]) & (seen[None, None, :] >= padding[:, None, None])
            mask = mask | (seen[None, None, :] == place[None, :, None])
            positions = (place[None, :] - padding[:, None]).clamp(min=0)
            states = self.model(tokens, mask[:, None], positions, cache)
            tokens = self.model.logits(states[:, -1]).argmax(-1, keepdim=True)
            for row in list(live):
                outputs[row].append(int(tokens[row]))
                if outputs[row][-1] == self.end:
                    live.discard(row)
        return outputs


class Mlx:
    """mlx_lm on the exported folder."""

    def __init__(self, folder: Path, end: int) -> None:
        import mlx.core
        from mlx_lm import load
        from mlx_lm.models.cache import make_prompt_cache

        self.mx, self.make_cache, self.end = mlx.core, make_prompt_cache, end
        self.model, self.tokenizer = load(str(folder))[:2]

    def complete(self, prompts: Sequence[list[int]], limit: int) -> list[list[int]]:
        """See `Engine`."""
        return [self.one(prompt, limit) for prompt in prompts]

    def one(self, prompt: list[int], limit: int) -> list[int]:
        """The continuation of one prompt."""
        cache, output, pending = self.make_cache(self.model), [], prompt
        while len(output) < limit and (not output or output[-1] != self.end):
            scores = self.model(self.mx.array([pending]), cache=cache)[0, -1]
            pending = [int(self.mx.argmax(scores))]
            output += pending
        return output


def text_of(tokenizer: Tokenizer, tokens: list[int], end: int) -> str:
    """The text of generated tokens without the end token."""
    return tokenizer.decode([token for token in tokens if token != end], skip_special_tokens=False)
