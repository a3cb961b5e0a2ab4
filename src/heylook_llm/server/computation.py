"""The path of a request that one operation answers: acquire, ask, reply; cancelled when the client leaves."""

import time
from collections.abc import Callable

import msgspec
from starlette.requests import Request

from heylook_llm import core
from heylook_llm.server.endpoint import Server, understood
from heylook_llm.server.generate import SERVER_TIMING, Answering, Place
from heylook_llm.server.offloop import off_loop
from heylook_llm.server.performance.phases import server_timing
from heylook_llm.server.wire.exchange import Arrival, Headers, Inquiry, ignored_header, truncation_headers

BYTES_PER_DOCUMENT = 64
"""About what a result is as text, beside its document."""


class Computation(Answering):
    """Asks for vectors or scores. Leaving it cancels the call, and the engine stops at its next pass."""

    def __init__(self, inquiry: Inquiry, route: str, place: Place, headers: Headers = ()) -> None:
        super().__init__(inquiry, route, place, headers)
        self._inquiry = inquiry

    async def _answer(self) -> None:
        async with self._leased() as lease:
            operation = self._inquiry.operation(lease.info)
            self._entry.state = "prefill"
            self._stamps["submitted_ns"] = time.monotonic_ns()
            answer = await lease.call(operation)
        assert isinstance(answer, core.Vectors | core.Scores)
        self._timeline = self._stamped(answer.timeline)
        self._usages[0] = core.Usage(prompt_tokens=sum(answer.prompt_tokens))
        reply = await off_loop(_size(answer), self._inquiry.reply, answer, self._timeline)
        self._entry.ended()
        self._entry.state = "replying"
        self._stamps.setdefault("first_byte_ns", time.monotonic_ns())
        cut = truncation_headers(answer.timeline.dropped_tokens)
        timing = (SERVER_TIMING, server_timing(self._stamped(self._timeline)))
        await self._reply(msgspec.structs.replace(reply, headers=(*reply.headers, *cut, timing)))


def _size(answer: core.Vectors | core.Scores) -> int:
    if isinstance(answer, core.Scores):
        return BYTES_PER_DOCUMENT * len(answer.scores)
    return sum(map(len, answer.vectors))


async def computation(
    server: Server, request: Request, parse: Callable[[bytes, Arrival], Inquiry], route: str
) -> Computation:
    """The response of a route that asks for vectors or scores."""
    inquiry = await understood(server, request, parse)
    return Computation(inquiry, route, server.place, ignored_header(inquiry.asked.ignored))
