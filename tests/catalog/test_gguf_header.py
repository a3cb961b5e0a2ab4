"""GGUF headers: right ones are read right, and whatever is wrong is a LoadFailed that names it, and soon."""

import io
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.catalog import gguf_header
from heylook_llm.errors import LoadFailed
from tests.catalog.handmade import ARRAY, F32, STRING, U32, U64, Made, good, pair, tensor

pytestmark = pytest.mark.unit
TINY = Path(gguf_header.__file__).parent.parent / "tiny" / "heylook-tiny.gguf"


def read(data: bytes, folder: Path, name: str = "m.gguf") -> gguf_header.Header:
    path = folder / name
    path.write_bytes(data)
    return gguf_header.read(path, "m")


def test_a_good_file(tmp_path: Path) -> None:
    header = read(good().bytes_(), tmp_path)
    assert header.architecture == "llama"
    assert header.name == "Hand Made"
    assert header.quantization == "Q8_0"
    assert header.parameters == 8 * 4 + 32 * 2
    assert (header.context_length, header.embedding_length, header.block_count) == (2048, 64, 2)
    assert (header.head_count, header.head_count_kv, header.key_length, header.value_length) == (4, 2, 16, 16)
    assert header.chat_template == "{{ messages }}"
    assert header.tokenizer == "gpt2"
    assert header.pooling == ""
    assert header.weights_bytes == 128 + 68
    assert "tokenizer.ggml.tokens" not in header.metadata, "long arrays are left out"
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize(
    ("type_k", "type_v", "bytes_"),
    [("f16", "f16", 256), ("f32", "f32", 512), ("q8_0", "f16", 196), ("q8_0", "q4_0", 104)],
)
def test_context_memory_per_token(tmp_path: Path, type_k: str, type_v: str, bytes_: int) -> None:
    """2 layers x 2 heads x 16 numbers, key and value."""
    assert read(good().bytes_(), tmp_path).kv_bytes_per_token(type_k, type_v) == bytes_


def test_heads_may_differ_by_layer(tmp_path: Path) -> None:
    made = good()
    made.pairs[7] = pair("llama.attention.head_count_kv", ARRAY, (U32, [4, 0]))
    header = read(made.bytes_(), tmp_path)
    assert header.head_count_kv == 4
    assert header.kv_bytes_per_token() == 4 * 16 * 2 * 2


def test_unknown_is_none_and_not_zero(tmp_path: Path) -> None:
    header = read(Made().bytes_(), tmp_path)
    assert header.architecture == "unknown"
    unknown = (header.context_length, header.block_count, header.quantization, header.key_length)
    assert unknown == (None,) * 4
    assert header.pooling == ""
    assert header.kv_bytes_per_token() == 0


def test_versions_and_alignments(tmp_path: Path) -> None:
    made = good()
    made.version = 2
    assert read(made.bytes_(), tmp_path).version == 2
    made = good()
    made.pairs.append(pair("general.alignment", U32, 64))
    made.alignment = 64
    assert read(made.bytes_(), tmp_path, "b.gguf").data_start % 64 == 0


def test_the_digest_is_of_header_and_length(tmp_path: Path) -> None:
    first, second = good(), good()
    second.pairs[1] = pair("general.name", STRING, "Hand Mad!")
    digests = [read(data, tmp_path, f"{at}.gguf").digest for at, data in enumerate([first.bytes_(), second.bytes_()])]
    assert len(digests[0]) == 64
    assert digests[0] != digests[1]
    assert read(first.bytes_(), tmp_path, "again.gguf").digest == digests[0]
    assert read(first.bytes_() + b"\0", tmp_path, "longer.gguf").digest != digests[0]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    assert read(good().bytes_(), tmp_path).name == "Hand Made"
    other = good()
    other.pairs[1] = pair("general.name", STRING, "Another One")
    assert read(other.bytes_(), tmp_path).name == "Another One"


def test_split_models_are_read_whole(tmp_path: Path) -> None:
    for part in (1, 2):
        made = good()
        made.pairs.append(pair("split.count", 2, 2))
        (tmp_path / f"m-0000{part}-of-00002.gguf").write_bytes(made.bytes_())
    header = gguf_header.read(tmp_path / "m-00001-of-00002.gguf", "m")
    assert header.weights_bytes == 2 * (128 + 68)
    with pytest.raises(LoadFailed, match="00001-of-00002"):
        gguf_header.read(tmp_path / "m-00002-of-00002.gguf", "m")
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(LoadFailed, match="does not exist"):
        gguf_header.read(tmp_path / "m-00001-of-00002.gguf", "m")


def test_it_agrees_with_ggufs_own_writer(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(4096)
    writer.add_block_count(3)
    writer.add_embedding_length(96)
    writer.add_head_count(6)
    writer.add_head_count_kv(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([b"a", b"\xff\xfe", "ä".encode()])
    writer.add_tensor("weight", numpy.zeros((7, 96), dtype=numpy.float16))
    writer.add_tensor("norm", numpy.zeros(96, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = gguf_header.read(path, "m")
    assert header.architecture == "qwen2"
    assert header.parameters == 7 * 96 + 96
    assert header.kv_bytes_per_token() == 3 * 2 * 16 * 2 * 2


@pytest.mark.skipif(not TINY.exists(), reason="the bundled model is not there")
def test_the_bundled_model() -> None:
    header = gguf_header.read(TINY, "heylook-tiny")
    assert header.architecture == "qwen2"
    assert (header.context_length or 0) >= 4096
    assert header.kv_bytes_per_token() > 0
    assert header.chat_template


# ---- wrong files -----------------------------------------------------------------------------------------------------


def changed(change: Callable[[Made], None]) -> bytes:
    made = good()
    change(made)
    return made.bytes_()


def with_pair(*pairs: bytes) -> bytes:
    return changed(lambda made: made.pairs.extend(pairs))


def with_tensor(*tensors: bytes, data: int = 4096) -> bytes:
    def change(made: Made) -> None:
        made.tensors, made.data = list(tensors), bytes(data)

    return changed(change)


def attribute(**values: object) -> bytes:
    made = good()
    for name, value in values.items():
        setattr(made, name, value)
    return made.bytes_()


HUGE = (1 << 64) - 1
BAD = {
    "empty": (b"", "not a GGUF"),
    "four bytes": (b"GGUF", "truncated"),
    "magic": (attribute(magic=b"GGML"), "not a GGUF"),
    "version 0": (attribute(version=0), "version 0"),
    "version 1": (attribute(version=1), "version 1"),
    "version 4": (attribute(version=4), "version 4"),
    "big-endian": (attribute(version=3 << 24), "big-endian"),
    "metadata count": (attribute(n_pairs=HUGE), "metadata entries"),
    "metadata count beyond the file": (attribute(n_pairs=60_000), "truncated"),
    "one metadata entry too many": (attribute(n_pairs=14), ""),
    "tensor count": (attribute(n_tensors=HUGE), "tensors"),
    "tensor count beyond the file": (attribute(n_tensors=60_000), "truncated"),
    "key length": (with_pair(struct.pack("<Q", HUGE)), "key"),
    "key length beyond the bound": (with_pair(pair("k" * 70_000, U32, 1)), "key"),
    "empty key": (with_pair(pair("", U32, 1)), "empty"),
    "duplicate key": (with_pair(pair("general.name", STRING, "again")), "twice"),
    "value type": (with_pair(pair("k", 13, b"\0" * 8)), "type 13"),
    "string length": (with_pair(pair("k", STRING, struct.pack("<Q", HUGE))), "string"),
    "string beyond the file": (with_pair(pair("k", STRING, struct.pack("<Q", 1 << 23))), "truncated"),
    "array length": (with_pair(pair("k", ARRAY, struct.pack("<IQ", U32, HUGE))), "elements"),
    "array length whose bytes overflow": (with_pair(pair("k", ARRAY, struct.pack("<IQ", U64, 1 << 61))), "elements"),
    "array beyond the file": (with_pair(pair("k", ARRAY, struct.pack("<IQ", U32, 1 << 25))), "truncated"),
    "string array beyond the file": (with_pair(pair("k", ARRAY, struct.pack("<IQ", STRING, 1 << 25))), "truncated"),
    "array type": (with_pair(pair("k", ARRAY, struct.pack("<IQ", 99, 1))), "type 99"),
    "array of arrays": (with_pair(pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1))), "type 9"),
    "a long string in a long array": (
        with_pair(pair("k", ARRAY, struct.pack("<IQ", STRING, 1025) + struct.pack("<Q", HUGE) + bytes(9000))),
        "string",
    ),
    "alignment 0": (with_pair(pair("general.alignment", U32, 0)), "alignment"),
    "alignment 3": (with_pair(pair("general.alignment", U32, 3)), "alignment"),
    "alignment 2**31": (with_pair(pair("general.alignment", U32, 1 << 31)), "alignment"),
    "alignment of text": (with_pair(pair("general.alignment", STRING, "32")), "alignment"),
    "no dimensions": (with_tensor(tensor("t", (), 0, 0)), "0 dimensions"),
    "five dimensions": (with_tensor(tensor("t", (1, 1, 1, 1, 1), 0, 0)), "5 dimensions"),
    "a dimension of 0": (with_tensor(tensor("t", (4, 0), 0, 0)), "shape"),
    "a negative dimension": (with_tensor(tensor("t", (HUGE,), 0, 0)), "shape"),
    "dimensions that overflow": (with_tensor(tensor("t", (1 << 32, 1 << 32), 0, 0)), "shape"),
    "more than the file": (with_tensor(tensor("t", (1 << 40,), 0, 0)), "truncated"),
    "tensor type": (with_tensor(tensor("t", (4,), 1 << 20, 0)), "type"),
    "a row that is no multiple of a block": (with_tensor(tensor("t", (33,), 8, 0)), "multiple"),
    "an offset off the alignment": (with_tensor(tensor("t", (4,), 0, 1)), "offset"),
    "a first offset that isn't 0": (with_tensor(tensor("t", (4,), 0, 32)), "offset"),
    "tensors that overlap": (with_tensor(tensor("t", (64,), 0, 0), tensor("u", (4,), 0, 32)), "offset"),
    "an offset beyond the file": (with_tensor(tensor("t", (4,), 200, 0), tensor("u", (4,), 0, 1 << 40)), "truncated"),
    "an offset that overflows": (with_tensor(tensor("t", (4,), 200, 0), tensor("u", (4,), 0, HUGE - 31)), "truncated"),
    "a tensor's name twice": (with_tensor(tensor("t", (8,), 0, 0), tensor("t", (8,), 0, 32)), "twice"),
    "not enough data": (attribute(data=bytes(100)), "truncated"),
    "a page of HTML": (b"<!doctype html>" * 100, "not a GGUF"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    data, words = BAD[name]
    begun = time.monotonic()
    with pytest.raises(LoadFailed) as caught:
        read(data, tmp_path)
    assert time.monotonic() - begun < 1
    assert words in caught.value.message
    assert caught.value.message.startswith("Model 'm' can't be loaded: the file ")
    assert str(tmp_path) not in caught.value.message
    assert len(caught.value.message) < 300


def test_a_folder_a_pipe_and_a_missing_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path, tmp_path / "pipe.gguf", tmp_path / "none.gguf"):
        with pytest.raises(LoadFailed) as caught:
            gguf_header.read(path, "m")
        assert str(tmp_path) not in caught.value.message


def test_200_truncations(tmp_path: Path) -> None:
    whole = good().bytes_()
    cuts = random.Random(1).sample(range(len(whole)), 200)
    for cut in cuts:
        with pytest.raises(LoadFailed):
            read(whole[:cut], tmp_path, f"{cut}.gguf")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutants_raise_nothing_else(data: st.DataObject) -> None:
    made = good()
    del made.pairs[9:11]  # the long arrays; the rest is what reading hinges on
    mutant = bytearray(made.bytes_())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(made.header()) - 1))
        mutant[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    try:
        header = gguf_header.parse(io.BytesIO(mutant), len(mutant))
    except gguf_header._Damaged:
        return
    assert header.kv_bytes_per_token() >= 0
    assert header.parameters >= 0
    assert isinstance(header.digest, str)
    for name in ("quantization", "context_length", "head_count", "key_length", "pooling", "chat_template"):
        getattr(header, name)


@given(st.binary(max_size=300))
def test_noise_behind_the_magic(noise: bytes) -> None:
    data = b"GGUF\3\0\0\0" + noise
    try:
        gguf_header.parse(io.BytesIO(data), len(data))
    except gguf_header._Damaged:
        return


def test_a_header_of_many_empty_strings_is_refused_soon(tmp_path: Path) -> None:
    count = 3 << 20
    data = good()
    data.pairs = [pair("k", ARRAY, struct.pack("<IQ", STRING, count) + bytes(8 * count))]
    begun = time.monotonic()
    with pytest.raises(LoadFailed, match="strings"):
        read(data.bytes_(), tmp_path)
    assert time.monotonic() - begun < 1


def test_long_strings_are_not_kept(tmp_path: Path) -> None:
    made = good()
    made.pairs.append(pair("long", STRING, "x" * (2 << 20)))
    made.pairs.append(pair("many", ARRAY, (F32, [1.0] * 5000)))
    header = read(made.bytes_(), tmp_path)
    assert "long" not in header.metadata
    assert "many" not in header.metadata
    assert header.parameters == 96


def test_a_large_vocabulary_takes_a_fraction_of_a_second(tmp_path: Path) -> None:
    made = good()
    made.pairs[9] = pair("tokenizer.ggml.tokens", ARRAY, (STRING, ["token"] * 250_000))
    begun = time.monotonic()
    read(made.bytes_(), tmp_path)
    assert time.monotonic() - begun < 1


def test_metadata_without_end_takes_little_memory() -> None:
    made = good()
    array = struct.pack("<IQ", 0, 1000) + bytes(1000)
    made.pairs += [pair(f"array {n}" + "x" * 1000, ARRAY, array) for n in range(20_000)]
    data = made.bytes_()
    tracemalloc.start()
    try:
        with pytest.raises(gguf_header._Damaged, match="beyond 16 MiB"):
            gguf_header.parse(io.BytesIO(data), len(data))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
