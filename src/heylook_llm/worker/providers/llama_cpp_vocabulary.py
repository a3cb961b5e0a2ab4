"""A GGUF's vocabulary by llama.cpp: text to tokens and back, and what the file says beside its weights."""

import ctypes
import importlib
from pathlib import Path
from typing import Any, Final

from heylook_llm import core
from heylook_llm.catalog.gguf_header import pooling_of
from heylook_llm.errors import EngineError
from heylook_llm.worker.providers import defaults
from heylook_llm.worker.providers.base import InfillMarks
from heylook_llm.worker.providers.llama_cpp_load import Opening, start_backend
from heylook_llm.worker.providers.llama_cpp_native import Log, metadata_of

NO_TOKEN: Final = -1
_FILE_KEYS: Final = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.xtc_probability": "xtc_probability",
    "general.sampling.xtc_threshold": "xtc_threshold",
    "general.sampling.penalty_repeat": "repeat_penalty",
    "general.sampling.penalty_last_n": "repeat_last_tokens",
    "general.sampling.mirostat": "mirostat",
    "general.sampling.mirostat_tau": "mirostat_tau",
    "general.sampling.mirostat_eta": "mirostat_eta",
}


def open_vocabulary(load: core.Load) -> "WordsOnly":
    """The vocabulary of a Load frame's model. Raises LoadFailed; ImportError where llama-cpp-python is missing."""
    native: Any = importlib.import_module("llama_cpp.llama_cpp")
    start_backend(native, {})
    return WordsOnly(native, load)


class Vocabulary:
    """That of one loaded model, which may be loaded without its weights."""

    def __init__(self, native: Any, model: Any) -> None:
        self._native = native
        self._model = model
        self._vocab = native.llama_model_get_vocab(model)
        self._n_vocab = int(native.llama_vocab_n_tokens(self._vocab))
        self._ends = frozenset(t for t in range(self._n_vocab) if native.llama_vocab_is_eog(self._vocab, t))
        self._metadata = dict(metadata_of(native, model))

    # ---- what the file says ------------------------------------------------------------------------------------------

    def configured_pooling(self, options: dict[str, Any]) -> core.Pooling:
        """How it makes a vector or a score of a text, by its configuration or its file; empty: it generates."""
        architecture = str(self._metadata.get("general.architecture", ""))
        kind, causal = (self._metadata.get(f"{architecture}.{key}") for key in ("pooling_type", "attention.causal"))
        configured: core.Pooling = options.get("pooling") or pooling_of(architecture, kind, causal)
        return configured

    def configured_defaults(self, options: dict[str, Any]) -> core.Sampling:
        """What a request that says nothing gets."""
        in_file = {field: self._metadata[key] for key, field in _FILE_KEYS.items() if key in self._metadata}
        return defaults.of_model(options, in_file)

    def abilities(self, pooling: core.Pooling) -> tuple[str, ...]:
        """What it can do but for what its template knows."""
        if pooling:
            return ("rerank",) if pooling == "rank" else ("embedding",)
        return ("completion", "insert") if self.infill is not None else ("completion",)

    def chat_template(self, options: dict[str, Any]) -> str:
        """The configured one, else the file's; empty: there is none."""
        if text := options.get("chat_template"):
            return str(text)
        if path := options.get("chat_format_template"):
            return Path(path).read_text(encoding="utf-8")
        template = self._native.llama_model_chat_template(self._model, None)
        return template.decode("utf-8", "replace") if template else ""

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Text to token ids; callable from any thread."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        tokens = (ctypes.c_int32 * size)()
        count = self._native.llama_tokenize(self._vocab, data, len(data), tokens, size, add_special, parse_special)
        if count < 0:
            raise EngineError("The prompt can't be tokenized.")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for control tokens."""
        if not 0 <= token < self._n_vocab:
            return b""
        native = self._native
        buffer = ctypes.create_string_buffer(512)
        size = native.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = native.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:size]

    def control(self, token: int) -> str:
        """The text of a control token; empty: it is none."""
        known = 0 <= token < self._n_vocab and self._native.llama_vocab_is_control(self._vocab, token)
        return self._token_text(token) if known else ""

    def is_end(self, token: int) -> bool:
        """Whether the token ends generation."""
        return token in self._ends

    @property
    def infill(self) -> InfillMarks | None:
        """What the vocabulary marks as such. None without the tokens for it."""
        native, vocab = self._native, self._vocab
        known = (getattr(native, f"llama_vocab_fim_{name}")(vocab) for name in ("pre", "suf", "mid", "rep", "sep"))
        prefix, suffix, middle, repository, file = (None if token == NO_TOKEN else token for token in known)
        if prefix is None or suffix is None or middle is None:
            return None
        bos = native.llama_vocab_bos(vocab)
        begin = (bos,) if bos != NO_TOKEN and native.llama_vocab_get_add_bos(vocab) else ()
        return InfillMarks(prefix, suffix, middle, repository, file, begin)

    def special(self, name: str) -> str:
        """The text of the vocabulary's "bos", "eos" or "eot" token."""
        token = getattr(self._native, f"llama_vocab_{name}")(self._vocab)
        return self._token_text(token) if token != NO_TOKEN else ""

    def _token_text(self, token: int) -> str:
        text = self._native.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace") if text else ""


class WordsOnly(Vocabulary):
    """A model whose weights stay on the disk: it renders and tokenizes, and computes nothing."""

    engine_defaults = defaults.ENGINE_DEFAULTS
    images = None

    def __init__(self, native: Any, load: core.Load) -> None:
        self._log = Log(native)
        super().__init__(native, Opening(native, load, self._log).vocabulary())
        options, pooling = load.options, self.configured_pooling(load.options)
        architecture = str(self._metadata.get("general.architecture", "unknown"))
        trained = self._metadata.get(f"{architecture}.context_length")
        self.defaults = self.configured_defaults(options)
        self.info = core.ModelInfo(
            "llama_cpp",
            architecture,
            int(options.get("n_ctx") or trained or 0),
            n_ctx_trained=trained,
            n_vocab=self._n_vocab,
            chat_template="" if pooling else self.chat_template(options),
            capabilities=self.abilities(pooling),
            metadata=self._metadata,
            pooling=pooling,
        )
