"""Which MLX folders hold a model that sees, and which of them this version can give images."""

import importlib.util
from typing import Any, Final, NamedTuple

from heylook_llm.catalog.mlx_folder import Folder

SERVED: Final = ("llava",)
"""`model_type`s whose images are read; worker/providers/mlx_eyes.py knows how."""
ENCODERS: Final = {"clip_vision_model": "quick_gelu", "siglip_vision_model": "gelu_pytorch_tanh"}
"""`model_type` of a vision tower -> its activation where its configuration names none."""
DECODERS: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""`model_type` of a text model that takes rows instead of tokens -> its module in mlx_lm."""
_TOWERS: Final = ("vision_tower.", "model.vision_tower.")
_PROJECTORS: Final = ("multi_modal_projector.", "model.multi_modal_projector.")
_CLIP: Final = {
    "image_size": 336,
    "patch_size": 14,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
"""What a `vision_config` leaves out: transformers writes only what differs from the first LLaVA's."""
_CLIP_BOUNDS: Final = {
    "image_size": 4096,
    "patch_size": 4096,
    "hidden_size": 1 << 16,
    "num_hidden_layers": 1024,
    "num_attention_heads": 1024,
}
_WIDTHS: Final = 24
"""Float32 rows of a layer's width that encoding holds at once for each patch, and one for each layer: as measured."""
_HEADS: Final = ("lm_head.", "language_model.lm_head.")
STRATEGIES: Final = ("default", "full")
"""What of a tower's rows goes on: those of the patches, or that of the whole image too."""
INSTALL: Final = (
    "its images are read by mlx-vlm, which isn't installed: `make vlm` in a checkout, or "
    "pip install 'heylookllm[mlx,vlm]'."
)


class Tower(NamedTuple):
    """The sizes of a vision tower: of its square and a patch in pixels, and of its layers."""

    side: int
    patch: int
    width: int
    layers: int
    heads: int


def sees(folder: Folder) -> bool:
    """Whether the folder's model was made to see, whoever can serve it so."""
    return isinstance(folder.config.get("vision_config"), dict)


def problem(folder: Folder) -> str:
    """Why its images can't be read by this version, in words that follow a colon; empty: they can."""
    if not sees(folder):
        return "its config.json has no `vision_config`"
    if _has_several_positions(folder.config):
        return "positions in its images have several dimensions (M-RoPE), which isn't supported on MLX"
    if folder.architecture not in SERVED:
        return f"on MLX the architectures that see are {', '.join(SERVED)}, and it is a {folder.architecture}"
    names = [tensor.name for tensor in folder.tensors]
    if not all(any(name.startswith(parts) for name in names) for parts in (_TOWERS, _PROJECTORS)):
        return "its weights hold no vision tower, or no projector"
    return _unlike_llava(folder.config)


def _unlike_llava(config: dict[str, Any]) -> str:
    """What mlx-vlm's llava computes in one way only."""
    eye, text = nested(config, "vision_config"), nested(config, "text_config")
    encoder = eye.get("model_type")
    allowed = {
        "vision_config.model_type": (encoder, tuple(ENCODERS)),
        "vision_config.hidden_act": (eye.get("hidden_act", ENCODERS.get(str(encoder))), ("quick_gelu",)),
        "text_config.model_type": (text.get("model_type"), tuple(DECODERS)),
        "projector_hidden_act": (config.get("projector_hidden_act", "gelu"), ("gelu",)),
        "vision_feature_select_strategy": (config.get("vision_feature_select_strategy", "default"), STRATEGIES),
    }
    for key, (value, known) in allowed.items():
        if value not in known:
            return f"its `{key}` is {value!r}, and only {', '.join(known)} can be computed"
    layer = config.get("vision_feature_layer", -2)
    if not isinstance(layer, int) or isinstance(layer, bool):
        return "its `vision_feature_layer` isn't one layer"
    return ""


def text_config(folder: Folder) -> dict[str, Any]:
    """Its language model's configuration, whole."""
    tied = not any(tensor.name.startswith(_HEADS) for tensor in folder.tensors)
    return {**nested(folder.config, "text_config"), "tie_word_embeddings": tied}


def loads_eyes(folder: Folder, vision: object) -> bool:
    """Whether the model's eyes are loaded, where its configuration says this of `vision`.

    Raises LoadFailed where they can't be and should.
    """
    reason = problem(folder)
    if reason and vision is True:
        raise folder.failed(f"`vision: true` can't be had: {reason}.")
    if reason or vision is False:
        return False
    if importlib.util.find_spec("mlx_vlm") is None:
        raise folder.failed(f"{INSTALL} `vision: false` serves its text alone.")
    return True


def tower(folder: Folder) -> Tower:
    """The sizes of its vision tower. Raises LoadFailed where one can't be."""
    whole = {**_CLIP, **nested(folder.config, "vision_config")}
    for key, most in _CLIP_BOUNDS.items():
        value = whole[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise folder.failed(f"its `vision_config.{key}` must be a whole number from 1 to {most}.")
    if whole["patch_size"] > whole["image_size"]:
        raise folder.failed("its `vision_config.patch_size` is larger than an image.")
    found = Tower(*(whole[key] for key in _CLIP))
    if not -found.layers - 1 <= folder.config.get("vision_feature_layer", -2) <= found.layers:
        raise folder.failed("its `vision_feature_layer` is none of its vision tower's.")
    return found


def bytes_beside_text(folder: Folder, *, eyes: bool) -> int:
    """What a model takes beside all its weights to encode an image; without eyes, less than none: they stay on disk.

    Raises LoadFailed.
    """
    if not eyes:
        blind = not problem(folder)
        parts = _TOWERS + _PROJECTORS
        return -sum(tensor.end - tensor.start for tensor in folder.tensors if blind and tensor.name.startswith(parts))
    sizes = tower(folder)
    patches = (sizes.side // sizes.patch) ** 2
    return 4 * patches * (sizes.width * (_WIDTHS + sizes.layers) + sizes.heads * patches)


def nested(config: dict[str, Any], key: str) -> dict[str, Any]:
    """An object in a configuration; empty: there is none."""
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _has_several_positions(config: dict[str, Any]) -> bool:
    places = (config, nested(config, "text_config"))
    ropes = (nested(place, key) for place in places for key in ("rope_scaling", "rope_parameters"))
    return any("mrope_section" in rope for rope in ropes)
