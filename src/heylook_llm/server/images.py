"""The images of a request: refused by what is known, fetched, decoded, and put where they stand in its prompt.

All of it happens before a lease, so a slow server elsewhere or a large image holds nobody's place.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from heylook_llm import core
from heylook_llm.config import Limits
from heylook_llm.errors import BadRequest, HeylookError
from heylook_llm.helper.pictures import Job, Shape
from heylook_llm.server.decoder import Decoder
from heylook_llm.server.media import MAX_BYTES, Fetcher
from heylook_llm.server.wire.exchange import Asked
from heylook_llm.server.wire.pictures import Picture, Sizing, filled

T = TypeVar("T")


class Images:
    """Reads what requests bring."""

    def __init__(self, fetcher: Fetcher, limits: Limits) -> None:
        self._fetcher = fetcher
        self._limits = limits
        self._decoder = Decoder(limits.image_cache_bytes)

    def check(self, pictures: Sequence[Picture]) -> None:
        """Refuse what can be refused before anything is fetched. Raises BadRequest, UnsupportedFeature."""
        if len(pictures) > (most := self._limits.max_images):
            message = f"{len(pictures)} images are more than this server's limit of {most} (limits.max_images)."
            raise BadRequest(message, param=pictures[most].place)
        for picture in pictures:
            with _At(picture.place):
                _check_size(picture.data)
                if picture.url:
                    self._fetcher.check(picture.url)

    async def read(self, asked: Asked) -> Asked:
        """The question with its images in their places. Raises BadRequest, UnsupportedFeature, Overloaded."""
        if not asked.pictures:
            return asked
        self.check(asked.pictures)
        images = await self._read(asked.pictures, asked.sizing)
        (prompt,) = asked.request.prompts
        assert isinstance(prompt, core.ChatPrompt), "images stand in messages"
        request = msgspec.structs.replace(asked.request, prompts=(filled(prompt, images),))
        return msgspec.structs.replace(asked, request=request, pictures=())

    async def fill(self, prompt: core.ChatPrompt, pictures: Sequence[Picture]) -> core.ChatPrompt:
        """A prompt with its images in their places. Raises as `read` does."""
        self.check(pictures)
        return filled(prompt, await self._read(pictures, Sizing()))

    async def _read(self, pictures: Sequence[Picture], sizing: Sizing) -> list[core.ImagePart]:
        """Each picture's pixels. What is asked for twice is fetched once."""
        urls = {picture.url: picture.place for picture in pictures if picture.url}
        files = dict(zip(urls, await _together([self._fetched(*each) for each in urls.items()]), strict=True))
        return await _together([self._decoded(one, files.get(one.url, one.data), sizing) for one in pictures])

    async def _fetched(self, url: str, place: str) -> bytes:
        with _At(place):
            return await self._fetcher.fetch(self._fetcher.check(url))

    async def _decoded(self, picture: Picture, data: bytes, sizing: Sizing) -> core.ImagePart:
        size = msgspec.structs.asdict(sizing)
        shape = Shape(self._limits.max_image_pixels, **size, within=picture.within)
        with _At(picture.place):
            return await self._decoder.decode(Job(data, shape))


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise BadRequest(f"The image is larger than {MAX_BYTES >> 20} MiB.", code="invalid_image")


class _At:
    """Names the field that holds the image in an error about it. An error may be of several images' at once."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BadRequest) and error.param is None:
            raise type(error)(f"{self._place}: {error.message}", code=error.code, param=self._place) from error


async def _together(work: list[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, or the first error, upon which the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except* HeylookError as several:
        problem: BaseException = several
        while isinstance(problem, BaseExceptionGroup):
            problem = problem.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise problem
