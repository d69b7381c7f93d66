"""`GET /api/…`: rows of the past, for programs."""

import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from psycopg import sql
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from page.history import History, Range, decode_cursor
from page.kinds import Kind
from page.parameters import Parameters
from page.queries import table_queries
from page.refusals import RefusedError

__all__ = ["api_routes"]

_DEFAULT_ROWS = 500
_MOST_ROWS = 1_000
_COMMON = {"from", "to", "limit", "order", "next"}
_INTERVAL = "1m"
_MOST_CURSOR = 2_000


class _Path(NamedTuple):
    """What a path gives.

    Attributes:
        kind: of its rows.
        needed: parameters that name the series.
        allowed: parameters that narrow it down.
    """

    kind: str
    needed: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


_PATHS = {
    "candles": _Path("candle", ("instrument",), ("interval",)),
    "statistics": _Path("statistics", ("instrument",)),
    "ewma": _Path("ewma", ("instrument",)),
    "sales": _Path("sales", ("seller_id",)),
    "sessions": _Path("session", allowed=("device",)),
}
_LISTS = {"instruments": "candle", "sellers": "sales"}


def api_routes() -> list[BaseRoute]:
    """All that is under `/api`."""
    return [
        *(Route(f"/api/{name}", _rows(path)) for name, path in _PATHS.items()),
        *(Route(f"/api/{name}", _names(name, kind)) for name, kind in _LISTS.items()),
    ]


def _rows(path: _Path) -> Callable[[Request], Awaitable[Response]]:
    async def rows(request: Request) -> Response:
        history: History = request.app.state.history
        kind: Kind = request.app.state.kinds[path.kind]
        given = Parameters(request, {*path.needed, *path.allowed, *_COMMON})
        limit = given.number("limit", _DEFAULT_ROWS, 1, _MOST_ROWS)
        asked = _asked(given, kind, path)
        found, following = await history.page(kind, asked, limit)
        if not found and asked.same and following is None:
            await _check_exists(history, kind, path, asked)
        texts = ",".join(row.text for row in found)
        end = "null" if following is None else f'"{following}"'
        return _json(f'{{"rows":[{texts}],"next":{end}}}')

    return rows


def _asked(given: Parameters, kind: Kind, path: _Path) -> Range:
    same = {}
    for name in path.needed:
        value = given.text(name)
        if value is None:
            raise RefusedError(400, f"{name} is missing", f"Say of which {name} rows are wanted.")
        same[name] = value
    for name in path.allowed:
        value = given.interval(_INTERVAL) if name == "interval" else given.text(name)
        if value is not None:
            same[name] = value
    start, end = given.time("from"), given.time("to")
    order = given.text("order") or "asc"
    if order not in ("asc", "desc"):
        raise RefusedError(400, f"There is no order {order!r}", "Choose from asc, desc.")
    cursor = given.text("next", _MOST_CURSOR)
    parts = 1 + len([c for c in kind.table.primary_key if c.name not in (*kind.group, kind.order)])
    after = None if cursor is None else decode_cursor(cursor, parts)
    return Range(same, start, end, order == "desc", after)


async def _check_exists(history: History, kind: Kind, path: _Path, asked: Range) -> None:
    """Tell a series without rows in the range from one that there is not."""
    for name in path.needed:
        query = sql.SQL("SELECT FROM {} WHERE {} = %(value)s LIMIT 1").format(
            sql.Identifier(kind.table.name), sql.Identifier(name)
        )
        if not await history.fetch(query, {"value": asked.same[name]}):
            raise RefusedError(
                404,
                f"There is no {name} {asked.same[name]!r} in {kind.table.name}",
                "/api/instruments and /api/sellers list what there is.",
            )


def _names(title: str, name: str) -> Callable[[Request], Awaitable[Response]]:
    async def names(request: Request) -> Response:
        Parameters(request, set())
        kind: Kind = request.app.state.kinds[name]
        query = table_queries(kind).groups
        assert query is not None  # noqa: S101  # the kinds above have series
        found = await request.app.state.history.fetch(query, {})
        series = [dict(zip(kind.group, one, strict=True)) for one in found]
        return _json(json.dumps({title: series}, ensure_ascii=False))

    return names


def _json(text: str) -> Response:
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})
