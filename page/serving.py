"""The HTTP server, and how to cut a connection whose reader does not read.

An ordinary close waits until everything is sent, which a reader that does not read never lets
happen; so the transports are kept, by the address of the peer.
"""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Scope
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from page.settings import PageSettings
from schemas.errors import FlowError

__all__ = ["cut", "serve"]

_SHUTDOWN_S = 2
_MOST_WAITING = 256
_transports: dict[tuple[str, int], asyncio.Transport] = {}


async def serve(
    app: ASGIApp, settings: PageSettings, on_ready: Callable[[str], Awaitable[None]]
) -> None:
    """Serve an application until SIGTERM or SIGINT; main thread only.

    Args:
        app: what to serve.
        settings: where.
        on_ready: told the address once it answers.

    Raises:
        FlowError: The address cannot be listened at.
    """
    with _listener(settings) as listener:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        # The server raises the signal that ended it once more when it is done, and the rest
        # of the process is still to be ended in good order.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        await _Server(config, lambda: on_ready(_url(listener, settings))).serve([listener])


def cut(scope: Scope) -> None:
    """End the connection of a request now, with what is still to be sent."""
    transport = _transports.get(tuple(scope.get("client") or ()))
    if transport is not None:
        transport.abort()


def _listener(settings: PageSettings) -> socket.socket:
    host, port = settings.page_host, settings.page_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_MOST_WAITING)
    except OSError as error:
        raise FlowError(
            f"The page cannot listen at PAGE_HOST={host}, PAGE_PORT={port} ({error.strerror})",
            "Set another PAGE_PORT, or stop what listens there; PAGE_HOST is an address of this "
            "machine.",
        ) from error


def _url(listener: socket.socket, settings: PageSettings) -> str:
    host = f"[{settings.page_host}]" if ":" in settings.page_host else settings.page_host
    return f"http://{host}:{listener.getsockname()[1]}/"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            await self._on_ready()


class _Protocol(H11Protocol):
    _peer: tuple[str, int] | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._peer = self.client
        if self._peer is not None:
            _transports[self._peer] = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._peer is not None:
            _transports.pop(self._peer, None)
        super().connection_lost(exc)
