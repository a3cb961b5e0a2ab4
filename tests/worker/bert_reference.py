"""A BERT's forward pass in numpy, written from its definition: what llama.cpp's vectors are compared with."""

import math
from collections.abc import Sequence as Seq
from typing import Final

import numpy as np
from benchmarks.random_bert import EPSILON, Floats, Pooling, Shape, Weights

_ERF: Final = np.vectorize(math.erf, otypes=[np.float64])


def vector(weights: Weights, shape: Shape, tokens: Seq[int], pooling: Pooling) -> Floats:
    """The vector of a text, or the one number of a pair."""
    states = _states(weights, shape, tokens)
    if pooling == "rank":
        return _dense(weights, "classifier", np.tanh(_dense(weights, "pooler.dense", states[0])))
    pooled: Floats = {"mean": states.mean(axis=0), "last": states[-1], "cls": states[0]}[pooling]
    return pooled


def _states(weights: Weights, shape: Shape, tokens: Seq[int]) -> Floats:
    words = weights["embeddings.word_embeddings.weight"][list(tokens)]
    positions = weights["embeddings.position_embeddings.weight"][: len(tokens)]
    kinds = weights["embeddings.token_type_embeddings.weight"][0]  # llama.cpp takes every text for the first sentence
    states = _norm(weights, "embeddings.LayerNorm", words + positions + kinds)
    for at in range(shape.layers):
        layer = f"encoder.layer.{at}"
        attended = _dense(weights, f"{layer}.attention.output.dense", _attention(weights, shape, layer, states))
        states = _norm(weights, f"{layer}.attention.output.LayerNorm", states + attended)
        inner = _gelu(_dense(weights, f"{layer}.intermediate.dense", states))
        states = _norm(weights, f"{layer}.output.LayerNorm", states + _dense(weights, f"{layer}.output.dense", inner))
    return states


def _attention(weights: Weights, shape: Shape, layer: str, states: Floats) -> Floats:
    def heads(part: str) -> Floats:
        rows = _dense(weights, f"{layer}.attention.self.{part}", states)
        return rows.reshape(len(states), shape.heads, -1).transpose(1, 0, 2)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(shape.width // shape.heads)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    found: Floats = (shares @ value).transpose(1, 0, 2).reshape(len(states), shape.width)
    return found


def _dense(weights: Weights, name: str, rows: Floats) -> Floats:
    found: Floats = rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return found


def _norm(weights: Weights, name: str, rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    found: Floats = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return found


def _gelu(rows: Floats) -> Floats:
    found: Floats = (rows * 0.5 * (1 + _ERF(rows / math.sqrt(2)))).astype(np.float32)
    return found
