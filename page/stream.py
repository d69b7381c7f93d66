"""`GET /stream`: rows as server-sent events, a snapshot and then what is new.

At most ten times a second a reader gets what has come since; one that does not keep up is
cut off, and a comment now and then finds out the connections that are dead.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from page.hub import Client, Hub, TooManyClientsError
from page.kinds import KIND_NAMES, Row
from page.parameters import Parameters
from page.refusals import refusal
from page.serving import cut

__all__ = ["stream"]

_LEAST_PAUSE_S = 0.1
_PING_S = 5
_log = logging.getLogger(__name__)


def stream(request: Request) -> Response:
    """Answer a request for the stream."""
    state = request.app.state
    hub: Hub = state.hub
    given = Parameters(request, {"kind", "instrument", "interval", "history"})
    wanted = given.wanted()
    history = given.number("history", state.settings.page_history, 0, state.settings.page_history)
    try:
        client = hub.join(wanted, history, lambda: cut(request.scope))
    except TooManyClientsError:
        return refusal(
            503,
            f"There are {hub.clients} streams already, as many as PAGE_CLIENTS allows",
            "Close one, or raise PAGE_CLIENTS.",
        )
    return _Stream(hub, client, state.settings.page_send_timeout_s)


class _Stream(EventSourceResponse):
    def __init__(self, hub: Hub, client: Client, send_timeout_s: float) -> None:
        self._hub = hub
        self._client = client
        super().__init__(self._events(), ping=_PING_S, send_timeout=send_timeout_s, sep="\n")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            self._client.drop(f"it took nothing for {self.send_timeout} s")
        finally:
            self._hub.leave(self._client)
            if self._client.dropped is not None:
                _log.info("A stream's reader was dropped: %s", self._client.dropped)

    async def _events(self) -> AsyncIterator[bytes]:
        hub, client = self._hub, self._client
        rows, client.snapshot = client.snapshot, []
        head = {"server": hub.server, "kinds": [k for k in KIND_NAMES if k in client.wanted.kinds]}
        yield _event("snapshot", f'{json.dumps(head)[:-1]},"rows":{_array(rows)}}}')
        hub.sent += len(rows)
        del rows
        while True:
            news = await client.rows()
            if client.dropped is not None:
                return
            yield _event("rows", _array(news))
            hub.sent += len(news)
            await asyncio.sleep(_LEAST_PAUSE_S)


def _array(rows: Iterable[Row]) -> str:
    return f"[{','.join(row.text for row in rows)}]"


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()
