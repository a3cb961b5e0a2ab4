"""Images decoded in a process with limits: what comes out, at which size, and what attacks it (S-20 to S-23, F34)."""

import asyncio
import io
import random
import re
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heylook_llm.helper import decode, pictures, process, starting
from heylook_llm.helper.pictures import Job, Pixels, Shape
from tests.picture_files import (
    FAITHFUL,
    FORMATS,
    animation,
    chunk,
    file_of,
    noise,
    pixel_bomb,
    plain,
    png,
    profile_bomb,
    quarters,
    scan_bomb,
    text_bomb,
)
from tests.worker.tiers import LONG

AS_IT_IS = Shape(4 << 20)


async def results(*files: bytes, shape: Shape = AS_IT_IS) -> list[Pixels | int]:
    """What one process answers; where it ends early, the last answer says why."""
    jobs = [Job(data, shape) for data in files]
    try:
        output = await process.run(
            "heylook_llm.helper.decode", pictures.packed(jobs), output_bytes=pictures.most_bytes(jobs)
        )
    except starting.Ended as ended:
        why = pictures.TOO_SLOW if isinstance(ended, starting.Exhausted) else pictures.TOO_MUCH_MEMORY
        return [*pictures.answers(ended.output), why]
    found = pictures.answers(output)
    assert len(found) == len(jobs)
    return found


async def decoded(data: bytes, **shape: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels of one file, rows by columns."""
    (found,) = await results(data, shape=Shape(**{"max_pixels": 4 << 20, **shape}))
    assert isinstance(found, Pixels), pictures.REASONS[found]
    return np.frombuffer(found.rgb, dtype=np.uint8).reshape(found.height, found.width, 3)


async def reason(data: bytes, **shape: Any) -> int:
    """Why a file is refused."""
    found = await results(data, shape=Shape(**{"max_pixels": 4 << 20, **shape}))
    assert len(found) == 1
    assert isinstance(found[0], int)
    return found[0]


# ---- what comes out --------------------------------------------------------------------------------------------------

integration = pytest.mark.integration


@integration
async def test_every_format_gives_the_same_pixels() -> None:
    image = quarters()
    files = [file_of(image, kind, **FAITHFUL.get(kind, {})) for kind in FORMATS]
    for kind, found in zip(FORMATS, await results(*files), strict=True):
        assert isinstance(found, Pixels), kind
        assert (found.width, found.height) == image.size
        off = np.abs(np.frombuffer(found.rgb, np.uint8).astype(int) - np.frombuffer(image.tobytes(), np.uint8))
        assert off.max() <= (40 if kind == "JPEG" else 0), kind


@integration
async def test_every_mode_becomes_rgb() -> None:
    grey = Image.new("L", (8, 8), 77)
    sixteen = Image.fromarray(np.full((8, 8), 77 * 257, dtype=np.uint16))
    palette = Image.new("RGB", (8, 8), (77, 77, 77)).convert("P", palette=Image.Palette.ADAPTIVE)
    files = {
        "L": file_of(grey), "16 bits": file_of(sixteen), "palette": file_of(palette), "grey GIF": file_of(grey, "GIF"),
        "CMYK": file_of(Image.new("CMYK", (8, 8), (178, 178, 178, 0)), "JPEG", quality=100),
    }  # fmt: skip
    for name, found in zip(files, await results(*files.values()), strict=True):
        assert isinstance(found, Pixels), name
        assert set(found.rgb) <= {76, 77, 78}, name
    (found,) = await results(file_of(Image.new("1", (8, 8), 1)))
    assert isinstance(found, Pixels)
    assert set(found.rgb) == {255}


@integration
async def test_transparent_parts_show_white() -> None:
    clear = plain(8, 8, (255, 0, 0, 0))
    half = plain(8, 8, (255, 0, 0, 128))
    gif = Image.new("P", (8, 8), 0)
    gif.putpalette([255, 0, 0, 0, 255, 0])
    files = [clear, half, file_of(gif, "GIF", transparency=0), file_of(Image.new("LA", (8, 8), (0, 0)))]
    found = [np.frombuffer(one.rgb, np.uint8)[:3].tolist() for one in await results(*files) if isinstance(one, Pixels)]
    assert found == [[255, 255, 255], [255, 127, 127], [255, 255, 255], [255, 255, 255]]


@integration
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_an_image_is_turned_as_its_camera_was_held(kind: str) -> None:
    image = quarters(32, 16)
    files = [file_of(_as_stored(image, turn), kind, exif=_exif(turn), **FAITHFUL.get(kind, {})) for turn in range(1, 9)]
    for turn, found in enumerate(await results(*files), 1):
        assert isinstance(found, Pixels)
        assert (found.width, found.height) == (32, 16), turn
        off = np.abs(np.frombuffer(found.rgb, np.uint8).astype(int) - np.asarray(image).reshape(-1))
        assert off.max() <= 60, turn
    for turn, found in enumerate(await results(*files, shape=Shape(4 << 20, width=64)), 1):
        assert isinstance(found, Pixels)
        assert (found.width, found.height) == (64, 32), turn


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _as_stored(image: Image.Image, orientation: int) -> Image.Image:
    """As the camera saw it: turned back by what the reader is to do."""
    turn = decode.UPRIGHT.get(orientation)
    quarter = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    return image if turn is None else image.transpose(quarter.get(turn, turn))


@integration
async def test_damaged_exif_is_no_reason_to_refuse() -> None:
    assert (await decoded(plain(kind="JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"))).shape == (8, 12, 3)
    assert (await decoded(plain(kind="JPEG", exif=_exif(99)))).shape == (8, 12, 3)


@integration
async def test_of_an_animation_the_first_frame_is_taken() -> None:
    for kind in ("GIF", "PNG"):
        first = np.asarray(Image.open(io.BytesIO(animation(kind, 3))).convert("RGB"))
        assert np.array_equal(await decoded(animation(kind, 3)), first)
    assert (await decoded(animation("WEBP", 3))).shape == (8, 8, 3)


@integration
async def test_what_phones_write_behind_a_jpeg_is_no_hindrance() -> None:
    several = file_of(quarters(), "MPO", save_all=True, append_images=[quarters()])
    assert (await decoded(several)).shape == (8, 16, 3)


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ({}, (400, 200)),
        ({"width": 30, "height": 50}, (30, 50)),
        ({"width": 100}, (100, 50)),
        ({"width": 800}, (800, 400)),
        ({"height": 100}, (200, 100)),
        ({"longest": 100}, (100, 50)),
        ({"longest": 1000}, (400, 200)),
        ({"longest": 100, "width": 300}, (300, 150)),
        ({"within": 100}, (100, 50)),
        ({"within": 100, "width": 300}, (100, 50)),
        ({"max_pixels": 20_000}, (200, 100)),
    ],
)
def test_the_size_that_is_asked_for(shape: dict[str, int], size: tuple[int, int]) -> None:
    assert decode.target(400, 200, Shape(**{"max_pixels": 1 << 20, **shape})) == size


SIDES = st.integers(400, 20_000)


@pytest.mark.unit
@given(SIDES, SIDES, st.integers(1 << 16, 1 << 22), st.none() | SIDES, st.none() | SIDES)
def test_no_size_exceeds_its_limits(
    width: int, height: int, most: int, longest: int | None, within: int | None
) -> None:
    found = decode.target(width, height, Shape(most, longest=longest, within=within))
    assert found[0] * found[1] <= most
    assert max(found) <= min(longest or 20_000, within or 20_000)
    assert min(found) >= 2
    assert found <= (width, height)
    assert abs(found[0] / found[1] / (width / height) - 1) < 0.1


@integration
async def test_large_images_are_made_smaller_and_asked_sizes_are_refused() -> None:
    large = file_of(noise(1200, 600), "JPEG")
    assert (await decoded(large, max_pixels=20_000)).shape == (100, 200, 3)
    assert (await decoded(large, width=60, height=50)).shape == (50, 60, 3)
    assert (await decoded(plain(4, 4), width=9)).shape == (9, 9, 3)
    assert await reason(large, width=3000, height=3000) == pictures.TOO_LARGE_ASKED
    assert await reason(large, height=2000) == pictures.TOO_LARGE_ASKED
    assert await reason(large, width=1, height=10) == pictures.TOO_NARROW


@integration
async def test_resizing_takes_means() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    for kind in ("PNG", "WEBP"):
        pixels = await decoded(file_of(Image.fromarray(stripes), kind), width=16)
        assert 120 < pixels.mean() < 136
        assert pixels[4:12, 4:12].std() < 20


# ---- attacks ---------------------------------------------------------------------------------------------------------

SIZES = [(0, 0), (0, 5), (1, 1), (1, 50), (50, 1), (2, 2), (2, 401), (8193, 1), (8193, 41), (16, 16)]


@integration
async def test_every_size_is_taken_or_refused() -> None:
    files = [png(width, height) for width, height in SIZES]
    for width, height in SIZES:
        if width and height:
            files += [plain(width, height, kind=kind) for kind in FORMATS]
    for found in await results(*files):
        if isinstance(found, Pixels):
            assert min(found.width, found.height) >= 2
        else:
            assert found in (pictures.UNREADABLE, pictures.TOO_NARROW)


DISGUISED = {
    "TIFF": file_of(quarters(), "TIFF"), "ICO": file_of(quarters(), "ICO"), "PPM": file_of(quarters(), "PPM"),
    "TGA": file_of(quarters(), "TGA"), "PCX": file_of(quarters(), "PCX"), "ICNS": file_of(quarters(), "ICNS"),
    "EPS": file_of(quarters(), "EPS"), "PDF": file_of(quarters(), "PDF"), "SGI": file_of(quarters(), "SGI"),
    "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(64), "PSD": b"8BPS\x00\x01" + bytes(64),
    "FITS": b"SIMPLE  =                    T" + b" " * 2850, "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "AVIF": b"\x00\x00\x00\x20ftypavif" + bytes(64), "HEIC": b"\x00\x00\x00\x20ftypheic" + bytes(64),
    "MP4": b"\x00\x00\x00\x20ftypisom" + bytes(64), "HTML": b"<html>", "nothing": b"", "a byte": b"\x89",
    "DDS": b"DDS " + bytes(128), "WMF": b"\xd7\xcd\xc6\x9a" + bytes(64), "a header": b"\x89PNG\r\n\x1a\n",
}  # fmt: skip


@integration
async def test_other_formats_are_not_even_tried() -> None:
    found = await results(*DISGUISED.values())
    assert dict(zip(DISGUISED, found, strict=True)) == dict.fromkeys(DISGUISED, pictures.UNREADABLE)


@integration
async def test_bombs_are_refused_by_their_headers() -> None:
    huge = plain(20, 20, kind="BMP")
    lying = huge[:18] + struct.pack("<ii", 60_000, 60_000) + huge[26:]
    bombs = {
        "pixels": (pixel_bomb(), pictures.TOO_LARGE), "a header that lies": (lying, pictures.TOO_LARGE),
        "text": (text_bomb(), pictures.UNREADABLE), "profile": (profile_bomb(), pictures.UNREADABLE),
        "GIF frames": (animation("GIF", 1200), pictures.TOO_MANY_FRAMES),
        "PNG frames": (animation("PNG", 1200), pictures.TOO_MANY_FRAMES),
        "WebP frames": (animation("WEBP", 1200), pictures.TOO_MANY_FRAMES),
    }  # fmt: skip
    found = await results(*(data for data, _ in bombs.values()))
    assert dict(zip(bombs, found, strict=True)) == {name: expected for name, (_, expected) in bombs.items()}


@integration
async def test_bombs_behind_the_pixels_end_nothing() -> None:
    whole = png(4, 4)
    packed = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(80 << 20), 1))
    many = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(1 << 20), 1)) * 100
    plainly, *bombs = await results(*(whole[:-12] + more + whole[-12:] for more in (b"", packed, many)))
    assert isinstance(plainly, Pixels)
    assert all(found in (plainly, pictures.UNREADABLE) for found in bombs)


@integration
async def test_whoever_takes_too_long_ends_alone() -> None:
    first, second = await results(plain(), scan_bomb(), plain())
    assert isinstance(first, Pixels)
    assert second == pictures.TOO_SLOW


@integration
def test_nothing_can_be_opened_where_images_are_decoded() -> None:
    # The same limit as the process sets, on the same interpreter: neither a file nor a socket.
    script = (
        "import resource, socket, sys; from heylook_llm.helper import decode; decode.seal()\n"
        "for opening in (lambda: open('/etc/hostname'), socket.socket):\n"
        "    try: opening(); print('opened')\n"
        "    except OSError: print('refused')\n"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == ["refused", "refused"]


@integration
@pytest.mark.parametrize("kind", FORMATS)
async def test_damaged_files_end_nothing_but_themselves(kind: str) -> None:
    """Bytes changed, cut, doubled: each answer is pixels or one of the reasons."""
    whole = file_of(noise(24, 24), kind)
    chance = random.Random(kind)
    files = [_damaged(whole, chance) for _ in range(5000 if LONG else 150)]
    answered = 0
    while answered < len(files):
        found = await results(*files[answered:])
        assert all(isinstance(one, Pixels) or one in pictures.REASONS for one in found)
        answered += len(found)


def _damaged(whole: bytes, chance: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.choice((1, 2, 5, 20))):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at : at + 4] = struct.pack(">I", chance.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
            case 2:
                del data[at : at + chance.randrange(64)]
            case 3:
                data[at:at] = data[chance.randrange(len(data)) :][: chance.randrange(64)]
        if not data:
            return b""
    return bytes(data)


# ---- what the two ends say to each other -----------------------------------------------------------------------------


@pytest.mark.unit
def test_no_reason_tells_of_the_decoder() -> None:
    for text in pictures.REASONS.values():
        assert not re.search(r"0x[0-9a-f]{6,}|/|Traceback|PIL|Pillow", text)


@pytest.mark.unit
@given(
    st.lists(st.one_of(st.sampled_from(sorted(pictures.REASONS)), st.tuples(st.integers(1, 5), st.integers(1, 5)))),
    st.data(),
)
def test_answers_come_back_as_they_were(told: list[Any], data: st.DataObject) -> None:
    made = [one if isinstance(one, int) else Pixels(one[0], one[1], bytes(3 * one[0] * one[1])) for one in told]
    output = b"".join(map(pictures.answer, made))
    assert pictures.answers(output) == made
    cut = data.draw(st.integers(0, len(output)))
    assert pictures.answers(output[:cut]) == made[: len(pictures.answers(output[:cut]))]


@pytest.mark.unit
@given(st.binary(max_size=100))
def test_what_is_no_answer_is_none(output: bytes) -> None:
    for one in pictures.answers(output):
        assert one in pictures.REASONS if isinstance(one, int) else len(one.rgb) == 3 * one.width * one.height > 0


@pytest.mark.unit
@given(
    st.lists(st.builds(Job, st.binary(max_size=50), st.builds(Shape, st.integers(1, 9), st.none() | st.integers(1, 9))))
)
def test_jobs_come_over_as_they_were(jobs: list[Job]) -> None:
    assert list(pictures.jobs(io.BytesIO(pictures.packed(jobs)))) == jobs


@integration
async def test_a_process_that_writes_too_much_is_ended() -> None:
    with pytest.raises(starting.Broken):
        await process.run("heylook_llm.helper.decode", pictures.packed([Job(plain(), AS_IT_IS)]), output_bytes=100)


@integration
async def test_whoever_stops_waiting_ends_the_process() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await process.run("heylook_llm.helper.decode", pictures.packed([Job(scan_bomb(), AS_IT_IS)]))
