"""llguidance's C API, which its Python wheel exports: a vocabulary's token trie, and matchers of a grammar over it.

Why not its Python API: that builds a trie with the interpreter held, 1 to 2 s for 150,000 tokens in which no stream of
this process would go on; here no call holds it. And a trie made here tokenizes nothing, so a mask allows every
spelling of what the grammar allows and never calls back into Python.

A Matcher never raises for what a grammar or a token does to it: it says so in `error`, and stays in that state.
"""

import ctypes
import importlib.util
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from heylook_llm.errors import EngineError

GrammarKind = Literal["lark", "json_schema", "regex", "llguidance"]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
"""Of each token of a vocabulary, whether it may come next."""

SPECIAL: Final = b"\xff"
"""Begins the name of a token that no text spells."""
STEP_FUEL: Final = 100_000
"""Work of the lexer for one mask: some 7 ms at most."""
STEP_ITEMS: Final = 25_000
_ERROR_BYTES: Final = 4096


class _TokenizerInit(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", ctypes.c_void_p),
        ("token_bytes", ctypes.c_char_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", ctypes.c_void_p),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", ctypes.c_void_p),
        ("slices", ctypes.c_void_p),
        ("tok_eos_extra", ctypes.c_void_p),
        ("tok_eos_extra_count", ctypes.c_uint32),
    ]


class _Limits(ctypes.Structure):
    _fields_ = [
        ("max_items_in_row", ctypes.c_size_t),
        ("initial_lexer_fuel", ctypes.c_uint64),
        ("step_lexer_fuel", ctypes.c_uint64),
        ("step_max_items", ctypes.c_size_t),
        ("max_lexer_states", ctypes.c_size_t),
        ("max_grammar_size", ctypes.c_size_t),
        ("precompute_large_lexemes", ctypes.c_bool),
        ("verbose_errors", ctypes.c_bool),
    ]


class _ConstraintInit(ctypes.Structure):
    _fields_ = [
        ("tokenizer", ctypes.c_void_p),
        ("log_buffer_level", ctypes.c_uint32),
        ("log_stderr_level", ctypes.c_uint32),
        ("ff_tokens_ok", ctypes.c_bool),
        ("backtrack_ok", ctypes.c_bool),
        ("limits", _Limits),
    ]


_POINTER, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "llg_new_tokenizer_v2": (_POINTER, [_POINTER, _TEXT, _SIZE]),
    "llg_free_tokenizer": (None, [_POINTER]),
    "llg_constraint_init_set_defaults": (None, [_POINTER, _POINTER]),
    "llg_new_matcher": (_POINTER, [_POINTER, _TEXT, _TEXT]),
    "llg_clone_matcher": (_POINTER, [_POINTER]),
    "llg_free_matcher": (None, [_POINTER]),
    "llg_matcher_compute_mask_into": (ctypes.c_int32, [_POINTER, _POINTER, _SIZE]),
    "llg_matcher_consume_token": (ctypes.c_int32, [_POINTER, ctypes.c_uint32]),
    "llg_matcher_rollback": (ctypes.c_int32, [_POINTER, _SIZE]),
    "llg_matcher_validate_tokens": (ctypes.c_int32, [_POINTER, _POINTER, _SIZE]),
    "llg_matcher_is_accepting": (ctypes.c_bool, [_POINTER]),
    "llg_matcher_is_stopped": (ctypes.c_bool, [_POINTER]),
    "llg_matcher_is_error": (ctypes.c_bool, [_POINTER]),
    "llg_matcher_get_error": (_TEXT, [_POINTER]),
}


def _library() -> Any:
    """The wheel's shared library with its C functions declared. Raises EngineError where it isn't what is expected."""
    spec = importlib.util.find_spec("llguidance")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    path = next(iter(sorted(folder.glob("_lib*"))), None) if folder is not None else None
    try:
        if path is None:
            raise OSError("there is no such package")
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError("Constrained output needs the package llguidance, which is missing or damaged.") from error
    return library


class Trie:
    """The tokens of a vocabulary by their bytes. Freed with its last matcher."""

    def __init__(self, pieces: Seq[bytes], ends: Seq[int]) -> None:
        """`pieces`: each token's bytes, empty where nothing spells it; `ends`: the tokens that end generation."""
        self.size = len(pieces)
        self.library = _library()
        named = list(pieces)
        for token in ends:
            named[token] = SPECIAL + b"<end %d>" % token
        lengths = np.fromiter(map(len, named), dtype=np.uint32, count=len(named))
        others = np.array(ends[1:], dtype=np.uint32)
        init = _TokenizerInit(
            struct_size=ctypes.sizeof(_TokenizerInit),
            vocab_size=len(named),
            tok_eos=ends[0],
            token_lens=lengths.ctypes.data,
            token_bytes=b"".join(named),
            use_approximate_greedy_tokenize_fn=True,
            tok_eos_extra=others.ctypes.data if len(others) else None,
            tok_eos_extra_count=len(others),
        )
        reason = ctypes.create_string_buffer(_ERROR_BYTES)
        self.pointer = self.library.llg_new_tokenizer_v2(ctypes.byref(init), reason, _ERROR_BYTES)
        if not self.pointer:
            raise EngineError(f"The vocabulary can't be used for constrained output: {_text(reason.value)}")

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self.library.llg_free_tokenizer(self.pointer)

    def matcher(self, kind: GrammarKind, source: str) -> "Matcher":
        """A matcher at the start of a grammar; `error` says what is wrong with the grammar."""
        init = _ConstraintInit()
        self.library.llg_constraint_init_set_defaults(ctypes.byref(init), self.pointer)
        init.log_stderr_level = 0
        init.limits.step_lexer_fuel = STEP_FUEL
        init.limits.step_max_items = STEP_ITEMS
        init.limits.verbose_errors = False
        text = source.encode("utf-8", "replace").replace(b"\0", b"\\u0000")  # C text ends at a NUL
        return Matcher(self, self.library.llg_new_matcher(ctypes.byref(init), kind.encode(), text))


class Matcher:
    """Where an output stands in its grammar. Used from one thread at a time."""

    def __init__(self, trie: Trie, pointer: int) -> None:
        self._trie = trie
        self._library = trie.library
        self._pointer = pointer
        self._bits = np.zeros((trie.size + 31) // 32, dtype=np.uint32)

    def __del__(self) -> None:
        self._library.llg_free_matcher(self._pointer)

    def copy(self) -> "Matcher":
        """Another one at the same place."""
        return Matcher(self._trie, self._library.llg_clone_matcher(self._pointer))

    @property
    def error(self) -> str | None:
        """What is wrong with the grammar, or which limit it reached; None: nothing."""
        if not self._library.llg_matcher_is_error(self._pointer):
            return None
        return _text(self._library.llg_matcher_get_error(self._pointer) or b"unknown error")

    @property
    def accepting(self) -> bool:
        """Whether the output may end here."""
        return bool(self._library.llg_matcher_is_accepting(self._pointer))

    @property
    def stopped(self) -> bool:
        """Whether nothing but the end may follow; also after an error."""
        return bool(self._library.llg_matcher_is_stopped(self._pointer))

    def mask(self) -> Mask | None:
        """Which tokens may come next; None: see `error`."""
        if self._library.llg_matcher_compute_mask_into(self._pointer, self._bits.ctypes.data, self._bits.nbytes):
            return None
        return np.unpackbits(self._bits.view(np.uint8), count=self._trie.size, bitorder="little").view(np.bool_)

    def consume(self, token: int) -> bool:
        """Go on by a token; False: the grammar forbids it, and `error` is set."""
        return bool(self._library.llg_matcher_consume_token(self._pointer, token) == 0)

    def allows(self, token: int) -> bool:
        """Whether a token that isn't an end may come next; the matcher stays where it is."""
        one = ctypes.c_uint32(token)
        return bool(self._library.llg_matcher_validate_tokens(self._pointer, ctypes.byref(one), 1) == 1)

    def go_back(self, count: int) -> bool:
        """Take the last tokens back."""
        return bool(self._library.llg_matcher_rollback(self._pointer, count) == 0)


def _text(message: bytes) -> str:
    return message.decode("utf-8", "replace").strip()
