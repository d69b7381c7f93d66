"""Progress of a finite run: what share of the log was read, how fast, how long it will take.

Every source partition reports to the one `RunProgress` of its process after each batch. On a
terminal a bar is drawn from within those calls, at most four times a second, without a
thread; elsewhere only the figures are kept. Contract: `report` never raises, never waits for
another thread, and costs well under 2 us when nothing is drawn.
"""

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["RunProgress", "SteadyConsole"]

_REDRAW_S = 0.25
_CLOSE_S = 2.0
_SMOOTHING = 0.3
"""Weight of the newest quarter of a second in the events/s shown."""


class SteadyConsole(Console):
    """A console whose reader may go away: the run gets an OSError, not the exit rich makes."""

    def on_broken_pipe(self) -> None:
        """Pass the error on; rich calls this while it handles one."""
        raise  # noqa: PLE0704


class RunProgress:
    """The registry of a process's source partitions, and the bar.

    Args:
        what: what is read, such as a topic's name.
        is_finite: whether the run has an end; the first report says so too, but a display
            may have to know before.
        console: where to draw; standard error when None.
        clock_s: a monotonic clock in seconds.
    """

    def __init__(
        self,
        what: str = "log",
        *,
        is_finite: bool = False,
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._is_finite = is_finite
        self._console = console or SteadyConsole(stderr=True)
        self._clock_s = clock_s
        self._partitions: dict[int, tuple[int, int, int, int]] = {}
        self._began_s = float("inf")
        # A drawer that finds the other at work goes on reading: nobody waits for a terminal.
        self._drawing = threading.Lock()
        self._due_s = clock_s() if self._console.is_terminal else float("inf")
        self._bar: Progress | None = None
        self._last: tuple[float, int] | None = None
        self._events_per_s = 0.0

    def report(self, partition: int, start: int, position: int, end: int, events: int) -> None:
        """Say how far a source partition is. May be called from any thread.

        Args:
            partition: number of the source partition.
            start: offset where the run's share of the log begins.
            position: offset of the next record to read.
            end: offset where the run ends.
            events: events read since this partition's last report.
        """
        # Only the partition's own thread writes its entry.
        before = self._partitions.get(partition)
        now_s = self._clock_s()
        if before is None:
            total = events
            self._began_s = min(self._began_s, now_s)
        else:
            total = before[3] + events
        self._partitions[partition] = (start, position, end, total)
        if now_s < self._due_s or not self._drawing.acquire(blocking=False):
            return
        try:
            if now_s >= self._due_s:  # else another drew, or closed, in between
                self._due_s = now_s + _REDRAW_S
                self._draw(now_s)
        finally:
            self._drawing.release()

    @property
    def is_finite(self) -> bool:
        """Whether the run has an end, as given or as some partition has told."""
        return self._is_finite or bool(self._partitions)

    @property
    def share(self) -> float:
        """How much of the log was read, from 0 to 1; 1 for an empty log."""
        read, span = self._read_and_span()
        return read / span if span else 1.0

    @property
    def events(self) -> int:
        """Events read by all partitions."""
        return sum(events for _, _, _, events in self._partitions.copy().values())

    @property
    def elapsed_s(self) -> float:
        """Time since the first report; 0 before it."""
        return max(self._clock_s() - self._began_s, 0.0)

    def close(self) -> None:
        """Draw the last state and leave the terminal clean. May be called again."""
        if not self._drawing.acquire(timeout=_CLOSE_S):
            return  # a terminal that takes nothing must not keep the process
        try:
            self._due_s = float("inf")
            bar, self._bar = self._bar, None
            if bar is None:
                return
            atexit.unregister(self.close)
            with suppress(OSError):  # the terminal is gone
                self._update(bar, self.events / max(self.elapsed_s, 1e-9))
                bar.stop()
        finally:
            self._drawing.release()

    def _read_and_span(self) -> tuple[int, int]:
        partitions = self._partitions.copy().values()  # other threads may add theirs
        read = sum(min(max(position, start), end) - start for start, position, end, _ in partitions)
        return read, sum(end - start for start, _, end, _ in partitions)

    def _draw(self, now_s: float) -> None:
        events = self.events
        if self._last is not None:
            then_s, before = self._last
            newest = (events - before) / max(now_s - then_s, 1e-9)
            weight = _SMOOTHING if self._events_per_s else 1.0
            self._events_per_s += weight * (newest - self._events_per_s)
        self._last = (now_s, events)
        try:
            if self._bar is None:
                self._bar = self._start()
            self._update(self._bar, self._events_per_s)
        except OSError:  # the terminal is gone; the run goes on without it
            self._due_s = float("inf")

    def _start(self) -> Progress:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
            get_time=self._clock_s,
        )
        bar.add_task(f"Reading {self._what}", figures="")
        self._update(bar, 0.0)
        # A run that ends by an error still gives the cursor back.
        atexit.register(self.close)
        bar.start()
        return bar

    def _update(self, bar: Progress, events_per_s: float) -> None:
        read, span = self._read_and_span()
        bar.update(
            bar.task_ids[0],
            completed=read if span else 1,
            total=span or 1,
            figures=f"{self.events:,} events, {events_per_s:,.0f}/s",
            refresh=True,
        )
