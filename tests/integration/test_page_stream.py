"""The page's stream on a real PostgreSQL: what is committed arrives, once, through outages."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from schemas.tables import CANDLES
from tests.page_io import PageTables, candle, this_minute
from tests.real.page import PageServer
from tests.real.postgres import PostgresServer
from tests.stream_io import StreamReader, eventually

MINUTE = timedelta(minutes=1)
Start = Callable[..., PageServer]


@pytest.fixture
def tables(postgres_url: str) -> PageTables:
    return PageTables(postgres_url)


@pytest.fixture
def start(postgres_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts pages on the test's database."""
    started: list[PageServer] = []

    def begin(**env: str) -> PageServer:
        page = PageServer(tmp_path / "page.log", {"DATABASE_URL": postgres_url, **env})
        page.start()
        started.append(page)
        return page

    yield begin
    for page in started:
        page.kill()


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def closes(reader: StreamReader, kind: str = "candle", **values: Any) -> list[str]:
    return [row["close"] for row in reader.of(kind, **values)]


def test_a_candle_a_correction_and_a_preview_arrive(tables: PageTables, start: Start) -> None:
    now = this_minute()
    tables.candles("A", until=now, count=3, price=100)
    tables.preview("A", now, "104")
    with StreamReader(start().url) as reader:
        eventually(lambda: closes(reader) == ["100.25", "101.25", "102.25"])
        eventually(lambda: closes(reader, "preview") == ["104"])
        tables.preview("A", now, "105.5")
        eventually(lambda: closes(reader, "preview")[-1] == "105.5")
        tables.write(CANDLES, candle("A", now, close="106"))
        eventually(lambda: closes(reader)[3:] == ["106"])
        tables.write(CANDLES, candle("A", now - MINUTE, close="99.125", revision=1))
        eventually(lambda: closes(reader)[4:] == ["99.125"])
        row = reader.rows[-1]
        assert (row["revision"], row["open_time"]) == (1, text(now - MINUTE))
        assert reader.of("preview")[-1]["is_closed"] is False


def test_rows_of_every_kind_have_the_columns_of_their_tables(
    tables: PageTables, start: Start
) -> None:
    now = this_minute()
    with StreamReader(start().url) as reader:
        tables.candles("A", until=now, count=1, price=100)
        tables.preview("A", now, "1.50")
        tables.statistics("A", now)
        tables.average("A", now, 0.1)
        tables.sales("S", now, "1000")
        tables.session("D", now + timedelta(milliseconds=250), "timeout")
        for kind in ("candle", "preview", "statistics", "ewma", "sales", "session"):
            eventually(lambda kind=kind: len(reader.of(kind)) == 1, what=kind)
        assert reader.of("preview")[0]["close"] == "1.5"
        assert reader.of("statistics")[0]["weighted_average_price"] == "100.00000001"
        assert reader.of("ewma")[0]["value"] == 0.1
        assert reader.of("ewma")[0]["halflife_s"] is None
        assert reader.of("sales")[0]["window_start"] == text(now)
        session = reader.of("session")[0]
        assert session["ended_at"] == text(now).replace("Z", ".250Z")
        assert session["sensors"]["temperature"]["mean"] == 21.25
        eventually(lambda: bool(reader.of("health", flow="page", up=True, error=None)))


def test_a_reader_gets_what_it_asks_for(tables: PageTables, start: Start) -> None:
    now = this_minute()
    for name in "AB":
        for interval in ("1s", "1m"):
            tables.candles(name, until=now, count=5, interval=interval, price=100)
    tables.sales("S", now, "1")
    page = start()
    query = {"kind": "candle,sales", "instrument": "B", "interval": "1m", "history": "2"}
    with StreamReader(page.url, **query) as reader, StreamReader(page.url) as everything:
        assert reader.kinds == ["candle", "sales"]
        eventually(lambda: len(everything.of("candle")) == 20)
        assert len(reader.of("candle", instrument="B", interval="1m")) == 2
        assert len(reader.rows) == 3
        tables.candles("A", until=now + MINUTE, count=1, price=100)
        tables.candles("B", until=now + MINUTE, count=1, price=100)
        eventually(lambda: len(everything.of("candle")) == 22)
        eventually(lambda: len(reader.rows) == 4)
        assert reader.rows[-1]["instrument"] == "B"


def test_tables_that_come_later_are_shown(postgres_url: str, start: Start) -> None:
    page = start()
    with StreamReader(page.url) as reader:
        eventually(lambda: bool(reader.of("health", flow="page", up=True)))
        PageTables(postgres_url).candles("A", until=this_minute(), count=2, price=100)
        eventually(lambda: len(reader.of("candle")) == 2)
        with psycopg.connect(postgres_url) as connection:
            connection.execute("DROP TABLE candles")
        eventually(lambda: httpx.get(f"{page.url}/healthz").json()["up"])
        PageTables(postgres_url).candles("A", until=this_minute() + MINUTE, count=1, price=100)
        eventually(lambda: len(reader.of("candle")) == 3)


def test_a_late_correction_is_found_in_a_database_that_then_rests(
    tables: PageTables, start: Start
) -> None:
    now = this_minute()
    tables.candles("A", until=now, count=250, price=100)
    with StreamReader(start().url) as reader:
        eventually(lambda: len(reader.of("candle")) == 250)
        for back, revision in ((200, 1), (249, 1), (200, 2)):
            early = candle("A", now - back * MINUTE, close=f"{revision}", revision=revision)
            tables.write(CANDLES, early)
            eventually(
                lambda early=early: [
                    (row["open_time"], row["revision"]) for row in reader.of("candle")[-1:]
                ] == [(text(early["open_time"]), early["revision"])]
            )  # fmt: skip
        assert len(reader.of("candle")) == 253


def test_nothing_is_left_out_when_much_comes_at_once(tables: PageTables, start: Start) -> None:
    now = this_minute()
    tables.candles("A", until=now, count=10, price=100)
    with StreamReader(start().url, kind="candle,session") as reader:
        eventually(lambda: len(reader.of("candle")) == 10)
        tables.candles("A", until=now + 3_000 * MINUTE, count=3_000, price=1_000)
        for number in range(3):
            tables.session(f"D{number}", now, "completed")
        eventually(lambda: len(reader.of("candle")) == 3_010 and len(reader.of("session")) == 3)
        times = [row["open_time"] for row in reader.of("candle")]
        assert times == sorted(times)


def test_snapshot_and_rows_are_the_table_whenever_one_connects(
    postgres_url: str, tables: PageTables, start: Start
) -> None:
    page = start()
    first = this_minute()
    written = threading.Event()

    def write() -> None:
        for step in range(120):
            rows = [
                candle(name, first + (step - back) * MINUTE, close=str(step + 1), revision=back)
                for name in ("A", "B", f"late {step // 30}")
                for back in {0, step % 7}
            ]
            tables.write(CANDLES, *rows)
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    readers = [StreamReader(page.url, kind="candle")]
    while not written.wait(0.2):
        readers.append(StreamReader(page.url, kind="candle"))
    writer.join()
    with psycopg.connect(postgres_url, row_factory=dict_row) as connection:
        stored = {
            ("candle", row["instrument"], row["interval"], text(row["open_time"].astimezone(UTC))):
            (str(row["close"]), row["revision"])
            for row in connection.execute("SELECT * FROM candles")
        }  # fmt: skip
    for reader in readers:
        eventually(
            lambda reader=reader: {
                key: (row["close"], row["revision"]) for key, row in reader.known().items()
            } == stored,
        )  # fmt: skip
        assert not reader.has_ended
        reader.close()


def test_a_page_that_was_started_again_has_everything(tables: PageTables, start: Start) -> None:
    now = this_minute()
    tables.candles("A", until=now, count=2, price=100)
    page = start()
    with StreamReader(page.url) as before:
        eventually(lambda: len(before.of("candle")) == 2)
        assert page.stop() == 0
        eventually(lambda: before.has_ended)
        tables.candles("A", until=now + MINUTE, count=1, price=100)
        page.start()
        with StreamReader(page.url) as after:
            assert after.server != before.server
            eventually(lambda: len(after.of("candle")) == 3)


def test_an_outage_of_the_database_is_told_and_heals(
    postgres: PostgresServer, tables: PageTables, start: Start
) -> None:
    now = this_minute()
    tables.candles("A", until=now, count=2, price=100)
    page = start()
    with StreamReader(page.url) as reader:
        eventually(lambda: len(reader.of("candle")) == 2)
        postgres.kill()
        eventually(lambda: bool(reader.of("health", flow="page", up=False)))
        assert reader.of("health", flow="page", up=False)[0]["error"]
        history = httpx.get(f"{page.url}/api/candles", params={"instrument": "A"})
        assert history.status_code == 503
        assert "postgres@" not in history.text
        with StreamReader(page.url) as meanwhile:
            assert len(meanwhile.of("candle")) == 2
        postgres.start()
        tables.candles("A", until=now + MINUTE, count=1, price=100)
        tables.write(CANDLES, candle("A", now - 2 * MINUTE, close="7", revision=1))
        eventually(lambda: len(reader.of("candle")) == 4)
        eventually(lambda: reader.of("health", flow="page")[-1]["up"])
        assert not reader.has_ended


def test_a_reader_that_does_not_read_is_dropped_and_the_others_are_not(
    postgres_url: str, tables: PageTables, start: Start
) -> None:
    page = start(PAGE_SEND_TIMEOUT_S="5")
    host, port = page.url.removeprefix("http://").split(":")
    with socket.socket() as deaf, StreamReader(page.url, kind="candle") as reader:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((host, int(port)))
        deaf.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: clients(page) == 2)
        tables.candles("A", until=this_minute(), count=1, price=100)
        eventually(lambda: len(reader.of("candle")) == 1)
        count = 1
        while clients(page) == 2:
            assert count <= 200_000, "it was never dropped"
            double(postgres_url, most=2_000)
            count += min(count, 2_000)
            eventually(lambda: len(reader.of("candle")) == count)  # noqa: B023  # now
        assert clients(page) == 1
        # Cut off, not only forgotten.
        deaf.settimeout(30)
        with suppress(ConnectionError):
            drain(deaf)
        double(postgres_url, most=1)
        eventually(lambda: len(reader.of("candle")) == count + 1)


def double(url: str, most: int) -> None:
    """Write as many candles behind those that there are, but no more than `most`."""
    later = {
        name: f"{name} + (SELECT max(open_time) - min(open_time) + '1 minute' FROM candles)"
        for name in ("open_time", "close_time")
    }
    columns = ", ".join(later.get(column.name, column.name) for column in CANDLES.columns)
    oldest = "SELECT * FROM candles ORDER BY open_time LIMIT"
    with psycopg.connect(url) as connection:
        connection.execute(
            f"INSERT INTO candles SELECT {columns} FROM ({oldest} {most}) AS oldest".encode()
        )


def drain(connection: socket.socket) -> None:
    """Read to the end of the stream."""
    while connection.recv(1_000_000):
        pass


def clients(page: PageServer) -> int:
    return int(httpx.get(f"{page.url}/healthz", timeout=30).json()["streams"])


def test_more_streams_than_allowed_are_refused(start: Start) -> None:
    page = start(PAGE_CLIENTS="1")
    with StreamReader(page.url):
        refused = httpx.get(f"{page.url}/stream", timeout=30)
        assert refused.status_code == 503
        assert "PAGE_CLIENTS" in refused.json()["hint"]
    eventually(lambda: clients(page) == 0)
    StreamReader(page.url).close()


def test_only_get_and_only_what_there_is(start: Start) -> None:
    page = start()
    for method, path, status in (
        ("POST", "/stream", 405),
        ("DELETE", "/api/candles", 405),
        ("GET", "/nothing", 404),
        ("GET", "/static/../settings.py", 404),
        ("GET", "/static/%2e%2e/settings.py", 404),
        ("GET", "/stream?kind=trades", 400),
    ):
        answer = httpx.request(method, page.url + path, timeout=30)
        assert answer.status_code == status, path
        assert answer.json()["error"]
        assert "content-security-policy" in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_the_page_and_the_charts_come_from_here(start: Start) -> None:
    page = start()
    index = httpx.get(f"{page.url}/", timeout=30)
    assert index.status_code == 200
    assert "__PLOTLY_VERSION__" not in index.text
    charts = httpx.get(f"{page.url}/static/plotly.min.js?v=1", timeout=30)
    assert "immutable" in charts.headers["cache-control"]
    assert "plotly.js v" in charts.text[:200]


def test_settings_that_are_wrong_and_ports_that_are_taken(start: Start, tmp_path: Path) -> None:
    page = start()
    second = PageServer(tmp_path / "second.log", {"DATABASE_URL": "off"})
    second._env["PAGE_PORT"] = page.url.rpartition(":")[2]
    with pytest.raises(Exception, match="The page cannot listen at"):
        second.start()
