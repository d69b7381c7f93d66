"""Rows know the batch that completed them, and nothing that is computed depends on it."""

import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from operators.asides import asides
from operators.candle import CANDLE
from operators.combine import Combine, CombineRule, PanePartials
from operators.ewma import Ewma, EwmaRule
from operators.ordered import OrderedShard
from operators.ordered_scatter import Scatter, ScatterRule, ShardEvents
from operators.rolling import RollingRule, RollingShard
from operators.tumbling import TumblingShard
from operators.window_table import WindowRule
from schemas.origin import MOST_SPANS, Arrivals, Origin, newest_origin
from schemas.stream import Events, Output
from schemas.trades import TradeCodec
from sources.log_partition import LogPartition, SourceRule
from tests.list_log import NOW_MS, NOW_S, Clock, ListLog, trade


def batches(times_ms: list[int], clock: Clock, values: list[bytes] | None = None) -> list[Events]:
    """What a partition emits of trades a minute apart, one by one, each a second later."""
    log = ListLog(batch=1)
    for time_ms, value in zip(times_ms, values or map(trade, times_ms), strict=True):
        log.append(value, stamp=time_ms + 5)
    partition = LogPartition(
        log, TradeCodec(), SourceRule("test", stop_at_end=True), 0, None, clock
    )
    out = []
    for _ in times_ms:
        out += partition.next_batch()
        clock.now_s += 1
    return out + partition.next_batch()


TIMES_MS = [NOW_MS, NOW_MS + 60_000, NOW_MS + 120_000]


def test_a_batch_says_when_it_was_fetched_and_how_new_it_is() -> None:
    events = batches(TIMES_MS, Clock())
    assert [batch.origin for batch in events] == [
        *(Origin(NOW_S + at, time_ms + 5) for at, time_ms in enumerate(TIMES_MS)),
        Origin(NOW_S + 3),  # ended: no record
    ]


@pytest.mark.parametrize("family", ["windows", "rolling", "folds"])
def test_rows_know_the_batch_that_completed_them(family: str) -> None:
    shard: TumblingShard | RollingShard | OrderedShard
    step: Combine | Scatter
    if family == "folds":
        step = Scatter(Ewma(EwmaRule(60_000)), ScatterRule("test", "trades", shards=1))
        shard = OrderedShard(Ewma(EwmaRule(60_000)), 1, 1_000, None)
    else:
        step = Combine(CANDLE, CombineRule("test", "trades", shards=1))
        windows = WindowRule((60_000,))
        shard = TumblingShard(CANDLE, windows, 1, None, None)
        if family == "rolling":
            shard = RollingShard(RollingRule(), 1, None)
    origins = []
    for events in batches(TIMES_MS, Clock())[:3]:
        for _, item in step(events):
            assert isinstance(item, PanePartials | ShardEvents)
            origins += [out.origin for out in shard.on_batch([item])[0]]
    assert origins
    # Each minute's trade lets the rows of the one before leave.
    assert set(origins) == {Origin(NOW_S + at, TIMES_MS[at] + 5) for at in (1, 2)}
    assert b"Origin" not in pickle.dumps(shard.snapshot())


def test_late_and_rejected_rows_know_the_batch_that_they_came_with() -> None:
    late_ms = NOW_MS - 600_000
    values = [trade(NOW_MS), trade(late_ms), b"not a trade"]
    events = batches([NOW_MS, late_ms, NOW_MS], Clock(), values)
    late = asides("test", "trades", events[1], np.array([0]))
    rejected = asides("test", "trades", events[2], np.array([], np.int64))
    for found, batch in ((late, events[1]), (rejected, events[2])):
        ((_, output),) = found
        assert output.origin is batch.origin


def test_the_part_behind_a_position_keeps_it_and_comparisons_do_not_see_it() -> None:
    rows = pa.record_batch({"x": [1, 2, 3]})
    origin = Origin(1.0, 2)
    output = Output("results", 0, np.array([1, 2, 3]), 3, rows, origin=origin)
    rest = output.after(1)
    assert rest is not None
    assert rest.origin is origin
    one = PanePartials(0, 0, 0, [], np.zeros(0), ended=False)
    assert replace(one, partials=None) == replace(one, partials=None, origin=origin)
    assert "Origin" not in repr(output)


def test_rows_waited_for_the_partition_that_was_furthest_behind() -> None:
    arrivals = Arrivals()
    arrivals.take(0, Origin(1.0, 100))
    arrivals.take(1, Origin(2.0, 50))
    assert arrivals.complete(1) == Origin(2.0, 50)
    assert arrivals.complete(0) == Origin(1.0, 100)
    assert arrivals.complete(7) == Origin(1.0, 100)  # not heard of in this run: the newest
    assert Arrivals().complete(0) is None


def test_a_traced_batch_belongs_to_the_first_rows_after_it() -> None:
    arrivals = Arrivals()
    arrivals.take(0, Origin(1.0, 1, ("a",)))
    arrivals.take(0, Origin(2.0, 2))
    arrivals.take(1, Origin(3.0, 3, ("b",)))
    assert arrivals.complete(1) == Origin(3.0, 3, ("a", "b"))
    assert arrivals.complete(1) == Origin(3.0, 3)
    for number in range(2 * MOST_SPANS):
        arrivals.take(0, Origin(4.0, 4, (str(number),)))
    done = arrivals.complete(0)
    assert done is not None
    assert done.spans == tuple(map(str, range(MOST_SPANS)))


def test_the_newest_of_several_has_the_spans_of_all() -> None:
    assert newest_origin([]) is None
    assert newest_origin([None]) is None
    assert newest_origin([None, Origin(5.0, 9), Origin(6.0)]) == Origin(5.0, 9)
    several = [Origin(5.0, 9, ("a",)), Origin(6.0, 9, ("b", "a"))]
    assert newest_origin(several) == Origin(6.0, 9, ("a", "b"))
