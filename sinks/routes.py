"""How rows become Kafka records: results as messages, late and rejected as they came."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from sinks.kafka_columns import ColumnRecords
from sinks.kafka_records import KafkaRecord
from sinks.kafka_topics import TopicSpec

__all__ = ["AsideRoute", "MessageRoute", "rejected_route", "result_topic"]

_KEEP_ALL = {
    # Records bear event times: by the broker's defaults, an old one would be deleted soon
    # after it is written, and a window that ends later than in an hour would be refused.
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
}


_LARGEST_ASIDE_BYTES = 32 * 1024 * 1024


def result_topic(partitions: int) -> TopicSpec:
    """A topic for rows that bear event times."""
    return TopicSpec(partitions, _KEEP_ALL)


@dataclass(frozen=True, slots=True)
class MessageRoute:
    """Rows as encoded messages, each to the topic that one of its columns names.

    Attributes:
        topic_by: column that chooses the topic; None where there is only one.
        topic_of: topic by that column's value; by anything where there is only one.
        key: column with the business key.
        time: column with the record's timestamp.
        encode: (n,) rows to (n,) values.
        partitions: of each topic.
    """

    topic_by: str | None
    topic_of: Mapping[str, str]
    key: str
    time: str
    encode: Callable[[pa.RecordBatch], pa.BinaryArray]
    partitions: int

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        """The topics, kept for ever unless their owner decides otherwise."""
        return dict.fromkeys(self.topic_of.values(), result_topic(self.partitions))

    @property
    def has_columns(self) -> bool:
        """Whether all records go to one topic."""
        return self.topic_by is None

    def columns(self, rows: pa.RecordBatch) -> ColumnRecords:
        """What `records` gives, where there is only one topic."""
        (topic,) = self.topic_of.values()
        times = rows[self.time].view(pa.int64()).to_numpy()
        return ColumnRecords(topic, rows[self.key], self.encode(rows), times)

    def records(self, rows: pa.RecordBatch) -> Iterator[KafkaRecord]:
        """One record per row."""
        if self.topic_by is None:
            topics = list(self.topic_of.values()) * rows.num_rows
        else:
            topics = [self.topic_of[name] for name in rows[self.topic_by].to_pylist()]
        return map(
            KafkaRecord,
            topics,
            rows[self.key].cast(pa.binary()).to_pylist(),
            self.encode(rows).to_pylist(),
            rows[self.time].view(pa.int64()).to_pylist(),
        )


@dataclass(frozen=True, slots=True)
class AsideRoute:
    """Late or rejected records with their original bytes; what is said of them in headers.

    Attributes:
        topic: where they go.
        partitions: of the input, and so of the topic.
        time: column with the record's timestamp.
        key: column with the key; None for records without.
        headers: columns that become headers, as text.
    """

    topic: str
    partitions: int
    time: str
    key: str | None = None
    headers: tuple[str, ...] = field(default=("topic", "partition", "offset"))

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        """The topic; its records may be a little larger than those of the input."""
        config = {**_KEEP_ALL, "max.message.bytes": str(_LARGEST_ASIDE_BYTES)}
        return {self.topic: TopicSpec(self.partitions, config)}

    def records(self, rows: pa.RecordBatch) -> Iterator[KafkaRecord]:
        """One record per row."""
        columns = {name: rows[name] for name in self.headers}
        texts = [
            (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column)
            .cast(pa.string())
            .cast(pa.binary())
            .to_pylist()
            for column in columns.values()
        ]
        headers = [list(zip(columns, row, strict=True)) for row in zip(*texts, strict=True)]
        n = rows.num_rows
        return map(
            KafkaRecord,
            [self.topic] * n,
            rows[self.key].cast(pa.binary()).to_pylist() if self.key else [None] * n,
            rows["value"].to_pylist(),
            rows[self.time].cast(pa.int64()).fill_null(0).to_pylist(),
            headers,
        )


def rejected_route(output: str, partitions: int) -> AsideRoute:
    """Dead letters of a flow, beside its output; their partition is that of their source."""
    headers = ("topic", "partition", "offset", "reason")
    return AsideRoute(f"{output}.rejected", partitions, "record_time", "key", headers)
