"""The page on a real Kafka: the topics' rows are the tables', to the letter; outages heal."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from page.kinds import kinds, make_row
from page.records import decoder
from schemas.candles import CANDLE_SCHEMA, encode_candles
from schemas.ewma import EWMA_SCHEMA, encode_ewma
from schemas.sessions import SESSION_SCHEMA, encode_session
from schemas.statistics import STATISTICS_SCHEMA, encode_statistics
from schemas.totals import TOTALS_SCHEMA, encode_totals
from schemas.wire import add_header, header, id_header
from tests.page_io import candle, this_minute
from tests.real.kafka import KafkaBroker
from tests.real.kafka_client import Kafka
from tests.real.page import PageServer
from tests.stream_io import StreamReader, eventually

NOW = this_minute()
MINUTE = timedelta(minutes=1)
Start = Callable[..., PageServer]
Rows = list[dict[str, Any]]


def candles(*rows: dict[str, Any]) -> list[bytes]:
    return encoded(encode_candles, CANDLE_SCHEMA, list(rows))


def encoded(encode: Callable[[Any], pa.BinaryArray], schema: pa.Schema, rows: Rows) -> list[bytes]:
    values: list[bytes] = encode(pa.RecordBatch.from_pylist(rows, schema)).to_pylist()
    return values


AVERAGE = {
    "instrument": "A", "window_start": NOW, "window_end": NOW + MINUTE, "alpha": 0.1,
    "halflife_s": None, "value": 0.1 + 0.2, "trade_count": 3, "volume": "1.5",
    "last_price": "100", "revision": 0,
}  # fmt: skip
STATISTICS = {
    "instrument": "A", "open_time": NOW - timedelta(days=1), "close_time": NOW,
    **dict.fromkeys(("open", "high", "low", "last"), "1.25"), "price_change": "0",
    "price_change_percent": "0", "volume": "0.00000001", "quote_volume": "1",
    "weighted_average_price": None, "trade_count": 1, "first_trade_id": None,
    "last_trade_id": None, "high_time": NOW - timedelta(milliseconds=1), "low_time": None,
}  # fmt: skip
SALES = {
    "seller_id": "Ω", "window_start": NOW, "window_end": NOW + MINUTE, "aggregated_amount": "10",
    "sale_count": 2, "min_amount": "4", "max_amount": "6", "mean_amount": "5", "revision": 1,
}  # fmt: skip
SENSOR = {"count": 1, "min": 1.5, "max": 1.5, "mean": 1.5, "last": 1.5}
SESSION = {
    "device": "d", "session_id": "1-0-0", "started_at": NOW,
    "ended_at": NOW + timedelta(milliseconds=1_001), "reason": "timeout", "event_count": 2,
    "sensors": {"heat": SENSOR}, "revision": 0,
}  # fmt: skip
CASES: list[tuple[str, Callable[[Any], pa.BinaryArray], pa.Schema, dict[str, Any]]] = [
    ("candle", encode_candles, CANDLE_SCHEMA, candle("A", NOW, close="101.5", vwap=None)),
    ("preview", encode_candles, CANDLE_SCHEMA, candle("A", NOW, close="1", is_closed=False)),
    ("statistics", encode_statistics, STATISTICS_SCHEMA, STATISTICS),
    ("ewma", encode_ewma, EWMA_SCHEMA, AVERAGE),
    ("sales", encode_totals, TOTALS_SCHEMA, SALES),
    ("session", encode_session, SESSION_SCHEMA, SESSION),
]


def expected(kind: str, row: dict[str, Any]) -> str:
    """The row as the page must send it."""
    values = {
        name: time(value) if isinstance(value, datetime) else value for name, value in row.items()
    }
    table = kinds("24h")[kind].table
    return make_row(kinds("24h")[kind], {c.name: values[c.name] for c in table.columns}).text


def time(value: datetime) -> str:
    text = value.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("is_framed", [False, True])
def test_a_record_is_the_row_of_the_table(case: Any, is_framed: bool) -> None:
    kind, encode, schema, row = case
    if "close_trade_time" in row:  # protobuf has milliseconds
        row = row | {"close_trade_time": NOW + timedelta(milliseconds=5)}
    values = pa.array(encoded(encode, schema, [row]), pa.binary())
    if is_framed and kind != "sales":
        values = add_header(values, id_header(7) if kind == "session" else header(7, [3]))
    rows, unreadable = decoder(kinds("24h")[kind], is_framed=is_framed)(values.to_pylist())
    assert [found.text for found in rows] == [expected(kind, row)]
    assert unreadable == 0


@pytest.mark.parametrize("kind", [case[0] for case in CASES])
@pytest.mark.parametrize("value", [b"", b"\x00", b"{}", b"[1]", b"\xff" * 40, b"null"])
def test_what_is_no_record_is_counted(kind: str, value: bytes) -> None:
    for is_framed in (False, True):
        assert decoder(kinds("24h")[kind], is_framed=is_framed)([value]) == ([], 1)


@pytest.fixture
def start(kafka: Kafka, topic: str, tmp_path: Path) -> Iterator[Start]:
    """Starts pages on topics of the test's own, which are named after their kind."""
    started: list[PageServer] = []

    def begin(**env: str) -> PageServer:
        topics = ",".join(f"{kind}={topic}-{kind}" for kind, *_ in CASES)
        common = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "DATABASE_URL": "off"}
        page = PageServer(tmp_path / "page.log", {**common, "PAGE_TOPICS": topics, **env})
        page.start()
        started.append(page)
        return page

    yield begin
    for page in started:
        page.kill()


def send(kafka: Kafka, topic: str, values: list[bytes], partition: int = 0) -> None:
    stamp = int(NOW.timestamp() * 1000)
    kafka.produce(topic, partition, [(b"A", value, stamp) for value in values])


def closes(reader: StreamReader, kind: str = "candle") -> list[str]:
    return [row["close"] for row in reader.of(kind)]


def test_rows_of_all_topics_arrive_also_of_those_made_later(
    kafka: Kafka, topic: str, start: Start
) -> None:
    for kind, *_ in CASES[:2]:
        kafka.create_topic(f"{topic}-{kind}", 2)
    send(
        kafka,
        f"{topic}-candle",
        candles(*(candle("A", NOW + n * MINUTE, close=f"{n + 1}") for n in range(5))),
    )
    page = start()
    with StreamReader(page.url) as reader:
        eventually(lambda: closes(reader) == ["1", "2", "3", "4", "5"])
        for kind, encode, schema, row in CASES[1:]:
            if kind != "preview":
                kafka.create_topic(f"{topic}-{kind}", 1)
            send(kafka, f"{topic}-{kind}", encoded(encode, schema, [row]))
        for kind, *_ in CASES[1:]:
            eventually(lambda kind=kind: len(reader.of(kind)) == 1, what=kind)
        send(kafka, f"{topic}-candle", candles(candle("B", NOW, close="9", revision=2)), 1)
        eventually(lambda: closes(reader)[5:] == ["9"])
        send(kafka, f"{topic}-candle", [b"\xff\xff\xff"])
        eventually(lambda: "cannot" in str(reader.of("health", flow="page")[-1]["error"]))
        assert not reader.has_ended


def test_only_what_is_committed_is_shown(kafka: Kafka, topic: str, start: Start) -> None:
    kafka.create_topic(f"{topic}-candle", 1)
    (aborted,) = candles(candle("A", NOW, close="13"))
    (committed,) = candles(candle("A", NOW, close="7"))
    page = start()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(60)
    with StreamReader(page.url, kind="candle") as reader:
        producer.begin_transaction()
        producer.produce(f"{topic}-candle", aborted, b"A")
        producer.flush(60)
        producer.abort_transaction(60)
        producer.begin_transaction()
        producer.produce(f"{topic}-candle", committed, b"A")
        producer.commit_transaction(60)
        eventually(lambda: closes(reader) == ["7"])
    with StreamReader(page.url, kind="candle") as reader:
        assert closes(reader) == ["7"]


def test_an_outage_of_the_broker_is_told_and_heals(
    kafka_broker: KafkaBroker, topic: str, start: Start
) -> None:
    kafka_broker.create_topic(f"{topic}-candle", 1)
    send(kafka_broker, f"{topic}-candle", candles(candle("A", NOW, close="1")))
    with StreamReader(start().url) as reader:
        eventually(lambda: closes(reader) == ["1"])
        kafka_broker.kill()
        eventually(lambda: bool(reader.of("health", flow="page", up=False)))
        kafka_broker.start()
        send(kafka_broker, f"{topic}-candle", candles(candle("A", NOW + MINUTE, close="2")))
        eventually(lambda: closes(reader) == ["1", "2"], timeout_s=120)
        eventually(lambda: reader.of("health", flow="page")[-1]["up"])
        assert not reader.has_ended
