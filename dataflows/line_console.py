"""Results in the terminal, one line each: a few lines a second, the rest counted.

On a terminal a finite run shows only its progress bar and a summary. Contract: the display
never stops a flow (a closed terminal ends only the display) and never slows it noticeably.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from rich.console import Console
from rich.text import Text

from dataflows.console import look
from schemas.stream import Output
from sources.progress import RunProgress, SteadyConsole

__all__ = ["LineConsoleSink", "result_rows"]

_EVERY_S = 0.5
_FIRST = slice(10)


class LineConsoleSink(DynamicSink[pa.RecordBatch]):
    """Shows batches of rows; all workers of a process share one display.

    Args:
        line: a row as text, with styles or without.
        table: where the rows are, for the hint.
        database_url: the same; a password in it is not shown. None when nothing is written
            to PostgreSQL.
        progress: of the run; when it is finite, a terminal is left to its bar.
        shown: which rows of a batch to show when it is time, without a step.
        noun: what rows are called where they are counted.
        psql: command of the hint.
        console: where to show; standard output when None.
        clock_s: a monotonic clock in seconds.
    """

    def __init__(
        self,
        line: Callable[[Mapping[str, Any]], str | Text],
        table: str,
        database_url: str | None = None,
        progress: RunProgress | None = None,
        *,
        shown: slice = _FIRST,
        noun: str = "rows",
        psql: str = "psql",
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        query = f"SELECT * FROM {table} LIMIT 20"  # noqa: S608  # a table's name, to be shown
        self._hint = None if database_url is None else look(psql, database_url, query)
        self._progress = progress
        self._shown = shown
        self._noun = noun
        self._console = console or SteadyConsole()
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._due_s = clock_s()
        self._workers = self._rows = self._hidden = 0

    def build(
        self,
        step_id: str,  # noqa: ARG002  # given by Bytewax, as the next two
        worker_index: int,  # noqa: ARG002
        worker_count: int,  # noqa: ARG002
    ) -> "StatelessSinkPartition[pa.RecordBatch]":
        """A worker's way to the display."""
        with self._lock:
            self._workers += 1
            if self._workers == 1 and self._hint is not None:
                self._print([f"Rows    {self._hint}"])
        return _LineConsolePartition(self)

    def show(self, rows: pa.RecordBatch) -> None:
        """Print some rows of a batch when it is time."""
        with self._lock:
            self._rows += rows.num_rows
            now_s = self._clock_s()
            if self._is_quiet or now_s < self._due_s:
                self._hidden += rows.num_rows
                return
            self._due_s = now_s + _EVERY_S
            first, end, _ = self._shown.indices(rows.num_rows)
            self._hidden += first
            lines: list[str | Text] = []
            if self._hidden:
                lines.append(Text(f"… {self._hidden:,} more {self._noun}", style="dim"))
            lines += [self._line(row) for row in rows[first:end].to_pylist()]
            self._hidden = rows.num_rows - end
            self._print(lines)

    def close(self) -> None:
        """One worker less; the last one leaves a summary."""
        with self._lock:
            self._workers -= 1
            if self._workers > 0:
                return
            if self._progress is not None:
                self._progress.close()
            self._print([f"{self._rows:,} {self._noun}."])

    @property
    def _is_quiet(self) -> bool:
        return self._progress is not None and self._progress.is_finite and self._console.is_terminal

    def _print(self, lines: Sequence[str | Text]) -> None:
        plain = (Text(line) if isinstance(line, str) else line for line in lines)
        try:
            self._console.print(Text("\n").join(plain), soft_wrap=True)
        except OSError:  # the terminal is gone; the flow goes on without it
            self._due_s = float("inf")


class _LineConsolePartition(StatelessSinkPartition[pa.RecordBatch]):
    def __init__(self, sink: LineConsoleSink) -> None:
        self._sink = sink

    def write_batch(self, items: list[pa.RecordBatch]) -> None:
        for rows in items:
            self._sink.show(rows)

    def close(self) -> None:
        self._sink.close()


def result_rows(item: tuple[str, Output]) -> pa.RecordBatch | None:
    """What of an item for the sinks is shown: results, but no late or rejected rows."""
    output = item[1]
    return output.rows if output.kind == "results" else None
