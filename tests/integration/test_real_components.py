"""The components that other tests stand on behave as the real ones do."""

import time

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.real.kafka import KafkaBroker
from tests.real.kafka_client import Kafka
from tests.real.postgres import PostgresServer
from tests.real.registry import SchemaRegistry

T0_MS = 1_700_000_000_000


def test_records_lie_where_they_were_put(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, 3, {"max.message.bytes": "5000"})
    kafka.produce(topic, 2, [(b"k", b"one", T0_MS), (None, b"two", T0_MS - 1)])
    kafka.produce(topic, 0, [(b"k", None, T0_MS)])
    first, second, third = kafka.read(topic)
    assert [(r.key, r.value, r.timestamp_ms) for r in first] == [(b"k", None, T0_MS)]
    assert second == []
    assert [(r.offset, r.key, r.value, r.timestamp_ms) for r in third] == [
        (0, b"k", b"one", T0_MS),
        (1, None, b"two", T0_MS - 1),
    ]
    assert kafka.topic_config(topic)["max.message.bytes"] == "5000"


def test_a_committed_reader_never_sees_aborted_records(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(topic, 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for value, commit in ((b"kept", True), (b"aborted", False), (b"also kept", True)):
        producer.begin_transaction()
        producer.produce(topic, value, headers={"run": b"1"})
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    (committed,) = kafka.read(topic)
    (everything,) = kafka.read(topic, isolation="read_uncommitted")
    assert [r.value for r in committed] == [b"kept", b"also kept"]
    assert [r.value for r in everything] == [b"kept", b"aborted", b"also kept"]
    assert [r.headers for r in committed] == [(("run", b"1"),)] * 2
    # Each transaction ends with a marker that takes an offset.
    assert [r.offset for r in everything] == [0, 2, 4]
    assert kafka.end_offsets(topic) == [6]


def test_an_open_transaction_is_an_error_for_a_reader_of_everything(
    kafka: Kafka, topic: str
) -> None:
    kafka.create_topic(topic, 1)
    kafka.produce(topic, 0, [(None, b"before", T0_MS)])
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(30)
    with pytest.raises(TimeoutError, match="transaction still open"):
        kafka.read(topic, timeout_s=1)
    (stable,) = kafka.read(topic, allow_open_transaction=True)
    assert [r.value for r in stable] == [b"before"]
    producer.abort_transaction(30)


def test_a_killed_broker_comes_back_with_its_records(kafka_broker: KafkaBroker, topic: str) -> None:
    kafka_broker.create_topic(topic, 1)
    values = [b"%d" % i for i in range(1_000)]
    kafka_broker.produce(topic, 0, [(None, v, T0_MS) for v in values])
    bootstrap = kafka_broker.bootstrap
    kafka_broker.kill()
    assert not kafka_broker.running
    kafka_broker.start()
    assert kafka_broker.bootstrap == bootstrap
    kafka_broker.produce(topic, 0, [(None, b"after", T0_MS)])
    assert [r.value for r in kafka_broker.read(topic)[0]] == [*values, b"after"]


def test_compaction_leaves_the_last_record_of_a_key(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(
        topic,
        1,
        {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.01",
            "segment.ms": "1",  # a segment per batch; the one being written is never compacted
        },
    )
    for i in range(5):
        kafka.produce(topic, 0, [(b"position", b"%d" % i, T0_MS + 1_000 * i)])
    kafka.produce(topic, 0, [(b"other", b"x", T0_MS + 1_000_000)])
    deadline = time.monotonic() + 20
    while len(left := kafka.read(topic)[0]) > 2:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert [(r.offset, r.key, r.value) for r in left] == [
        (4, b"position", b"4"),
        (5, b"other", b"x"),
    ]


def test_a_killed_postgres_keeps_what_was_committed(
    postgres: PostgresServer, postgres_url: str
) -> None:
    session = psycopg.connect(postgres_url)
    session.execute("CREATE TABLE kept (n int)")
    session.execute("INSERT INTO kept VALUES (1)")
    session.commit()
    session.execute("INSERT INTO kept VALUES (2)")  # never committed
    postgres.kill()
    session.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_url)
    postgres.start()
    with psycopg.connect(postgres_url) as again:
        assert again.execute("SELECT n FROM kept").fetchall() == [(1,)]
        assert again.execute("SHOW wal_level").fetchone() == ("logical",)


def test_each_test_has_a_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as session:
        found = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert found.fetchall() == []


def test_the_registry_keeps_protobuf_and_avro_schemas(registry: SchemaRegistry) -> None:
    protobuf = Schema('syntax = "proto3"; message Trade { string instrument = 1; }', "PROTOBUF")
    sale = '{"type": "record", "name": "Sale", "fields": [{"name": "n", "type": "%s"}]}'
    avro = Schema(sale % "int", "AVRO")
    with SchemaRegistryClient({"url": registry.url}) as client:
        ids = {
            client.register_schema("trades-value", protobuf),
            client.register_schema("sales-value", avro),
        }
        assert len(ids) == 2
        assert client.get_latest_version("trades-value").schema.schema_type == "PROTOBUF"
        assert {client.get_schema(i).schema_type for i in ids} == {"PROTOBUF", "AVRO"}
        client.set_compatibility("sales-value", "BACKWARD")
        changed = Schema(sale % "boolean", "AVRO")
        assert not client.test_compatibility("sales-value", changed)
