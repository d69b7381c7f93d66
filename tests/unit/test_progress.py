"""The progress bar of a finite run, on a terminal that is a string."""

import re
import threading
import time
from io import StringIO

import pytest
from rich.console import Console

from sources.progress import RunProgress, SteadyConsole

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _terminal(width: int = 120) -> Console:
    return Console(file=StringIO(), force_terminal=True, width=width, legacy_windows=False)


def _raw(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _frames(console: Console) -> list[str]:
    """What was drawn, one line each, without control codes."""
    lines = re.split(r"[\r\n]+", _CONTROL.sub("", _raw(console)))
    return [line.strip() for line in lines if line.strip()]


def test_share_events_and_time_left_are_shown() -> None:
    clock, console = _Clock(), _terminal()
    progress = RunProgress("trades", console=console, clock_s=clock)
    for step in range(1, 11):
        clock.now_s += 1
        progress.report(0, 0, 1_000 * step, 20_000, 990)
        progress.report(1, 5_000, 5_000 + 1_000 * step, 25_000, 1_000)
    assert progress.share == 0.5
    assert progress.events == 19_900
    last = _frames(console)[-1]
    assert last.startswith("Reading trades")
    assert " 48% " in last, "the second partition's last report is not drawn yet"
    assert re.search(r"18,900 events, 1,9\d\d/s", last)
    assert re.search(r"0:00:09 left 0:00:1[01]$", last)


def test_at_most_four_drawings_a_second() -> None:
    clock, console = _Clock(), _terminal()
    progress = RunProgress(console=console, clock_s=clock)
    for batch in range(10_000):
        progress.report(0, 0, batch, 10_000, 1)
        clock.now_s += 0.001
    assert 30 <= len(_frames(console)) <= 42


def test_close_shows_the_end_and_gives_the_cursor_back() -> None:
    clock, console = _Clock(), _terminal()
    progress = RunProgress(console=console, clock_s=clock)
    progress.report(0, 0, 10, 1_000, 10)
    clock.now_s += 0.1
    progress.report(0, 0, 1_000, 1_000, 990)
    assert "\x1b[?25l" in _raw(console), "hidden while drawing"
    clock.now_s += 0.4
    progress.close()
    assert "100%" in _frames(console)[-1]
    assert "1,000 events, 2,000/s" in _frames(console)[-1]
    assert _raw(console).rstrip().endswith("\x1b[?25h")
    shown = _raw(console)
    progress.close()
    clock.now_s += 10
    progress.report(0, 0, 1_000, 1_000, 0)
    assert _raw(console) == shown, "nothing after the end"


def test_nothing_where_there_is_no_terminal() -> None:
    clock = _Clock()
    console = Console(file=StringIO())
    progress = RunProgress(console=console, clock_s=clock)
    for position in range(10):
        clock.now_s += 1
        assert progress.is_finite == (position > 0)
        progress.report(3, 0, position, 10, 1)
    progress.close()
    assert _raw(console) == ""
    assert progress.share == 0.9
    assert progress.events == 10


def test_an_empty_log_is_wholly_read() -> None:
    clock, console = _Clock(), _terminal()
    progress = RunProgress(console=console, clock_s=clock)
    assert progress.share == 1.0
    progress.report(0, 7, 7, 7, 0)
    progress.close()
    assert progress.share == 1.0
    assert "100%" in _frames(console)[-1]


def test_a_position_outside_the_run_counts_as_its_nearest_end() -> None:
    progress = RunProgress(console=Console(file=StringIO()))
    progress.report(0, 10, 5, 20, 0)
    progress.report(1, 10, 25, 20, 0)
    assert progress.share == 0.5


class _Broken(StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


def test_a_terminal_that_went_away_does_not_stop_the_run() -> None:
    progress = RunProgress(console=SteadyConsole(file=_Broken(), force_terminal=True))
    progress.report(0, 0, 1, 10, 1)
    progress.report(0, 0, 2, 10, 1)
    progress.close()
    assert progress.events == 2


def test_several_workers_report_at_once() -> None:
    console = _terminal()
    progress = RunProgress(console=console)

    def work(partition: int) -> None:
        for position in range(2_001):
            progress.report(partition, 0, position, 2_000, 4)

    workers = [threading.Thread(target=work, args=(partition,)) for partition in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    progress.close()
    assert progress.events == 4 * 4 * 2_001
    assert "100%" in _frames(console)[-1]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_report_costs_next_to_nothing(terminal: bool) -> None:
    progress = RunProgress(console=_terminal() if terminal else Console(file=StringIO()))
    progress.report(0, 0, 0, 10, 0)
    best_s = 1.0
    for _ in range(5):
        began_s = time.perf_counter()
        for position in range(1_000):
            progress.report(0, 0, position, 1_000, 1)
        best_s = min(best_s, time.perf_counter() - began_s)
    progress.close()
    assert best_s / 1_000 < 2e-6
