"""Routes that are found by their whole path are those that a search in their order comes to."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route

from heylook_llm.server.app import create_app
from heylook_llm.server.literal import PARAMETER, Literal
from tests.server.asgi import call
from tests.server.scripted import ScriptedBackend

pytestmark = pytest.mark.unit


def row(path: str, word: str, method: str) -> Route:
    async def say(request: Request) -> Response:
        return PlainTextResponse(f"{word} {request.path_params}")

    return Route(path, say, methods=[method])


ROUTES = [
    row("/things/{name}", "one", "GET"),
    row("/things/all", "all", "GET"),
    row("/things/all", "make", "POST"),
    row("/plain", "plain", "GET"),
    row("/plain", "second", "GET"),
]


@pytest.mark.parametrize("routes", [ROUTES, [Literal(ROUTES), *ROUTES]], ids=["searched", "found"])
async def test_the_first_route_that_matches_answers(routes: list[Route]) -> None:
    app = Starlette(routes=routes)
    for method, path, said in (
        ("GET", "/things/all", "one {'name': 'all'}"),
        ("POST", "/things/all", "make {}"),
        ("GET", "/things/x", "one {'name': 'x'}"),
        ("GET", "/plain", "plain {}"),
        ("HEAD", "/plain", "plain {}"),
    ):
        answer = await call(app, method, path)
        assert (answer.status, answer.body.decode()) == (200, said), path
    assert (await call(app, "PUT", "/plain")).status == 405
    assert (await call(app, "GET", "/nope")).status == 404


def test_every_route_without_parameters_is_found_at_once() -> None:
    literal, *routes = create_app(ScriptedBackend()).router.routes
    own = [route for route in routes if isinstance(route, Route) and PARAMETER not in route.path]
    own = [route for route in own if route.path != "/openapi.json"]  # it stands behind what others mount
    assert isinstance(literal, Literal)
    assert len(own) > 60
    for method, path in {(method, route.path) for route in own for method in route.methods or ()}:
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        match, found = literal.matches(dict(scope))
        searched = next(told for fits, told in (route.matches(dict(scope)) for route in routes) if fits is Match.FULL)
        assert (match, found) == (Match.FULL, searched), (method, path)
