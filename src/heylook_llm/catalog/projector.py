"""What an image projector (mmproj, a GGUF) says of itself: what it takes, what it gives, which text model it fits.

Read within bounds, as any GGUF, before an engine sees it; with what an engine would divide by, and abort on.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from heylook_llm.catalog import gguf_header
from heylook_llm.errors import LoadFailed

SQUARE: Final = frozenset(("mlp",))
"""Types that see a square of one size; with a list of other sizes (`image_grid_pinpoints`) they cut tiles instead."""
MOST_PIXELS_WIDE: Final = 1 << 14
MOST_LAYERS: Final = 1024
REFUSED: Final = {
    "hunyuanvl": "the positions of an image hang on how many stand before it",
    "deepseek4v": "how many tokens an image takes hangs on what stands before it",
}
"""Types whose images aren't the same tokens everywhere."""
COMPUTE_WIDTHS: Final = 9
"""Float32 rows, each of a layer's width, that encoding holds for each patch; measured on ViTs as large as those of
LLaVA, Gemma 3 and Qwen2-VL: 5 to 9."""
_QWEN_PATCHES: Final = 4 * 4096
"""llama.cpp's own bound of an image's tokens, each of four patches, where the file names none."""
_WIDTHS: Final = {
    **dict.fromkeys(
        ("mlp", "phi4", "pixtral", "lightonocr", "lfm2", "kimivl", "qwen2vl_merger", "qwen2.5vl_merger", "ultravox"),
        ("mm.2.weight", 1),
    ),
    "gemma3": ("mm.input_projection.weight", 0),
    "idefics3": ("mm.model.fc.weight", 1),
    "internvl": ("mm.model.mlp.3.weight", 1),
}
"""Type -> the tensor whose dimension is the width that comes out. Of other types the engine says it."""


@dataclass(frozen=True, slots=True)
class Projector:
    """One projector. Unknown is None."""

    header: gguf_header.Header = field(repr=False)
    kind: str
    """`clip.projector_type`."""
    image_size: int
    patch_size: int
    width: int | None
    """Of the text model that it fits."""

    @property
    def is_square(self) -> bool:
        """Whether it sees a square of `image_size`, whatever an image's own size."""
        return self.kind in SQUARE and "clip.vision.image_grid_pinpoints" not in self.header.metadata

    def compute_bytes(self, *, flash: bool) -> int:
        """About what encoding takes beside the weights; without flash attention also what each patch pays to each."""
        most = self.header.metadata.get("clip.vision.image_max_pixels")
        pixels = max(self.image_size**2, most if isinstance(most, int) else 0)
        patches = _QWEN_PATCHES if self.kind.startswith("qwen") else pixels // self.patch_size**2
        rows = patches * _number(self.header, "embedding_length") * COMPUTE_WIDTHS
        return 4 * (rows if flash else rows + patches**2 * _number(self.header, "attention.head_count"))

    @property
    def info(self) -> dict[str, gguf_header.Value]:
        """Its metadata, as Ollama's `projector_info`."""
        return self.header.metadata


def read(path: Path, model: str) -> Projector:
    """Read and check a projector; `model` is named in errors. Raises LoadFailed."""
    try:
        header = gguf_header.read(path, model)
    except LoadFailed as error:
        raise failed(model, error.message.partition(": ")[2].removeprefix("its file ").removesuffix(".")) from None
    return of(header, model)


def of(header: gguf_header.Header, model: str) -> Projector:
    """What a header says, checked; `model` is named in errors. Raises LoadFailed."""
    kind = type_of(header)
    if kind is None:
        raise failed(model, "is no projector of images")
    if kind in REFUSED:
        raise failed(model, f"is of the type {kind}, which isn't offered: {REFUSED[kind]}")
    numbers = {
        key: _number(header, key)
        for key in ("image_size", "patch_size", "embedding_length", "block_count", "attention.head_count")
    }
    if missing := next((key for key, value in numbers.items() if value < 1), None):
        raise failed(model, f"says no `clip.vision.{missing}`")
    if numbers["image_size"] > MOST_PIXELS_WIDE or numbers["block_count"] > MOST_LAYERS:
        raise failed(model, "says sizes that no model has")
    if numbers["patch_size"] > numbers["image_size"] or numbers["embedding_length"] % numbers["attention.head_count"]:
        raise failed(model, "says sizes that don't fit each other")
    if kind in _WIDTHS and width_of(header) is None and not _is_normed(header):
        raise failed(model, f"holds no {_WIDTHS[kind][0]}")
    return Projector(header, kind, numbers["image_size"], numbers["patch_size"], width_of(header))


def type_of(header: gguf_header.Header) -> str | None:
    """The projector's type; None: it projects no images."""
    found = header.metadata.get("clip.projector_type") or header.metadata.get("clip.vision.projector_type")
    return found if isinstance(found, str) and header.metadata.get("clip.has_vision_encoder") is True else None


def width_of(header: gguf_header.Header) -> int | None:
    """The width of the text model that a projector fits, by the tensor that it ends with."""
    name, at = _WIDTHS.get(type_of(header) or "", ("", 0))
    tensor = next((tensor for tensor in header.tensors if tensor.name == name), None)
    if _is_normed(header):
        return None
    return tensor.dimensions[at] if tensor is not None and len(tensor.dimensions) > at else None


def _is_normed(header: gguf_header.Header) -> bool:
    """Whether it is Yi's kind of an MLP, with a norm and a further layer."""
    return any(tensor.name == "mm.3.weight" for tensor in header.tensors)


def check_fits(projector: Projector, text_width: int, model: str) -> None:
    """Refuse a projector of another model. Raises LoadFailed."""
    if projector.width is not None and projector.width != text_width:
        raise failed(model, f"fits models that are {projector.width} wide, and this one is {text_width}; use its own")


def _number(header: gguf_header.Header, key: str) -> int:
    value = header.metadata.get(f"clip.vision.{key}")
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def failed(model: str, reason: str) -> LoadFailed:
    """Why a model's projector can't be used."""
    return LoadFailed(f"Model '{model}' can't be loaded: its `mmproj_path` {reason}.", code="model_file_invalid")
