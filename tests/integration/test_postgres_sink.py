"""The PostgreSQL sink writes each row once, whatever happens to the server or the process."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from schemas.errors import FlowError
from schemas.stream import FlowIdentity, Output
from schemas.tables import CANDLES, LATE, PROGRESS, REJECTED, REJECTED_SCHEMA
from sinks import failpoints, postgres_connection
from sinks.group_commit import GroupCommitPartition
from sinks.postgres import PostgresRoute, postgres_sink, prepare_postgres
from tests.real.postgres import PostgresServer
from tests.real.process import HOST

ROOT = Path(__file__).parents[2]
FLOW = FlowIdentity("candles", "1", {"shards": 8, "intervals": ["1m"]})
ROUTES = {
    "results": PostgresRoute(CANDLES, upsert=True),
    "rejected": PostgresRoute(REJECTED, upsert=False),
}
MINUTE_MS = 60_000
_MS = pa.timestamp("ms", tz="UTC")


def candles(
    minutes: Sequence[int], *, revision: int = 0, close: str = "1.5", lane: int = 0
) -> Output:
    """One candle of instrument `lane` per minute, position = minute."""
    n = len(minutes)
    opens = pa.array([m * MINUTE_MS for m in minutes], _MS)
    closes = pa.array([(m + 1) * MINUTE_MS for m in minutes], _MS)
    columns: dict[str, Any] = {
        "instrument": pa.array([f"I{lane}"] * n),
        "interval": pa.array(["1m"] * n),
        "open_time": opens,
        "close_time": closes,
    }
    for name in ("open", "high", "low", "volume", "quote_volume"):
        columns[name] = pa.array(["2.00000001"] * n)
    columns["close"] = pa.array([Decimal(close)] * n, pa.decimal128(38, 8))
    columns["vwap"] = pa.array([None] * n, pa.string())
    columns["trade_count"] = pa.array([3] * n, pa.int64())
    columns["taker_buy_volume"] = columns["taker_buy_quote_volume"] = columns["open"]
    columns["first_trade_seq"] = pa.array([None] * n, pa.int64())
    columns["last_trade_seq"] = pa.array(minutes, pa.int64())
    for name in ("open_trade_time", "high_trade_time", "low_trade_time"):
        columns[name] = opens
    columns["close_trade_time"] = pa.array([None] * n, _MS)
    columns["is_closed"] = columns["complete"] = pa.array([True] * n)
    columns["gap_filled"] = pa.array([False] * n)
    columns["revision"] = pa.array([revision] * n, pa.int32())
    rows = pa.record_batch(columns)
    return Output("results", lane, np.array(minutes, np.int64), minutes[-1], rows)


def at(position: int, output: Output) -> Output:
    positions = np.full(output.rows.num_rows, position, np.int64)
    return Output(output.kind, output.partition, positions, position, output.rows)


def partition(url: str, flow: FlowIdentity = FLOW) -> GroupCommitPartition:
    return postgres_sink(flow, ROUTES, url=url).build_part("out", "00", None)


def query(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(text.encode()).fetchall()


def minutes(url: str, lane: int = 0) -> list[int]:
    rows = query(url, f"SELECT last_trade_seq FROM candles WHERE instrument = 'I{lane}' ORDER BY 1")
    return [row[0] for row in rows]


def positions(url: str) -> dict[str, int]:
    return dict(query(url, "SELECT lane, position FROM progress ORDER BY lane"))


@pytest.fixture
def url(postgres_url: str) -> str:
    prepare_postgres(FLOW, ROUTES, url=postgres_url, other_tables=[LATE])
    return postgres_url


def test_values_arrive_as_they_are(url: str) -> None:
    texts = ["plain", "", 'q"u,o\n\\.\r\n', "\\N", "nul\x00", " ü "]
    values = [b"\x00\xff\\", b"", None, b"a,b", b'"', b"\\x00"]
    rejected = pa.record_batch(
        [
            pa.array(["candles"] * 6).dictionary_encode(),
            pa.array(["trades"] * 6),
            pa.array([0] * 6, pa.int32()),
            pa.array(range(6), pa.int64()),
            pa.array(texts),
            pa.array([-1, 0, None, 1_700_000_000_123, 5, 253_402_300_799_999], _MS),
            pa.array(values, pa.binary()),
        ],
        schema=pa.schema(
            [REJECTED_SCHEMA.field(0).with_type(pa.dictionary(pa.int32(), pa.string()))]
            + [REJECTED_SCHEMA.field(i) for i in range(1, 7)]
        ),
    )
    sink = partition(url)
    sink.write_batch([Output("rejected", 0, np.arange(6), 5, rejected), candles([7])])
    sink.snapshot()
    sink.close()
    stored = query(url, 'SELECT reason, record_time, value FROM rejected ORDER BY "offset"')
    assert [row[0] for row in stored] == [*texts[:4], "nul\ufffd", " ü "]
    assert [row[2] for row in stored] == values
    assert stored[0][1] == datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)
    assert stored[2][1] is None
    assert stored[3][1] == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    (row,) = query(
        url,
        "SELECT open_time, open, close, vwap, first_trade_seq, close_trade_time, is_closed, "
        "gap_filled FROM candles",
    )
    assert row == (
        *(datetime(1970, 1, 1, 0, 7, tzinfo=UTC), Decimal("2.00000001"), Decimal("1.50000000")),
        *(None, None, None, True, False),
    )


def test_what_is_stored_is_dropped_after_reopening(url: str) -> None:
    first = partition(url)
    first.write_batch([candles([1, 2]), candles([1], lane=1)])
    first.close()
    second = partition(url)
    # The same rows with another price: were they written again, it would show.
    second.write_batch([candles([1, 2, 3], close="9", revision=5), candles([2], lane=1)])
    second.close()
    assert minutes(url) == [1, 2, 3]
    assert minutes(url, lane=1) == [1, 2]
    assert query(url, "SELECT count(*) FROM candles WHERE close = 9") == [(1,)]
    assert positions(url) == {"results-00": 3, "results-01": 2}


def test_only_a_higher_revision_replaces_a_row(url: str) -> None:
    sink = partition(url)
    sink.write_batch(
        [at(1, candles([1], revision=1, close="11")), at(2, candles([1], revision=2, close="12"))]
    )
    sink.snapshot()
    sink.write_batch([at(3, candles([1], revision=2, close="13"))])
    sink.snapshot()
    sink.write_batch([at(4, candles([1], revision=1, close="14"))])
    sink.close()
    assert query(url, "SELECT revision, close FROM candles") == [(2, Decimal(12))]


def test_a_zombie_writes_nothing_and_stops(url: str) -> None:
    zombie = partition(url)
    zombie.write_batch([candles([1])])
    zombie.snapshot()
    successor = partition(url)
    successor.write_batch([candles([2])])
    successor.snapshot()
    zombie.write_batch([candles([2, 3], close="666")])
    with pytest.raises(FlowError, match=r"Another process writes flow candles, version 1.*00"):
        zombie.snapshot()
    zombie.close()
    successor.write_batch([candles([3])])
    successor.close()
    assert query(url, "SELECT DISTINCT close FROM candles") == [(Decimal("1.5"),)]
    assert minutes(url) == [1, 2, 3]


def test_of_two_that_begin_a_lane_one_stops(url: str) -> None:
    one, two = partition(url), partition(url)
    one.write_batch([candles([1])])
    one.snapshot()
    two.write_batch([candles([1], close="666", revision=9)])
    with pytest.raises(FlowError, match="Another process"):
        two.snapshot()
    two.close()
    one.close()
    assert query(url, "SELECT close FROM candles") == [(Decimal("1.5"),)]


def test_other_settings_are_refused_before_anything_is_written(url: str) -> None:
    sink = partition(url)
    sink.write_batch([candles([1])])
    sink.close()
    changed = FlowIdentity("candles", "1", {"shards": 4, "intervals": ("1m",), "fill_gaps": True})
    with pytest.raises(FlowError) as caught:
        prepare_postgres(changed, ROUTES, url=url)
    assert str(caught.value) == (
        "The output of flow candles, version 1, was begun with other settings: fill_gaps was "
        "(not set) and is now true; shards was 8 and is now 4. Restore the old setting to go on "
        "with that output, or set a new FLOW_VERSION to begin another, and OUTPUT_TOPIC to keep "
        "the two apart."
    )
    with pytest.raises(FlowError, match="shards was 8"):
        partition(url, changed)
    other_version = FlowIdentity("candles", "2", changed.fingerprint)
    prepare_postgres(other_version, ROUTES, url=url)
    assert query(url, "SELECT count(*) FROM flows") == [(1,)]


def test_two_that_begin_a_version_with_different_settings(url: str) -> None:
    one = partition(url)
    two = partition(url, FlowIdentity("candles", "1", {"shards": 4}))
    one.write_batch([candles([1])])
    one.snapshot()
    two.write_batch([candles([1], lane=1)])
    with pytest.raises(FlowError, match="other settings"):
        two.snapshot()
    one.close()
    two.close()
    assert minutes(url, lane=1) == []


def test_preparing_changes_nothing_when_a_table_does_not_fit(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE candles (instrument text, interval text)")
    with pytest.raises(FlowError, match="Table candles lacks the columns open_time, close_time"):
        prepare_postgres(FLOW, ROUTES, url=postgres_url)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert query(postgres_url, tables) == [(1,)]


def test_several_processes_prepare_at_a_time(postgres_url: str) -> None:
    errors: list[FlowError] = []

    def prepare() -> None:
        try:
            prepare_postgres(FLOW, ROUTES, url=postgres_url)
        except FlowError as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert query(postgres_url, f"SELECT count(*) FROM {PROGRESS.name}") == [(0,)]


def test_an_unreachable_server_is_named_without_its_password() -> None:
    url = f"postgresql://me:s3cret@{HOST}:1/db?sslpassword=s3cret"
    with pytest.raises(FlowError) as caught:
        prepare_postgres(FLOW, ROUTES, url=url)
    assert "DATABASE_URL" in str(caught.value)
    assert f"host={HOST}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(FlowError, match="DATABASE_URL cannot be read") as caught:
        prepare_postgres(FLOW, ROUTES, url="postgresql://me:s3/c%ret@host")
    assert "s3" not in str(caught.value)
    assert caught.value.__suppress_context__  # libpq's own text may repeat what it was given


@pytest.mark.parametrize("stop", ["kill", "stop"])
def test_the_server_restarts_under_load(url: str, postgres: PostgresServer, stop: str) -> None:
    sink = partition(url)
    written = [0]
    over = threading.Event()

    def load() -> None:
        while not over.wait(0.002):
            n = written[-1] + 2
            sink.write_batch([candles([n - 1, n], lane=lane) for lane in range(2)])
            written.append(n)

    loading = threading.Thread(target=load)
    loading.start()
    time.sleep(0.7)
    getattr(postgres, stop)()  # from this thread: a server dies with the one that started it
    time.sleep(0.3)
    postgres.start()
    time.sleep(0.7)
    over.set()
    loading.join()
    sink.snapshot()
    sink.close()
    for lane in range(2):
        assert minutes(url, lane) == list(range(1, written[-1] + 1))
    assert positions(url) == dict.fromkeys(("results-00", "results-01"), written[-1])


class CuttingProxy:
    """Forwards to PostgreSQL and once armed, cuts the first connection that commits.

    Args:
        port: Of the server.
        deliver: Whether the server still gets that COMMIT; the client never gets the answer.
    """

    def __init__(self, port: int, *, deliver: bool) -> None:
        self._port = port
        self._deliver = deliver
        self.armed = False
        self.cuts = 0
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((HOST, self._port))
            silent = threading.Event()
            for args in ((client, server, silent), (server, client, silent)):
                threading.Thread(target=self._pump, args=args, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
        to_server = target.getpeername()[1] == self._port
        try:
            while data := source.recv(65536):
                if to_server and b"COMMIT" in data and self.armed and not self.cuts:
                    self.cuts += 1
                    silent.set()
                    if self._deliver:
                        target.sendall(data)
                        time.sleep(0.3)
                    break
                if to_server or not silent.is_set():
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # close() alone waits for the other thread
            end.close()


@pytest.fixture(params=[True, False], ids=["commit arrives", "commit is lost"])
def proxy(request: pytest.FixtureRequest, url: str) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(
        int(psycopg.conninfo.conninfo_to_dict(url)["port"] or 0), deliver=request.param
    )
    yield proxy
    proxy.close()


def test_a_commit_without_an_answer_is_neither_lost_nor_repeated(
    url: str, proxy: CuttingProxy
) -> None:
    port = psycopg.conninfo.conninfo_to_dict(url)["port"]
    sink = partition(url.replace(f":{port}/", f":{proxy.port}/"))
    sink.write_batch([candles([1])])
    sink.snapshot()
    proxy.armed = True
    sink.write_batch([candles([2]), candles([1], lane=1)])
    sink.snapshot()
    assert proxy.cuts == 1
    sink.write_batch([candles([3])])
    sink.close()
    assert minutes(url) == [1, 2, 3]
    assert minutes(url, lane=1) == [1]
    assert positions(url) == {"results-00": 3, "results-01": 1}


def test_a_suspended_process_loses_its_session_and_carries_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = "SET idle_in_transaction_session_timeout = '100ms'"
    monkeypatch.setattr(postgres_connection, "_SESSION", (session,))
    naps = [0.5, 0.5]

    def reached(name: str) -> None:
        if naps and name == "postgres.between_write_and_commit":
            time.sleep(naps.pop())

    monkeypatch.setattr(failpoints, "reached", reached)
    sink = partition(url)
    sink.write_batch([candles([1, 2])])
    sink.close()
    assert naps == []
    assert minutes(url) == [1, 2]


PROGRAM = """
import sys
sys.path.insert(0, ".")
from sinks import failpoints
from tests.integration.test_postgres_sink import candles, partition
failpoints.configure(sys.argv[2])
sink = partition(sys.argv[1])
for minute in range(1, 8):
    sink.write_batch([candles([minute]), candles([minute], lane=1)])
    sink.snapshot()
sink.close()
"""


@pytest.mark.parametrize("point", ["before_write", "between_write_and_commit", "after_commit"])
def test_a_process_dies_at_a_bad_moment(url: str, point: str) -> None:
    codes = []
    for spec in (f"postgres.{point}:1", f"postgres.{point}:3", ""):
        command = [sys.executable, "-c", PROGRAM, url, spec]
        codes.append(subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    for lane in range(2):
        assert minutes(url, lane) == list(range(1, 8))
