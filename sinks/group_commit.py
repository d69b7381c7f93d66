"""Exactly-once sinks, whatever they write to: one queue and one writer thread per partition.

Contract, for every lane and across crashes, restarts and other batchings of the same run:

* Rows at or below the lane's stored position are dropped; all others are written once.
* Rows and the position they reach are written in one transaction, in the order they came,
  so what is stored is always a prefix of the lane.
* `snapshot` returns once everything handed over is stored. A recovery snapshot therefore
  never promises rows that a crash could still lose, and needs no state of its own.
* An error of the writer, at opening or later, surfaces at the next `write_batch` or
  `snapshot`, and at each one after it: nothing is written any more.

The writer opens its store, and only then looks at what is queued: stores of all partitions
and sinks open at the same time, and the worker goes on reading meanwhile.

Group commit: while one transaction is on its way, items of all lanes gather in the queue
and leave together in the next one. A slow store makes transactions larger, not more, and
the worker's thread waits for a store only in `snapshot` or when the queue is full.
Memory: at most twice the bounds, one queueful waiting and one being written.
"""

import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas import tracing
from schemas.errors import FlowError
from schemas.live_gauges import Reading
from schemas.stream import NEVER, Output
from sinks.metrics import QUEUED, QUEUES, SinkMetrics
from sinks.telling import tell_snapshot, tell_stored

__all__ = ["Committer", "ExactlyOnceSink", "GroupCommitPartition", "partition_names"]

SinkState = tuple[tuple[str, int], ...]
"""Snapshot of a sink partition: lanes and the positions stored. Progress itself lives with
the data; this only shows whether the data are still there."""

MAX_ROWS = 200_000
MAX_ITEMS = 10_000

_log = logging.getLogger(__name__)


class Committer(Protocol):
    """Writes to a store, for one sink partition.

    Contract: `open` is called once and first, `close` once and last, all by one thread.
    No call may block for ever: an outage ends in an error after a bounded time.
    """

    def open(self) -> Mapping[str, int]:
        """Connect, shut out predecessors, and read the stored position of each lane."""
        ...

    def commit(self, outputs: Sequence[Output]) -> None:
        """Write all rows and the new positions of their lanes in one transaction.

        Args:
            outputs: At least one item; several may belong to one lane, in order.

        Raises:
            Exception: Nothing of it is written, or all of it and `open` will tell.
        """
        ...

    def close(self) -> None:
        """Let go of connections; also after a failed `open`."""
        ...


class GroupCommitPartition(StatefulSinkPartition[Output, SinkState]):
    """One partition of an exactly-once sink; see the module's contract.

    Args:
        name: Of the partition, for the thread and for messages.
        committer: Opened and closed by the writer.
        resumed: Positions that the recovery store knows to be stored; None without.
        flow: Name, for metrics, logs and traces, as the next.
        sink: What it writes to.
        max_rows: Bound of the queue in rows; a larger item passes alone.
        max_items: Bound of the queue in items.

    Raises:
        Exception: The store could not be opened, or has lost what `resumed` knows to be
            stored; told here only when resuming, else at the first call.
    """

    def __init__(
        self,
        name: str,
        committer: Committer,
        resumed: SinkState | None = None,
        *,
        flow: str = "",
        sink: str = "",
        max_rows: int = MAX_ROWS,
        max_items: int = MAX_ITEMS,
    ) -> None:
        self._name = name
        self._committer = committer
        self._resumed = resumed
        self._flow = flow
        self._sink = sink
        self._max_rows = max_rows
        self._max_items = max_items
        self._positions: dict[str, int] = {}
        self._queue: list[Output] = []
        self._queued_rows = 0
        self._busy = True  # opening
        self._closing = False
        self._error: BaseException | None = None
        self._metrics = SinkMetrics(flow, sink, name)
        QUEUES.watch(self, GroupCommitPartition._waiting)
        self._fields = {"flow": flow, "sink": sink, "sink_partition": name}
        self._told: SinkState = ()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()
        if resumed is not None:  # a flow that cannot go on is to end before any sink writes
            self.snapshot()

    def write_batch(self, values: list[Output]) -> None:
        """Queue rows; waits while the queue is full.

        Raises:
            Exception: Whatever ended the writer.
        """
        with self._changed:  # held throughout: shards that close at one tick leave together
            for value in values:
                rows = value.rows.num_rows
                while not self._has_room(rows):
                    self._changed.wait()
                self._raise_error()
                self._queue.append(value)
                self._queued_rows += rows
                self._changed.notify_all()
            self._raise_error()

    def snapshot(self) -> SinkState:
        """Wait until everything queued is stored; the positions reached.

        Raises:
            Exception: Whatever ended the writer.
        """
        with self._changed:
            self._changed.wait_for(self._is_settled)
            self._raise_error()
            state = tuple(self._positions.items())
        if state != self._told:
            self._told = state
            tell_snapshot(self._fields, state)
        return state

    def close(self) -> None:
        """Store what is queued unless the writer has failed, and let go; never raises.

        Bytewax calls this also after another step failed. What is queued is a prefix of
        the lanes all the same, so storing it is right, and spares the next run the work.
        """
        QUEUES.forget(self)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            _log.error(
                "Sink partition %s stopped before its end: %s",
                self._name,
                self._error,
                extra=self._fields,
            )

    def _run(self) -> None:
        try:
            self._positions.update(self._committer.open())
            _check_nothing_lost(self._positions, self._resumed)
            while queued := self._taken():
                outputs = self._not_stored(queued)
                if outputs:
                    with tracing.transaction(self._flow, self._sink, self._name, outputs):
                        began_s = time.perf_counter()
                        self._committer.commit(outputs)
                        self._metrics.stored(outputs, time.perf_counter() - began_s)
                        tell_stored(self._fields, outputs)
        except BaseException as error:  # noqa: BLE001  # the worker's thread raises it
            with self._changed:
                self._error = error
                self._queue.clear()
                self._changed.notify_all()
        try:
            self._committer.close()
        except Exception:  # noqa: BLE001  # Bytewax cannot take an error of `close`
            _log.exception(
                "Sink partition %s did not close cleanly", self._name, extra=self._fields
            )

    def _waiting(self) -> Reading:
        return Reading(self._metrics.labels, {QUEUED: self._queued_rows})

    def _taken(self) -> list[Output]:
        """All that is queued, once there is something; empty at the end."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue or self._closing)
            queued, self._queue = self._queue, []
            self._queued_rows = 0
            self._busy = True
            self._changed.notify_all()
            return queued

    def _not_stored(self, queued: list[Output]) -> list[Output]:
        outputs = []
        for item in queued:
            rest = item.after(self._positions.get(item.lane, NEVER))
            if rest is not None:
                outputs.append(rest)
                self._positions[rest.lane] = rest.position
        return outputs

    def _has_room(self, rows: int) -> bool:
        return (
            self._error is not None
            or not self._queue
            or (len(self._queue) < self._max_items and self._queued_rows + rows <= self._max_rows)
        )

    def _is_settled(self) -> bool:
        return self._error is not None or not (self._queue or self._busy)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _check_nothing_lost(stored: Mapping[str, int], resumed: SinkState | None) -> None:
    """The flow's own state goes on behind what it has written; the store must hold that."""
    for lane, position in resumed or ():
        found = stored.get(lane)
        if found is None or found < position:
            raise FlowError(
                f"The recovery store says that lane {lane} was written up to {position}, but "
                f"the output holds it up to {'nothing' if found is None else found}",
                "The output was emptied, restored from a backup, or is another one than "
                "before (OUTPUT_TOPIC, DATABASE_URL). Restore it, or start with an empty "
                "recovery directory: the flow then reads its input from the start and "
                "writes what is missing.",
            )


class ExactlyOnceSink(FixedPartitionedSink[Output, SinkState]):
    """An output for items `(lane, Output)`, each row written exactly once.

    Args:
        committer_of: Makes the committer of a partition, by name; not connected yet.
        partitions: How many transactions may be on their way at a time. Permanent for a
            flow: a lane's progress is stored by the partition it hashes to.
        flow: Name, for metrics, logs and traces, as the next.
        sink: What it writes to.
    """

    def __init__(
        self,
        committer_of: Callable[[str], Committer],
        partitions: int = 2,
        *,
        flow: str = "",
        sink: str = "",
    ) -> None:
        self._committer_of = committer_of
        self._flow = flow
        self._sink = sink
        self._names = partition_names(partitions)

    def list_parts(self) -> list[str]:
        """`00`, `01` and so on; zero-padded, since Bytewax orders them as text."""
        return list(self._names)

    def part_fn(self, item_key: str) -> int:
        """The same partition for a lane in every process and for ever."""
        return zlib.crc32(item_key.encode())

    def build_part(
        self,
        step_id: str,  # noqa: ARG002  # given by Bytewax
        for_part: str,
        resume_state: SinkState | None,
    ) -> GroupCommitPartition:
        """Start the writer, which opens the store."""
        return GroupCommitPartition(
            for_part,
            self._committer_of(for_part),
            resume_state,
            flow=self._flow,
            sink=self._sink,
        )


def partition_names(partitions: int) -> list[str]:
    """Names of a sink's partitions; the number in them is their index."""
    return [f"{index:02d}" for index in range(partitions)]
