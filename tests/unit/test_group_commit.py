"""The generic part of the exactly-once sinks, on a store that is a Python list."""

import logging
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import numpy as np
import pyarrow as pa
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FlowError
from schemas.stream import Output
from sinks.group_commit import ExactlyOnceSink, GroupCommitPartition

WAIT_S = 20


class Store:
    """What outlives a process: rows and positions, changed together."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.positions: dict[str, int] = {}
        self.transactions: list[int] = []


class StoreCommitter:
    def __init__(self, store: Store, *, fail_at: int | None = None) -> None:
        self.store = store
        self.fail_at = fail_at
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def open(self) -> Mapping[str, int]:
        return dict(self.store.positions)

    def commit(self, outputs: Sequence[Output]) -> None:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        if self.fail_at == len(self.store.transactions):
            raise RuntimeError("the store is on fire")
        for output in outputs:
            assert output.position > self.store.positions.get(output.lane, -1)
            self.store.rows += [(output.lane, v) for v in output.rows["value"].to_pylist()]
            self.store.positions[output.lane] = output.position
        self.store.transactions.append(len(outputs))

    def close(self) -> None:
        self.closed = True


class SlowToOpen(StoreCommitter):
    """Opens when told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.may_open = threading.Event()

    def open(self) -> Mapping[str, int]:
        assert self.may_open.wait(WAIT_S)
        return super().open()


def item(positions: Sequence[int], lane: int = 0, position: int | None = None) -> Output:
    """Rows whose value is ten times their position."""
    values = np.array(positions, np.int64)
    rows = pa.record_batch({"value": values * 10})
    return Output("results", lane, values, position or int(values[-1]), rows)


def test_rows_and_positions_are_stored_in_order() -> None:
    store = Store()
    committer = StoreCommitter(store)
    partition = GroupCommitPartition("00", committer)
    partition.write_batch([item([1, 2]), item([1], lane=1)])
    partition.write_batch([item([3]), item([], position=9)])
    partition.snapshot()
    assert [v for lane, v in store.rows if lane == "results-00"] == [10, 20, 30]
    assert store.positions == {"results-00": 9, "results-01": 1}
    partition.close()
    assert committer.closed


def test_what_is_stored_is_dropped_after_reopening() -> None:
    store = Store()
    first = GroupCommitPartition("00", StoreCommitter(store))
    first.write_batch([item([1, 2, 2])])
    first.close()
    second = GroupCommitPartition("00", StoreCommitter(store))
    second.write_batch([item([1, 2, 2]), item([2, 2, 3, 4], position=5)])
    second.write_batch([item([5])])
    second.snapshot()
    assert store.rows == [("results-00", v) for v in (10, 20, 20, 30, 40)]
    assert store.positions == {"results-00": 5}
    second.close()


def test_items_gather_while_a_transaction_is_on_its_way() -> None:
    store = Store()
    committer = StoreCommitter(store)
    committer.gate.clear()
    partition = GroupCommitPartition("00", committer)
    partition.write_batch([item([1])])
    assert committer.entered.wait(WAIT_S)
    for position in range(2, 100):
        partition.write_batch([item([position], lane=position % 8)])
    committer.gate.set()
    partition.snapshot()
    assert store.transactions == [1, 98]
    partition.close()


@pytest.mark.parametrize("bounds", [{"max_rows": 4}, {"max_items": 2}])
def test_a_full_queue_waits_for_the_writer(bounds: dict[str, int]) -> None:
    store = Store()
    committer = StoreCommitter(store)
    committer.gate.clear()
    partition = GroupCommitPartition("00", committer, **bounds)
    partition.write_batch([item([1, 2])])
    assert committer.entered.wait(WAIT_S)
    partition.write_batch([item([3, 4]), item([5, 6])])  # fills the queue
    blocked = threading.Thread(target=partition.write_batch, args=([item([7, 8])],))
    blocked.start()
    blocked.join(0.2)
    assert blocked.is_alive()
    committer.gate.set()
    blocked.join(WAIT_S)
    assert not blocked.is_alive()
    partition.snapshot()
    assert [value for _, value in store.rows] == [10, 20, 30, 40, 50, 60, 70, 80]
    partition.close()


def test_an_item_larger_than_the_queue_passes_alone() -> None:
    store = Store()
    partition = GroupCommitPartition("00", StoreCommitter(store), max_rows=2)
    partition.write_batch([item(range(1, 100)), item([100])])
    partition.snapshot()
    assert len(store.rows) == 100
    partition.close()


def test_snapshot_waits_until_everything_is_stored() -> None:
    store = Store()
    committer = StoreCommitter(store)
    committer.gate.clear()
    partition = GroupCommitPartition("00", committer)
    partition.write_batch([item([1])])
    waiting = threading.Thread(target=partition.snapshot)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    committer.gate.set()
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    assert store.rows
    partition.close()


def test_an_error_surfaces_at_the_next_call_and_closing_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store()
    committer = StoreCommitter(store, fail_at=0)
    partition = GroupCommitPartition("00", committer)
    partition.write_batch([item([1])])
    with pytest.raises(RuntimeError, match="on fire"):
        partition.snapshot()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on fire"):
            partition.write_batch([item([2])])
    with caplog.at_level(logging.ERROR):
        partition.close()
    assert "on fire" in caplog.text
    assert store.rows == []
    assert committer.closed


def test_an_error_wakes_a_blocked_writer() -> None:
    committer = StoreCommitter(Store(), fail_at=0)
    committer.gate.clear()
    partition = GroupCommitPartition("00", committer, max_items=1)
    partition.write_batch([item([1])])
    assert committer.entered.wait(WAIT_S)
    partition.write_batch([item([2])])
    threading.Timer(0.1, committer.gate.set).start()
    with pytest.raises(RuntimeError, match="on fire"):
        partition.write_batch([item([3])])
    partition.close()


def test_closing_stores_what_is_queued() -> None:
    store = Store()
    committer = StoreCommitter(store)
    committer.gate.clear()
    partition = GroupCommitPartition("00", committer)
    partition.write_batch([item([1]), item([2])])
    threading.Timer(0.1, committer.gate.set).start()
    partition.close()
    assert store.positions == {"results-00": 2}


def test_a_committer_that_does_not_open_is_closed() -> None:
    class Broken(StoreCommitter):
        def open(self) -> Mapping[str, int]:
            raise RuntimeError("no store")

    committer = Broken(Store())
    partition = GroupCommitPartition("00", committer)
    with pytest.raises(RuntimeError, match="no store"):
        partition.snapshot()
    with pytest.raises(RuntimeError, match="no store"):
        partition.write_batch([item([1])])
    partition.close()
    assert committer.closed


def test_an_output_that_has_lost_what_the_recovery_store_knows_is_refused() -> None:
    store = Store()
    partition = GroupCommitPartition("00", StoreCommitter(store))
    partition.write_batch([item([1, 2])])
    known = partition.snapshot()
    partition.close()
    GroupCommitPartition("00", StoreCommitter(store), known).close()
    committer = StoreCommitter(Store())
    with pytest.raises(FlowError, match=r"up to 2, but the output holds it up to nothing"):
        GroupCommitPartition("00", committer, known)
    assert committer.store.rows == []


def test_writing_does_not_wait_for_the_store_to_open() -> None:
    store = Store()
    store.positions = {"results-00": 2}
    committers = [SlowToOpen(store), SlowToOpen(Store())]
    partitions = [GroupCommitPartition("00", committer) for committer in committers]
    for partition in partitions:  # as Bytewax does at a first start: build, write, build, write
        partition.write_batch([item([1, 2]), item([2, 3])])
    waiting = threading.Thread(target=partitions[0].snapshot)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    for committer in reversed(committers):
        committer.may_open.set()
    waiting.join(WAIT_S)
    assert store.rows == [("results-00", 30)], "what was stored before is dropped"
    assert [dict(partition.snapshot()) for partition in partitions] == [{"results-00": 3}] * 2
    for partition in partitions:
        partition.close()


def test_closing_while_the_store_opens_stores_what_is_queued() -> None:
    committer = SlowToOpen(Store())
    partition = GroupCommitPartition("00", committer)
    partition.write_batch([item([1])])
    threading.Timer(0.1, committer.may_open.set).start()
    partition.close()
    assert committer.store.positions == {"results-00": 1}
    assert committer.closed


def test_what_comes_together_leaves_together() -> None:
    store = Store()
    partition = GroupCommitPartition("00", StoreCommitter(store))
    partition.snapshot()
    for position in range(1, 21):
        partition.write_batch([item([position], lane=n) for n in range(8)])
        partition.snapshot()
    assert store.transactions == [8] * 20
    partition.close()


def test_partitions_are_permanent() -> None:
    sink = ExactlyOnceSink(lambda _: StoreCommitter(Store()), partitions=12)
    assert sink.list_parts() == sorted(sink.list_parts())
    assert sink.list_parts()[:2] == ["00", "01"]
    assert sink.part_fn("results-03") == zlib.crc32(b"results-03")


@given(
    cuts=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    lives=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=4),
)
def test_any_sequence_of_failures_and_replays_stores_each_row_once(
    cuts: list[int], lives: list[tuple[int, int]]
) -> None:
    """Every life starts anywhere before what is stored, and dies at some transaction."""
    positions = np.arange(1, sum(cuts) + 1)
    items = [item(part.tolist()) for part in np.split(positions, np.cumsum(cuts)[:-1])]
    store = Store()
    for transactions, replay_from in lives:
        committer = StoreCommitter(store, fail_at=len(store.transactions) + transactions)
        partition = GroupCommitPartition("00", committer)
        stored = store.positions.get("results-00", 0)
        start = max(i for i, x in enumerate(items) if i == 0 or x.positions[0] <= stored + 1)
        try:
            for value in items[min(start, replay_from) :]:
                partition.write_batch([value])
            partition.snapshot()
        except RuntimeError:
            pass
        partition.close()
        assert [v for _, v in store.rows] == [10 * p for p in range(1, len(store.rows) + 1)]
    last = GroupCommitPartition("00", StoreCommitter(store))
    last.write_batch(items)
    last.close()
    assert [v for _, v in store.rows] == (10 * positions).tolist()


def test_in_a_flow_that_stops_and_goes_on(tmp_path: Path) -> None:
    stores = {"00": Store(), "01": Store()}
    init_db_dir(tmp_path, 1)
    items: list[object] = []
    for position in range(1, 41):
        items += [(x.lane, x) for x in (item([position], lane=n) for n in range(4))]
        if position == 15:
            items.append(TestingSource.ABORT())
        if position == 30:
            items.append(TestingSource.EOF())
    flow = Dataflow("sink")
    stream = op.input("in", flow, TestingSource(items))
    op.output("out", stream, ExactlyOnceSink(lambda name: StoreCommitter(stores[name])))
    recovery = RecoveryConfig(str(tmp_path))
    # More runs than stops: the source forgets to count an ABORT it skips, and replays.
    for _ in range(5):
        run_main(flow, epoch_interval=timedelta(milliseconds=1), recovery_config=recovery)
        time.sleep(0.01)
    for number in range(4):
        lane = f"results-{number:02d}"
        rows = stores[f"{zlib.crc32(lane.encode()) % 2:02d}"].rows
        assert [v for name, v in rows if name == lane] == [10 * p for p in range(1, 41)]
