"""The eyes of heylook-tiny-vision: a small vision transformer and LLaVA's two-layer projector in plain PyTorch.

The transformer is CLIP's (normalisation before each part, quick-GELU, learned positions) without the class token and
the first normalisation, as in SigLIP: llama.cpp's LLaVA graph puts a class token behind the patches but takes it for
the first one (ggml-org/llama.cpp#25814), so a tower with one can't give the same rows there and in MLX.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from model import Decoder, Shape
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class TowerShape:
    """The sizes that a checkpoint and both exported formats need to agree on.

    `layers` are those that are computed. The files declare one more, which no engine computes: llama.cpp stops before
    the last, as LLaVA's `vision_feature_layer: -2` says.
    """

    image: int = 72
    patch: int = 12
    layers: int = 4
    width: int = 128
    heads: int = 4
    feed_forward: int = 512
    norm_eps: float = 1e-5
    mean: float = 0.5
    deviation: float = 0.5

    @property
    def patches(self) -> int:
        """Rows that one picture becomes."""
        return (self.image // self.patch) ** 2


class TowerAttention(nn.Module):
    """Attention of every patch to every patch, biased; spelled out, which is faster to train."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def forward(self, states: Tensor) -> Tensor:
        split = (*states.shape[:2], self.heads, -1)
        queries, keys, values = (
            part(states).view(split).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (queries @ keys.mT) * queries.shape[-1] ** -0.5
        mixed = scores.softmax(-1).to(values.dtype) @ values
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class TowerFeedForward(nn.Module):
    """Two matrices with quick-GELU between them."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.feed_forward)
        self.fc2 = nn.Linear(shape.feed_forward, shape.width)

    def forward(self, states: Tensor) -> Tensor:
        wide = self.fc1(states)
        return self.fc2(wide * torch.sigmoid(1.702 * wide))


class TowerLayer(nn.Module):
    """One layer; the attribute names are those of HF's CLIP and SigLIP, so that a state dict exports unchanged."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(shape.width, shape.norm_eps)
        self.self_attn = TowerAttention(shape)
        self.layer_norm2 = nn.LayerNorm(shape.width, shape.norm_eps)
        self.mlp = TowerFeedForward(shape)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.self_attn(self.layer_norm1(states))
        return states + self.mlp(self.layer_norm2(states))


class Embeddings(nn.Module):
    """Patches and their positions."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.position_embedding = nn.Embedding(shape.patches, shape.width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return patches + self.position_embedding.weight


class Encoder(nn.Module):
    """The layers that are computed."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TowerLayer(shape) for _ in range(shape.layers))


class Tower(nn.Module):
    """RGB bytes (pictures, side, side, 3) to one row per patch (pictures, patches, width)."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = Embeddings(shape)
        self.encoder = Encoder(shape)
        self.initialise()

    def initialise(self) -> None:
        """Small normal weights; what leads back into the residual stream starts at zero, so a layer starts as none."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or "out_proj" in name or "fc2" in name:
                nn.init.zeros_(parameter)
            elif "position" in name:
                nn.init.normal_(parameter, std=0.3)
            elif parameter.ndim >= 2:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        scaled = (pixels.permute(0, 3, 1, 2).float() / 255 - self.shape.mean) / self.shape.deviation
        states = self.embeddings(scaled)
        for layer in self.encoder.layers:
            states = layer(states)
        return states


class Projector(nn.Module):
    """LLaVA's: two matrices with GELU between them, from the tower's width to the decoder's."""

    def __init__(self, tower: TowerShape, text: Shape) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(tower.width, text.width)
        self.linear_2 = nn.Linear(text.width, text.width)
        for part in (self.linear_1, self.linear_2):
            nn.init.zeros_(part.bias)
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
        with torch.no_grad():
            self.linear_2.weight.mul_(0.1)

    def forward(self, states: Tensor) -> Tensor:
        return self.linear_2(functional.gelu(self.linear_1(states)))


class Seer(nn.Module):
    """The decoder with eyes: pictures stand in the prompt as `patches` tokens each, whose embeddings are their rows."""

    def __init__(self, text: Shape, tower: TowerShape) -> None:
        super().__init__()
        self.vision_tower = Tower(tower)
        self.multi_modal_projector = Projector(tower, text)
        self.language_model = Decoder(text)

    def rows(self, pixels: Tensor) -> Tensor:
        """The rows of pictures, (pictures, patches, the decoder's width)."""
        projected: Tensor = self.multi_modal_projector(self.vision_tower(pixels))
        return projected

    def embed(self, tokens: Tensor, pixels: Tensor, image_token: int) -> Tensor:
        """The embeddings of a batch: of its tokens, and in the places of `image_token` the rows in their order."""
        states: Tensor = self.language_model.embed_tokens(tokens)
        if not len(pixels):
            return states
        rows = self.rows(pixels).flatten(0, 1)
        return states.masked_scatter((tokens == image_token).unsqueeze(-1), rows.to(states.dtype))
