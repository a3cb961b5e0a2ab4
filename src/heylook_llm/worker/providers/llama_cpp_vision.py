"""Images for llama.cpp by its mtmd: what stands for one in a prompt, and the rows that its projector makes of it.

The context of mtmd has threads and buffers of its own, and encodes one image at a time, in whichever thread asks. Which
tokens an image takes hangs on its size alone, so that is asked with a bitmap without pixels.

Traps of the binding: the log callback must be kept referenced; the output of an encode is valid until the next.
"""

import ctypes
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from heylook_llm import core
from heylook_llm.catalog import projector
from heylook_llm.catalog.projector import Projector
from heylook_llm.errors import BadRequest, EngineError, LoadFailed
from heylook_llm.worker import pixels
from heylook_llm.worker.images import Gallery, Seen, ids_of
from heylook_llm.worker.providers.base import Floats
from heylook_llm.worker.providers.llama_cpp_native import Integers, Log
from heylook_llm.worker.providers.llama_cpp_threads import threads_for

KEPT_BYTES: Final = 256 << 20
"""Of rows: some hundred images of a large model."""
MOST_RATIO: Final = 50
"""Between the sides of an image that isn't squared: longer strips leave nothing of their short side."""
TILES: Final = 4
_TEXT, _IMAGE = 0, 1


class Run(NamedTuple):
    """Tokens of one image, or of a part of it, that are computed from rows."""

    tokens: int
    positions: int
    """How far it moves what follows; not its tokens in models with two-dimensional positions."""


class Rows(NamedTuple):
    """What an image's ids are fed from."""

    values: Floats
    """[ids, width], of all its runs."""
    grid: Integers | None
    """[4, ids]: each id's position relative to its run's, for models with two-dimensional positions."""
    runs: dict[int, Run]
    """By their first id."""


class _Chunk(NamedTuple):
    """A piece of what mtmd makes of an image: text's tokens, or a run."""

    words: tuple[int, ...]
    run: Run | None


class Eyes:
    """The ImageReader of a model with a projector."""

    def __init__(self, native: Any, model: Any, load: core.Load, log: Log, *, on_gpu: bool) -> None:
        """`most_tokens` of a run that must be computed whole are set once the context is made. Raises LoadFailed."""
        self.most_tokens = 0
        self._native: Any = importlib.import_module("llama_cpp.mtmd_cpp")
        self._model = load.model
        self._log = log
        self.projector: Projector = projector.read(Path(load.options["mmproj_path"]), load.model)
        self.width = int(native.llama_model_n_embd_inp(model))
        projector.check_fits(self.projector, self.width, load.model)
        self._native.mtmd_log_set(log.callback, ctypes.c_void_p(0))
        self._context = self._open(model, load, on_gpu=on_gpu)
        self._marker: bytes = self._native.mtmd_get_marker(self._context)
        self.whole = bool(self._native.mtmd_decode_use_non_causal(self._context, None))
        self.two_dimensional = bool(self._native.mtmd_decode_use_mrope(self._context))
        self.encoded = 0
        self.gallery: Gallery[Rows] = Gallery(KEPT_BYTES)
        self._chunks: dict[tuple[int, int], list[_Chunk]] = {}
        """By an image's size."""
        self._lock = threading.Lock()
        """Of the encoder."""
        self._try()

    def _open(self, model: Any, load: core.Load, *, on_gpu: bool) -> Any:
        native, options = self._native, load.options
        params = native.mtmd_context_params_default()
        params.use_gpu = on_gpu
        params.print_timings = False
        threads = options.get("n_threads_batch") or options.get("n_threads")
        params.n_threads = int(threads or threads_for(self.projector.header.weights_bytes))
        flash = options.get("flash_attn", "auto")
        params.flash_attn_type = -1 if flash in ("auto", None) else int(bool(flash))
        self._log.errors.clear()
        context = native.mtmd_init_from_file(str(options["mmproj_path"]).encode(), model, params)
        if not context:
            raise projector.failed(
                load.model, f"is refused by llama.cpp ({'; '.join(self._log.errors) or 'no reason'})"
            )
        if not native.mtmd_support_vision(context):
            native.mtmd_free(context)
            raise projector.failed(load.model, "is no projector of images")
        return context

    def longest_run(self) -> int:
        """Tokens of the longest run of an image as large as the projector's own size."""
        side = self.projector.image_size
        return max(chunk.run.tokens for chunk in self._chunks_of(side, side) if chunk.run is not None)

    def _try(self) -> None:
        """See whether images become tokens, small ones and those that are cut to tiles. Raises LoadFailed."""
        try:
            for times in (1, TILES):
                self._chunks_of(times * self.projector.image_size, times * self.projector.image_size)
        except BadRequest as error:
            self.close()
            raise LoadFailed(f"Model '{self._model}' can't be loaded: {error.message}") from error

    def close(self) -> None:
        """Free everything."""
        with self._lock:
            self._native.mtmd_free(self._context)
            self._context = None
            self._native.mtmd_log_set(self._log.no_callback, ctypes.c_void_p(0))

    # ---- the preparers' ----------------------------------------------------------------------------------------------

    def read(self, image: core.ImagePart) -> tuple[int, ...]:
        """Its ids, with the model's own tokens around them."""
        width, height = self._seen_size(image)
        chunks = self._chunks_of(width, height)
        longest = max((chunk.run.tokens for chunk in chunks if chunk.run is not None), default=0)
        if self.whole and longest > self.most_tokens:
            raise BadRequest(
                f'"{self._model}" can\'t see an image of {width} x {height} pixels: it is {longest} tokens, and '
                f"{self.most_tokens} is what one step computes (`n_ubatch`).",
                param="messages",
            )
        return _tokens(self.gallery.digest(image), chunks)

    def encode(self, image: core.ImagePart) -> object:
        """Its rows, computed or found."""
        digest = self.gallery.digest(image)
        with self._lock:
            seen = self.gallery.find(digest)
            if seen is None:
                seen = self._seen(image, digest)
                self.gallery.put(digest, seen)
        return seen

    def _seen_size(self, image: core.ImagePart) -> tuple[int, int]:
        """How large mtmd sees an image. Raises BadRequest for one that it can't see."""
        if self.projector.is_square:
            return self.projector.image_size, self.projector.image_size
        sides = image.width, image.height
        if max(sides) > MOST_RATIO * min(sides):
            raise BadRequest(
                f'"{self._model}" can\'t see an image of {image.width} x {image.height} pixels: one side is more than '
                f"{MOST_RATIO} times the other.",
                param="messages",
            )
        return sides

    def _seen(self, image: core.ImagePart, digest: bytes) -> Seen[Rows]:
        width, height = self._seen_size(image)
        shown = pixels.squared(image, width) if self.projector.is_square else image
        data = (ctypes.c_uint8 * len(shown.rgb)).from_buffer_copy(shown.rgb)
        with self._tokenized(width, height, data) as native_chunks:
            chunks = [self._chunk(chunk) for chunk in native_chunks]
            rows = [self._encoded(chunk) for chunk in native_chunks if self._kind(chunk) == _IMAGE]
            places = [self._places(chunk) for chunk in native_chunks if self._kind(chunk) == _IMAGE]
        self.encoded += 1
        tokens = _tokens(digest, chunks)
        ids = [token for token in tokens if token < 0]
        runs: dict[int, Run] = {}
        at = 0
        for chunk in chunks:
            if chunk.run is not None:
                runs[ids[at]] = chunk.run
                at += chunk.run.tokens
        values = np.concatenate(rows)
        together = np.concatenate(places, axis=1) if self.two_dimensional else None
        return Seen(tokens, Rows(values, together, runs), values.nbytes)

    # ---- mtmd's own --------------------------------------------------------------------------------------------------

    def _chunks_of(self, width: int, height: int) -> list[_Chunk]:
        """What an image of this size becomes. Raises BadRequest."""
        known = self._chunks.get((width, height))
        if known is None:
            with self._tokenized(width, height, None) as chunks:
                known = [self._chunk(chunk) for chunk in chunks]
            if len(self._chunks) >= 1024:
                self._chunks.clear()
            self._chunks[width, height] = known
        return known

    @contextmanager
    def _tokenized(self, width: int, height: int, data: Any) -> Iterator[list[Any]]:
        """mtmd's chunks of an image, as long as the block lasts. Raises BadRequest."""
        native = self._native
        bitmap = native.mtmd_bitmap_init(width, height, data)
        output = native.mtmd_input_chunks_init()
        try:
            text = native.mtmd_input_text(self._marker, len(self._marker), False, True)
            bitmaps = (native.mtmd_bitmap_p_ctypes * 1)(bitmap)
            status = native.mtmd_tokenize(self._context, output, ctypes.byref(text), bitmaps, 1)
            if status != 0:
                raise BadRequest(f'"{self._model}" can\'t see an image of {width} x {height} pixels.', param="messages")
            count = native.mtmd_input_chunks_size(output)
            yield [native.mtmd_input_chunks_get(output, at) for at in range(count)]
        finally:
            native.mtmd_input_chunks_free(output)
            native.mtmd_bitmap_free(bitmap)

    def _kind(self, chunk: Any) -> int:
        return int(self._native.mtmd_input_chunk_get_type(chunk))

    def _chunk(self, chunk: Any) -> _Chunk:
        native = self._native
        if self._kind(chunk) == _TEXT:
            count = ctypes.c_size_t()
            found = native.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            tokens = tuple(found[: count.value])
            if min(tokens, default=0) < 0:  # what mtmd puts for a token that isn't there
                raise BadRequest(f'"{self._model}" has no token for what stands around an image.', param="messages")
            return _Chunk(tokens, None)
        positions = int(native.mtmd_input_chunk_get_n_pos(chunk))
        return _Chunk((), Run(int(native.mtmd_input_chunk_get_n_tokens(chunk)), positions))

    def _encoded(self, chunk: Any) -> Floats:
        """The rows of a run. Raises EngineError."""
        native = self._native
        if native.mtmd_encode_chunk(self._context, chunk) != 0:
            raise EngineError("llama.cpp could not encode an image.")
        count = int(native.mtmd_input_chunk_get_n_tokens(chunk))
        output = native.mtmd_get_output_embd(self._context)
        rows: Floats = np.ctypeslib.as_array(output, shape=(count, self.width)).copy()
        if not np.isfinite(rows).all():
            raise EngineError("An image became no numbers: its projector overflows.")
        return rows

    def _places(self, chunk: Any) -> Integers:
        """[4, tokens]: positions relative to the run's."""
        native = self._native
        tokens = native.mtmd_input_chunk_get_tokens_image(chunk)
        count = int(native.mtmd_input_chunk_get_n_tokens(chunk))
        if not self.two_dimensional:
            return np.empty((4, 0), dtype=np.int32)
        found = (native.mtmd_decoder_pos * count)()
        native.mtmd_helper_image_get_decoder_pos(tokens, 0, found)
        return np.array([[place.t, place.y, place.x, place.z] for place in found], dtype=np.int32).T.copy()


def _tokens(digest: bytes, chunks: list[_Chunk]) -> tuple[int, ...]:
    """The tokens of an image's chunks; each run's first id is marked."""
    tokens: list[int] = []
    for at, chunk in enumerate(chunks):
        tokens += chunk.words if chunk.run is None else ids_of(digest + at.to_bytes(4), chunk.run.tokens)
    return tuple(tokens)
