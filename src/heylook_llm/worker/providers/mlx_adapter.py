"""A LoRA or DoRA adapter of mlx_lm on a model: read, checked and put in when the model is loaded."""

import importlib
import json
from pathlib import Path
from typing import Any, Final

from heylook_llm.catalog import safetensors_header
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import LoadFailed

SETTINGS: Final = "adapter_config.json"
WEIGHTS: Final = "adapters.safetensors"
MAX_SETTINGS_BYTES: Final = 1 << 20
KINDS: Final = ("lora", "dora", "full")


def apply(model: Any, path: Path, folder: Folder) -> None:
    """Put the adapter in a folder on a model; nothing in the folder but these two files is read. Raises LoadFailed."""
    _check(path, folder)
    tuner: Any = importlib.import_module("mlx_lm.tuner.utils")
    try:
        tuner.load_adapters(model, str(path))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        lines = str(error).replace(str(path), "its folder").splitlines()
        raise folder.failed(f"its adapter doesn't fit: {' '.join(line.strip() for line in lines[:2])}") from error


def _check(path: Path, folder: Folder) -> None:
    for name in (SETTINGS, WEIGHTS):
        if not (path / name).is_file():
            raise folder.failed(f"its `adapter_path` holds no {name}.")
    try:
        safetensors_header.read(path / WEIGHTS, "")
    except LoadFailed as error:
        raise folder.failed(f"its adapter's {error.message.partition(': ')[2] or WEIGHTS}") from error
    settings = _settings(path / SETTINGS)
    if settings is None:
        raise folder.failed(f"its adapter's {SETTINGS} is not a JSON object, or too large.")
    if settings.get("fine_tune_type", "lora") not in KINDS:
        raise folder.failed(f"its adapter's fine_tune_type must be one of {', '.join(KINDS)}.")


def _settings(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
