"""The pages that need no model: the root, and the API's documentation, which works offline."""

import functools
import re
from typing import Final

from openapi_ui_bundles import redoc, swagger_ui
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response

from heylook_llm.errors import NotFound
from heylook_llm.server.endpoint import Server

_CACHED: Final = {"cache-control": "public, max-age=86400"}
_SWAGGER_START: Final = """window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  });
};
"""
_FILES: Final = {
    "swagger-ui-bundle.js": (swagger_ui.static_path / "swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": (swagger_ui.static_path / "swagger-ui.css", "text/css"),
    "favicon-32x32.png": (swagger_ui.static_path / "favicon-32x32.png", "image/png"),
    "logo-mini.svg": (redoc.static_path / "logo-mini.svg", "image/svg+xml"),
}
_QUALITY: Final = re.compile(r"[01](\.\d{0,3})?")
_FOREIGN_LOGO: Final = "https://cdn.redoc.ly/redoc/logo-mini.svg"


def _page(title: str, head: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/docs/assets/favicon-32x32.png">{head}</head><body>{body}</body></html>'
    )


_SWAGGER: Final = _page(
    "heylookllm API",
    '<link rel="stylesheet" href="/docs/assets/swagger-ui.css">',
    '<div id="swagger-ui"></div><script src="/docs/assets/swagger-ui-bundle.js"></script>'
    '<script src="/docs/assets/start.js"></script>',
)
_REDOC: Final = _page(
    "heylookllm API",
    "<style>body{margin:0}</style>",
    '<redoc spec-url="/openapi.json"></redoc><script src="/docs/assets/redoc.standalone.js"></script>',
)


async def root(server: Server, request: Request) -> Response:
    """`Ollama is running` to Ollama's clients; a browser is sent to the web pages."""
    vary = {"vary": "Accept"}
    if _prefers_html(request.headers.get("accept", "")):
        return RedirectResponse("/ui", 307, vary)
    name = "heylookllm" if server.options.api == "openai" else "Ollama"
    return PlainTextResponse(f"{name} is running", headers=vary)


def _prefers_html(accepted: str) -> bool:
    """Whether `Accept` names HTML, and nothing above it."""
    qualities: dict[str, float] = {}
    for one in accepted.lower().split(","):
        name, *parameters = (part.strip() for part in one.split(";"))
        given = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        qualities[name] = float(given) if _QUALITY.fullmatch(given) else 0.0
    wanted = qualities.get("text/html", 0.0)
    return wanted > 0 and wanted >= max(qualities.values())


async def swagger(server: Server, request: Request) -> Response:
    """The API in Swagger UI."""
    return HTMLResponse(_SWAGGER)


async def read_docs(server: Server, request: Request) -> Response:
    """The API in ReDoc."""
    return HTMLResponse(_REDOC)


async def docs_asset(server: Server, request: Request) -> Response:
    """A file of the documentation's pages."""
    name = request.path_params["name"]
    if name == "start.js":
        return Response(_SWAGGER_START, media_type="text/javascript")
    if name == "redoc.standalone.js":
        return Response(_redoc_script(), media_type="text/javascript", headers=_CACHED)
    if name not in _FILES:
        raise NotFound(f"There is no file '{name[:64]}' here.")
    path, media_type = _FILES[name]
    return FileResponse(path, media_type=media_type, headers=_CACHED)


@functools.cache
def _redoc_script() -> str:
    """ReDoc's script with the logo that lies beside it, not the one on its maker's network."""
    script = (redoc.static_path / "redoc.standalone.js").read_text(encoding="utf-8")
    return script.replace(_FOREIGN_LOGO, "/docs/assets/logo-mini.svg")
