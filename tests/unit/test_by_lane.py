"""Batches of a feed become items of one instrument each, with what metrics want to know."""

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from operators.by_lane import by_lane
from schemas.murmur2 import partition_of
from schemas.origin import Origin
from schemas.stream import Output


def test_a_batch_is_cut_by_key_and_each_part_knows_when_it_came() -> None:
    batch = pa.record_batch(
        {
            "instrument": ["A", "A", "B"],
            "trade_seq": pa.array([3, 4, 9], pa.int64()),
            "timestamp": pa.array([1_000, 3_000, 2_000], pa.timestamp("ms", tz="UTC")),
        }
    )
    out: list[tuple[str, Output]] = []
    flow = Dataflow("feed")
    batches = op.input("in", flow, TestingSource([batch]))
    items = by_lane(
        "cut",
        batches,
        flow="feed",
        key="instrument",
        position="trade_seq",
        at="timestamp",
        partitions=4,
        clock=lambda: 5.0,
    )
    op.output("out", items, TestingSink(out))
    run_main(flow)
    assert [lane for lane, _ in out] == ["results-A", "results-B"]
    assert [item.position for _, item in out] == [4, 9]
    assert [item.partition for _, item in out] == [partition_of(key, 4) for key in (b"A", b"B")]
    assert [item.rows for _, item in out] == [batch[:2], batch[2:]]
    assert {item.origin for _, item in out} == {Origin(5.0, 3_000)}, "the newest of the batch"
