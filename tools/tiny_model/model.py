"""The network of heylook-tiny: a small Qwen2-shaped decoder in plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that a checkpoint and both exported formats need to agree on."""

    vocabulary: int = 1024
    layers: int = 6
    width: int = 192
    heads: int = 3
    kv_heads: int = 3
    feed_forward: int = 384
    context: int = 4096
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    @property
    def head_width(self) -> int:
        """Dimensions of one attention head."""
        return self.width // self.heads


def rotary_tables(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of shape (length, head_width), in the half-split (NEOX) order that HF and llama.cpp use."""
    half = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angles = torch.outer(torch.arange(length, dtype=torch.float32), shape.rope_theta**-half)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Apply rotary positions to (batch, heads, length, head_width)."""
    first, second = values.chunk(2, dim=-1)
    return values * cosines + torch.cat((-second, first), dim=-1) * sines


class Norm(nn.Module):
    """Root-mean-square normalisation with a learned gain."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.eps = shape.norm_eps

    def forward(self, states: Tensor) -> Tensor:
        return functional.rms_norm(states, (states.shape[-1],), self.weight, self.eps)


SHORT = 640


def attend_briefly(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention spelled out: with its gradient faster on a CPU than the fused kernel, up to `SHORT` tokens.

    Causal without a mask; one is added to the scores, (batch, 1, length, length).
    """
    heads, length, width = queries.shape[-3:]
    flat = queries.flatten(0, 1)
    if mask is None:
        ahead = torch.full((length, length), float("-inf"), dtype=torch.bfloat16).triu(1)
        hidden = ahead.expand(len(flat), -1, -1)
    else:
        hidden = mask.expand(-1, heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(hidden, flat, keys.flatten(0, 1).mT, alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(queries.shape)


class Cache:
    """Keys and values of the tokens seen so far, one pair per layer; used only while generating."""

    def __init__(self, layers: int) -> None:
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self.length = 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append to one layer and return everything it now holds."""
        held = self.pairs[layer]
        if held is not None:
            keys, values = torch.cat((held[0], keys), dim=2), torch.cat((held[1], values), dim=2)
        self.pairs[layer] = (keys, values)
        return keys, values


class Attention(nn.Module):
    """Grouped-query attention with biases on q, k, v as in Qwen2."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer
        key_width = shape.kv_heads * shape.head_width
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_width)
        self.k_proj = nn.Linear(shape.width, key_width)
        self.v_proj = nn.Linear(shape.width, key_width)
        self.o_proj = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)

    def forward(
        self, states: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        batch, length, _ = states.shape
        split = (batch, length, -1, self.shape.head_width)
        queries = rotate(self.q_proj(states).view(split).transpose(1, 2), cosines, sines)
        keys = rotate(self.k_proj(states).view(split).transpose(1, 2), cosines, sines)
        values = self.v_proj(states).view(split).transpose(1, 2)
        if cache is not None:
            keys, values = cache.extend(self.layer, keys, values)
        group = self.shape.heads // self.shape.kv_heads
        keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
        if self.training and length <= SHORT:
            mixed = attend_briefly(queries.bfloat16(), keys.bfloat16(), values.bfloat16(), mask)
        else:
            mixed = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask, is_causal=mask is None and length > 1
            )
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(states)) * self.up_proj(states))


class Layer(nn.Module):
    """One decoder layer; the attribute names are those of HF's Qwen2, so that a state dict exports unchanged."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = Norm(shape)
        self.mlp = FeedForward(shape)

    def forward(
        self, states: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        states = states + self.self_attn(self.input_layernorm(states), cosines, sines, mask, cache)
        return states + self.mlp(self.post_attention_layernorm(states))


class Decoder(nn.Module):
    """Embedding, layers, norm; the output matrix is the embedding (tied)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.norm = Norm(shape)
        cosines, sines = rotary_tables(shape, shape.context)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Small normal weights; projections back into the residual stream start at zero, so a layer starts as none."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or "o_proj" in name or "down_proj" in name:
                nn.init.zeros_(parameter)
            elif "embed_tokens" in name:
                nn.init.normal_(parameter, std=0.02)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Final states (batch, length, width); `logits` turns them into scores."""
        return self.compute(self.embed_tokens(tokens), mask, positions, cache)

    def compute(
        self, states: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Final states of embeddings (batch, length, width)."""
        length = states.shape[1]
        if positions is None:
            start = cache.length if cache is not None else 0
            cosines, sines = self.cosines[start : start + length], self.sines[start : start + length]
        else:
            cosines, sines = self.cosines[positions].unsqueeze(1), self.sines[positions].unsqueeze(1)
        for layer in self.layers:
            states = layer(states, cosines, sines, mask, cache)
        if cache is not None:
            cache.length += length
        return self.norm(states)

    def logits(self, states: Tensor) -> Tensor:
        """Scores over the vocabulary."""
        return states @ self.embed_tokens.weight.T


def count_parameters(model: nn.Module) -> int:
    """Parameters, the tied matrix once."""
    return sum(parameter.numel() for parameter in model.parameters())
