"""What the exactly-once sinks tell of what they write.

Contract: a transaction is told of once it is stored, with the time that it took, attempts that
failed included; the number of observations is that of transactions.
"""

import time
from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from schemas.live_gauges import LiveGauges
from schemas.stream import Output

__all__ = ["QUEUED", "QUEUES", "RETRIES", "SinkMetrics"]

_LABELS = ["flow", "sink", "partition"]
_TRANSACTION_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_END_TO_END_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0),
)

_ROWS = Counter("tidemark_sink_rows", "Rows stored.", [*_LABELS, "kind"])
_TRANSACTION_S = Histogram(
    "tidemark_sink_transaction_seconds",
    "Time from begin to commit of a transaction.",
    _LABELS,
    buckets=_TRANSACTION_BUCKETS_S,
)
_END_TO_END_S = Histogram(
    "tidemark_end_to_end_latency_seconds",
    "Time from the log's timestamp of the record that completed rows to their commit.",
    ["flow", "sink"],
    buckets=_END_TO_END_BUCKETS_S,
)
RETRIES = Counter("tidemark_sink_retries", "Transactions that were tried again.", _LABELS)
QUEUED = "tidemark_sink_queued_rows"
QUEUES = LiveGauges({QUEUED: "Rows that wait for the next transaction."}, _LABELS)


class SinkMetrics:
    """Of one sink partition.

    Args:
        flow: name.
        sink: `kafka` or `postgres`.
        partition: of the sink.
    """

    def __init__(self, flow: str, sink: str, partition: str) -> None:
        self.labels = (flow, sink, partition)
        self._transaction_s = _TRANSACTION_S.labels(*self.labels)
        self._end_to_end_s = _END_TO_END_S.labels(flow, sink)
        self._rows: dict[str, Counter] = {}
        RETRIES.labels(*self.labels)  # shown from the start on, as 0

    def stored(self, outputs: Sequence[Output], took_s: float) -> None:
        """Tell of a transaction, which was committed just now."""
        now_s = time.time()
        self._transaction_s.observe(took_s)
        for output in outputs:
            rows = self._rows.get(output.kind)
            if rows is None:
                rows = self._rows[output.kind] = _ROWS.labels(*self.labels, output.kind)
            rows.inc(output.rows.num_rows)
            origin = output.origin
            if origin is not None and origin.record_time_ms >= 0:
                self._end_to_end_s.observe(max(now_s - origin.record_time_ms / 1000, 0.0))
