"""The PostgreSQL sink writes each row once, whatever happens to the server or the process."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from schemas import failpoints
from sinks import postgres_connection, staging
from sinks.postgres import prepare_postgres
from sinks.staging import to_csv
from tests.integration.postgres_rows import FLOW, ROUTES, candles, minutes, partition, positions
from tests.real.postgres import PostgresServer
from tests.real.process import HOST

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(postgres_url: str) -> str:
    prepare_postgres(FLOW, ROUTES, url=postgres_url)
    return postgres_url


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


def test_one_suspended_between_any_two_statements_loses_its_session_too(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the positions were moved the server once waited for as long as the process slept."""
    session = "SET idle_in_transaction_session_timeout = '100ms'"
    monkeypatch.setattr(postgres_connection, "_SESSION", (session,))
    naps: list[float] = []

    def slow(rows: pa.Table) -> pa.Buffer:
        if naps:
            time.sleep(naps.pop())
        return to_csv(rows)

    monkeypatch.setattr(staging, "to_csv", slow)
    sink = partition(url)
    for minute in (1, 2):  # the position is inserted, and then it is updated
        naps.append(0.5)
        sink.write_batch([candles([minute])])
        sink.snapshot()
    sink.close()
    assert minutes(url) == [1, 2]
    assert positions(url) == {"results-00": 2}
    told = [one for one in caplog.records if "is tried again" in one.message]
    assert len(told) == 2, "each of them slept once, and was written by another session"


PROGRAM = """
import sys
sys.path.insert(0, ".")
from schemas import failpoints
from tests.integration.postgres_rows import candles, partition
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
