"""The page's application: what is served where, and what runs beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dataflows.process import kafka_config
from page.allowed_hosts import AllowedHosts
from page.api import api_routes
from page.assets import asset_routes
from page.database import database_url
from page.health import Health
from page.history import History
from page.hub import Hub
from page.kafka_reader import KafkaReader
from page.kinds import HEALTH, Kind, kinds
from page.memory import Memory
from page.postgres_reader import PostgresReader
from page.refusals import RefusedError, on_http_error, on_refused
from page.settings import PageSettings
from page.stream import stream

__all__ = ["make_app"]

_FIRST_ROWS_S = 5.0
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def make_app(settings: PageSettings) -> Starlette:
    """The application, from checked settings; its readers run while it is served."""
    shown = kinds(settings.statistics_window)
    depth = {name: kind.depth or settings.page_history for name, kind in shown.items()}
    hub = Hub(
        Memory({**depth, HEALTH: 1}),
        most_clients=settings.page_clients,
        most_rows=settings.page_queue_rows,
    )
    health = Health(settings.metrics_sources, hub)
    history = History(lambda: database_url(settings))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        reader = _reader(settings, shown, hub, depth, health)
        tasks = [asyncio.create_task(one.run()) for one in (reader, health)]
        # Let the first snapshot have something in it; but a page without data is a page too.
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.ready.wait(), _FIRST_ROWS_S)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await history.close()

    app = Starlette(
        routes=[
            Route("/stream", stream),
            Route("/healthz", _healthz),
            *api_routes(),
            *asset_routes(),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(AllowedHosts, names=settings.allowed_hosts),
        ],
        exception_handlers={RefusedError: on_refused, HTTPException: on_http_error},
        lifespan=lifespan,
    )
    app.state.settings, app.state.hub, app.state.health = settings, hub, health
    app.state.kinds, app.state.history = shown, history
    return app


def _reader(
    settings: PageSettings,
    shown: dict[str, Kind],
    hub: Hub,
    depth: dict[str, int],
    health: Health,
) -> KafkaReader | PostgresReader:
    if settings.kafka_bootstrap_servers is not None:
        return KafkaReader(
            shown,
            settings.topics,
            hub,
            config=kafka_config(settings),
            is_framed=settings.schema_registry_url is not None,
            report=health.report,
        )
    return PostgresReader(
        list(shown.values()),
        hub,
        depth,
        url=lambda: database_url(settings),
        report=health.report,
        poll_s=settings.page_poll_ms / 1000,
    )


def _healthz(request: Request) -> JSONResponse:
    """Whether the page runs, and whether its source does."""
    problem, hub = request.app.state.health.problem, request.app.state.hub
    return JSONResponse(
        {
            "up": True,
            "source": "up" if problem is None else problem,
            "streams": hub.clients,
            "dropped": hub.dropped,
        }
    )


class _Headers:
    """Puts the headers of every answer on it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        await self._app(scope, receive, with_headers)
