"""The Bytewax source of a PostgreSQL logical slot: whole transactions, in order of commit.

One permanent partition, since a slot has one order. Its snapshot is how far it has come; after a
crash the server sends everything after that again.

Contract.
* The slot forgets a transaction only after a snapshot that holds what came of it is durable:
  `snapshot` notes how far it is, and the next `next_batch`, which Bytewax calls when the snapshot
  is stored, tells the server.
* A slot can be read once, so its first snapshot of the tables cannot be read again either. It is
  kept in the state until it is durable there, and handed on only then; so a crash at any moment
  repeats it to the byte. Until then the flow publishes nothing, which takes the time of one
  recovery interval.
* An outage of the source is waited out for a minute; the same transactions follow after it.

The streaming protocol is used rather than peeking at the slot with SQL: a peek decodes anew all
that is not yet forgotten, cannot get past it, and would have to be asked again and again.
"""

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import psycopg
import pyarrow as pa
from bytewax.inputs import StatefulSourcePartition
from typing_extensions import override

from schemas import failpoints, tracing
from schemas.errors import FlowError
from schemas.origin import Origin
from schemas.stream import NEVER, Output
from schemas.tables import REJECTED_SCHEMA
from schemas.transactions import Captured, Transaction
from sources import metrics, stopping
from sources.pgoutput import Decoded, PgOutput
from sources.replication import ReplicationStream
from sources.slot_setup import SlotPlace, check_slot, create_slot, end_of_log, explained
from sources.spans import with_span

__all__ = ["SlotPartition", "SlotState"]

_MESSAGES = 4_000
_BUSY = timedelta(milliseconds=4)
_QUIET = timedelta(milliseconds=12)
_QUIET_S = 1.0
_OUTAGE_S = 60.0
_AGAIN_S = 0.5
_ASK_S = 5.0


class SlotState(NamedTuple):
    """Snapshot of the partition.

    Attributes:
        lsn: everything that was committed up to here was handed on.
        first: the rows of the tables, while they wait to be handed on.
    """

    lsn: int
    first: Transaction | None


class SlotPartition(StatefulSourcePartition[Captured, SlotState]):
    """The one partition; see the module.

    Args:
        flow: name, for dead letters and metrics.
        place: where to capture.
        state: where to go on; None to begin with a snapshot of the tables.
        has_output: whether the flow has ever written anything.
        stop_at_end: end at the place the source's log had reached at start.
        clock_s: a monotonic clock in seconds.

    Raises:
        FlowError: The slot cannot go on from the state, or another process reads it.
    """

    def __init__(
        self,
        flow: str,
        place: SlotPlace,
        state: SlotState | None,
        *,
        has_output: bool = False,
        stop_at_end: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flow = flow
        self._place = place
        self._clock_s = clock_s
        self._read = metrics.READ.labels(flow, place.slot)
        self._stream: ReplicationStream | None = None
        self._is_durable = state is not None
        try:
            with explained():
                state = self._open(state, has_output=has_output)
                self._end = self._end_now() if stop_at_end else None
        except BaseException:
            self.close()
            raise
        self._lsn, self._first = state
        self._noted: int | None = None
        self._lost_s: float | None = None
        self._awake: datetime | None = None
        self._active_s = self._asked_s = clock_s()
        self._watermark_ms = NEVER
        metrics.watch(self, flow, place.slot, SlotPartition._standing)

    @override
    def next_batch(self) -> list[Captured]:
        if stopping.requested():
            raise StopIteration
        try:
            return self._batch()
        except psycopg.Error as error:
            self._on_loss(error)
            return []

    def _batch(self) -> list[Captured]:
        if self._stream is None:
            self._resume(self._lsn)
        stream = self._stream
        if stream is None:
            raise psycopg.OperationalError("not connected")
        if self._noted is not None:
            stream.confirm(self._noted, ask=True)
            self._noted = None
        if self._first is not None:
            return self._hand_on_first()
        read_s = time.time()
        messages = stream.read(_MESSAGES)
        self._lost_s = None
        decoded = [
            one for lsn, data in messages if (one := self._decoder.take(lsn, data)) is not None
        ]
        self._lsn = max([self._lsn, stream.sent_lsn, *(one.transaction.lsn for one in decoded)])
        self._rest(stream, is_full=len(messages) >= _MESSAGES, is_empty=not messages)
        return [self._captured(decoded, read_s)] if decoded else []

    def _hand_on_first(self) -> list[Captured]:
        first = self._first
        if first is None or not self._is_durable:
            self._awake = datetime.now(UTC) + _QUIET
            return []
        self._first = None
        failpoints.reached("slot.first_handed_on")
        return [Captured([first], [], self._origin([first], time.time()))]

    def _rest(self, stream: ReplicationStream, *, is_full: bool, is_empty: bool) -> None:
        """When to be called again: at once while there is more, rarely when nothing comes."""
        now_s = self._clock_s()
        if not is_empty:
            self._active_s = now_s
        elif self._end is not None and self._lsn >= self._end:
            raise StopIteration
        ask_s = 0.05 if self._end is not None else _ASK_S
        if is_empty and now_s - self._asked_s > ask_s:
            self._asked_s = now_s
            stream.confirm(0, ask=True)
        wait = _QUIET if self._is_quiet() else _BUSY
        self._awake = None if is_full else datetime.now(UTC) + wait

    def _is_quiet(self) -> bool:
        return self._clock_s() - self._active_s > _QUIET_S

    def _standing(self) -> metrics.Standing:
        return metrics.Standing(
            self._watermark_ms, is_idle=self._stream is not None and self._is_quiet()
        )

    def _captured(self, decoded: list[Decoded], read_s: float) -> Captured:
        transactions = [one.transaction for one in decoded]
        self._read.inc(sum(len(transaction.changes) for transaction in transactions))
        self._watermark_ms = transactions[-1].committed_us // 1000
        rejected = sum(len(one.rejected) for one in decoded)
        origin = self._origin(transactions, read_s, rejected)
        return Captured(transactions, self._rejects(decoded, origin), origin)

    def _origin(self, transactions: list[Transaction], read_s: float, rejected: int = 0) -> Origin:
        """The log's time of a transaction is that of its commit, its offset the LSN."""
        return with_span(
            Origin(read_s, transactions[-1].committed_us // 1000),
            tracing.batch(read_s),
            self._flow,
            self._place.slot,
            first=transactions[0].lsn,
            last=transactions[-1].lsn,
            records=sum(len(transaction.changes) for transaction in transactions),
            rejected=rejected,
        )

    def _rejects(self, decoded: list[Decoded], origin: Origin) -> list[Output]:
        """Dead letters at the position of their transactions; the change's own is `offset`."""
        rows = [(one.transaction, bad) for one in decoded for bad in one.rejected]
        if not rows:
            return []
        for _, bad in rows:
            metrics.REJECTED.labels(self._flow, self._place.slot, bad.reason).inc()
        n = len(rows)
        columns = [
            pa.array([self._flow] * n),
            pa.array([self._place.slot] * n),
            pa.array([0] * n, pa.int32()),
            pa.array([bad.lsn for _, bad in rows]),
            pa.array([bad.reason for _, bad in rows]),
            pa.array([t.committed_us // 1000 for t, _ in rows], pa.timestamp("ms", tz="UTC")),
            pa.nulls(n, pa.binary()),
            pa.array([bad.message for _, bad in rows], pa.binary()),
        ]
        positions = np.array([transaction.lsn for transaction, _ in rows], np.int64)
        batch = pa.record_batch(columns, schema=REJECTED_SCHEMA)
        return [Output("rejected", 0, positions, int(positions[-1]), batch, origin=origin)]

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> SlotState:
        failpoints.reached("slot.before_snapshot")
        self._noted = self._lsn
        self._is_durable = True  # when `next_batch` is called again
        return SlotState(self._lsn, self._first)

    @override
    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self, state: SlotState | None, *, has_output: bool) -> SlotState:
        if state is not None:
            self._resume(state.lsn)
            return state
        self._stream = ReplicationStream(self._place.url)
        first = create_slot(self._place, self._stream, has_output=has_output)
        self._start(self._stream, first.lsn)
        return SlotState(first.lsn, first)

    def _end_now(self) -> int:
        with closing(self._place.connect()) as connection:
            return end_of_log(connection)

    def _resume(self, lsn: int) -> None:
        check_slot(self._place, lsn)
        self._stream = ReplicationStream(self._place.url)
        self._start(self._stream, lsn)

    def _start(self, stream: ReplicationStream, lsn: int) -> None:
        self._decoder = PgOutput(self._place.tables)
        stream.start(self._place.slot, self._place.publication, lsn)

    def _on_loss(self, error: psycopg.Error) -> None:
        now_s = self._clock_s()
        self._lost_s = self._lost_s or now_s
        self.close()
        if now_s - self._lost_s > _OUTAGE_S:
            raise FlowError(
                f"The source database went away and did not return in {_OUTAGE_S:.0f} s "
                f"({' '.join(str(error).split())})",
                "Look at the state of the server and start the flow again: it goes on where it "
                "was.",
            ) from error
        self._awake = datetime.now(UTC) + timedelta(seconds=_AGAIN_S)
