"""The routes that answer several chats in one call, each of them sent to the chat route as its own client would."""

import asyncio
import json
import time

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.server.endpoint import Server, json_response, understood
from heylook_llm.server.generate import while_connected
from heylook_llm.server.inward import Inward
from heylook_llm.server.performance.record import LABELS
from heylook_llm.server.wire import jsontext, openai_groups
from heylook_llm.server.wire.exchange import ignored_header
from heylook_llm.server.wire.openai_groups import Answer, Groups

_ROUTE = "/v1/chat/completions"


async def create_chat_completion_batch(server: Server, request: Request) -> Response:
    """Answer a list of chats together; each answer, or its error, stands in its place."""
    return await answered(server, request, await understood(server, request, openai_groups.parse_batch))


async def answered(server: Server, request: Request, groups: Groups) -> Response:
    """The response to several chats. Leaving cancels those that aren't answered yet."""
    labels = [(name, value) for name, value in request.headers.raw if name in LABELS]
    start = time.monotonic()
    answers = await while_connected(request.receive, _answers(server.inward, groups, labels))
    headers = dict(ignored_header(groups.asked.ignored))
    if not any(answer.well for answer in answers):  # what went wrong is the same for all of them, most likely
        response = json_response(answers[0].body, answers[0].status)
    else:
        response = json_response(groups.reply(answers, time.monotonic() - start))
    response.headers.update(headers)
    return response


async def _answers(inward: Inward, groups: Groups, labels: list[tuple[bytes, bytes]]) -> list[Answer]:
    """One after the other, or so many at a time, in the order of the chats."""
    if groups.together == 1:
        answers: list[Answer] = []
        for at in range(len(groups.bodies)):
            answers.append(await _answer(inward, groups.next(at, answers), labels))
        return answers
    places = asyncio.Semaphore(groups.together)

    async def answer(at: int) -> Answer:
        async with places:
            return await _answer(inward, groups.next(at, []), labels)

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(answer(at)) for at in range(len(groups.bodies))]
    return [task.result() for task in asked]


async def _answer(inward: Inward, body: dict[str, object], labels: list[tuple[bytes, bytes]]) -> Answer:
    told = await inward.post(_ROUTE, jsontext.encode(body), headers=labels)
    return Answer(told.status, json.loads(told.body))
