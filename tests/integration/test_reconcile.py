"""The command `reconcile`: what the flows made of the simulated exchange's trades is what the
exchange makes of them itself, and what is not is told.

The exchange's clock stands still, so that both speak of the same moments.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
import pytest

from dataflows.commands.reconcile import main
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.process import Child

OPENED_AT_MS = 1_700_000_040_000
DAY_MS = 86_400_000
UNTIL_MS = OPENED_AT_MS + DAY_MS + 3_600_000
"""A whole minute, so that every instrument has a window that ends here."""
READ_TO_MS = UNTIL_MS + 90_000
WAIT_S = 240.0  # on a cold kernel cache a flow compiles first
SPAN = ("--from", "2023-11-15T00:00Z", "--to", "2023-11-15T23:14Z", "--settle-s", "0")
ROOT = Path(__file__).parents[2]


class Case(NamedTuple):
    """The exchange, its listed instruments, and the environment of the flows."""

    server: ExchangeServer
    names: Sequence[str]
    env: Mapping[str, str]


class Run(Protocol):
    """Runs the command with an environment and options: exit status and both outputs."""

    def __call__(self, env: Mapping[str, str], *options: str) -> tuple[int, str, str]: ...


@pytest.fixture
def reconcile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(env: Mapping[str, str], *options: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patched:
            for name, value in env.items():
                patched.setenv(name, value)
            try:
                code = main(options)
            except SystemExit as end:  # of argparse
                code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


def finish(flow: FlowProcess) -> None:
    try:
        assert flow.wait(WAIT_S) == 0, flow.output()
    finally:
        flow.kill9()


def collect(market: ExchangeMarket, names: Sequence[str], url: str, flow: FlowProcess) -> None:
    """Let the feed bring everything traded so far."""
    wanted = {name: market.count(market.index[name], READ_TO_MS) for name in names}
    deadline_s = time.monotonic() + WAIT_S
    try:
        while True:
            with psycopg.connect(url) as connection:
                row = connection.execute("SELECT to_regclass('trades')").fetchone()
                query = "SELECT instrument, max(trade_seq) FROM trades GROUP BY 1"
                if row and row[0] and dict(connection.execute(query).fetchall()) == wanted:
                    break
            assert flow.returncode is None, flow.output()
            assert time.monotonic() < deadline_s, flow.output()
            time.sleep(0.2)
        flow.terminate()
        assert flow.wait(60) == 0, flow.output()
    finally:
        flow.kill9()


@pytest.fixture
def case(kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path) -> Iterator[Case]:
    """25 hours of trades of four kinds, collected by the feed and run through the flows."""
    market = ExchangeMarket(OPENED_AT_MS, instruments=22, rate=0.5)
    clock = [READ_TO_MS]
    server = ExchangeServer(market, now_ms=lambda: clock[0]).start()
    names = [market.listed[k].name for k in (0, 1, 2, 20)]
    common = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres_url,
        "DERIBIT_ENDPOINT": server.url,
        "DERIBIT_INSTRUMENTS": ",".join(names),
    }
    feed = {"OUTPUT_TOPIC": topic, "DERIBIT_START_SEQ": "1", "DERIBIT_PARTITIONS": "3"}
    collect(market, names, postgres_url, FlowProcess(
        "dataflows.deribit", log=tmp_path / "deribit.log", env=common | feed, recovery_dir=None,
    ))  # fmt: skip
    for name, settings in (("candles", {"FILL_GAPS": "true"}), ("statistics", {})):
        env = common | settings | {
            "INPUT_TOPIC": topic,
            "OUTPUT_TOPIC": f"{topic}-{name}",
            "STOP_AT_END": "true",
            # History of several instruments comes in pages that are hours apart: what is older
            # than a day by then is late.
            "LATENESS_S": "86400",
        }  # fmt: skip
        finish(FlowProcess(
            f"dataflows.{name}", log=tmp_path / f"{name}.log", env=env, recovery_dir=None,
        ))  # fmt: skip
    clock[0] = UNTIL_MS
    yield Case(server, names, common)
    server.stop()


def change(url: str, query: str) -> None:
    with psycopg.connect(url) as connection:
        assert connection.execute(query.encode()).rowcount == 1


def test_what_the_flows_make_is_what_the_exchange_says(case: Case, reconcile: Run) -> None:
    code, output, errors = reconcile(case.env, *SPAN, "--json")
    assert code == 0, output + errors
    found = json.loads(output)
    assert found["equal"]
    assert found["instruments"] == case.names
    assert not found["worst"]
    assert [one["behind_ms"] for one in found["windows"]] == [0] * 4
    fields = {(one["of"], one["field"]): one for one in found["fields"]}
    prices = {("candle", name) for name in ("open", "high", "low", "close")}
    prices |= {("24h", name) for name in ("high", "low", "last", "price_change")}
    volumes = {(of, name) for of in ("candle", "24h") for name in ("volume", "quote_volume")}
    assert set(fields) == prices | volumes | {("candle", "trades"), ("24h", "trades")}
    assert all(one["largest"] is None for one in fields.values())
    assert fields["24h", "trades"]["compared"] == 4
    # All minutes of the most traded one, and more than it alone.
    assert fields["candle", "open"]["compared"] > fields["candle", "trades"]["compared"] > 1_500
    assert 0 < fields["candle", "volume"]["compared"] < fields["candle", "open"]["compared"]
    assert {one["field"]: one["instruments"] for one in found["not_compared"]
            if one["of"] == "candle"} == {
        "volume": case.names[:2], "quote_volume": case.names[3:],
    }  # fmt: skip

    url = case.env["DATABASE_URL"]
    btc, eth, sol, _ = case.names
    change(url, "UPDATE candles SET high = high * 1.00001, complete = false "
                f"WHERE instrument = '{btc}' AND open_time = '2023-11-15T12:00Z'")  # fmt: skip
    change(url, f"DELETE FROM candles WHERE instrument = '{eth}' "
                "AND open_time = '2023-11-15T13:00Z'")  # fmt: skip
    change(url, "UPDATE statistics_24h SET volume = volume * 2 "
                f"WHERE instrument = '{sol}' AND close_time = '2023-11-15T23:14Z'")  # fmt: skip
    code, output, errors = reconcile(case.env, *SPAN)
    assert code == 1, output + errors
    assert output.endswith("\n3 mismatches\n")
    assert f"candle trades: {eth} 2023-11-15T13:00:00Z missing here\n" in output
    assert f"candle high: {btc} 2023-11-15T12:00:00Z ours " in output
    assert ", 10 ppm, incomplete here\n" in output
    assert f"24h volume: {sol} 2023-11-15T23:14:00Z ours " in output
    assert ", 1e+06 ppm\n" in output

    code, output, _ = reconcile(
        case.env, *SPAN, "--json", "--only", "candles", "--instruments", btc, "--worst", "0"
    )
    assert (code, json.loads(output)["worst"]) == (1, [])
    code, output, errors = reconcile(
        case.env, *SPAN, "--json", "--only", "candles", "--instruments", btc,
        "--tolerance-ppm", "10",
    )  # fmt: skip
    assert code == 0, errors
    found = json.loads(output)
    assert found["incomplete_candles"] == 1
    largest: Any = next(one for one in found["fields"] if one["field"] == "high")["largest"]
    assert (largest["ppm"], largest["complete"]) == (10, False)


def test_what_cannot_be_compared_is_an_error_of_its_own(
    postgres_url: str, tmp_path: Path, reconcile: Run
) -> None:
    market = ExchangeMarket(OPENED_AT_MS, instruments=1, rate=1)
    server = ExchangeServer(market, now_ms=lambda: UNTIL_MS).start()
    env = {"DATABASE_URL": postgres_url, "DATA_DIR": str(tmp_path), "DERIBIT_ENDPOINT": server.url,
           "DERIBIT_INSTRUMENTS": "BTC-PERPETUAL"}  # fmt: skip
    wrong: list[tuple[Mapping[str, str], Sequence[str], str]] = [
        ({}, (), 'relation "candles" does not exist'),
        ({}, ("--only", "statistics"), 'relation "statistics_24h" does not exist'),
        ({}, ("--instruments", "NONE"), "not_found"),
        ({}, ("--from", "2024-01-01"), "holds no 1m candle"),
        ({}, ("--endpoint", "simulated"), "No simulated exchange has run"),
        ({}, ("--interval", "1s"), "invalid choice"),
        ({}, ("--from", "yesterday"), "is no time"),
        ({"DATABASE_URL": "off"}, (), "there are no tables"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:9/none"}, (), "does not answer"),
        ({"STOP_AT_END": "1", "DERIBIT_ENDPOINT": "ws://example.org"}, (), "unencrypted"),
    ]
    try:
        for changed, options, message in wrong:
            code, output, errors = reconcile(env | changed, *options)
            assert (code, output) == (2, ""), (output, errors)
            assert message in errors
            assert "Traceback" not in errors
        command = [sys.executable, "-m", "dataflows.commands.reconcile"]
        process = Child(command, log=tmp_path / "process.log", env=env | {"PYTHONPATH": str(ROOT)})
        assert process.wait(WAIT_S) == 2, process.output()
        assert process.output().startswith("error: There is nothing of ours to compare (")
    finally:
        server.stop()
