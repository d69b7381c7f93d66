"""How the rows of a feed become Kafka records: all to one topic, keyed by what they are of.

A feed with a lane for each key has these where the lane is; `SpreadRoute` is for one lane whose
rows go to all partitions, each by its key.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat

import pyarrow as pa

from schemas.murmur2 import partitions_of
from sinks.kafka_records import KafkaRecord
from sinks.kafka_topics import TopicSpec
from sinks.routes import result_topic

__all__ = ["FeedRoute", "SpreadRoute"]

_MS = pa.timestamp("ms", tz="UTC")


@dataclass(frozen=True, slots=True)
class FeedRoute:
    """Rows as encoded messages of one topic.

    Attributes:
        topic: where they go.
        key: column with the business key.
        time: column with the record's timestamp, of any unit.
        encode: (n,) rows to (n,) values.
        partitions: of the topic.
    """

    topic: str
    key: str
    time: str
    encode: Callable[[pa.RecordBatch], pa.BinaryArray]
    partitions: int

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        """The topic, kept for ever unless its owner decides otherwise."""
        return {self.topic: result_topic(self.partitions)}

    def records(self, rows: pa.RecordBatch) -> Iterator[KafkaRecord]:
        """One record per row."""
        return map(
            KafkaRecord,
            repeat(self.topic, rows.num_rows),
            rows[self.key].cast(pa.binary()).to_pylist(),
            self.encode(rows).to_pylist(),
            rows[self.time].cast(_MS, safe=False).cast(pa.int64()).to_pylist(),
        )


class SpreadRoute(FeedRoute):
    """One lane for all partitions; see `sinks.kafka_records.SpreadingRoute`.

    One lane keeps what belongs together in one transaction; the partitions let consumers share
    the work. A key is where a Kafka Java client would put it, so its records keep their order.
    """

    __slots__ = ()

    def partitions_of(self, rows: pa.RecordBatch) -> list[int]:
        """Partition number of each row."""
        numbers: list[int] = partitions_of(rows[self.key], self.partitions).tolist()
        return numbers
