"""Finds the route of a path without parameters at once: a request needn't try all routes that stand before its own."""

from collections.abc import Sequence
from typing import Final, NoReturn

from starlette.routing import BaseRoute, Match, NoMatchFound, Route
from starlette.types import Receive, Scope, Send

PARAMETER: Final = "{"
"""What a path that stands for many holds."""


class Literal(BaseRoute):
    """Stands before the routes of an app; what it doesn't find is for them."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._found: dict[tuple[str, str], Route] = {}
        general: list[Route] = []
        for route in routes:
            if not isinstance(route, Route):
                continue
            if PARAMETER in route.path:
                general.append(route)
                continue
            for method in route.methods or ():
                self._found.setdefault((method, route.path), _first([*general, route], method, route.path))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the route that it finds."""
        route = self._of(scope)
        return (Match.NONE, {}) if route is None else route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let that route answer."""
        route = self._of(scope)
        assert route is not None, "it matched"
        await route.handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> NoReturn:
        """It has no path of its own."""
        raise NoMatchFound(name, path_params)

    def _of(self, scope: Scope) -> Route | None:
        return self._found.get((scope["method"], scope["path"])) if scope["type"] == "http" else None


def _first(routes: Sequence[Route], method: str, path: str) -> Route:
    """The route that a search in their order comes to."""
    return next(route for route in routes if method in (route.methods or ()) and route.path_regex.match(path))
