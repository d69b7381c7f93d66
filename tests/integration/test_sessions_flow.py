"""The sessions flow on real Kafka, PostgreSQL and schema registry against the oracle."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from psycopg.rows import dict_row

from schemas.avro_files import avro_text
from schemas.murmur2 import partition_of
from sinks.embedded_postgres import embedded_postgres
from tests import candles_io, sessions_oracle
from tests.oracle import FOREVER
from tests.real.flows import FlowProcess
from tests.real.kafka_client import Kafka
from tests.real.registry import SchemaRegistry
from tests.sessions_oracle import DATA, KINDS, SENT, WOKE, E, Rule

SHARDS = 8
BASE = 1_700_000_040_000
DEVICES = json.loads(avro_text("devices.avsc"))
SESSION = fastavro.parse_schema(json.loads(avro_text("sessions.avsc")))


def plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: plain(part) for name, part in schema.items() if name != "logicalType"}
    return [plain(part) for part in schema] if isinstance(schema, list) else schema


ENVELOPE = fastavro.parse_schema(plain(DEVICES))


def message(event: E, names: tuple[str, ...] = KINDS) -> dict:
    fields = {"name": event.name, "value": event.value} if event.kind == DATA else {}
    return {"event": (f"devices.{names[event.kind]}", fields), "timestamp": event.time}


def value_of(event: E) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, ENVELOPE, message(event))
    return out.getvalue()


def random_log(seed: int, records: int, *, partitions: int = 3, devices: int = 40) -> list[list[E]]:
    """Partitions of events placed by device: disorder, ties, all three ends, a few late ones."""
    chance = random.Random(seed)
    logs: list[list[E]] = [[] for _ in range(partitions)]
    time = BASE
    for _ in range(records):
        time += chance.choice([0, 1, 5, 20, 60])
        device = f"device-{chance.randrange(devices)}"
        when = time - chance.choice([0] * 20 + [100, 700, 1_900, 2_500])
        kind = chance.choice([WOKE, DATA, DATA, SENT])
        told = (chance.choice(["wind", "heat", "höhe"]), chance.random()) if kind == DATA else ()
        logs[partition_of(device.encode(), partitions)].append(E(when, device, kind, *told))
    return logs


def produce(kafka: Kafka, topic: str, logs: list[list[E]]) -> None:
    for partition, log in enumerate(logs):
        records = [(e.key.encode(), value_of(e), e.time + 400) for e in log]
        kafka.produce(topic, partition, records)


def run(
    directory: Path,
    env: dict[str, str],
    name: str,
    *,
    workers: int = 1,
    recovery: Path | None = None,
) -> str:
    flow = FlowProcess(
        "dataflows.sessions", log=directory / f"{name}.log", env=env, workers=workers,
        recovery_dir=recovery,
    )  # fmt: skip
    try:
        code = flow.wait(120)
        assert code == 0, flow.output()
    finally:
        flow.kill9()
    return flow.output()


def sessions(kafka: Kafka, topic: str, skip: int = 0) -> list[list[dict]]:
    """Rows per partition, in order; `skip` bytes before each value."""
    out = []
    for partition in kafka.read(topic):
        rows = []
        for record in partition:
            row: Any = fastavro.schemaless_reader(io.BytesIO(record.value[skip:]), SESSION)
            for name in ("started_at", "ended_at"):
                row[name] = round(row[name].timestamp() * 1000)
            assert record.key == row["device"].encode()
            assert record.timestamp_ms == row["ended_at"]
            rows.append(row)
        out.append(rows)
    return out


def passed_on(kafka: Kafka, topic: str) -> list[list[tuple[str, bytes, int]]]:
    """Key, value and timestamp per partition, in order."""
    return [
        [(record.key.decode(), record.value, record.timestamp_ms) for record in partition]
        for partition in kafka.read(topic)
    ]


def stored(url: str) -> dict[tuple[str, str], dict]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found = connection.execute("SELECT * FROM sessions").fetchall()
    for row in found:
        for name in ("started_at", "ended_at"):
            row[name] = round(row[name].timestamp() * 1000)
    return {(row["device"], row["session_id"]): row for row in found}


def final(rows: list[list[dict]]) -> dict[tuple[str, str], dict]:
    return {(row["device"], row["session_id"]): row for part in rows for row in part}


def expected(
    logs: list[list[E]], rule: Rule
) -> tuple[list[list[tuple[str, bytes, int]]], list[list[dict]]]:
    """The oracle's events and rows per shard for a finite run."""
    events, rows = [], []
    for shard in range(SHARDS):
        own, ended = sessions_oracle.sessions(
            logs, rule, limit=FOREVER,
            keys=lambda key, shard=shard: partition_of(key.encode(), SHARDS) == shard,
        )  # fmt: skip
        events.append(
            [(e["key"], value_of(logs[e["place"][0]][e["place"][1]]), e["event_time"]) for e in own]
        )
        rows.append([{k: v for k, v in row.items() if k != "tick"} for row in ended])
    return events, rows


def test_output_equals_the_oracle_in_both_sinks(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = random_log(1, 6_000)
    kafka.create_topic(topic, len(logs))
    produce(kafka, topic, logs)
    good = value_of(E(BASE, "d", WOKE))
    bad = [(None, good), (b"d", good + b"x"), (b"d", None), (b"d", value_of(E(BASE, "d", DATA)))]
    kafka.produce(topic, 0, [(key, value, BASE) for key, value in bad])
    env = candles_io.settings(kafka, topic, postgres_url, SESSION_TIMEOUT_S="2")
    run(tmp_path, env, "run")
    events, rows = expected(logs, Rule(2_000))
    assert passed_on(kafka, f"{topic}-out.events") == events
    assert sessions(kafka, f"{topic}-out") == rows
    assert stored(postgres_url) == final(rows)
    assert {row["reason"] for part in rows for row in part} == {
        "completed", "superseded", "timeout",
    }  # fmt: skip
    late = candles_io.count(postgres_url, "late")
    assert late == sum(map(len, kafka.read(f"{topic}-out.late"))) > 0
    rejected = [r for part in kafka.read(f"{topic}-out.rejected") for r in part]
    assert sorted(dict(r.headers)["reason"] for r in rejected) == [
        b"missing_device", b"missing_sensor", b"no_value", b"undecodable",
    ]  # fmt: skip
    assert sorted((r.key or b"", r.value or b"") for r in rejected) == sorted(
        (key or b"", value or b"") for key, value in bad
    )
    read = sum(map(len, logs)) + len(bad)
    assert sum(map(len, events)) + late + len(rejected) == read, "the three counts add up"

    run(tmp_path, env, "again", workers=2)  # without any recovery store
    assert passed_on(kafka, f"{topic}-out.events") == events
    assert sessions(kafka, f"{topic}-out") == rows
    assert stored(postgres_url) == final(rows)


def test_recovery_goes_on_with_one_and_two_workers_as_the_log_grows(
    kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    logs = random_log(2, 4_000)
    kafka.create_topic(topic, len(logs) + 1)  # one partition stays empty
    env = candles_io.settings(kafka, topic, postgres_url)
    done = [0] * len(logs)
    for step, workers in enumerate((1, 2, 1)):
        upto = [len(log) * (step + 1) // 3 for log in logs]
        parts = [log[a:b] for log, a, b in zip(logs, done, upto, strict=True)]
        produce(kafka, topic, parts)
        done = upto
        run(tmp_path, env, str(step), workers=workers, recovery=tmp_path / "recovery")
    events, wanted = expected([*logs, []], Rule())
    published = sessions(kafka, f"{topic}-out")
    seen: dict[tuple[str, str], int] = {}
    for row in (row for part in published for row in part):
        key = (row["device"], row["session_id"])
        assert row["revision"] == seen.get(key, -1) + 1
        seen[key] = row["revision"]
    assert stored(postgres_url) == final(published)
    true = {k: r for k, r in final(published).items() if r["reason"] != "withdrawn"}
    assert {k: r | {"revision": 0} for k, r in true.items()} == final(wanted)
    for own, all_of_it in zip(passed_on(kafka, f"{topic}-out.events"), events, strict=True):
        assert {(value, time): key for key, value, time in own} == {
            (value, time): key for key, value, time in all_of_it
        }


@pytest.fixture
def vendor(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


@pytest.mark.filterwarnings("ignore")  # of the client's own libraries
def test_values_of_several_schemas_carry_the_wire_format_in_and_out(
    kafka: Kafka,
    registry: SchemaRegistry,
    vendor: SchemaRegistryClient,
    topic: str,
    postgres_url: str,
    tmp_path: Path,
) -> None:
    older = json.loads(json.dumps(DEVICES).replace('"AllDataSent"', '"AllDataReceived"'))
    older["fields"][0]["type"][2].pop("aliases")
    newer = json.loads(json.dumps(DEVICES))
    newer["fields"].append({"name": "firmware", "type": "string", "default": "1"})
    old_names = (*KINDS[:2], "AllDataReceived")
    writers = [
        (AvroSerializer(vendor, json.dumps(schema)), names, more)
        for schema, names, more in (
            (older, old_names, {}), (DEVICES, KINDS, {}), (newer, KINDS, {"firmware": "2"}),
        )
    ]  # fmt: skip
    logs = random_log(4, 900, partitions=2)
    kafka.create_topic(topic, 2)
    chance = random.Random(4)
    sent: dict[tuple[int, int], bytes] = {}
    where = SerializationContext(topic, MessageField.VALUE)
    for partition, log in enumerate(logs):
        for offset, event in enumerate(log):
            serialize, names, more = chance.choice(writers)
            value = serialize(message(event, names) | more, where)
            assert value is not None
            sent[partition, offset] = value
        kafka.produce(
            topic,
            partition,
            [(e.key.encode(), sent[partition, i], e.time) for i, e in enumerate(log)],
        )
    unknown = b"\0\x7f\xff\xff\xff" + value_of(logs[0][0])
    kafka.produce(topic, 0, [(b"d", v, BASE) for v in (value_of(logs[0][0]), unknown)])
    env = candles_io.settings(kafka, topic, postgres_url, SCHEMA_REGISTRY_URL=registry.url)
    run(tmp_path, env, "run")
    rejected = [r for part in kafka.read(f"{topic}-out.rejected") for r in part]
    assert [dict(r.headers)["reason"] for r in rejected] == [b"no_wire_header", b"unknown_schema"]
    _, rows = expected(logs, Rule())
    assert sessions(kafka, f"{topic}-out", skip=5) == rows
    assert stored(postgres_url) == final(rows)
    values = [value for part in passed_on(kafka, f"{topic}-out.events") for _, value, _ in part]
    assert set(values) <= set(sent.values()), "bytes are unchanged, with the writer's id"
    assert {f"{topic}-out-value", f"{topic}-out.events-value"} <= set(vendor.get_subjects())


def test_an_input_of_another_schema_is_refused_at_start(
    kafka: Kafka,
    registry: SchemaRegistry,
    vendor: SchemaRegistryClient,
    topic: str,
    tmp_path: Path,
) -> None:
    kafka.create_topic(topic, 1)
    vendor.register_schema(f"{topic}-value", Schema('"string"', "AVRO"))
    env = candles_io.settings(kafka, topic, "off", SCHEMA_REGISTRY_URL=registry.url)
    flow = FlowProcess("dataflows.sessions", log=tmp_path / "log", env=env, recovery_dir=None)
    try:
        assert flow.wait(60) == 1
    finally:
        flow.kill9()
    assert f"{topic}-value" in flow.output()
    assert "INPUT_TOPIC" in flow.output()


def test_simulated_devices_run_without_anything(scratch_dir: Path) -> None:
    data = scratch_dir / "devices"
    env = {"DATA_DIR": str(data), "STOP_AT_END": "1", "MARKET_TRADES": "20000"}
    output = run(scratch_dir, env, "devices")
    found = stored(embedded_postgres(data / "postgres"))
    assert f"{len(found):,} rows" in output
    assert sum(row["event_count"] for row in found.values()) == 20_000
    assert {row["reason"] for row in found.values()} == {"completed", "superseded", "timeout"}
