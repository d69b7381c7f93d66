"""History over HTTP: its pages are the table, exactly; what cannot be answered is told."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.tables import CANDLES, SESSIONS
from tests.page_io import PageTables, candle, this_minute
from tests.real.page import PageServer

MINUTE = timedelta(minutes=1)
COUNT = 47
FIRST = this_minute() - COUNT * MINUTE


@pytest.fixture
def page(postgres_url: str, tmp_path: Path) -> Iterator[PageServer]:
    tables = PageTables(postgres_url)
    for name in ("A", "B&C d"):
        rows = [candle(name, FIRST + n * MINUTE, close=f"{n + 1}") for n in range(COUNT)]
        tables.write(CANDLES, *rows)
    tables.candles("A", until=FIRST, count=3, interval="1s", price=100)
    tables.statistics("A", FIRST)
    tables.average("A", FIRST, 0.5)
    tables.sales("S", FIRST, "7")
    for n in range(COUNT):  # five end at a time
        tables.session(f"D{n % 9}", FIRST + n // 5 * MINUTE, "timeout", session_id=f"{n}")
    server = PageServer(tmp_path / "page.log", {"DATABASE_URL": postgres_url})
    server.start()
    yield server
    server.kill()


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def ask(page: PageServer, path: str, **query: str) -> dict[str, Any]:
    answer = httpx.get(f"{page.url}/api/{path}", params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refusal(page: PageServer, path: str, **query: str) -> tuple[int, str]:
    answer = httpx.get(f"{page.url}/api/{path}", params=query, timeout=30)
    assert answer.json()["hint"]
    return answer.status_code, answer.json()["error"]


def every(page: PageServer, path: str, **query: str) -> list[dict[str, Any]]:
    """The rows of all pages."""
    found = ask(page, path, **query)
    rows: list[dict[str, Any]] = found["rows"]
    while found["next"] is not None:
        found = ask(page, path, **query, next=found["next"])
        assert found["rows"]
        rows += found["rows"]
    return rows


def test_pages_of_any_size_are_the_table(page: PageServer) -> None:
    for name in ("A", "B&C d"):
        query = {"instrument": name, "interval": "1m"}
        for limit in ("1", "10", "46", "47", "48"):
            for order in ("asc", "desc"):
                rows = every(page, "candles", **query, limit=limit, order=order)
                found = [int(row["close"]) for row in rows]
                assert found == sorted(range(1, COUNT + 1), reverse=order == "desc")
    assert {row["interval"] for row in every(page, "candles", instrument="A")} == {"1m"}
    sessions = {n["session_id"] for n in every(page, "sessions", limit="3")}
    assert sessions == {str(n) for n in range(COUNT)}
    assert len(every(page, "sessions", limit="4", order="desc")) == COUNT
    assert len(every(page, "sessions", limit="2", device="D0")) == 6


def test_a_range_begins_where_it_says_and_ends_before(page: PageServer) -> None:
    query = {"instrument": "A", "from": text(FIRST + 5 * MINUTE), "to": text(FIRST + 9 * MINUTE)}
    rows = every(page, "candles", **query, limit="3")
    assert [row["open_time"] for row in rows] == [text(FIRST + n * MINUTE) for n in range(5, 9)]
    empty = {"instrument": "A", "from": "2001-01-01", "to": "2002-01-01T00:00:00+02:00"}
    assert ask(page, "candles", **empty) == {"rows": [], "next": None}


def test_every_kind_has_its_path(page: PageServer) -> None:
    for path, query in (
        ("candles", {"instrument": "A", "interval": "1s"}),
        ("statistics", {"instrument": "A"}),
        ("ewma", {"instrument": "A"}),
        ("sales", {"seller_id": "S"}),
        ("sessions", {}),
    ):
        assert ask(page, path, **query)["rows"], path
    assert ask(page, "sellers") == {"sellers": [{"seller_id": "S"}]}
    assert ask(page, "instruments")["instruments"] == [
        {"instrument": "A", "interval": "1m"},
        {"instrument": "A", "interval": "1s"},
        {"instrument": "B&C d", "interval": "1m"},
    ]


def test_what_is_wrong_is_told(page: PageServer) -> None:
    for path, query, status, named in (
        ("candles", {}, 400, "instrument"),
        ("candles", {"instrument": "A", "interval": "2m"}, 400, "2m"),
        ("candles", {"instrument": "A", "limit": "1001"}, 400, "limit"),
        ("candles", {"instrument": "A", "from": "soon"}, 400, "from"),
        ("candles", {"instrument": "A", "order": "up"}, 400, "up"),
        ("candles", {"instrument": "A", "next": "x"}, 400, "next"),
        ("candles", {"instrument": "A", "where": "1"}, 400, "where"),
        ("candles", {"instrument": "A\x00"}, 400, "instrument"),
        ("candles", {"instrument": "' OR 1=1 --"}, 404, "OR"),
        ("sales", {"seller_id": "T"}, 404, "T"),
        ("vehicles", {}, 404, "vehicles"),
    ):
        code, error = refusal(page, path, **query)
        assert (code, named in error) == (status, True), (query, error)


def test_a_correction_while_one_reads_leaves_nothing_out(
    postgres_url: str, page: PageServer
) -> None:
    tables = PageTables(postgres_url)
    first = ask(page, "candles", instrument="A", limit="20")
    for n in (3, 30):
        tables.write(CANDLES, candle("A", FIRST + n * MINUTE, close="900", revision=1))
    rest = every(page, "candles", instrument="A", next=first["next"])
    rows = [*first["rows"], *rest]
    assert [row["open_time"] for row in rows] == [text(FIRST + n * MINUTE) for n in range(COUNT)]
    assert rows[30]["close"] == "900"


def test_without_tables_there_is_no_history(tmp_path: Path, postgres_url: str) -> None:
    without = PageServer(tmp_path / "off.log", {"DATABASE_URL": "off"})
    empty = PageServer(tmp_path / "empty.log", {"DATABASE_URL": postgres_url})
    try:
        for server, named in ((without, "DATABASE_URL=off"), (empty, "not there yet")):
            server.start()
            code, error = refusal(server, "candles", instrument="A")
            assert code == 503
            assert named in error
    finally:
        without.kill()
        empty.kill()


def test_each_query_of_sessions_has_an_index(page: PageServer, postgres_url: str) -> None:
    """Ten thousand more, and a page still comes; the plan itself is PostgreSQL's."""
    row = {
        "device": "D", "started_at": FIRST, "reason": "timeout", "event_count": 1,
        "sensors": {}, "revision": 0,
    }  # fmt: skip
    rows = [
        {**row, "session_id": str(1_000 + n), "ended_at": FIRST + n * MINUTE} for n in range(2_000)
    ]
    PageTables(postgres_url).write(SESSIONS, *rows)
    assert len(every(page, "sessions", limit="1000")) == COUNT + 2_000
