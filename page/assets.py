"""The page's files, and the charts' JavaScript out of the package that brings it."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

__all__ = ["asset_routes"]

_STATIC = Path(__file__).with_name("static")
_YEAR = "public, max-age=31536000, immutable"


def asset_routes() -> list[BaseRoute]:
    """`/`, `/static/plotly.min.js` and `/static/…`."""
    plotly = Path(str(files("plotly") / "package_data" / "plotly.min.js"))
    return [
        Route("/", _index(version("plotly"))),
        Route("/static/plotly.min.js", _forever(plotly)),
        Mount("/static", _Static(directory=_STATIC)),
    ]


def _index(plotly_version: str) -> Callable[[Request], Awaitable[Response]]:
    async def index(_: Request) -> Response:
        # In the file, a version stands where a browser could have an older file at hand.
        text = (_STATIC / "index.html").read_text(encoding="utf-8")
        text = text.replace("__PLOTLY_VERSION__", plotly_version)
        text = text.replace("__PAGE_VERSION__", _version())
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

    return index


def _version() -> str:
    """Changes whenever a file of the page does."""
    digest = hashlib.sha256()
    for path in sorted(_STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _forever(path: Path) -> Callable[[Request], Awaitable[Response]]:
    async def plotly(_: Request) -> Response:
        return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": _YEAR})

    return plotly


class _Static(StaticFiles):
    """Files that a browser asks about before it uses what it has."""

    def file_response(self, *args: object, **named: object) -> Response:
        response = super().file_response(*args, **named)  # type: ignore[arg-type]
        response.headers.setdefault("Cache-Control", "no-cache")
        return response
