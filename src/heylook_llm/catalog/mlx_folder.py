"""The files of an MLX model's folder beside its weights, read within bounds and refused where they name code to run."""

import json
import re
from pathlib import Path
from typing import Any, Final

from heylook_llm import core
from heylook_llm.catalog import safetensors_header
from heylook_llm.errors import LoadFailed

MAX_JSON_BYTES: Final = 64 << 20
MAX_TEMPLATE_BYTES: Final = 4 << 20
CODE_KEYS: Final = ("auto_map", "model_file", "custom_pipelines")
"""What transformers and mlx_lm would import from the folder."""
_POOLINGS: Final[dict[str, core.Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_LLAVA_TEXT: Final[dict[str, Any]] = {
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
_PACKED: Final[dict[str, frozenset[tuple[int, int]]]] = {
    "affine": frozenset((bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
    "mxfp4": frozenset([(4, 32)]),
    "mxfp8": frozenset([(8, 32)]),
    "nvfp4": frozenset([(4, 16)]),
}
"""MLX's modes -> the bits and group sizes that they have."""
_MODEL_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Folder:
    """What a model's folder says of the model. Raises LoadFailed with a message that names no path."""

    def __init__(self, path: Path, model: str) -> None:
        self.path = path
        self._model = model
        if not path.is_dir():
            raise self.failed("its folder does not exist.")
        self.config = self._json("config.json")
        if not self.config:
            raise self.failed("its folder holds no config.json.")
        if self.architecture == "llava":
            self.config["text_config"] = _whole_text(self.config.get("text_config"))
        self.tokenizer_config = self._json("tokenizer_config.json")
        self.generation_config = self._json("generation_config.json")
        for name, content in (("config.json", self.config), ("tokenizer_config.json", self.tokenizer_config)):
            self._refuse_code(name, content)
        if not _MODEL_TYPE.fullmatch(self.architecture):
            raise self.failed("its config.json has no usable `model_type`.")
        self._check_quantization()
        self.tensors = safetensors_header.read_folder(path, model)

    def failed(self, reason: str) -> LoadFailed:
        """A LoadFailed of this model."""
        return LoadFailed(f"Model '{self._model}' can't be loaded: {reason}")

    @property
    def architecture(self) -> str:
        """`model_type`."""
        found = self.config.get("model_type")
        return found if isinstance(found, str) else ""

    def number(self, *names: str) -> int | None:
        """A positive number of config.json by the first name it has, also where a vision model nests it."""
        nested = self.config.get("text_config")
        for place in (self.config, nested if isinstance(nested, dict) else {}):
            for name in names:
                value = place.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    return value
        return None

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts in config.json, also where a vision model nests it; empty: there is none."""
        nested = self.config.get("text_config")
        for place in (self.config, nested if isinstance(nested, dict) else {}):
            value = place.get(name)
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return tuple(value)
        return ()

    @property
    def context_length(self) -> int | None:
        """Tokens that the model was trained for."""
        return self.number("max_position_embeddings", "max_seq_len", "n_positions", "seq_length")

    def quantization(self) -> str | None:
        """ "4bit", or the dtype of most weights: "F16"."""
        settings = self.config.get("quantization") or self.config.get("quantization_config")
        if isinstance(settings, dict) and isinstance(bits := settings.get("bits"), int):
            return f"{bits}bit"
        return safetensors_header.main_dtype(self.tensors)

    def _check_quantization(self) -> None:
        """Refuse what MLX could only fail at while it loads."""
        settings = self.config.get("quantization")
        if settings is None:
            if not isinstance(self.config.get("quantization_config", {}), dict | None):
                raise self.failed("the `quantization_config` of its config.json is no object.")
            return
        if not isinstance(settings, dict):
            raise self.failed("the `quantization` of its config.json is no object.")
        mode, bits, size = settings.get("mode", "affine"), settings.get("bits"), settings.get("group_size")
        fitting = _PACKED.get(mode) if isinstance(mode, str) else None
        if fitting is None:
            raise self.failed(f"the `quantization.mode` of its config.json must be one of {', '.join(_PACKED)}.")
        if not all(type(value) is int for value in (bits, size)) or (bits, size) not in fitting:
            known = [", ".join(map(str, sorted(set(values)))) for values in zip(*fitting, strict=True)]
            words = f"`bits` of {known[0]}, and a `group_size` of {known[1]}"
            raise self.failed(f"the `quantization` of its config.json must have {words}.")

    def end_tokens(self) -> frozenset[int]:
        """Every `eos_token_id` that its files name."""
        found: set[int] = set()
        nested = self.config.get("text_config")
        for place in (self.config, self.generation_config, nested if isinstance(nested, dict) else {}):
            value = place.get("eos_token_id")
            found.update(token for token in (value if isinstance(value, list) else [value]) if isinstance(token, int))
        return frozenset(found)

    def special_tokens(self) -> dict[str, str]:
        """The text of "bos" and "eos", where the tokenizer's configuration names them."""
        found: dict[str, str] = {}
        fallback = self._json("special_tokens_map.json") if not self.tokenizer_config else {}
        for name in ("bos", "eos"):
            value = self.tokenizer_config.get(f"{name}_token", fallback.get(f"{name}_token"))
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[name] = text
        return found

    def chat_template(self) -> str:
        """Its Jinja source; empty: it has none. Of several the one for tools, which serves chats without them too."""
        path = self.path / "chat_template.jinja"
        if path.is_file():
            return self._text(path, MAX_TEMPLATE_BYTES)
        found = self.tokenizer_config.get("chat_template")
        if found is None:
            found = self._json("chat_template.json").get("chat_template")
        if isinstance(found, list):
            named = {item.get("name"): item.get("template") for item in found if isinstance(item, dict)}
            found = named.get("tool_use") or named.get("default")
        return found if isinstance(found, str) else ""

    def metadata(self) -> dict[str, Any]:
        """config.json's plain values; lists and objects left out."""
        return {key: value for key, value in self.config.items() if isinstance(value, str | int | float | bool)}

    def _refuse_code(self, name: str, content: Any) -> None:
        """Nothing in the folder is ever imported; a model that needs it is refused before a library sees it."""
        open_values = [content]
        while open_values:
            value = open_values.pop()
            if isinstance(value, dict):
                key = next((key for key in CODE_KEYS if value.get(key)), None)
                if key is not None:
                    raise self.failed(
                        f"its {name} has `{key}`, which asks to run code from the model's folder; that is never done. "
                        "If this architecture is known without it, remove the key."
                    )
                open_values.extend(value.values())
            elif isinstance(value, list):
                open_values.extend(value)

    def preprocessor(self) -> dict[str, Any]:
        """How images are prepared for it, by either of transformers' files; empty: neither is there."""
        found = self._json("preprocessor_config.json")
        if not found:
            nested = self._json("processor_config.json").get("image_processor")
            found = nested if isinstance(nested, dict) else {}
        self._refuse_code("preprocessor_config.json", found)
        return found

    def pooling(self) -> core.Pooling:
        """How sentence-transformers pools it, where it is a model that embeds; empty: it generates."""
        found = self._json("1_Pooling/config.json")
        return next((pooling for key, pooling in _POOLINGS.items() if found.get(key) is True), "")

    def _json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty if there is no such file."""
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            found = json.loads(self._text(path, MAX_JSON_BYTES))
        except (ValueError, RecursionError):
            raise self.failed(f"its {name} is not JSON.") from None
        if not isinstance(found, dict):
            raise self.failed(f"its {name} is not a JSON object.")
        return found

    def _text(self, path: Path, limit: int) -> str:
        try:
            if path.stat().st_size > limit:
                raise self.failed(f"its {path.name} is larger than {limit} bytes.")
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise self.failed(f"its {path.name} can't be read.") from None


def _whole_text(found: Any) -> dict[str, Any]:
    """A llava's `text_config` with what it leaves out."""
    whole = {**_LLAVA_TEXT, **(found if isinstance(found, dict) else {})}
    return {"num_key_value_heads": whole["num_attention_heads"], **whole}
