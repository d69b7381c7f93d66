"""Records that cannot be used, set aside with their reason and their bytes.

Contract: each record of a batch is on exactly one side, and which one depends on the record
and its own timestamp in the log alone.
"""

import numpy as np
import pyarrow as pa

from schemas.stream import Decoded, Fetched, Int64s
from schemas.tables import REJECTED_SCHEMA
from sources.metrics import REJECTED

__all__ = ["AHEAD_OF_LOG", "Rejects"]

AHEAD_OF_LOG = "ahead_of_log"
"""Reject reason: the event time is too far ahead of the log's own timestamp."""


class Rejects:
    """Parts the good records of one partition from the others.

    Args:
        flow: name, for dead letters and metrics.
        topic: name of the log.
        partition: number of the partition.
        reasons: the codec's.
        ahead_ms: how far an event time may be ahead of the log's timestamp.
    """

    def __init__(
        self, flow: str, topic: str, partition: int, reasons: tuple[str, ...], ahead_ms: int
    ) -> None:
        self._flow = flow
        self._topic = topic
        self._partition = partition
        self._names = (AHEAD_OF_LOG, *reasons)
        self._ahead_ms = ahead_ms

    def part(
        self, fetched: Fetched, decoded: Decoded
    ) -> tuple[Fetched, Decoded, pa.RecordBatch | None, Int64s | None]:
        """The good records, as they came and decoded; rows and offsets of the m bad ones."""
        ahead = (fetched.timestamps_ms >= 0) & (
            decoded.event_time_ms > fetched.timestamps_ms + self._ahead_ms
        )
        if not (decoded.reasons.any() or ahead.any()):
            return fetched, decoded, None, None
        bad = (decoded.reasons != 0) | ahead
        rows, offsets = self._rows(fetched, decoded, np.flatnonzero(bad))
        good = np.flatnonzero(~bad)
        fetched = Fetched(
            fetched.values.take(pa.array(good)),
            fetched.offsets[good],
            fetched.timestamps_ms[good],
        )
        decoded = Decoded(
            decoded.event_time_ms[good],
            decoded.key_codes[good],
            decoded.key_names,
            {name: column[good] for name, column in decoded.columns.items()},
            decoded.reasons[good],
        )
        return fetched, decoded, rows, offsets

    def _rows(
        self, fetched: Fetched, decoded: Decoded, at: Int64s
    ) -> tuple[pa.RecordBatch, Int64s]:
        reasons = [self._names[code] for code in decoded.reasons[at]]
        for reason in reasons:
            REJECTED.labels(self._flow, str(self._partition), reason).inc()
        offsets = fetched.offsets[at]
        stamps = fetched.timestamps_ms[at]
        n = len(at)
        rows = pa.record_batch(
            [
                pa.array([self._flow] * n),
                pa.array([self._topic] * n),
                pa.array([self._partition] * n, pa.int32()),
                pa.array(offsets),
                pa.array(reasons, pa.string()),
                pa.array(stamps, pa.int64(), mask=stamps < 0).cast(pa.timestamp("ms", "UTC")),
                pa.nulls(n, pa.binary())
                if fetched.keys is None
                else fetched.keys.take(pa.array(at)),
                fetched.values.take(pa.array(at)),
            ],
            schema=REJECTED_SCHEMA,
        )
        return rows, offsets
