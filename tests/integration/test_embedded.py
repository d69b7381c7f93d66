"""The embedded run: no broker, no server, nothing configured."""

import re
import time
from pathlib import Path

import psycopg

from sinks.embedded_postgres import embedded_postgres
from sources.market import SimulatedMarket, opening
from tests import candles_io as io
from tests.oracle import Rule, T
from tests.real.flows import FlowProcess

RATE = 2_000


def market_logs(data_dir: Path, trades: int) -> list[list[T]]:
    """The simulated market's log, decoded with the reference decoder."""
    from schemas.trades import decode_one  # noqa: PLC0415  # next to its only use

    log = SimulatedMarket(opening(data_dir, 0), rate=RATE, trades=trades, pace="fast")
    logs: list[list[T]] = []
    for partition in range(log.partitions):
        fetcher, rows = log.open(partition, None), []
        while fetcher.position < log.end(partition):
            fetched = fetcher.poll(10_000)
            assert fetched is not None
            for value in fetched.values.to_pylist():
                one = decode_one(value)
                rows.append(
                    T(one.event_time_ms, one.key, one.price, one.quantity, one.side, one.seq)
                )
        logs.append(rows)
    return logs


def test_a_finite_run_on_the_simulated_market_equals_the_oracle(scratch_dir: Path) -> None:
    data = scratch_dir / "embedded"
    env = {"DATA_DIR": str(data), "MARKET_RATE": str(RATE), "MARKET_TRADES": "20000"}
    code, output = io.run(scratch_dir, env | {"STOP_AT_END": "1"}, name="embedded")
    assert code == 0, output
    expected = io.final(io.expected(market_logs(data, 20_000), Rule()))
    assert io.table_rows(embedded_postgres(data / "postgres")) == expected


def test_a_live_run_shows_candles_and_a_second_start_continues(scratch_dir: Path) -> None:
    data = scratch_dir / "live"
    env = {"DATA_DIR": str(data), "INTERVALS": "1s"}
    recovery = data / "recovery"
    counts = []
    for name in ("first", "second"):
        flow = FlowProcess(
            "dataflows.candles", log=scratch_dir / f"{name}.log", env=env, recovery_dir=recovery
        )
        try:
            deadline = time.monotonic() + 90
            while "1s BTC-USD" not in flow.output() or "forming" not in flow.output():
                assert time.monotonic() < deadline, flow.output()
                assert flow.returncode is None, flow.output()
                time.sleep(0.2)
            flow.terminate()
            assert flow.wait(30) == 0, flow.output()
        finally:
            flow.kill9()
        assert "SELECT * FROM candles" in flow.output()
        assert not re.search("Traceback|panicked", flow.output())
        counts.append(io.count(embedded_postgres(data / "postgres"), "candles"))
    assert counts[1] > counts[0] > 0
    with psycopg.connect(embedded_postgres(data / "postgres")) as connection:
        gaps = connection.execute(
            "SELECT count(*) FROM (SELECT open_time - lag(open_time) OVER (ORDER BY open_time) "
            "AS step FROM candles WHERE instrument = 'BTC-USD') AS steps "
            "WHERE step > interval '5 seconds'"
        ).fetchone()
    assert gaps == (0,), "the second start left no hole"
