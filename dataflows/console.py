"""What a newcomer sees: candles in the terminal, forming ones live, closed ones as lines.

On a terminal a table of the forming candles stands below the lines of closed ones; a finite
run shows only its progress bar and a summary. Elsewhere (a file, a pipe, a container's log)
there are plain lines. Contract: the display never stops a flow (a closed terminal or a
broken pipe ends only the display) and never slows it noticeably: few drawings and lines a
second, the rest counted, and at most a twentieth of the time spent drawing.
"""

import atexit
import re
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from rich.console import Console
from rich.live import Live
from rich.text import Text

from dataflows.candle_text import COLUMNS, closed_line, forming_line, forming_table
from schemas.candles import INTERVALS_MS
from sources.progress import RunProgress, SteadyConsole

__all__ = ["ConsoleSink", "look"]

_REDRAW_S = 0.125
_PLAIN_FORMING_S = 1.0
_MORE_S = 1.0
_DRAWING_SHARE = 20  # rest at least so many times as long as a drawing took
_LINES_PER_S = 20
_BURST_LINES = 40
_TABLE_ROWS = 15
_CANDIDATE_ROWS = _TABLE_ROWS * len(INTERVALS_MS)
_LINES_BESIDE_TABLE = 6
_QUERY = "SELECT * FROM candles ORDER BY open_time DESC LIMIT 20"


class ConsoleSink(DynamicSink[pa.RecordBatch]):
    """Shows batches of candles, closed or forming, with the columns of `CANDLES`.

    A batch is one or the other as its first `is_closed` says. All workers of a process share
    one display.

    Args:
        database_url: where the rows are, for the hint; a password in it is not shown. None
            when nothing is written to PostgreSQL.
        progress: of the run; when it is finite, a terminal is left to its bar.
        psql: command of the hint.
        console: where to show; standard output when None.
        clock_s: a monotonic clock in seconds.
    """

    def __init__(
        self,
        database_url: str | None = None,
        progress: RunProgress | None = None,
        *,
        psql: str = "psql",
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        hint = None if database_url is None else look(psql, database_url, _QUERY)
        self._display = _Display(console or SteadyConsole(), hint, progress, clock_s)

    def build(
        self,
        step_id: str,  # noqa: ARG002  # given by Bytewax, as the next two
        worker_index: int,  # noqa: ARG002
        worker_count: int,  # noqa: ARG002
    ) -> "StatelessSinkPartition[pa.RecordBatch]":
        """A worker's way to the display."""
        return _ConsolePartition(self._display)


class _ConsolePartition(StatelessSinkPartition[pa.RecordBatch]):
    def __init__(self, display: "_Display") -> None:
        self._display = display
        display.open()

    def write_batch(self, items: list[pa.RecordBatch]) -> None:
        self._display.show(items)

    def close(self) -> None:
        self._display.close()


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["instrument"], INTERVALS_MS[row["interval"]]


def _python(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.select(COLUMNS).to_pylist()
    return found


def _utc(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def look(psql: str, url: str, query: str) -> str:
    """The command that shows some rows, ready to paste, without the URL's password."""
    shown = re.sub(r"^(\w+://[^:/@?]*):[^/]*@", r"\1@", url)  # without a password
    shown = re.sub(r"(?<=[?&])(ssl)?password=[^&]*&?", "", shown).rstrip("?&")
    return f"{shlex.quote(psql)} {shlex.quote(shown)} -c {shlex.quote(query)}"


class _Display:
    """The terminal: what is pending, when it is drawn, and how much of it."""

    def __init__(
        self,
        console: Console,
        hint: str | None,
        progress: RunProgress | None,
        clock_s: Callable[[], float],
    ) -> None:
        self._console = console
        self._hint = hint
        self._progress = progress
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._workers = 0
        self._live: Live | None = None
        self._began = False
        self._gone = False
        self._began_s = self._due_s = self._more_due_s = self._forming_due_s = clock_s()
        self._lines: list[Text] = []
        self._tokens = float(_BURST_LINES)
        self._tokens_s = self._began_s
        self._hidden = 0
        self._closed = 0
        self._corrected = 0
        self._until_ms = 0  # end of the newest closed window
        # (instrument, interval ms) to (row, whether its price rose, fell or neither: 1, -1, 0)
        self._forming: dict[tuple[str, int], tuple[dict[str, Any], int]] = {}

    def open(self) -> None:
        """One more worker shows."""
        with self._lock:
            self._workers += 1

    def show(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Take candles; draw when it is time."""
        with self._lock:
            now_s = self._clock_s()
            for rows in batches:
                if rows.num_rows == 0:
                    continue
                if rows.column("is_closed")[0].as_py():
                    self._take_closed(rows, now_s)
                else:
                    self._take_forming(rows)
            if not self._quiet and now_s >= self._due_s:
                self._draw(now_s)
                self._due_s = now_s + max(_REDRAW_S, _DRAWING_SHARE * (self._clock_s() - now_s))

    def close(self) -> None:
        """One worker less; the last one leaves a clean terminal and a summary."""
        with self._lock:
            self._workers -= 1
            if self._workers > 0:
                return
            quiet = self._quiet
            if self._progress is not None:
                self._progress.close()
            self._stop_live()
            if not quiet:
                self._draw(self._clock_s(), last=True)
            self._print(self._summary())

    @property
    def _quiet(self) -> bool:
        return self._progress is not None and self._progress.is_finite and self._console.is_terminal

    def _take_closed(self, rows: pa.RecordBatch, now_s: float) -> None:
        n = rows.num_rows
        self._closed += n
        self._corrected += int(np.count_nonzero(rows.column("revision").to_numpy()))
        self._until_ms = max(self._until_ms, rows.column("close_time")[n - 1].value)
        if self._quiet:
            return
        self._tokens = min(
            self._tokens + (now_s - self._tokens_s) * _LINES_PER_S, float(_BURST_LINES)
        )
        self._tokens_s = now_s
        shown = min(n, int(self._tokens))
        self._tokens -= shown
        self._hidden += n - shown
        if shown:
            self._lines += [closed_line(row) for row in _python(rows.slice(0, shown))]

    def _take_forming(self, rows: pa.RecordBatch) -> None:
        if self._quiet:
            return
        for row in self._candidates(rows):
            key = _key(row)
            before, direction = self._forming.get(key, (None, 0))
            if before is not None:
                if before["open_time"] > row["open_time"]:
                    continue
                last, now = float(before["close"]), float(row["close"])
                direction = (now > last) - (now < last) or direction
            self._forming[key] = row, direction
        for key in sorted(self._forming)[_TABLE_ROWS:]:
            del self._forming[key]

    def _candidates(self, rows: pa.RecordBatch) -> list[dict[str, Any]]:
        """The rows that may be in the table, which has the first instruments by name."""
        if len(self._forming) >= _TABLE_ROWS:
            rows = rows.filter(pc.less_equal(rows.column("instrument"), max(self._forming)[0]))
        elif rows.num_rows > _CANDIDATE_ROWS:
            order = pc.array_sort_indices(rows.column("instrument"))
            rows = rows.take(order[:_CANDIDATE_ROWS])
        return _python(rows)

    def _draw(self, now_s: float, *, last: bool = False) -> None:
        if not self._began:
            self._began = True
            self._print(self._introduction())
        self._drop_closed()
        lines, self._lines = self._lines, []
        if self._hidden and (last or now_s >= self._more_due_s):
            until = f"{_utc(self._until_ms):%Y-%m-%d %H:%M:%S}"
            lines.append(Text(f"… {self._hidden:,} more candles, to {until}", style="dim"))
            self._hidden = 0
            self._more_due_s = now_s + _MORE_S
        if last:
            self._print(lines)
            return
        if self._console.is_terminal:
            self._draw_table(lines)
            return
        if self._forming and now_s >= self._forming_due_s:
            self._forming_due_s = now_s + _PLAIN_FORMING_S
            lines.append(forming_line([row for row, _ in self._in_order()]))
        self._print(lines)

    def _draw_table(self, lines: list[Text]) -> None:
        if self._gone:
            return
        limit = max(self._console.height - _LINES_BESIDE_TABLE, 1)
        table = forming_table(self._in_order()[:limit], self._console.width)
        try:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                # A run that ends by an error still gives the cursor back.
                atexit.register(self._stop_live)
                self._live.start()
            with self._console:  # one write for both
                self._print(lines)
                self._live.update(table, refresh=True)
        except OSError:
            self._gone = True

    def _drop_closed(self) -> None:
        """Forget forming rows whose window has closed, as all windows to a closed one have."""
        until = _utc(self._until_ms)
        for key, (row, _) in list(self._forming.items()):
            if row["close_time"] <= until:
                del self._forming[key]

    def _in_order(self) -> list[tuple[dict[str, Any], int]]:
        return [self._forming[key] for key in sorted(self._forming)]

    def _print(self, lines: list[Text]) -> None:
        if self._gone or not lines:
            return
        try:
            self._console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)
        except OSError:
            self._gone = True

    def _stop_live(self) -> None:
        live, self._live = self._live, None
        if live is None:
            return
        atexit.unregister(self._stop_live)
        try:
            live.stop()
        except OSError:
            self._gone = True

    def _introduction(self) -> list[Text]:
        rows = self._hint or "PostgreSQL is off; candles are only shown here."
        return [
            Text.assemble(("Candles ", "bold"), "closed ones pass by; times are UTC."),
            Text.assemble(("Rows    ", "bold"), rows),
            Text.assemble(
                ("Stop    ", "bold"), "Ctrl-C; the next start continues where it stopped."
            ),
            Text(),
        ]

    def _summary(self) -> list[Text]:
        figures = f"{self._closed:,} candles, {self._corrected:,} of them corrections"
        if self._closed:
            figures += f", to {_utc(self._until_ms):%Y-%m-%d %H:%M:%S} UTC"
        lines = [Text(f"{figures}, in {self._clock_s() - self._began_s:,.1f} s.")]
        if self._progress is None or not self._progress.is_finite:
            lines.append(Text("The next start continues here."))
        elif self._hint is not None:
            lines.append(Text.assemble(("Rows    ", "bold"), self._hint))
        return lines
