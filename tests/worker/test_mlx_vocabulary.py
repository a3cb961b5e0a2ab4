"""Tokenizers of both kinds: exact bytes of every token, special tokens, beginnings and ends."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm.catalog.mlx_folder import Folder
from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers.base import InfillMarks
from heylook_llm.worker.providers.mlx_vocabulary import Vocabulary
from tests.worker import random_mlx

pytest.importorskip("tokenizers", reason="tokenizers isn't installed: pip install 'heylookllm[mlx]'")
tokenizers: Any = importlib.import_module("tokenizers")

pytestmark = pytest.mark.unit

TEXTS = ["Hello, world!", " leading", "näïve 😀 漢字\n\ttabs  two", "", "a\u0301b", "\x00\x7f"]


def folder_of(path: Path, tokenizer: Any, **config: Any) -> Folder:
    """A folder with that tokenizer, and one tensor."""
    path.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": [1]}))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (path / "tokenizer.json").write_text(tokenizer.to_str())
    return Folder(path, "m")


def sentencepiece() -> Any:
    """A small Llama-2 kind: pieces with U+2581 for spaces, every other byte by fallback."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for piece in ["\u2581", "H", "e", "l", "o", "He", "ll", "Hell", "Hello", "\u2581Hello", "\u2581\u2581"]:
        vocab[piece] = len(vocab)
    merges = [("H", "e"), ("l", "l"), ("He", "ll"), ("Hell", "o"), ("\u2581", "Hello"), ("\u2581", "\u2581")]
    model = tokenizers.models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    made = tokenizers.Tokenizer(model)
    made.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    decoders = tokenizers.decoders
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return made


@pytest.fixture(scope="module")
def byte_level() -> Vocabulary:
    """The bundled model's."""
    folder = Folder(random_mlx.BUNDLED, "m")
    return Vocabulary(folder, "m", folder.end_tokens())


@given(st.text())
def test_pieces_are_the_texts_bytes(byte_level: Vocabulary, text: str) -> None:
    tokens = byte_level.encode(text, add_special=False, parse_special=False)
    assert b"".join(map(byte_level.piece, tokens)) == text.encode()


def test_every_token_of_a_byte_level_vocabulary(byte_level: Vocabulary) -> None:
    assert len({byte_level.piece(token) for token in range(256)}) == 256
    assert byte_level.piece(1018) == b""
    assert byte_level.piece(1020) == b"<think>"
    assert (byte_level.control(1018), byte_level.control(1020), byte_level.control(-1)) == ("<|im_start|>", "", "")
    assert byte_level.piece(99_999) == byte_level.piece(-1) == b""
    assert byte_level.ends == {1017, 1019}
    assert (byte_level.special("bos"), byte_level.special("eos"), byte_level.special("eot")) == (
        "",
        "<|im_end|>",
        "<|im_end|>",
    )


def test_special_tokens_are_parsed_only_where_asked(byte_level: Vocabulary) -> None:
    text = "a<|im_start|>b<think>"
    parsed = byte_level.encode(text, add_special=True, parse_special=True)
    plain = byte_level.encode(text, add_special=True, parse_special=False)
    assert 1018 in parsed
    assert 1018 not in plain
    assert parsed[-1] == plain[-1] == 1020, "what isn't a control token is text in both"


def test_lone_surrogates_do_not_stop_it(byte_level: Vocabulary) -> None:
    tokens = byte_level.encode("a\ud800b", add_special=False, parse_special=True)
    assert b"".join(map(byte_level.piece, tokens)) == b"a?b"


@pytest.mark.parametrize("text", TEXTS)
def test_sentencepiece_with_bytes(tmp_path: Path, text: str) -> None:
    vocabulary = Vocabulary(folder_of(tmp_path, sentencepiece()), "m", frozenset({2}))
    tokens = vocabulary.encode(text, add_special=False, parse_special=False)
    assert b"".join(map(vocabulary.piece, tokens)) == text.encode()


def test_a_beginning_is_added_and_an_end_is_not(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, sentencepiece(), bos_token="<s>", eos_token={"content": "</s>"})
    vocabulary = Vocabulary(folder, "m", folder.end_tokens())
    assert vocabulary.encode("Hello", add_special=True, parse_special=True)[0] == 1
    assert 2 not in vocabulary.encode("Hello", add_special=True, parse_special=True)
    assert (vocabulary.special("bos"), vocabulary.special("eos")) == ("<s>", "</s>")
    assert vocabulary.ends == {1, 2}, "what the files say, and the vocabulary's own"
    assert vocabulary.infill is None


def test_the_end_of_a_message_is_none_of_an_answer_where_there_are_several(tmp_path: Path) -> None:
    def ends_with(*marks: str) -> set[str]:
        tokenizer = sentencepiece()
        tokenizer.add_special_tokens(list(marks))
        vocabulary = Vocabulary(folder_of(tmp_path / str(len(marks)), tokenizer), "m", frozenset())
        return {vocabulary.control(token) for token in vocabulary.ends}

    assert "<|end|>" in ends_with("<|end|>")
    assert "<|end|>" not in ends_with("<|end|>", "<|return|>", "<|call|>")


def test_infill(tmp_path: Path) -> None:
    tokenizer = sentencepiece()
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    tokenizer.add_special_tokens(marks)
    vocabulary = Vocabulary(folder_of(tmp_path, tokenizer), "m", frozenset())
    ids = [tokenizer.token_to_id(mark) for mark in marks]
    begin = tuple(vocabulary.encode("", add_special=True, parse_special=True))
    assert vocabulary.infill == InfillMarks(ids[0], ids[1], ids[2], begin=begin)
    tokenizer.add_special_tokens(["<|repo_name|>", "<|file_sep|>"])
    vocabulary = Vocabulary(folder_of(tmp_path / "more", tokenizer), "m", frozenset())
    more = [tokenizer.token_to_id(mark) for mark in ("<|repo_name|>", "<|file_sep|>")]
    assert vocabulary.infill == InfillMarks(ids[0], ids[1], ids[2], more[0], more[1], begin)


def test_other_files_than_tokenizer_json(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm", exc_type=ImportError)
    folder = folder_of(tmp_path, None, tokenizer_class="GPT2Tokenizer", unk_token="<|endoftext|>")
    letters = [chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
    vocab = {letter: at for at, letter in enumerate([*letters, "he", "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\n")
    vocabulary = Vocabulary(folder, "m", frozenset())
    tokens = vocabulary.encode("the 漢", add_special=False, parse_special=False)
    assert b"".join(map(vocabulary.piece, tokens)) == "the 漢".encode()
    assert vocab["he"] in tokens


def test_no_tokenizer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm", exc_type=ImportError)
    with pytest.raises(LoadFailed, match="tokenizer can't be read") as refused:
        Vocabulary(folder_of(tmp_path, None), "m", frozenset())
    assert str(tmp_path) not in refused.value.message
