"""GET /hardware and GET /hardware/live: what the machine is, and what it does now."""

from starlette.requests import Request
from starlette.responses import Response

from heylook_llm.server import machine
from heylook_llm.server.endpoint import Server, json_response


async def describe_hardware(server: Server, request: Request) -> Response:
    """What this machine is made of; what it doesn't tell is null, and `unknown` says why."""
    return json_response(await server.machine.described())


async def read_hardware(server: Server, request: Request) -> Response:
    """What this machine does now: utilisation, memory, temperatures, power, and what the models take."""
    reading = await server.machine.reading()
    return json_response(machine.now(reading, server.backend.models(), server.place.energy.idle_watts))
