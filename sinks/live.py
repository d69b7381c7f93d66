"""Previews: rows that may be lost and must never make anything wait.

The candle still forming is interesting for a moment, so a preview that cannot be written
now is dropped, or replaced by the next one of its key. Nothing here is part of the
exactly-once output: no recovery, no retry, no error that ends the flow. Both sinks take
record batches; trouble of any kind is logged, at most once a minute.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Any

import pyarrow as pa
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from confluent_kafka import KafkaError, Message, Producer
from sqlalchemy import Table

from sinks.kafka_records import KafkaRecord
from sinks.kafka_topics import ClientConfig, producer_config
from sinks.postgres_connection import PostgresConnection, connect, reason_of
from sinks.staging import StagedTable

__all__ = ["KafkaLiveSink", "PostgresLiveSink"]

MAX_WAITING_RECORDS = 50_000
_STALE_S = 5
_CLOSE_S = 2.0
_RECONNECT_S = 1.0
_REFRESH_S = 0.1
_QUIET_S = 60.0

_log = logging.getLogger(__name__)


class _Trouble:
    def __init__(self, sink: str) -> None:
        self._sink = sink
        self._quiet_until_s = 0.0

    def tell(self, reason: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + _QUIET_S
            _log.warning(
                "Previews to %s are not written at present (%s)",
                self._sink,
                reason,
                extra={"sink": self._sink.lower()},
            )


class KafkaLiveSink(DynamicSink[pa.RecordBatch]):
    """Previews as Kafka records.

    Args:
        records: The records of a batch; their partition follows from their key.
        client_config: librdkafka settings for reaching the brokers.
    """

    def __init__(
        self,
        records: Callable[[pa.RecordBatch], Iterable[KafkaRecord]],
        client_config: ClientConfig,
    ) -> None:
        self._records = records
        self._client_config = client_config

    def build(
        self,
        step_id: str,  # noqa: ARG002  # given by Bytewax, as the next two
        worker_index: int,  # noqa: ARG002
        worker_count: int,  # noqa: ARG002
    ) -> "StatelessSinkPartition[pa.RecordBatch]":
        """A producer of this worker's own."""
        return _KafkaLivePartition(self._records, self._client_config)


class _KafkaLivePartition(StatelessSinkPartition[pa.RecordBatch]):
    def __init__(
        self,
        records: Callable[[pa.RecordBatch], Iterable[KafkaRecord]],
        client_config: ClientConfig,
    ) -> None:
        self._records = records
        self._trouble = _Trouble("Kafka")
        self._producer = Producer(
            {
                **producer_config(client_config),
                "message.timeout.ms": _STALE_S * 1000,
                "queue.buffering.max.messages": MAX_WAITING_RECORDS,
                "delivery.report.only.error": True,
                "on_delivery": self._on_lost,
            },
            logger=_log,
        )

    def write_batch(self, items: list[pa.RecordBatch]) -> None:
        try:
            rows = pa.Table.from_batches(items).combine_chunks().to_batches()
            for record in chain.from_iterable(map(self._records, rows)):
                topic, key, value, timestamp_ms, headers = record
                self._producer.produce(topic, value, key, timestamp=timestamp_ms, headers=headers)
        except BufferError:
            self._trouble.tell(f"{MAX_WAITING_RECORDS} of them are waiting already")
        except Exception as error:  # noqa: BLE001  # a preview is not worth a flow
            self._trouble.tell(reason_of(error))
        with suppress(Exception):  # a fatal error of the client; the next record tells
            self._producer.poll(0)

    def close(self) -> None:
        with suppress(Exception):  # Bytewax cannot take an error here
            self._producer.flush(_CLOSE_S)

    def _on_lost(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._trouble.tell(error.str())


class PostgresLiveSink(DynamicSink[pa.RecordBatch]):
    """Previews as one row per key, the newest.

    Args:
        table: A row never replaces one with a later value in `newest`.
        url: libpq URL.
        newest: A column of times.
    """

    def __init__(self, table: Table, url: str, newest: str = "open_time") -> None:
        self._table = table
        self._url = url
        self._newest = newest

    def build(
        self,
        step_id: str,  # noqa: ARG002  # given by Bytewax, as the next two
        worker_index: int,  # noqa: ARG002
        worker_count: int,  # noqa: ARG002
    ) -> "StatelessSinkPartition[pa.RecordBatch]":
        """A connection and a writer thread of this worker's own."""
        return _PostgresLivePartition(self._table, self._url, self._newest)


class _PostgresLivePartition(StatelessSinkPartition[pa.RecordBatch]):
    """Holds the newest row of each key until the writer fetches them all at once.

    It does so ten times a second, since who reads a table asks now and then; a slow server
    makes previews rarer, not older. Memory is a row per key.
    """

    def __init__(self, table: Table, url: str, newest: str) -> None:
        self._keys = [column.name for column in table.primary_key]
        self._newest = newest
        self._staged = StagedTable(table, newest=newest, replace_equal=True)
        self._url = url
        self._connection: PostgresConnection | None = None
        self._trouble = _Trouble("PostgreSQL")
        # Key to (value of `newest`, batch, row number): no row is copied here.
        self._waiting: dict[tuple[Any, ...], tuple[Any, pa.RecordBatch, int]] = {}
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="live-postgres", daemon=True)
        self._thread.start()

    def write_batch(self, items: list[pa.RecordBatch]) -> None:
        with self._changed:
            for batch in items:
                try:
                    self._keep_newest(batch)
                except Exception as error:  # noqa: BLE001  # a preview is not worth a flow
                    self._trouble.tell(reason_of(error))
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _keep_newest(self, batch: pa.RecordBatch) -> None:
        keys = zip(*(batch.column(name).to_pylist() for name in self._keys), strict=True)
        newest = batch.column(self._newest).view(pa.int64()).to_pylist()
        for row, (key, value) in enumerate(zip(keys, newest, strict=True)):
            before = self._waiting.get(key)
            if before is None or before[0] <= value:
                self._waiting[key] = (value, batch, row)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                waiting, self._waiting = self._waiting, {}
                if not waiting:
                    break
            pause_s = _REFRESH_S
            try:
                self._store(_gathered(waiting))
            except Exception as error:  # noqa: BLE001  # a preview is not worth a flow
                self._trouble.tell(reason_of(error))
                self._disconnect()
                pause_s = _RECONNECT_S
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=pause_s)
        self._disconnect()

    def _store(self, batches: list[pa.RecordBatch]) -> None:
        if self._connection is None:
            connection = connect(self._url)
            # A preview lost in a crash of the server is no loss; do not wait for its disk.
            connection.execute("SET synchronous_commit = off")
            self._staged.create(connection.cursor())
            self._connection = connection
        with self._connection.transaction(), self._connection.cursor() as cursor:
            self._staged.write(cursor, batches)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _gathered(
    waiting: dict[tuple[Any, ...], tuple[Any, pa.RecordBatch, int]],
) -> list[pa.RecordBatch]:
    batches: dict[int, pa.RecordBatch] = {}
    rows: dict[int, list[int]] = {}
    for _, batch, row in waiting.values():
        batches[id(batch)] = batch
        rows.setdefault(id(batch), []).append(row)
    return [batch.take(pa.array(rows[number])) for number, batch in batches.items()]
