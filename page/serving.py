"""The HTTP server, and how to cut a connection whose reader does not read.

An ordinary close waits until everything is sent, which a reader that does not read never lets
happen; so the transports are kept, by the address of the peer.
"""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["cut", "server"]

_SHUTDOWN_S = 2
_MOST_CONNECTIONS_WAITING = 256
_transports: dict[tuple[str, int], asyncio.Transport] = {}


def server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    """A server of an application; its `run` ends with SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_MOST_CONNECTIONS_WAITING,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    return uvicorn.Server(config)


def cut(scope: Scope) -> None:
    """End the connection of a request now, with what is still to be sent."""
    transport = _transports.get(tuple(scope.get("client") or ()))
    if transport is not None:
        transport.abort()


class _Protocol(H11Protocol):
    _peer: tuple[str, int] | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  # as in uvicorn
        super().connection_made(transport)
        self._peer = self.client
        if self._peer is not None:
            _transports[self._peer] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peer is not None:
            _transports.pop(self._peer, None)
        super().connection_lost(exc)
