"""A Hugging Face tokenizer as a provider's vocabulary: text to tokens, and the exact bytes of each token.

`tokenizer.json` is read by the `tokenizers` library itself. Transformers' AutoTokenizer, which mlx_lm uses, builds some
families anew from their vocabulary and changes what the file says (its Qwen2 adds a normalizer), so it is asked only
where a folder has no such file.
"""

import importlib
import json
import re
from pathlib import Path
from typing import Any, Final

from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.providers.base import InfillMarks

_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE: Final = "\u2581"
"""How sentencepiece writes a space."""
_INFILL: Final = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
)
"""Tokens before the prefix, the suffix and the answer: Qwen and CodeGemma, StarCoder, DeepSeek, CodeLlama."""
_REPOSITORY: Final = ("<|repo_name|>", "<|reponame|>", "<repo_name>", "<reponame>")
_FILE: Final = ("<|file_sep|>", "<|file_separator|>", "<file_sep>", "<filename>")
_END_NAMES: Final = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "</s>")
"""Ends of text or of a turn wherever a vocabulary has them as special tokens; llama.cpp knows the same."""


class Vocabulary:
    """The tokens of one model. `encode` may be called from several threads at once."""

    def __init__(self, folder: Folder, model: str, ends: frozenset[int]) -> None:
        tokenizer: Any = _load(folder, model)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._parsing = tokenizer
        self._plain = type(tokenizer).from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder()
        ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
        self.size = max(ids.values(), default=-1) + 1
        self._pieces = _pieces(tokenizer, ids, added)
        self._controls = {token: str(entry.content) for token, entry in added.items() if entry.special}
        self._begin = self._leading()
        self._specials = folder.special_tokens()
        named = {ids[name] for name in (*_END_NAMES, self.special("eos")) if _is_special(name, ids, added)}
        if {"<|return|>", "<|call|>"} <= ids.keys():  # gpt-oss: one message ends, of several in an answer
            named.discard(ids.get("<|end|>", -1))
        self.ends = ends | named
        self.infill = _infill_marks(ids, tuple(self._begin))

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Text to token ids; `add_special` puts before them what the model expects at the start of a text."""
        tokenizer = self._parsing if parse_special else self._plain
        try:
            tokens: list[int] = tokenizer.encode(_sound(text), add_special_tokens=False).ids
        except Exception as error:
            raise EngineError("The prompt can't be tokenized.") from error
        return [*self._begin, *tokens] if add_special else tokens

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for control tokens."""
        return self._pieces.get(token, b"")

    def control(self, token: int) -> str:
        """The text of a control token; empty: it is none."""
        return self._controls.get(token, "")

    def special(self, name: str) -> str:
        """The text of the "bos", "eos" or "eot" token; empty: it has none."""
        return self._specials.get("eos" if name == "eot" else name, "")

    def _leading(self) -> list[int]:
        """The tokens that the tokenizer's own post-processor puts before a text; what it puts behind is left out."""
        plain = self._parsing.encode("a", add_special_tokens=False).ids
        whole = self._parsing.encode("a", add_special_tokens=True).ids
        for at in range(len(whole) - len(plain) + 1):
            if whole[at : at + len(plain)] == plain:
                return list(whole[:at])
        return []


def _infill_marks(ids: dict[str, int], begin: tuple[int, ...]) -> InfillMarks | None:
    """What a vocabulary has of them."""
    names = next((names for names in _INFILL if set(names) <= ids.keys()), None)
    if names is None:
        return None
    repository, file = (next((ids[name] for name in known if name in ids), None) for known in (_REPOSITORY, _FILE))
    return InfillMarks(ids[names[0]], ids[names[1]], ids[names[2]], repository, file, begin)


def _sound(text: str) -> str:
    """Text without lone surrogates, which the tokenizer can't take."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_special(name: str, ids: dict[str, int], added: dict[int, Any]) -> bool:
    token = ids.get(name)
    return token is not None and token in added and bool(added[token].special)


def _load(folder: Folder, model: str) -> Any:
    """The `tokenizers.Tokenizer` of a folder. Raises LoadFailed."""
    tokenizers: Any = importlib.import_module("tokenizers")
    path = folder.path / "tokenizer.json"
    try:
        if path.is_file():
            return tokenizers.Tokenizer.from_file(str(path))
        return _converted(folder.path)
    except Exception as error:  # the library raises bare Exception
        reason = str(error).replace(str(folder.path), "its folder")
        raise LoadFailed(f"Model '{model}' can't be loaded: its tokenizer can't be read: {reason}") from error


def _converted(path: Path) -> Any:
    """The tokenizer that mlx_lm's loader makes of other files than tokenizer.json."""
    loader: Any = importlib.import_module("mlx_lm.tokenizer_utils")
    wrapped = loader.load(path, {"trust_remote_code": False, "local_files_only": True})
    backend = getattr(wrapped, "backend_tokenizer", None)
    if backend is None:
        raise ValueError("there is no tokenizer.json, and its other files are of a kind that isn't supported")
    return backend


# ---- the bytes of each token -----------------------------------------------------------------------------------------


def _pieces(tokenizer: Any, ids: dict[str, int], added: dict[int, Any]) -> dict[int, bytes]:
    """Bytes by token; tokens without bytes are left out."""
    to_bytes = _by_alphabet if _is_byte_level(tokenizer) else _by_sentencepiece
    pieces: dict[int, bytes] = {}
    for text, token in ids.items():
        entry = added.get(token)
        if entry is None:
            pieces[token] = to_bytes(text)
        elif not entry.special:
            pieces[token] = entry.content.encode()
    return pieces


def _is_byte_level(tokenizer: Any) -> bool:
    """Whether the vocabulary is written in GPT-2's alphabet of bytes."""
    decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
    parts = decoder.get("decoders") or [decoder]
    return any(part.get("type") == "ByteLevel" for part in parts)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letter for each byte: printable ones stand for themselves, the rest from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    return letters | {chr(256 + at): byte for at, byte in enumerate(others)}


_ALPHABET: Final = _byte_alphabet()


def _by_alphabet(text: str) -> bytes:
    if all(letter in _ALPHABET for letter in text):
        return bytes(_ALPHABET[letter] for letter in text)
    return text.encode()


def _by_sentencepiece(text: str) -> bytes:
    found = _BYTE_TOKEN.fullmatch(text)
    return bytes((int(found[1], 16),)) if found else text.replace(_SPACE, " ").encode()
