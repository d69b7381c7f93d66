"""What a Kafka sink writes: outputs as records, each for its partition.

Rows of one kind become records in one call, however many items brought them: to encode a
few rows costs as much as hundreds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from schemas.stream import Output
from sinks.kafka_topics import TopicSpec

__all__ = ["Headers", "KafkaRecord", "KafkaRoute", "SpreadingRoute", "records_by_partition"]


Headers = list[tuple[str, str | bytes | None]]
"""Pairs of name and value, as the client takes them."""


class KafkaRecord(NamedTuple):
    """A record as it is written.

    Attributes:
        topic: One of the route's topics.
        key: Business key.
        value: None for a tombstone.
        timestamp_ms: Record timestamp, epoch milliseconds; written as 1 where it is below,
            since Kafka has no times before 1970 and the client takes 0 for the time of
            writing, which no two runs would agree on.
        headers: None for none.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers | None = None


class KafkaRoute(Protocol):
    """How one kind of output becomes records.

    Contract: `records` is a pure function of each row, whatever rows come with it.
    """

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        """Every topic that `records` may name."""
        ...

    def records(self, rows: pa.RecordBatch) -> Iterable[KafkaRecord]:
        """One record per row, in order."""
        ...


@runtime_checkable
class SpreadingRoute(KafkaRoute, Protocol):
    """A route whose rows of one lane go to several partitions."""

    def partitions_of(self, rows: pa.RecordBatch) -> Iterable[int]:
        """Partition number of each row: a pure function of the row."""
        ...


def records_by_partition(
    outputs: Iterable[Output], routes: Mapping[str, KafkaRoute]
) -> Iterator[tuple[int, KafkaRecord]]:
    """Partition number and record of each row; kind after kind, rows of a lane in order.

    Args:
        outputs: Those of one kind have one schema.
        routes: By kind.
    """
    kinds: defaultdict[str, list[Output]] = defaultdict(list)
    for output in outputs:
        kinds[output.kind].append(output)
    for kind, items in kinds.items():
        numbers = iter(_partitions(items))
        rows = pa.Table.from_batches([item.rows for item in items]).combine_chunks()
        # One batch, but for values beyond what one array can hold.
        for batch in rows.to_batches():
            route = routes[kind]
            own: Iterable[int] = islice(numbers, batch.num_rows)
            if isinstance(route, SpreadingRoute):
                own = route.partitions_of(batch)
            yield from zip(own, route.records(batch), strict=True)


def _partitions(items: Sequence[Output]) -> list[int]:
    """Partition number of each row."""
    numbers = [item.partition for item in items]
    counts = [item.rows.num_rows for item in items]
    return np.repeat(numbers, counts).tolist()
