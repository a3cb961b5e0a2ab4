"""The files of images to pixels, in processes with limits: many in one run, each only once, the last ones kept.

A conversation comes back with all its images at each turn, so what was decoded lately needs no process. What waits
while others are decoded goes into the next process together.
"""

import asyncio
import hashlib
from collections import OrderedDict
from typing import Final

from heylook_llm import core
from heylook_llm.errors import BadRequest, HeylookError, Overloaded
from heylook_llm.helper import pictures, process, starting
from heylook_llm.helper.pictures import Job, Pixels
from heylook_llm.server.offloop import off_loop

MODULE: Final = "heylook_llm.helper.decode"
PROCESSES: Final = 2
"""At a time: a flood of images waits for itself, not for the streams."""
MAX_WAITING: Final = 512
"""Images; of more, a request is told to come again."""
BATCH_IMAGES: Final = 16
BATCH_BYTES: Final = 8 << 20
"""Of files that go into one process: large ones are better spread over two."""


class _Open:
    """An image that is waited for."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.pixels: asyncio.Future[core.ImagePart] = asyncio.get_running_loop().create_future()
        self.waiters = 0


class Decoder:
    """Decodes what requests bring."""

    def __init__(self, kept_bytes: int) -> None:
        """`kept_bytes`: how much of what was decoded is kept."""
        self._most_kept = kept_bytes
        self._kept: OrderedDict[bytes, core.ImagePart] = OrderedDict()
        self._kept_bytes = 0
        self._open: dict[bytes, _Open] = {}
        self._waiting: OrderedDict[bytes, _Open] = OrderedDict()
        self._runs: set[asyncio.Task[None]] = set()

    async def decode(self, job: Job) -> core.ImagePart:
        """The pixels of a file. Raises BadRequest with one of a few texts, Overloaded."""
        key = await off_loop(len(job.data), _key, job)
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        image = self._open.get(key)
        if image is None:
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded("Too many images are waiting to be decoded; try again later.")
            image = self._open[key] = self._waiting[key] = _Open(job)
            self._start()
        image.waiters += 1
        try:
            return await asyncio.shield(image.pixels)  # others may wait for it too
        finally:
            image.waiters -= 1
            if not image.waiters and self._waiting.pop(key, None) is not None:
                self._open.pop(key, None)

    # ---- processes ----

    def _start(self) -> None:
        """As many processes as may run, each with what waits."""
        while self._waiting and len(self._runs) < PROCESSES:
            task = asyncio.create_task(self._run(self._batch()))
            self._runs.add(task)
            task.add_done_callback(self._ran)

    def _ran(self, task: "asyncio.Task[None]") -> None:
        self._runs.discard(task)
        self._start()

    def _batch(self) -> dict[bytes, _Open]:
        batch: dict[bytes, _Open] = {}
        size = 0
        while self._waiting and len(batch) < BATCH_IMAGES:
            key, image = next(iter(self._waiting.items()))
            size += len(image.job.data)
            if batch and size > BATCH_BYTES:
                break
            batch[key] = self._waiting.pop(key)
        return batch

    async def _run(self, batch: dict[bytes, _Open]) -> None:
        """Decode a batch. Where one of it ends the process, those behind it wait for the next."""
        jobs = [image.job for image in batch.values()]
        reason: int = pictures.UNREADABLE
        try:
            output = await process.run(
                MODULE, await off_loop(BATCH_BYTES, pictures.packed, jobs), output_bytes=pictures.most_bytes(jobs)
            )
        except starting.Ended as ended:
            output = ended.output
            reason = pictures.TOO_SLOW if isinstance(ended, starting.Exhausted) else pictures.TOO_MUCH_MEMORY
        except (HeylookError, OSError) as error:
            for key in batch:
                self._fail(key, error)
            return
        answers = (await off_loop(len(output), pictures.answers, output))[: len(jobs)]
        if len(answers) < len(jobs):
            answers.append(reason)
        for key, answer in zip(batch, answers, strict=False):
            self._settle(key, answer)
        self._again(dict(list(batch.items())[len(answers) :]))

    def _again(self, left: dict[bytes, _Open]) -> None:
        """What wasn't come to waits again, before all others; what nobody waits for any more is forgotten."""
        for key, image in left.items():
            if not image.waiters:
                del self._open[key]
        self._waiting = OrderedDict({key: image for key, image in left.items() if image.waiters} | self._waiting)

    def _settle(self, key: bytes, answer: Pixels | int) -> None:
        if isinstance(answer, int):
            message = f"The image can't be read: {pictures.REASONS[answer]}."
            self._fail(key, BadRequest(message, code="invalid_image"))
            return
        part = core.ImagePart(answer.rgb, answer.width, answer.height)
        self._open.pop(key).pixels.set_result(part)
        self._keep(key, part)

    def _fail(self, key: bytes, error: Exception) -> None:
        pixels = self._open.pop(key).pixels
        pixels.set_exception(error)
        pixels.exception()  # whoever waited may have left

    def _keep(self, key: bytes, part: core.ImagePart) -> None:
        self._kept[key] = part
        self._kept_bytes += len(part.rgb)
        while self._kept_bytes > self._most_kept:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.rgb)


def _key(job: Job) -> bytes:
    return hashlib.sha256(pictures.packed([job])).digest()
