"""MLX folders that see: the language model as mlx_lm computes it, and before it the eyes that mlx-vlm knows.

mlx_lm leaves a folder's vision weights out; mlx-vlm's language models don't compute batches as mlx_memory joins them.
So both are built as one model, whose parts have the names that the folder's weights have. Eyes turn an image into rows:
what stands in the place of its tokens' embeddings.
"""

import importlib
import math
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from heylook_llm import core
from heylook_llm.catalog import mlx_vision
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.worker.pixels import squared
from heylook_llm.worker.providers.base import Floats

mx: Any = importlib.import_module("mlx.core")
nn: Any = importlib.import_module("mlx.nn")
utils: Any = importlib.import_module("mlx.utils")

LANGUAGE: Final = "language_model."
_RENAMED: Final = (
    (re.compile(r"^model\.language_model\."), "language_model.model."),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    (re.compile(r"^model\.(vision_tower|multi_modal_projector)\."), r"\1."),
)
"""Names of newer transformers -> those of mlx-vlm."""
_COLOURS: Final = 3
_IMAGE_TOKEN: Final = 0
"""What stands for an image's places while its rows are made: any token, for nothing else stands beside them."""
Weights = dict[str, Any]
ModelClasses = Callable[..., tuple[Any, Any]]
"""What mlx_lm's loader asks: what builds a configuration's model, and what makes arguments of the configuration."""


class _Settings:
    """A configuration as it stands, for mlx_lm's loader."""

    @staticmethod
    def from_dict(config: dict[str, Any]) -> dict[str, Any]:
        return config


class Spoken(nn.Module):  # type: ignore[misc]  # mlx has no types
    """The language model alone of a folder that could see."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.language_model = text

    def sanitize(self, weights: Weights) -> Weights:
        """Its weights, without those of the eyes."""
        return _of_text(self.language_model, _renamed(weights))


def model_classes(folder: Folder, *, eyes: bool) -> ModelClasses:
    """The classes of a folder that could see, with its eyes or without."""

    def build(_: dict[str, Any]) -> Any:
        text = _language_model(mlx_vision.text_config(folder))
        return _seeing(folder, text) if eyes else Spoken(text)

    return lambda config: (build, _Settings)


def _language_model(config: dict[str, Any]) -> Any:
    module: Any = importlib.import_module(f"mlx_lm.models.{mlx_vision.DECODERS[config['model_type']]}")
    return module.Model(module.ModelArgs.from_dict(config))


def _seeing(folder: Folder, text: Any) -> Any:
    """mlx-vlm's model with mlx_lm's language model in it."""
    library: Any = importlib.import_module(f"mlx_vlm.models.{folder.architecture}")

    class Seeing(library.Model):  # type: ignore[misc]  # known when it is needed
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.language_model = text

        def sanitize(self, weights: Weights) -> Weights:
            return _of_text(text, self.vision_tower.sanitize(_renamed(weights)), rest=True)

    width = mlx_vision.text_config(folder)["hidden_size"]
    # Its own language model is only a place to put ours, so it is as small as it may be.
    place = library.TextConfig("llama", hidden_size=width, num_hidden_layers=0, num_attention_heads=1, vocab_size=1)
    eye = library.VisionConfig.from_dict(folder.config["vision_config"])
    known = {key: value for key, value in folder.config.items() if key not in ("text_config", "vision_config")}
    return Seeing(
        library.ModelConfig.from_dict(
            {**known, "text_config": place, "vision_config": eye, "image_token_index": _IMAGE_TOKEN}
        )
    )


def _renamed(weights: Weights) -> Weights:
    found: Weights = {}
    for name, value in weights.items():
        new = name
        for pattern, replacement in _RENAMED:
            new = pattern.sub(replacement, new)
        found[new] = value
    return found


def _of_text(text: Any, weights: Weights, *, rest: bool = False) -> Weights:
    """Weights with those of the language model as its architecture wants them; `rest`: and all others."""
    own = {name.removeprefix(LANGUAGE): value for name, value in weights.items() if name.startswith(LANGUAGE)}
    others = {name: value for name, value in weights.items() if not name.startswith(LANGUAGE)} if rest else {}
    own = text.sanitize(own) if hasattr(text, "sanitize") else own
    return others | {LANGUAGE + name: value for name, value in own.items()}


# ---- from pixels to rows ---------------------------------------------------------------------------------------------


class Preparation(NamedTuple):
    """What an image is made into before the tower sees it, and how many rows come of it."""

    side: int
    mean: Floats
    """Of each colour, of values from 0 to 1, as is the standard deviation."""
    deviation: Floats
    rows: int


def preparation_of(folder: Folder) -> Preparation:
    """By a folder's own files. Raises LoadFailed where they don't say it."""
    sizes = mlx_vision.tower(folder)
    return Preparation(sizes.side, *_normalization(folder), (sizes.side // sizes.patch) ** 2 + _rows_beside(folder))


def _rows_beside(folder: Folder) -> int:
    """Rows that aren't patches: CLIP's first is of the whole image, and by default the first is left out."""
    whole = int(folder.config["vision_config"].get("model_type") == "clip_vision_model")
    return whole - int(folder.config.get("vision_feature_select_strategy", "default") == "default")


def _normalization(folder: Folder) -> tuple[Floats, Floats]:
    found = folder.preprocessor()
    mean, deviation = (_colours(found.get(key)) for key in ("image_mean", "image_std"))
    if mean is None or deviation is None or not (deviation > 0).all():
        raise folder.failed("its preprocessor_config.json needs `image_mean` and `image_std`, three numbers each.")
    return mean, deviation


def _colours(value: Any) -> Floats | None:
    if not isinstance(value, list) or len(value) != _COLOURS:
        return None
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in value):
        return None
    return np.array(value, dtype=np.float32)


class _Apart(nn.Module):  # type: ignore[misc]  # mlx has no types
    """A layer that is computed when it is called."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def __call__(self, values: Any) -> Any:
        found = self.layer(values)
        mx.eval(found)
        return found


def _compute_apart(part: Any) -> None:
    """Let few operations of a part wait to be computed at any time.

    On the processor mlx makes every thread wait for an operation, of whichever thread, while ten or more wait: beside
    an image's, which take long, the step loop would stand still.
    """

    def apart(layer: Any) -> Any:
        return _Apart(layer) if isinstance(layer, nn.Linear | nn.QuantizedLinear | nn.Conv2d) else layer

    layers = utils.tree_map(apart, part.leaf_modules(), is_leaf=nn.Module.is_module)
    part.update_modules(layers)


class Eyes:
    """LLaVA's: a square of pixels through the tower and the projector, a row for each patch."""

    def __init__(self, model: Any, preparation: Preparation, *, on_processor: bool) -> None:
        if on_processor:
            for part in (model.vision_tower, model.multi_modal_projector):
                _compute_apart(part)
        self._model = model
        self._preparation = preparation
        self.count = preparation.rows
        """Rows of any image."""
        self._places = mx.full((1, self.count), _IMAGE_TOKEN, dtype=mx.int32)
        mx.eval(self._places)

    def rows(self, image: core.ImagePart) -> Floats:
        """The rows of an image, [count, width]; callable from any one thread beside the step loop's.

        mlx computes for each thread apart, in that thread's own stream; what is shared are weights, which are there.
        """
        side, mean, deviation, _ = self._preparation
        square = squared(image, side)
        values = np.frombuffer(square.rgb, np.uint8).reshape(1, side, side, _COLOURS).astype(np.float32)
        prepared = ((values / 255 - mean) / deviation).transpose(0, 3, 1, 2)
        found = self._model.get_input_embeddings(self._places, mx.array(prepared))
        rows: Floats = np.array(found.inputs_embeds[0].astype(mx.float32))
        return rows
