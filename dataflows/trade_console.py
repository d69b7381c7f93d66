"""Trades in the terminal: a few lines a second, the rest counted.

Contract: the display never stops a flow (a closed terminal ends only the display) and never
slows it noticeably.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from rich.console import Console
from rich.text import Text

from sources.progress import SteadyConsole

__all__ = ["TradeConsoleSink"]

_EVERY_S = 0.5
_LINES = 5  # each time
_STYLES = {"buy": "green", "sell": "red"}


class TradeConsoleSink(DynamicSink[pa.RecordBatch]):
    """Shows batches with the columns of `TRADES`; all workers share one display.

    Args:
        console: where to show; standard output when None.
        clock_s: a monotonic clock in seconds.
    """

    def __init__(
        self, console: Console | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or SteadyConsole(highlight=False)
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._due_s = clock_s()
        self._passed = 0

    def build(
        self,
        step_id: str,  # noqa: ARG002  # given by Bytewax, as the next two
        worker_index: int,  # noqa: ARG002
        worker_count: int,  # noqa: ARG002
    ) -> "StatelessSinkPartition[pa.RecordBatch]":
        """A worker's way to the display."""
        return _TradeConsolePartition(self)

    def show(self, rows: pa.RecordBatch) -> None:
        """Print the last trades of a batch when it is time."""
        with self._lock:
            now_s = self._clock_s()
            if now_s < self._due_s:
                self._passed += rows.num_rows
                return
            self._due_s = now_s + _EVERY_S
            shown = rows.slice(max(rows.num_rows - _LINES, 0)).to_pylist()
            passed, self._passed = self._passed + rows.num_rows - len(shown), 0
            lines = [_line(row) for row in shown]
            if passed:
                lines.insert(0, Text(f"… {passed:,} more trades", style="dim"))
            try:
                self._console.print(*lines, sep="\n")
            except OSError:  # the terminal is gone; the flow goes on without it
                self._due_s = float("inf")


class _TradeConsolePartition(StatelessSinkPartition[pa.RecordBatch]):
    def __init__(self, sink: TradeConsoleSink) -> None:
        self._sink = sink

    def write_batch(self, items: list[pa.RecordBatch]) -> None:
        for rows in items:
            self._sink.show(rows)


def _line(row: dict[str, Any]) -> Text:
    moment: datetime = row["timestamp"].astimezone(UTC)
    text = Text(f"{moment:%H:%M:%S.%f}"[:-3])
    text.append(f"  {row['instrument']:<20}")
    text.append(f"{row['side']:>5}", style=_STYLES[row["side"]])
    text.append(f"{row['quantity']:>12} at {row['price']:<10} #{row['trade_seq']}")
    return text
