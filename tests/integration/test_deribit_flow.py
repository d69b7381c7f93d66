"""The flow `deribit` as a process: simulated exchange in, real Kafka and PostgreSQL out."""

import re
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import psycopg

from schemas.market_pb2 import Trade
from schemas.murmur2 import partition_of
from sinks.embedded_postgres import embedded_postgres
from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer
from tests.real.collector import Collector, collector
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka

PARTITIONS = 3
INSTRUMENTS = 30
WAIT_S = 120.0


def sequences(kafka: Kafka, topic: str) -> dict[str, list[Trade]]:
    """Trades of the topic by instrument, in order; checks key, place and timestamp of each."""
    found: dict[str, list[Trade]] = {}
    for number, partition in enumerate(kafka.read(topic)):
        for record in partition:
            assert record.key is not None
            assert record.value is not None
            trade = Trade.FromString(record.value)
            assert record.key == trade.instrument.encode()
            assert record.timestamp_ms == trade.timestamp_ms
            assert number == partition_of(record.key, PARTITIONS)
            found.setdefault(trade.instrument, []).append(trade)
    return found


def test_every_trade_is_there_once_across_kills_and_faults(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    opened_at_ms = int(time.time() * 1000) - 5_000
    market = ExchangeMarket(opened_at_ms, instruments=INSTRUMENTS, rate=500)
    server = ExchangeServer(market, Faults(share=0.02)).start()
    names = [listed.name for listed in market.listed]
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres_url,
        "OUTPUT_TOPIC": topic,
        "DERIBIT_ENDPOINT": server.url,
        "DERIBIT_INSTRUMENTS": ",".join(names),
        "DERIBIT_START_SEQ": "1",
        "DERIBIT_PARTITIONS": str(PARTITIONS),
    }
    with collector() as received, ExitStack() as cleanup:
        cleanup.callback(server.stop)
        for run in range(3):
            if run == 2:
                env["OTEL_EXPORTER_OTLP_ENDPOINT"] = received.url
                env["OTEL_TRACES_SAMPLER_ARG"] = "1"
            flow = FlowProcess(
                "dataflows.deribit",
                log=tmp_path / f"{run}.log",
                env=env,
                recovery_dir=tmp_path / "recovery",
            )
            try:
                wanted = {name: market.count(k, time.time_ns() // 1_000_000)
                          for k, name in enumerate(names)}  # fmt: skip
                deadline_s = time.monotonic() + WAIT_S
                while any(last < wanted[name] for name, last in lasts(postgres_url, names).items()):
                    assert flow.returncode is None, flow.output()
                    assert time.monotonic() < deadline_s, flow.output()
                    time.sleep(0.2)
                if run == 2:
                    flow.terminate()
                    assert flow.wait(60) == 0, flow.output()
            finally:
                flow.kill9()
            assert not re.search("Traceback|are missing", flow.output()), flow.output()
    check_traces(received)
    published = sequences(kafka, topic)
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(
            "SELECT instrument, trade_seq, price, quantity, side FROM trades ORDER BY 1, 2"
        ).fetchall()
    stored: dict[str, list[tuple[int, Decimal, Decimal, str]]] = {}
    for name, *rest in rows:
        stored.setdefault(name, []).append(tuple(rest))
    assert set(published) == set(stored) == set(names)
    for name, trades in published.items():
        assert [trade.trade_seq for trade in trades] == list(range(1, len(trades) + 1))
        assert [
            (
                trade.trade_seq,
                Decimal(trade.price.unscaled).scaleb(-trade.price.scale),
                Decimal(trade.quantity.unscaled).scaleb(-trade.quantity.scale),
                ("buy", "sell")[trade.side],
            )
            for trade in trades
        ] == stored[name]


def check_traces(received: Collector) -> None:
    """Each batch goes on along each instrument, and each transaction hangs on batches."""
    batches = received.spans("source.batch")
    assert batches
    reached: dict[str, int] = {}
    for span in sorted(batches, key=lambda span: span.start_ns):
        a = span.attributes
        assert a["tidemark.flow"] == "deribit"
        assert a["tidemark.lane_count"] == len(a["tidemark.lanes"])
        for lane, first, last in zip(
            *(a[f"tidemark.{name}"] for name in ("lanes", "first_positions", "last_positions")),
            strict=True,
        ):
            assert first == reached.get(lane, first - 1) + 1
            reached[lane] = last
    places = {span.place for span in batches}
    transactions = received.spans("sink.transaction")
    assert {span.attributes["tidemark.sink"] for span in transactions} == {"kafka", "postgres"}
    for span in transactions:
        assert set(span.links) <= places
        assert (span.trace_id, span.parent_id) in span.links


def lasts(url: str, names: list[str]) -> dict[str, int]:
    """How far the table is; 0 for an instrument that is not in it."""
    found = dict.fromkeys(names, 0)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regclass('trades')").fetchone()
        if row and row[0]:
            query = "SELECT instrument, max(trade_seq) FROM trades GROUP BY 1"
            found.update(connection.execute(query).fetchall())
    return found


def test_the_embedded_run_needs_nothing(scratch_dir: Path) -> None:
    data = scratch_dir / "deribit"
    flow = FlowProcess(
        "dataflows.deribit",
        log=scratch_dir / "deribit.log",
        env={"DATA_DIR": str(data)},
        recovery_dir=data / "recovery",
    )
    try:
        deadline_s = time.monotonic() + WAIT_S
        while "BTC-PERPETUAL" not in flow.output():
            assert flow.returncode is None, flow.output()
            assert time.monotonic() < deadline_s, flow.output()
            time.sleep(0.2)
        flow.terminate()
        assert flow.wait(60) == 0, flow.output()
    finally:
        flow.kill9()
    assert lasts(embedded_postgres(data / "postgres"), [])["BTC-PERPETUAL"] > 0
