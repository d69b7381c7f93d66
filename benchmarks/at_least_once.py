"""The candles flow with at-least-once writes: what exactly once is compared with.

Everything but the sinks' way of writing is the product's own flow. Records go to a plain
idempotent producer at once and are flushed at each snapshot; rows go to PostgreSQL through
the same COPY and INSERT, without the lanes' positions. After a crash, what followed the last
snapshot would be written again. Contract: `flow` has the settings of `dataflows.candles`.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from dataflows import candles, wiring
from schemas.stream import FlowIdentity, Output
from sinks.group_commit import ExactlyOnceSink, partition_names
from sinks.kafka import KafkaRoute
from sinks.kafka_records import records_by_partition
from sinks.kafka_topics import ClientConfig, producer_config
from sinks.postgres import PostgresRoute
from sinks.postgres_connection import PostgresConnection, connect
from sinks.staging import StagedTable

__all__ = ["flow"]


def flow() -> Dataflow:
    """The candles flow, from the settings in the environment."""
    # The flow is the product's own but for these two functions.
    vars(wiring).update(kafka_sink=_kafka_sink, postgres_sink=_postgres_sink)
    return candles.flow()


def _kafka_sink(
    _identity: FlowIdentity,
    routes: Mapping[str, KafkaRoute],
    *,
    client_config: ClientConfig,
    progress_topic: str,  # noqa: ARG001  # there is none
) -> "_PlainKafkaSink":
    return _PlainKafkaSink(routes, client_config)


class _PlainKafkaSink(FixedPartitionedSink[Output, None]):
    def __init__(self, routes: Mapping[str, KafkaRoute], client_config: ClientConfig) -> None:
        self._routes = routes
        self._client_config = client_config

    def list_parts(self) -> list[str]:
        return partition_names(2)

    def part_fn(self, item_key: str) -> int:
        return zlib.crc32(item_key.encode())

    def build_part(
        self,
        step_id: str,  # noqa: ARG002
        for_part: str,  # noqa: ARG002
        resume_state: None,  # noqa: ARG002
    ) -> "_PlainKafkaPartition":
        return _PlainKafkaPartition(self._routes, self._client_config)


class _PlainKafkaPartition(StatefulSinkPartition[Output, None]):
    def __init__(self, routes: Mapping[str, KafkaRoute], client_config: ClientConfig) -> None:
        self._routes = routes
        self._error: KafkaError | None = None
        self._producer = Producer(
            {
                **producer_config(client_config),
                "delivery.report.only.error": True,
                "on_delivery": self._on_delivery,
            }
        )

    def write_batch(self, values: list[Output]) -> None:
        for number, record in records_by_partition(values, self._routes):
            topic, key, value, timestamp_ms, headers = record
            self._producer.produce(
                topic, value, key, number, timestamp=max(timestamp_ms, 1), headers=headers
            )
        self._producer.poll(0)
        self._raise_error()

    def snapshot(self) -> None:
        self._producer.flush(60)
        self._raise_error()

    def close(self) -> None:
        self._producer.flush(60)

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        self._error = self._error or error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise KafkaException(self._error)


def _postgres_sink(
    _identity: FlowIdentity, routes: Mapping[str, PostgresRoute], *, url: str
) -> ExactlyOnceSink:
    return ExactlyOnceSink(lambda _name: _PlainPostgres(routes, url))


class _PlainPostgres:
    """A `sinks.group_commit.Committer` that stores no positions and so repeats rows."""

    def __init__(self, routes: Mapping[str, PostgresRoute], url: str) -> None:
        self._tables = {
            kind: StagedTable(route.table, newest="revision" if route.upsert else None)
            for kind, route in routes.items()
        }
        self._url = url
        self._connection: PostgresConnection | None = None

    def open(self) -> Mapping[str, int]:
        self._connection = connect(self._url)
        for table in self._tables.values():
            table.create(self._connection.cursor())
        return {}

    def commit(self, outputs: Sequence[Output]) -> None:
        connection = self._connection
        if connection is None:
            raise RuntimeError("open() comes first")
        rows: dict[str, list[Any]] = {}
        for output in outputs:
            rows.setdefault(output.kind, []).append(output.rows)
        with connection.transaction(), connection.cursor() as cursor:
            for kind, batches in rows.items():
                self._tables[kind].write(cursor, batches)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
