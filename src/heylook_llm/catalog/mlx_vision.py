"""Which MLX folders hold a model that sees, and which of them this version can give images."""

from typing import Any, Final

from heylook_llm.catalog.mlx_folder import Folder

SERVED: Final = ("llava",)
"""`model_type`s whose images are read; worker/providers/mlx_eyes.py knows how."""
ENCODERS: Final = {"clip_vision_model": "quick_gelu", "siglip_vision_model": "gelu_pytorch_tanh"}
"""`model_type` of a vision tower -> its activation where its configuration names none."""
DECODERS: Final = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""`model_type` of a text model that takes rows instead of tokens -> its module in mlx_lm."""
_TOWERS: Final = ("vision_tower.", "model.vision_tower.")
_PROJECTORS: Final = ("multi_modal_projector.", "model.multi_modal_projector.")
_HEADS: Final = ("lm_head.", "language_model.lm_head.")
_LLAMA: Final[dict[str, Any]] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
    "vocab_size": 32000,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
}
"""What a llava's `text_config` leaves out: transformers writes only what differs from the first LLaMA."""


INSTALL: Final = (
    "its images are read by mlx-vlm, which isn't installed: `make vlm` in a checkout, or "
    "pip install 'heylookllm[mlx,vlm]'."
)


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


STRATEGIES: Final = ("default", "full")
"""What of a tower's rows goes on: those of the patches, or that of the whole image too."""


def text_config(folder: Folder) -> dict[str, Any]:
    """Its language model's configuration, whole."""
    found = {**_LLAMA, **nested(folder.config, "text_config")}
    found.setdefault("num_key_value_heads", found["num_attention_heads"])
    found["tie_word_embeddings"] = not any(tensor.name.startswith(_HEADS) for tensor in folder.tensors)
    return found


def nested(config: dict[str, Any], key: str) -> dict[str, Any]:
    """An object in a configuration; empty: there is none."""
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _has_several_positions(config: dict[str, Any]) -> bool:
    places = (config, nested(config, "text_config"))
    ropes = (nested(place, key) for place in places for key in ("rope_scaling", "rope_parameters"))
    return any("mrope_section" in rope for rope in ropes)
