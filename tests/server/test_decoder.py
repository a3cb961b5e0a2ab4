"""The decoder: many images in one process, each once, the last ones kept, and one that breaks takes none along."""

import asyncio
import io

import pytest

from heylook_llm import core
from heylook_llm.errors import BadRequest, Overloaded
from heylook_llm.helper import pictures, process
from heylook_llm.helper.pictures import Job, Shape
from heylook_llm.server.decoder import BATCH_IMAGES, MAX_WAITING, PROCESSES, Decoder
from tests.picture_files import file_of, noise, plain, quarters, scan_bomb

pytestmark = pytest.mark.integration

SHAPE = Shape(1 << 20)
KEPT = 1 << 20


class Counted(list[int]):
    """How many images each process gets that is started from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()
        self._run = process.run
        monkeypatch.setattr(process, "run", self.counting)

    async def counting(self, module: str, data: bytes, *, output_bytes: int) -> bytes:
        """Start one more, once it is let go."""
        self.append(len(list(pictures.jobs(io.BytesIO(data)))))
        self.begun.set()
        await self.let_go.wait()
        return await self._run(module, data, output_bytes=output_bytes)


def images(count: int) -> list[Job]:
    """So many different ones."""
    return [Job(plain(8, 8, (at, 0, 0)), SHAPE) for at in range(count)]


async def test_pixels_come_out() -> None:
    found = await Decoder(KEPT).decode(Job(file_of(quarters()), SHAPE))
    assert found == core.ImagePart(quarters().tobytes(), 16, 8)


async def test_what_waits_goes_into_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    decoder = Decoder(KEPT)
    found = await asyncio.gather(*(decoder.decode(job) for job in images(20)))
    assert [one.rgb[0] for one in found] == list(range(20))
    assert sum(counted) == 20
    assert len(counted) <= 4
    assert max(counted) <= BATCH_IMAGES


async def test_large_files_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    counted.let_go.clear()
    decoder = Decoder(KEPT)
    first = [asyncio.create_task(decoder.decode(job)) for job in images(2)]
    large = [Job(file_of(noise(1300, 1300, at), "BMP"), SHAPE) for at in range(3)]
    await counted.begun.wait()
    others = [asyncio.create_task(decoder.decode(job)) for job in large]
    counted.let_go.set()
    await asyncio.gather(*first, *others)
    assert max(counted[1:]) <= 2


async def test_each_image_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    decoder = Decoder(KEPT)
    job = Job(plain(), SHAPE)
    first, *others = await asyncio.gather(*(decoder.decode(job) for _ in range(5)))
    assert all(other is first for other in others)
    assert await decoder.decode(Job(plain(), Shape(1 << 20))) is first
    assert counted == [1]
    await decoder.decode(Job(plain(), Shape(1 << 20, width=6)))
    assert counted == [1, 1]


async def test_only_so_many_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    decoder = Decoder(3 * 8 * 8 * 2)
    one, two, three = images(3)
    for job in (one, two, one, three, one, two):
        await decoder.decode(job)
    assert counted == [1, 1, 1, 1]  # two had to go for three: one was used since
    never = Decoder(0)
    for _ in range(2):
        await never.decode(one)
    assert len(counted) == 6


async def test_one_that_is_wrong_or_too_slow_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    counted.let_go.clear()
    decoder = Decoder(KEPT)
    files = [plain(8, 8, (1, 0, 0)), b"no image", scan_bomb(), plain(8, 8, (2, 0, 0)), plain(8, 8, (3, 0, 0))]
    tasks = [asyncio.create_task(decoder.decode(Job(data, SHAPE))) for data in files]
    await counted.begun.wait()
    counted.let_go.set()
    first, wrong, slow, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, core.ImagePart)
    for error, reason in ((wrong, pictures.UNREADABLE), (slow, pictures.TOO_SLOW)):
        assert isinstance(error, BadRequest)
        assert pictures.REASONS[reason] in error.message
    assert all(isinstance(other, core.ImagePart) for other in others)


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    counted.let_go.clear()
    decoder = Decoder(KEPT)
    jobs = [Job(at.to_bytes(4), SHAPE) for at in range(MAX_WAITING + 3 * BATCH_IMAGES)]
    tasks = [asyncio.create_task(decoder.decode(job)) for job in jobs]
    await counted.begun.wait()
    for _ in range(3):
        await asyncio.sleep(0)  # they come to wait
    told = [task.exception() for task in tasks if task.done()]
    assert told
    assert all(isinstance(error, Overloaded) for error in told)
    for task in tasks[PROCESSES:]:  # the first ones are being decoded
        task.cancel()
    counted.let_go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, BadRequest) for error in found[:PROCESSES])
    assert len(counted) == PROCESSES


async def test_whoever_leaves_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    counted.let_go.clear()
    decoder = Decoder(KEPT)
    running = [asyncio.create_task(decoder.decode(job)) for job in images(4)[:2]]
    await counted.begun.wait()
    waiting = [asyncio.create_task(decoder.decode(job)) for job in images(4)]
    for _ in range(3):
        await asyncio.sleep(0)  # they come to wait
    running[0].cancel()
    waiting[3].cancel()
    counted.let_go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [one.rgb[0] for one in found if isinstance(one, core.ImagePart)] == [0, 1, 2]
    assert isinstance(found[3], asyncio.CancelledError)
    assert sum(counted) == 3
