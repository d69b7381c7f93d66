"""The source of Debezium's topics on a real Kafka, with records as the connector writes them."""

import io
import json
import pickle
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from schemas.errors import FlowError
from schemas.registry import Registry
from schemas.transactions import Captured, RowChange
from schemas.vehicles import CAPTURED
from sources.debezium import DebeziumPartition, DebeziumPlace, DebeziumState
from tests.real.kafka_client import Kafka
from tests.real.registry import SchemaRegistry

V1 = "aaaaaaaa-0000-4000-8000-000000000001"
E1 = "eeeeeeee-0000-4000-8000-000000000001"
VEHICLES, ENGINES, ENDS = range(3)
ROWS: dict[int, dict[str, Any]] = {
    VEHICLES: {"vehicle_uuid": V1, "year_of_manufacture": 2020, "model": "Actros"},
    ENGINES: {
        "engine_uuid": E1,
        "vehicle_uuid": V1,
        "year_of_manufacture": 2019,
        "manufacturer": "MAN",
        "maximum_engine_speed": 4000,
        "maximum_mileage_resource": 900,
        "remaining_mileage_resource": 500,
    },
}
CHANGES = {
    VEHICLES: RowChange("vehicles", V1, (2020, "Actros")),
    ENGINES: RowChange("engines", E1, (V1, 2019, "MAN", 4000, 900, 500)),
}

Encode = Callable[[int, dict[str, Any]], bytes]


def to_json(_: int, payload: dict[str, Any]) -> bytes:
    return json.dumps({"schema": {"type": "struct"}, "payload": payload}).encode()


class Connector:
    """Writes what a connector would."""

    def __init__(self, kafka: Kafka, prefix: str, encode: Encode = to_json) -> None:
        self.place = DebeziumPlace({"bootstrap.servers": kafka.bootstrap}, prefix, CAPTURED)
        self._kafka = kafka
        self._encode = encode
        for topic in self.place.topics:
            kafka.create_topic(topic, 1)

    def write(self, number: int, *values: bytes | None) -> None:
        topic = self.place.topics[number]
        self._kafka.produce(topic, 0, [(b"k", value, 1_000) for value in values])

    def commit(self, number: int, *tables: int, skip: int | None = None) -> None:
        """One change of each table; `skip` is one whose record gets lost."""
        end = 1_000 + 100 * number
        for order, table in enumerate(tables, 1):
            payload = {
                "before": None,
                "after": ROWS[table],
                "source": {"snapshot": "false", "lsn": end - 50 + order, "ts_us": end * 10},
                "transaction": {"id": f"{number}:{end - 50 + order}", "total_order": order},
                "op": "u",
            }
            if table != skip:
                self.write(table, self._encode(table, payload))
        names = self.place.names
        counts = [
            {"data_collection": names[t], "event_count": tables.count(t)} for t in set(tables)
        ]
        marker = {
            "status": "END",
            "id": f"{number}:{end}",
            "event_count": len(tables),
            "data_collections": counts,
        }
        self.write(ENDS, self._encode(ENDS, marker))


def take(
    place: DebeziumPlace, transactions: int, state: DebeziumState | None = None
) -> tuple[Captured, DebeziumState]:
    found, rejected = [], []
    deadline_s = time.monotonic() + 30
    with closing(DebeziumPartition("vehicles", place, state, group="g")) as partition:
        while len(found) < transactions:
            assert time.monotonic() < deadline_s, (found, rejected)
            for captured in partition.next_batch():
                found += captured.transactions
                rejected += captured.rejected
            time.sleep(0.005)
        return Captured(found, rejected), pickle.loads(pickle.dumps(partition.snapshot()))


def test_transactions_whole_across_restarts_and_repetitions(kafka: Kafka, topic: str) -> None:
    connector = Connector(kafka, topic)
    connector.commit(1, VEHICLES, ENGINES)
    connector.commit(2, ENGINES)
    captured, state = take(connector.place, 2)
    assert [list(t.changes) for t in captured.transactions] == [
        [CHANGES[VEHICLES], CHANGES[ENGINES]],
        [CHANGES[ENGINES]],
    ]
    assert [(t.lsn, t.committed_us) for t in captured.transactions] == [
        (1_100, 11_000),
        (1_200, 12_000),
    ]
    connector.commit(2, ENGINES)
    connector.commit(3, VEHICLES)
    captured, _ = take(connector.place, 1, state)
    assert [t.lsn for t in captured.transactions] == [1_300]


def test_a_poison_record_is_set_aside_with_its_place_and_blocks_nothing(
    kafka: Kafka, topic: str
) -> None:
    connector = Connector(kafka, topic)
    connector.write(VEHICLES, b"not json", None, b'{"ts_ms":1}')
    connector.commit(1, VEHICLES, ENGINES)
    connector.write(ENGINES, b"\xff")
    connector.commit(2, VEHICLES, ENGINES, skip=ENGINES)
    connector.write(ENDS, b"{")
    connector.commit(3, VEHICLES)
    captured, _ = take(connector.place, 3)
    assert [list(t.changes) for t in captured.transactions] == [
        [CHANGES[VEHICLES], CHANGES[ENGINES]],
        [CHANGES[VEHICLES]],
        [CHANGES[VEHICLES]],
    ]
    rejected = {
        (row["topic"], row["offset"], row["reason"], row["value"], output.lane)
        for output in captured.rejected
        for row in output.rows.to_pylist()
    }
    vehicles, engines, ends = connector.place.topics
    assert rejected == {
        (vehicles, 0, "undecodable", b"not json", "rejected-00"),
        (engines, 1, "undecodable", b"\xff", "rejected-01"),
        (ends, 2, "undecodable", b"{", "rejected-02"),
    }


def test_a_topic_of_several_partitions_is_an_error(kafka: Kafka, topic: str) -> None:
    kafka.create_topic(f"{topic}.public.engines", 2)
    place = DebeziumPlace({"bootstrap.servers": kafka.bootstrap}, topic, CAPTURED)
    with pytest.raises(FlowError, match=r"engines has 2 partitions.*topic\.creation"):
        place.check()


def avro_schemas() -> dict[int, dict[str, Any]]:
    def record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
        named = [{"name": field, "type": kind} for field, kind in fields.items()]
        return {"type": "record", "name": name, "fields": named}

    schemas: dict[int, dict[str, Any]] = {}
    for table, row in ROWS.items():
        kinds = {name: "string" if isinstance(v, str) else "int" for name, v in row.items()}
        schemas[table] = record(
            "Envelope",
            {
                "before": ["null", record("Value", kinds)],
                "after": ["null", "Value"],
                "source": record("Source", {"snapshot": "string", "lsn": "long", "ts_us": "long"}),
                "transaction": ["null", record("Block", {"id": "string", "total_order": "long"})],
                "op": "string",
            },
        )
    count = record("Count", {"data_collection": "string", "event_count": "long"})
    schemas[ENDS] = record(
        "Marker",
        {
            "status": "string",
            "id": "string",
            "event_count": ["null", "long"],
            "data_collections": ["null", {"type": "array", "items": count}],
        },
    )
    return schemas


def test_avro_of_a_registry(kafka: Kafka, topic: str, registry: SchemaRegistry) -> None:
    parsed, ids = {}, {}
    with SchemaRegistryClient({"url": registry.url}) as client:
        for number, schema in avro_schemas().items():
            registered = Schema(json.dumps(schema), "AVRO")
            ids[number] = client.register_schema(f"{topic}-{number}-value", registered)
            parsed[number] = fastavro.parse_schema(schema)

    def encode(number: int, payload: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed[number], payload)
        return b"\0" + ids[number].to_bytes(4, "big") + out.getvalue()

    connector = Connector(kafka, topic, encode)
    connector.write(VEHICLES, b"\0\xff\xff\xff\xff?")
    connector.commit(1, VEHICLES, ENGINES)
    captured, _ = take(connector.place._replace(registry=Registry(registry.url)), 1)
    assert list(captured.transactions[0].changes) == [CHANGES[VEHICLES], CHANGES[ENGINES]]
    assert captured.rejected[0].rows["reason"].to_pylist() == ["undecodable"]
