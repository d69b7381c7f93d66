"""What a trade costs the shards of rolling statistics, by how full their windows are.

No source and no sink: trades of the simulated market become partials, which is not counted,
and the shards take them in, slide their windows and make rows, which is. Their log is a day
and a tail that is as long and as dense as the day's head:

    |---- head ----|-- middle, of a given rate --|---- tail ----|
    |------------------- a day ------------------|-- measured --|

While the tail comes in, the head leaves. So what enters, what leaves and the rows are the
same whatever the middle's rate is; only the fullness of the windows differs.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.components import OPENED_AT_MS
from operators.candle import CANDLE
from operators.combine import Combine, CombineRule, PanePartials
from operators.rolling import RollingRule, RollingShard
from operators.rolling_panes import USED
from schemas.stream import NEVER, Events, Fetched
from schemas.trades import TradeCodec
from sources.market import SimulatedMarket

__all__ = ["DAY_S", "FullShards"]

DAY_S = 86_400

_SHARDS = 8
_LATENESS_MS = 2_000
_BATCH = 10_000


class FullShards:
    """Shards whose windows hold a day, and the tail that comes next.

    Args:
        instruments: number of keys.
        edge_s: length of head and tail.
        edge_rate: trades per second in both.
        middle_rate: the same between them.

    Attributes:
        panes: that the windows hold.
        trades: that they hold.
        measured_trades: that the tail has.
    """

    def __init__(self, instruments: int, edge_s: int, edge_rate: float, middle_rate: float) -> None:
        self._shards = [RollingShard(RollingRule(), 1, None) for _ in range(_SHARDS)]
        self._combine = Combine(CANDLE, CombineRule("rolling", "trades", _SHARDS))
        self._codec = TradeCodec()
        self._instruments = instruments
        self._end_ms = OPENED_AT_MS
        self._newest_ms = NEVER
        self._read = 0
        for length_s, rate in ((edge_s, edge_rate), (DAY_S - edge_s, middle_rate)):
            for item in self._partials(length_s, rate):
                self._feed(item)
        self.trades = self._read
        self.panes = sum(
            int(shard._table._arena[USED])  # noqa: SLF001  # nothing else tells how full it is
            for shard in self._shards
        )
        self._tail = list(self._partials(edge_s, edge_rate))
        self.measured_trades = self._read - self.trades

    def measured(self) -> None:
        """Take in the tail."""
        for item in self._tail:
            self._feed(item)

    def _feed(self, item: PanePartials) -> None:
        self._shards[item.shard].on_batch([item])

    def _partials(self, length_s: int, rate: float) -> Iterator[PanePartials]:
        """What the log's next part becomes: trades that arrive within a span."""
        market = SimulatedMarket(
            self._end_ms, partitions=1, instruments=self._instruments, rate=rate, pace="fast"
        )
        self._end_ms += length_s * 1000
        fetcher = market.open(0, None)
        while (fetched := fetcher.poll(_BATCH)) is not None:
            n = int(np.searchsorted(fetched.timestamps_ms, self._end_ms))
            fetched = fetched[:n]
            if n == 0:
                break
            self._read += n
            for _, item in self._combine(self._events(fetched)):
                if isinstance(item, PanePartials):
                    yield item

    def _events(self, fetched: Fetched) -> Events:
        decoded = self._codec.decode(fetched.values)
        times_ms = np.concatenate(([self._newest_ms], decoded.event_time_ms))
        newest_ms = np.maximum.accumulate(times_ms)
        self._newest_ms = int(newest_ms[-1])
        return Events(
            0,
            fetched.offsets,
            decoded.event_time_ms,
            newest_ms[:-1] - _LATENESS_MS,
            decoded.key_codes,
            decoded.key_names,
            decoded.columns,
            fetched.values,
            self._newest_ms - _LATENESS_MS,
            len(fetched.offsets),
        )
