"""What the tests of the Kafka sink write and read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.stream import FlowIdentity, Output, lane_name
from sinks.group_commit import GroupCommitPartition
from sinks.kafka import KafkaRecord, TopicSpec, kafka_sink, prepare_kafka
from sinks.kafka_records import Headers
from tests.real.kafka_client import Kafka

PARTITIONS = 3
T0_MS = 1_700_000_000_000


@dataclass
class Route:
    """Rows are numbers; key, value and headers say which, and of which lane."""

    topic: str

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        return {self.topic: TopicSpec(PARTITIONS, {"retention.ms": "-1"})}

    def records(self, rows: pa.RecordBatch) -> Iterable[KafkaRecord]:
        for value, lane in zip(rows["value"].to_pylist(), rows["lane"].to_pylist(), strict=True):
            text = str(value).encode()
            headers: Headers | None = [("lane", lane.encode())] if value % 2 else None
            yield KafkaRecord(self.topic, b"k" + text, text, T0_MS + value, headers)


class Setup:
    """A flow whose topics all begin with `prefix`."""

    def __init__(self, bootstrap: str, prefix: str, *, version: str = "1", shards: int = 3) -> None:
        self.topic = f"{prefix}.out"
        self.progress_topic = f"{prefix}.progress"
        self.identity = FlowIdentity(prefix, version, {"shards": shards})
        self.routes: dict[str, Route] = {
            "results": Route(self.topic),
            "late": Route(f"{prefix}.late"),
        }
        self.client_config: dict[str, str | int] = {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.max.ms": 200,
        }

    def prepare(self, **more: int) -> None:
        prepare_kafka(
            self.identity,
            self.routes,
            client_config=self.client_config,
            progress_topic=self.progress_topic,
            **more,
        )

    def partition(self, name: str = "00") -> GroupCommitPartition:
        """A partition that is open."""
        sink = kafka_sink(
            self.identity,
            self.routes,
            client_config=self.client_config,
            progress_topic=self.progress_topic,
        )
        partition = sink.build_part("out", name, None)
        partition.snapshot()
        return partition


def item(values: Sequence[int], lane: int = 0, kind: str = "results") -> Output:
    """Rows whose value is their position."""
    positions = np.array(values, np.int64)
    names = [lane_name(kind, lane)] * len(positions)
    rows = pa.record_batch({"value": positions, "lane": names})
    return Output(kind, lane, positions, int(positions[-1]), rows)


def values(kafka: Kafka, topic: str) -> list[list[int]]:
    return [[int(r.value or b"") for r in part] for part in kafka.read(topic)]


def progress(kafka: Kafka, setup: Setup) -> dict[str, object]:
    records = [r for part in kafka.read(setup.progress_topic) for r in part]
    return {(r.key or b"").decode(): json.loads(r.value or b"") for r in records}
