"""Confluent wire format in and out, with a real schema registry."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.market_pb2 import Candle, Trade
from tests import candles_io as io
from tests.oracle import Rule
from tests.real.kafka_client import Kafka
from tests.real.registry import SchemaRegistry


@pytest.fixture
def vendor(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


@pytest.mark.filterwarnings("ignore")  # of the client's own libraries
def test_values_carry_the_wire_format_in_and_out(
    kafka: Kafka,
    registry: SchemaRegistry,
    vendor: SchemaRegistryClient,
    topic: str,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    logs = io.random_log(4, 500, partitions=2)
    kafka.create_topic(topic, 2)
    serialize = ProtobufSerializer(Trade, vendor, {"use.deprecated.format": False})
    where = SerializationContext(topic, MessageField.VALUE)
    for partition, log in enumerate(logs):
        framed = [
            (t.key.encode(), serialize(Trade.FromString(io.message(t)), where), t.time) for t in log
        ]
        kafka.produce(topic, partition, framed)
    kafka.produce(topic, 0, [(b"A", io.message(logs[0][0]), io.BASE_MS)])  # without a header
    env = io.settings(kafka, topic, postgres_url, SCHEMA_REGISTRY_URL=registry.url)
    code, output = io.run(tmp_path, env)
    assert code == 0, output
    (rejected,) = [r for part in kafka.read(f"{topic}-out.rejected") for r in part]
    assert dict(rejected.headers)["reason"] == b"no_wire_header"
    assert io.table_rows(postgres_url) == io.final(io.expected(logs, Rule()))
    deserialize = ProtobufDeserializer(Candle, {"use.deprecated.format": False}, vendor)
    out = SerializationContext(f"{topic}-out", MessageField.VALUE)
    records = [r for part in kafka.read(f"{topic}-out") for r in part]
    candles = [deserialize(r.value, out) for r in records]
    assert {c.instrument for c in candles} == {t.key for log in logs for t in log}
    assert f"{topic}-out-value" in vendor.get_subjects()
