"""What a model's file says of itself in its own words: metadata as it is typed there, and its tensors."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from heylook_llm.catalog import gguf_header
from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.config import ModelSpec
from heylook_llm.errors import HeylookError


class OwnWords(NamedTuple):
    """Of one model; empty where there is no file, or none that can be read."""

    metadata: Mapping[str, Any] = MappingProxyType({})
    tensors: Sequence[dict[str, Any]] = ()


def read(spec: ModelSpec, *, verbose: bool) -> OwnWords:
    """Read a model's files. `verbose`: with long arrays, of which else only the names are told."""
    try:
        match spec.provider:
            case "llama_cpp":
                return _of_gguf(spec, verbose)
            case "mlx":
                return _of_folder(spec)
    except (HeylookError, OSError):
        pass
    return OwnWords()


def _of_gguf(spec: ModelSpec, verbose: bool) -> OwnWords:
    header = gguf_header.read(spec.path, spec.id)
    metadata: dict[str, Any] = {**header.metadata, **{key: [] for key in header.left_out}}
    if verbose:
        metadata |= gguf_header.long_values(spec.path, spec.id)
    tensors = [
        {
            "name": tensor.name,
            "type": gguf_header.TENSOR_TYPES.get(tensor.type_, str(tensor.type_)),
            "shape": list(tensor.dimensions),
        }
        for tensor in header.tensors
    ]
    return OwnWords(metadata, tensors)


def _of_folder(spec: ModelSpec) -> OwnWords:
    folder = Folder(spec.path, spec.id)
    tensors = [{"name": one.name, "type": one.dtype, "shape": list(one.shape)} for one in folder.tensors]
    return OwnWords(folder.metadata(), tensors)
