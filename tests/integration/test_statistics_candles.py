"""Statistics from the candles that the candles flow has published, corrections included."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.message import Message

from schemas.candles import INTERVALS_MS
from schemas.market_pb2 import Candle, Statistics, Trade
from tests import candles_io as io
from tests import flow_io, oracle
from tests import statistics_io as sio
from tests.oracle import T
from tests.real.kafka_client import Kafka
from tests.real.registry import SchemaRegistry
from tests.rolling_oracle import R, Rolling

FLOW = "dataflows.statistics"
CANDLES = {"INPUT_FORMAT": "candle"}
RULES = {
    "1s": Rolling(20_000, candles=True),
    "1m": Rolling(120_000, 60_000, 60_000, candles=True),
}


class Published(NamedTuple):
    """What the candles flow made of a log of trades."""

    logs: list[list[T]]
    topic: str
    """`<topic>.1s` and `<topic>.1m`."""


@pytest.fixture(scope="module")
def published(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    topic = f"candles-{uuid.uuid4().hex[:8]}"
    logs = sio.random_log(5, 1_500)
    kafka.create_topic(topic, len(logs))
    io.produce(kafka, topic, logs)
    more = {"INTERVALS": "1s,1m", "FILL_GAPS": "true", "GAP_SILENCE_S": "60"}
    env = io.settings(kafka, topic, "off", **more)
    flow_io.finish("dataflows.candles", tmp_path_factory.mktemp("candles"), env)
    yield Published(logs, env["OUTPUT_TOPIC"])
    kafka.delete_topics(topic)


def as_records(logs: list[list[T]], candles: list[list[dict]]) -> list[list[R]]:
    """Published candles with the trades they were made of, by partition.

    Trades count from their effective ticks on, so those of a candle of n trades are the n
    first ones of its window.
    """
    applied: dict[tuple[str, int, int], list[oracle.Arrival]] = {}
    for partition, log in enumerate(logs):
        for a in oracle.arrivals(partition, log, oracle.Rule()):
            for length in INTERVALS_MS.values():
                if a.tick is not None:
                    start = a.trade.time // length * length
                    applied.setdefault((a.trade.key, length, start), []).append(a)
    out = []
    for rows in candles:
        part = []
        for row in rows:
            inside = applied.get((row["instrument"], row["interval"], row["open_time"]), [])
            first = sorted(inside, key=lambda a: a.tick or 0)[: row["trade_count"]]
            trades = tuple(a.trade for a in first)
            assert len(trades) == row["trade_count"]
            part.append(R(row["close_time"] - 1, row["instrument"], trades))
        out.append(part)
    return out


@pytest.mark.parametrize("interval", ["1s", "1m"])
def test_statistics_are_those_of_the_trades_in_the_candles(
    interval: str, published: Published, kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    """Each row has the trades of the candles that had come by then."""
    rule = RULES[interval]
    source = f"{published.topic}.{interval}"
    candles = io.kafka_rows(kafka, source)
    assert any(row["revision"] for part in candles for row in part)
    assert any(row["gap_filled"] for part in candles for row in part)
    env = sio.settings(kafka, topic, postgres_url, rule, **CANDLES) | {"INPUT_TOPIC": source}
    flow_io.finish(FLOW, tmp_path, env)
    rows = sio.published(kafka, f"{topic}-out")
    assert rows == sio.expected(as_records(published.logs, candles), rule)
    assert len(sio.final(rows)) > 20
    name = {"1s": "statistics_20s", "1m": "statistics_2m"}[interval]
    assert sio.stored(postgres_url, name) == sio.final(rows)


def test_with_enough_lateness_statistics_are_those_of_trades_that_came_in_order(
    published: Published, kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    rule = Rolling(20_000, lateness=400_000)
    env = sio.settings(kafka, topic, "off", rule, **CANDLES)
    flow_io.finish(FLOW, tmp_path, env | {"INPUT_TOPIC": f"{published.topic}.1s"})
    counted = [
        a.trade
        for partition, log in enumerate(published.logs)
        for a in oracle.arrivals(partition, log, oracle.Rule())
        if a.tick is not None
    ]
    assert len(counted) < sum(map(len, published.logs)), "late ones are in no candle"
    in_order = sorted(counted, key=lambda t: (t.time, t.seq))
    assert sio.published(kafka, f"{topic}-out") == sio.expected(sio.records([in_order]), rule)


@pytest.mark.filterwarnings("ignore")  # of the client's own libraries
def test_candles_and_statistics_carry_the_wire_format_of_the_registry(
    kafka: Kafka, registry: SchemaRegistry, topic: str, tmp_path: Path
) -> None:
    logs = sio.random_log(6, 300, partitions=2)
    kafka.create_topic(topic, 2)
    with SchemaRegistryClient({"url": registry.url}) as vendor:
        serialize = ProtobufSerializer(Trade, vendor, {"use.deprecated.format": False})
        where = SerializationContext(topic, MessageField.VALUE)
        for partition, log in enumerate(logs):
            values = [serialize(Trade.FromString(io.message(t)), where) for t in log]
            framed = [(t.key.encode(), v, t.time) for t, v in zip(log, values, strict=True)]
            kafka.produce(topic, partition, framed)
        env = io.settings(kafka, topic, "off", INTERVALS="1s", SCHEMA_REGISTRY_URL=registry.url)
        flow_io.finish("dataflows.candles", tmp_path, env)
        source, output = f"{topic}-out", f"{topic}-statistics"

        def parser(name: str, kind: type[Message]) -> Callable[[bytes], Message]:
            deserialize = ProtobufDeserializer(kind, {"use.deprecated.format": False}, vendor)
            context = SerializationContext(name, MessageField.VALUE)
            return lambda value: deserialize(value, context)

        candles = io.kafka_rows(kafka, source, parser(source, Candle))
        kafka.produce(source, 0, [(b"A", b"\x0a\x01A", io.BASE_MS)])  # without a header
        more = {"INPUT_TOPIC": source, "OUTPUT_TOPIC": output, "SCHEMA_REGISTRY_URL": registry.url}
        rule = RULES["1s"]
        flow_io.finish(
            FLOW, tmp_path, sio.settings(kafka, topic, "off", rule, **CANDLES) | more, name="after"
        )
        rows = sio.published(kafka, output, parser(output, Statistics))
        assert f"{output}-value" in vendor.get_subjects()
    assert rows == sio.expected(as_records(logs, candles), rule)
    (rejected,) = [r for part in kafka.read(f"{output}.rejected") for r in part]
    assert dict(rejected.headers)["reason"] == b"no_wire_header"
