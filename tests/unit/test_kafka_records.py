"""Outputs become records kind by kind, each row for its own partition and in its lane's order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.stream import Output
from sinks.kafka_records import KafkaRecord, records_by_partition
from sinks.kafka_topics import TopicSpec

KINDS = ("results", "late")


@dataclass
class CountingRoute:
    topic: str
    calls: list[int] = field(default_factory=list)

    @property
    def topics(self) -> Mapping[str, TopicSpec]:
        return {self.topic: TopicSpec(3)}

    def records(self, rows: pa.RecordBatch) -> Iterable[KafkaRecord]:
        self.calls.append(rows.num_rows)
        for lane, position in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            yield KafkaRecord(self.topic, lane.encode(), b"%d" % position, position)


def item(kind: str, partition: int, positions: range) -> Output:
    lane = f"{kind}-{partition:02d}"
    rows = pa.record_batch({"lane": [lane] * len(positions), "position": list(positions)})
    if not positions:
        rows = pa.record_batch({"lane": pa.array([], pa.string()), "position": np.array([], "i8")})
    return Output(kind, partition, np.array(positions, np.int64), positions.stop, rows)


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 4)), max_size=30)
)
def test_each_row_goes_to_its_partition_in_order(cuts: list[tuple[str, int, int]]) -> None:
    reached: defaultdict[tuple[str, int], int] = defaultdict(int)
    outputs = []
    for kind, partition, rows in cuts:
        begin = reached[kind, partition]
        reached[kind, partition] += rows
        outputs.append(item(kind, partition, range(begin, begin + rows)))
    routes = {kind: CountingRoute(kind) for kind in KINDS}
    written: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for number, record in records_by_partition(outputs, routes):
        assert record.key == f"{record.topic}-{number:02d}".encode()
        written[record.topic, number].append(record.timestamp_ms)
    assert written == {place: list(range(rows)) for place, rows in reached.items() if rows}
    assert all(len(route.calls) <= 1 for route in routes.values()), "encoded once, not per item"
