"""Packed bodies: what comes out, and where it ends."""

import contextlib
import gzip
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heylook_llm.errors import BadRequest, TooLarge, UnsupportedEncoding
from heylook_llm.server import packed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.unit
LIMIT = 32 << 20
Pack = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


PACKS: dict[str, tuple[str, Pack]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
    "zstd": ("zstd", zstd.compress),
}
every = pytest.mark.parametrize(("coding", "pack"), PACKS.values(), ids=PACKS)


def unpacked(coding: str, data: bytes, pieces: int = 1, limit: int = LIMIT) -> bytes:
    made = packed.unpacker([coding], limit)
    assert made is not None
    step = max(1, -(-len(data) // pieces))
    found = b"".join(made.feed(data[at : at + step]) for at in range(0, len(data), step))
    made.end()
    return found


@every
@given(data=st.binary(max_size=5000), pieces=st.integers(1, 6000))
@settings(max_examples=60, deadline=None)
def test_what_was_packed_comes_out_however_it_arrives(coding: str, pack: Pack, data: bytes, pieces: int) -> None:
    assert unpacked(coding, pack(data), pieces) == data


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_several_members_are_one_body(name: str) -> None:
    coding, pack = PACKS[name]
    data = pack(b"one, ") + pack(b"") + pack(b"two" * 100_000)
    for pieces in (1, 7, len(data)):
        assert unpacked(coding, data, pieces) == b"one, " + b"two" * 100_000


def test_long_repetitions_within_the_bounds_pass() -> None:
    for coding, pack in PACKS.values():
        assert unpacked(coding, pack(b" " * packed.FREE_BYTES)) == b" " * packed.FREE_BYTES


@every
def test_a_bomb_ends_at_the_ratio_before_it_is_large(coding: str, pack: Pack) -> None:
    """S-41's kind: 1:1000 and worse."""
    bomb = pack(bytes(30 << 20))
    made = packed.unpacker([coding], LIMIT)
    assert made is not None
    with pytest.raises(TooLarge, match="200 times"):
        made.feed(bomb)
    assert made._given <= packed.FREE_BYTES + packed.MOST_RATIO * len(bomb) + packed.PIECE_BYTES


@every
def test_a_body_beyond_the_limit_ends_there(coding: str, pack: Pack) -> None:
    data = pack(bytes(range(256)) * 100)
    assert len(unpacked(coding, data, limit=25_600)) == 25_600
    with pytest.raises(TooLarge, match=r"25599 bytes \(limits.max_body_bytes\)"):
        unpacked(coding, data, limit=25_599)


@every
@given(cut=st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_a_body_cut_short_is_told(coding: str, pack: Pack, cut: float) -> None:
    data = pack(b"some text that is packed")
    with pytest.raises(BadRequest, match=r"ends too early|is damaged"):
        unpacked(coding, data[: max(1, int(len(data) * cut))])


@every
@given(noise=st.binary(min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_noise_is_refused_or_unpacked_and_nothing_else(coding: str, pack: Pack, noise: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert len(unpacked(coding, noise)) <= packed.FREE_BYTES + packed.MOST_RATIO * len(noise)
    with pytest.raises(BadRequest):
        unpacked(coding, pack(b"text") + b"!" + noise)


def test_endless_empty_members_are_refused() -> None:
    for coding, pack in (PACKS["gzip"], PACKS["zstd"]):
        assert unpacked(coding, pack(b"") * packed.MOST_MEMBERS) == b""
        with pytest.raises(BadRequest, match="packed pieces"):
            unpacked(coding, pack(b"") * (packed.MOST_MEMBERS + 1))


def test_a_frame_that_asks_for_much_memory_is_refused() -> None:
    wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: packed.ZSTD_WINDOW_LOG + 1})
    data = wide.compress(b"a", zstd.ZstdCompressor.FLUSH_BLOCK) + wide.flush()
    with pytest.raises(BadRequest, match="is damaged"):
        unpacked("zstd", data)


@pytest.mark.parametrize(("given_", "plain"), [([], True), (["identity"], True), ([""], True), (["GZip "], False)])
def test_names_of_codings(given_: list[str], plain: bool) -> None:
    assert (packed.unpacker(given_, LIMIT) is None) is plain


@pytest.mark.parametrize("given_", [["br"], ["deflate, gzip"], ["gzip", "gzip"], ["gzip\x00é"], ["x" * 5000]])
def test_other_codings_are_refused_in_a_short_line(given_: list[str]) -> None:
    with pytest.raises(UnsupportedEncoding, match="gzip, deflate or zstd") as error:
        packed.unpacker(given_, LIMIT)
    assert error.value.message.isascii()
    assert len(error.value.message) < 250
