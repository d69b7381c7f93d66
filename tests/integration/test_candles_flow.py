"""The candles flow on real Kafka and real PostgreSQL against the oracle."""

import re
import time
import urllib.request
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.market_pb2 import Decimal, OrderExecutionReport, Trade
from tests import candles_io as io
from tests.oracle import Rule, T
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.process import free_port

BASE = io.BASE_MS
ONE = 10**8
RULE = Rule()


def test_output_equals_the_oracle_in_both_sinks(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(1, 6_000)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    intervals = ("1s", "1m", "5m", "1h", "1d")
    env = io.settings(kafka, topic, postgres_url, INTERVALS=",".join(intervals), FILL_GAPS="true")
    code, output = io.run(tmp_path, env)
    assert code == 0, output
    lengths = (1_000, 60_000, 300_000, 3_600_000, 86_400_000)
    expected = io.expected(logs, Rule(lengths, fill=True))
    for name, length in zip(intervals, lengths, strict=True):
        published = io.kafka_rows(kafka, f"{topic}-out.{name}")
        assert published == [[r for r in rows if r["interval"] == length] for rows in expected]
    assert io.table_rows(postgres_url) == io.final(expected)
    counted = sum(r["trade_count"] for r in io.final(expected).values() if r["interval"] == 60_000)
    late = io.count(postgres_url, "late")
    assert counted + late == sum(map(len, logs)), "aggregated + late = read"
    assert late == sum(map(len, kafka.read(f"{topic}-out.late"))) > 0

    code, output = io.run(tmp_path, env, workers=2, name="again")  # without any recovery store
    assert code == 0, output
    assert io.table_rows(postgres_url) == io.final(expected)
    again = io.kafka_rows(kafka, f"{topic}-out.1m")
    assert again == [[r for r in rows if r["interval"] == 60_000] for rows in expected]


def test_recovery_goes_on_with_one_and_two_workers_as_the_log_grows(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(2, 5_000)
    kafka.create_topic(topic, len(logs))
    env = io.settings(kafka, topic, postgres_url)
    recovery = tmp_path / "recovery"
    done = [0] * len(logs)
    for step, workers in enumerate((1, 2, 1)):
        upto = [len(log) * (step + 1) // 3 for log in logs]
        parts = [log[a:b] for log, a, b in zip(logs, done, upto, strict=True)]
        io.produce(kafka, topic, parts)
        done = upto
        code, output = io.run(tmp_path, env, workers=workers, recovery=recovery, name=f"{step}")
        assert code == 0, output
    published = [r for rows in io.kafka_rows(kafka, f"{topic}-out") for r in rows]
    revisions: dict[tuple, list[int]] = {}
    for row in published:
        key = (row["instrument"], row["interval"], row["open_time"])
        revisions.setdefault(key, []).append(row["revision"])
    assert all(seen == list(range(len(seen))) for seen in revisions.values())
    expected = io.final(io.expected(logs, RULE))
    stored = io.table_rows(postgres_url)
    assert {k: v | {"revision": 0} for k, v in stored.items()} == {
        k: v | {"revision": 0} for k, v in expected.items()
    }


def test_a_lost_recovery_store_after_a_finite_run_leaves_no_stale_candle(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = [[T(BASE + i * 100, "A", ONE + i, ONE, 0, i + 1) for i in range(60)]]
    kafka.create_topic(topic, 1)
    io.produce(kafka, topic, [logs[0][:30]])
    env = io.settings(kafka, topic, postgres_url)
    assert io.run(tmp_path, env, recovery=tmp_path / "first")[0] == 0
    io.produce(kafka, topic, [logs[0][30:]])
    code, output = io.run(tmp_path, env, recovery=tmp_path / "second", name="second")
    assert code == 0, output
    stored = io.table_rows(postgres_url)
    assert stored == io.final(io.expected(logs, RULE))


def _with_bad_ones(logs: list[list[T]]) -> tuple[dict[int, tuple[str, bytes | None]], list]:
    """Bad records by place, and the mixed partition."""
    good = Decimal(unscaled=5, scale=0)
    huge = Decimal(unscaled=2**62, scale=8)
    now = BASE + 1_000

    def trade(**fields: object) -> bytes:
        base = {"instrument": "A", "timestamp_ms": now, "price": good, "quantity": good}
        given = {name: value for name, value in (base | fields).items() if value is not None}
        return Trade(**given).SerializeToString()

    kinds: list[tuple[str, bytes | None]] = [
        ("no_value", None),
        ("undecodable", b"\xff\xff\xff"),
        ("missing_instrument", b""),
        ("missing_instrument", trade(instrument=None)),
        ("invalid_instrument", trade(instrument="A\x00")),
        ("missing_timestamp", trade(timestamp_ms=None)),
        ("invalid_timestamp", trade(timestamp_ms=-1)),
        ("missing_price", trade(price=None)),
        ("price_not_positive", trade(price=Decimal(unscaled=0, scale=2))),
        ("price_not_positive", trade(price=Decimal(unscaled=-525, scale=2))),
        ("price_overflow", trade(price=Decimal(unscaled=2**62, scale=0))),
        ("missing_quantity", trade(quantity=None)),
        ("quantity_not_positive", trade(quantity=Decimal(unscaled=0))),
        ("quantity_overflow", trade(quantity=Decimal(unscaled=1, scale=-30))),
        ("notional_overflow", trade(price=huge, quantity=huge)),
        ("invalid_side", trade(side=7)),
        ("ahead_of_log", trade(timestamp_ms=now + 365 * 86_400_000)),
    ]  # fmt: skip
    bad, mixed = {}, []
    for i, (reason, value) in enumerate(kinds):
        for t in logs[0][i * 3 : i * 3 + 3]:
            mixed.append((t.key.encode(), io.message(t), t.time))
        bad[len(mixed)] = (reason, value)
        mixed.append((b"A", value, now))
    for t in logs[0][len(kinds) * 3 :]:
        mixed.append((t.key.encode(), io.message(t), t.time))
    return bad, mixed


def test_a_poison_message_never_stops_or_loops_the_flow(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = [[T(BASE + i * 100, "A", ONE + i, ONE, 0, i + 1) for i in range(400)]]
    bad, mixed = _with_bad_ones(logs)
    kafka.create_topic(topic, 2)
    kafka.produce(topic, 0, mixed)
    kafka.produce(topic, 1, [(None, b"\xff", BASE)])  # alone in its partition
    code, output = io.run(tmp_path, io.settings(kafka, topic, postgres_url))
    assert code == 0, output
    rejected = kafka.read(f"{topic}-out.rejected")
    for partition, places in ((0, bad), (1, {0: ("undecodable", b"\xff")})):
        headers = [dict(r.headers) for r in rejected[partition]]
        assert [int(h["offset"]) for h in headers] == list(places)
        assert [h["reason"].decode() for h in headers] == [reason for reason, _ in places.values()]
        assert [r.value for r in rejected[partition]] == [value for _, value in places.values()]
        assert {(h["topic"], h["partition"]) for h in headers} == {
            (topic.encode(), str(partition).encode())
        }
    expected = io.expected([logs[0], []], RULE)
    assert io.kafka_rows(kafka, f"{topic}-out") == expected
    with psycopg.connect(postgres_url) as connection:
        stored = connection.execute(
            'SELECT "offset", reason, value FROM rejected WHERE "partition" = 0 ORDER BY "offset"'
        ).fetchall()
    assert stored == [(offset, reason, value) for offset, (reason, value) in bad.items()]
    counted = sum(r["trade_count"] for r in io.final(expected).values())
    assert counted + len(bad) == len(mixed), "aggregated + rejected = read"


def test_the_last_candle_of_a_silent_market_closes_without_another_trade(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, 4)  # three of them never see a record
    now = round(time.time() * 1000)
    trades = [T(now - 3_000 + i, "A", ONE, ONE, 0, i + 1) for i in range(10)]
    io.produce(kafka, topic, [trades, [], [], []])
    env = io.settings(
        kafka, topic, postgres_url, STOP_AT_END="0", IDLE_TIMEOUT_S="1", INTERVALS="1s"
    )
    flow = FlowProcess(
        "dataflows.candles", log=tmp_path / "log", env=env, recovery_dir=tmp_path / "recovery"
    )
    try:
        deadline = time.monotonic() + 60
        while sum(
            map(len, kafka.read(f"{topic}-out") if _exists(kafka, f"{topic}-out") else [])
        ) < len({t.time // 1000 for t in trades}):
            assert time.monotonic() < deadline, flow.output()
            assert flow.returncode is None, flow.output()
            time.sleep(0.3)
        flow.terminate()
        assert flow.wait(30) == 0, flow.output()
    finally:
        flow.kill9()
    rows = [r for part in io.kafka_rows(kafka, f"{topic}-out") for r in part]
    assert sum(r["trade_count"] for r in rows) == 10


def _exists(kafka: Kafka, name: str) -> bool:
    return name in kafka.topics(name)


def test_golden_cases_of_past_mistakes(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    minute = 60_000
    m = [BASE + i * minute for i in range(4)]
    five = 525 * 10**6
    log = [
        # values 1,2,3 | 4,5 | 6 in consecutive windows
        *[T(m[0] + 1_000 + i, "tumbling", (i + 1) * ONE, ONE, 0, i + 1) for i in range(3)],
        # fractional prices, and the highest of one window is not carried to the next
        T(m[0] + 2_000, "fractional", five, ONE, 0, 1),
        T(m[0] + 2_500, "high", 1_000 * ONE, ONE, 0, 1),
        # arrival order is not event order
        T(m[0] + 9_000, "order", 3 * ONE, ONE, 0, 3),
        T(m[0] + 8_000, "order", 1 * ONE, ONE, 0, 1),
        T(m[0] + 8_000, "order", 2 * ONE, ONE, 0, 2),
        *[T(m[1] + 1_000 + i, "tumbling", (i + 4) * ONE, ONE, 0, i + 4) for i in range(2)],
        T(m[1] + 2_000, "high", 7 * ONE, ONE, 0, 2),
        T(m[2] + 1_000, "tumbling", 6 * ONE, ONE, 0, 6),
        T(m[2] + 30_000, "high", 6 * ONE, ONE, 0, 3),
        # for a passed minute: a correction, and beyond the horizon the late stream
        T(m[0] + 3_000, "fractional", 2 * five, ONE, 1, 2),
        T(m[0] - 400_000, "fractional", ONE, ONE, 1, 3),
    ]
    kafka.create_topic(topic, 1)
    io.produce(kafka, topic, [log])
    code, output = io.run(tmp_path, io.settings(kafka, topic, postgres_url))
    assert code == 0, output
    rows = [r for part in io.kafka_rows(kafka, f"{topic}-out") for r in part]

    def of(key: str) -> list[dict]:
        return [r for r in rows if r["instrument"] == key]

    assert [r["quote_volume"] for r in of("tumbling")] == ["6", "9", "6"]
    assert [r["trade_count"] for r in of("tumbling")] == [3, 2, 1]
    # low is never 0, and high and low are those of the window alone
    assert [(r["low"], r["high"]) for r in of("high")] == [("1000", "1000"), ("7", "7"), ("6", "6")]
    assert of("fractional")[0]["open"] == "5.25"
    (ordered,) = of("order")
    assert (ordered["open"], ordered["close"], ordered["complete"]) == ("1", "3", True)
    assert (ordered["open_time"], ordered["close_time"]) == (m[0], m[1])
    assert [(r["revision"], r["high"], r["trade_count"]) for r in of("fractional")] == [
        (0, "5.25", 1),
        (1, "10.5", 2),
    ]
    (late,) = [r for part in kafka.read(f"{topic}-out.late") for r in part]
    headers = dict(late.headers)
    assert (late.key, headers["offset"]) == (b"fractional", str(len(log) - 1).encode())
    assert headers["event_time"] == str(m[0] - 400_000).encode()


def test_order_execution_reports_are_accepted(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, 1)
    reports = [
        OrderExecutionReport(
            instrument_id=number, order_id=f"o{i}", timestamp_ms=BASE + i,
            price=Decimal(unscaled=525, scale=2), quantity=Decimal(unscaled=1, scale=0), side=i % 2,
        )
        for i, number in enumerate((7, -7, 0, 7))
    ]  # fmt: skip
    kafka.produce(topic, 0, [(None, r.SerializeToString(), BASE) for r in reports])
    env = io.settings(kafka, topic, postgres_url, INPUT_FORMAT="order_execution_report")
    code, output = io.run(tmp_path, env)
    assert code == 0, output
    stored = io.table_rows(postgres_url)
    assert {k[0]: v["trade_count"] for k, v in stored.items()} == {"7": 2, "-7": 1, "0": 1}
    assert {v["close"] for v in stored.values()} == {"5.25"}


def test_holes_in_the_offsets_and_a_trailing_abort_do_not_hold_up_the_end(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, 2)
    logs = io.random_log(7, 600, partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for first in range(0, 600, 50):
        for aborted in (True, False):
            producer.begin_transaction()
            for partition, log in enumerate(logs):
                for t in log[first : first + 50]:
                    value = b"never seen" if aborted else io.message(t)
                    producer.produce(topic, value, t.key.encode(), partition, timestamp=t.time)
            producer.flush(30)  # an abort before any partition has joined can fail
            producer.abort_transaction(30) if aborted else producer.commit_transaction(30)
    producer.begin_transaction()
    for partition in (0, 1):
        producer.produce(topic, b"never seen", b"x", partition)
    producer.flush(30)
    producer.abort_transaction(30)
    code, output = io.run(tmp_path, io.settings(kafka, topic, postgres_url))
    assert code == 0, output
    assert io.kafka_rows(kafka, f"{topic}-out") == io.expected(logs, RULE)
    assert sum(map(len, kafka.read(f"{topic}-out.rejected"))) == 0


def test_lag_tools_see_the_flow_and_metrics_count_every_record(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = io.random_log(8, 2_000, partitions=2)
    kafka.create_topic(topic, 2)
    io.produce(kafka, topic, logs)
    kafka.produce(topic, 0, [(None, b"\xff", BASE)])
    port = free_port()
    env = io.settings(
        kafka, topic, postgres_url, STOP_AT_END="0", METRICS_PORT=str(port), FLOW_VERSION=topic[-8:]
    )
    text = ""

    def series(name: str, **labels: str) -> list[float]:
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = re.findall(rf"^{name}{{(.*)}} ([0-9.e+-]+)$", text, re.MULTILINE)
        return [float(value) for own, value in lines if all(part in own for part in wanted)]

    def total(name: str, **labels: str) -> int:
        return round(sum(series(name, flow="candles", **labels)))

    def is_settled() -> bool:
        """Both sinks have written, in whatever transactions, all that was rejected and late."""
        late = total("tidemark_late_records_total")
        return late > 0 and all(
            total("tidemark_sink_rows_total", sink=sink, kind="rejected") == 1
            and total("tidemark_sink_rows_total", sink=sink, kind="late") == late
            and not any(series("tidemark_sink_queued_rows", sink=sink))
            for sink in ("kafka", "postgres")
        )

    flow = FlowProcess(
        "dataflows.candles", log=tmp_path / "log", env=env, recovery_dir=tmp_path / "recovery"
    )
    ends = kafka.end_offsets(topic)
    group = {"bootstrap.servers": kafka.bootstrap, "group.id": f"candles-v{topic[-8:]}"}
    observer = Consumer(group)
    try:
        deadline = time.monotonic() + 90
        committed: list[int] = []
        while committed != ends:
            assert time.monotonic() < deadline, (committed, ends, flow.output())
            time.sleep(0.3)
            found = observer.committed([TopicPartition(topic, p) for p in (0, 1)], timeout=30)
            committed = [partition.offset for partition in found]
        while not is_settled():
            assert time.monotonic() < deadline, (text, flow.output())
            time.sleep(0.1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        flow.terminate()
        assert flow.wait(30) == 0, flow.output()
    finally:
        observer.close()
        flow.kill9()

    read = total("tidemark_source_records_total")
    assert read == sum(map(len, logs)) + 1
    parts = [
        total(f"tidemark_{name}_total")
        for name in ("aggregated_records", "late_records", "source_rejected")
    ]
    assert parts[2] == 1
    assert sum(parts) == read, "aggregated + late + rejected = read"

    newest_s = max(trade.time for log in logs for trade in log) / 1000
    watermarks_s = series("tidemark_source_watermark_timestamp_seconds")
    lags_s = series("tidemark_source_watermark_lag_seconds")
    assert max(watermarks_s) == newest_s - 2, "the lateness"
    assert max(s + lag_s for s, lag_s in zip(watermarks_s, lags_s, strict=True)) <= time.time()
    assert series("tidemark_source_consumer_lag_records") == [0, 0]
    assert len(series("tidemark_source_idle")) == 2
    for name in ("open_windows", "keys", "waiting_records", "state_bytes"):
        assert series(f"tidemark_operator_{name}", step="candles"), name
    assert total("tidemark_operator_keys") == len({trade.key for log in logs for trade in log})
    for sink in ("kafka", "postgres"):
        assert total("tidemark_sink_rows_total", sink=sink, kind="rejected") == 1
        assert total("tidemark_sink_rows_total", sink=sink, kind="late") == parts[1]
        assert total("tidemark_sink_rows_total", sink=sink, kind="results")
        assert total("tidemark_sink_transaction_seconds_count", sink=sink)
        assert total("tidemark_end_to_end_latency_seconds_count", sink=sink)
        assert series("tidemark_sink_retries_total", sink=sink) == [0, 0]
        assert series("tidemark_sink_queued_rows", sink=sink) == [0, 0]
    assert series("tidemark_build_info") == [1]
    assert series("tidemark_flow_info", flow="candles") == [1]
