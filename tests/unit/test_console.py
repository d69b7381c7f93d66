"""The terminal display, on terminals and pipes that are strings."""

import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import bytewax.operators as op
import pyarrow as pa
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main
from rich.console import Console

from dataflows.console import ConsoleSink
from schemas.candles import CANDLE_SCHEMA
from sources.progress import RunProgress, SteadyConsole

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_MINUTE = datetime(2024, 5, 1, 12, 34, tzinfo=UTC)
_URL = "postgresql://me:secret@localhost/db?host=/run/x"


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _row(instrument: str = "BTC-USD", **changed: object) -> dict[str, object]:
    row: dict[str, object] = {
        "instrument": instrument,
        "interval": "1m",
        "open_time": _MINUTE,
        "open": "64250.1",
        "high": "64300",
        "low": "64249.55",
        "close": "64251",
        "volume": "12.34567",
        "quote_volume": "793000",
        "vwap": "64250.3",
        "trade_count": 1_812,
        "taker_buy_volume": "6",
        "taker_buy_quote_volume": "385500",
        "is_closed": True,
        "revision": 0,
        "gap_filled": False,
        "complete": True,
    } | changed
    assert isinstance(row["open_time"], datetime)
    row["close_time"] = row["open_time"] + timedelta(minutes=1)
    return row


def _closed(*instruments: str, **changed: object) -> pa.RecordBatch:
    rows = [_row(name, **changed) for name in instruments]
    return pa.RecordBatch.from_pylist(rows, schema=CANDLE_SCHEMA)


def _forming(*instruments: str, **changed: object) -> pa.RecordBatch:
    return _closed(*instruments, is_closed=False, **changed)


def _terminal(width: int = 120, height: int = 40) -> Console:
    console = SteadyConsole(
        file=StringIO(), force_terminal=True, color_system="standard", width=width, height=height
    )
    console.legacy_windows = False
    return console


def _pipe() -> Console:
    return SteadyConsole(file=StringIO())


def _raw(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _text(console: Console) -> str:
    return _CONTROL.sub("", _raw(console))


class _Shown:
    """A sink with one worker, its console and its clock."""

    def __init__(self, console: Console, progress: RunProgress | None = None) -> None:
        self.console = console
        self.clock = _Clock()
        self.sink = ConsoleSink(_URL, progress, console=console, clock_s=self.clock)
        self.worker = self.sink.build("terminal", 0, 1)

    def write(self, *batches: pa.RecordBatch, after_s: float = 0.2) -> str:
        """What the batches add to the text."""
        before = len(_text(self.console))
        self.clock.now_s += after_s
        self.worker.write_batch(list(batches))
        return _text(self.console)[before:]


def test_a_terminal_says_once_where_the_rows_are_and_how_to_stop() -> None:
    shown = _Shown(_terminal())
    first = shown.write(_closed("BTC-USD"))
    assert "postgresql://me@localhost/db?host=/run/x" in first
    assert "FROM candles ORDER BY open_time DESC" in first
    assert "Ctrl-C" in first
    assert "continues" in first
    shown.write(_closed("ETH-USD"))
    shown.worker.close()
    assert _text(shown.console).count("Ctrl-C") == 1
    assert "secret" not in _raw(shown.console)


def test_forming_candles_are_a_table_and_closed_ones_lines_above_it() -> None:
    shown = _Shown(_terminal())
    shown.write(_forming("ETH-USD", "BTC-USD"))
    earlier = _MINUTE - timedelta(minutes=1)
    drawn = shown.write(
        _closed("ADA-USD", open_time=earlier), _forming("BTC-USD", close="64260"), after_s=1
    )
    line, table = drawn.index("ADA-USD"), drawn.index("Forming")
    assert line < table < drawn.rindex("BTC-USD") < drawn.rindex("ETH-USD")
    assert (
        "2024-05-01 12:33  1m ADA-USD    64,250.10 → 64,251.00   0.00%  high 64,300.00  "
        "low 64,249.55  volume 12.346  trades 1,812" in drawn
    )
    assert "64,260" in drawn


def test_the_table_has_the_first_fifteen_instruments_by_name() -> None:
    shown = _Shown(_terminal())
    names = [f"X{number:04d}" for number in range(3_000)]
    shown.write(_forming(*reversed(names)))
    drawn = shown.write(_forming("A-USD", "X0003", "X0016"))
    assert re.findall(r"^(\S+)\s+12:34", drawn, re.MULTILINE) == ["A-USD", *names[:14]]


def test_the_table_fits_a_low_and_narrow_terminal() -> None:
    shown = _Shown(_terminal(width=70, height=12))
    drawn = shown.write(_forming(*(f"X{number}" for number in range(10, 25))))
    table = drawn[drawn.index("Forming") :].splitlines()
    assert len(table) <= 8
    assert all(len(line) <= 70 for line in table)
    assert "High" not in drawn


def test_prices_are_green_when_they_rise_and_red_when_they_fall() -> None:
    shown = _Shown(_terminal())

    def colour(close: str, **changed: object) -> str:
        shown.clock.now_s += 1
        before = len(_raw(shown.console))
        shown.worker.write_batch([_forming("BTC-USD", close=close, open="1", **changed)])
        added = _raw(shown.console)[before:]
        found = re.search(r"\x1b\[(\d+)m[ ]*" + re.escape(f"{float(close):,.2f}"), added)
        return found[1] if found else ""

    assert colour("64251.00") == ""
    assert colour("64252.00") == "32"
    assert colour("64252.00") == "32", "keeps the colour of the last move"
    assert colour("64251.00") == "31"


def test_an_older_preview_does_not_replace_a_newer_and_closing_removes_it() -> None:
    shown = _Shown(_terminal())
    later = _MINUTE + timedelta(minutes=1)
    last = later + timedelta(minutes=1)
    shown.write(_forming("BTC-USD", open_time=later), _forming("ETH-USD", open_time=last))
    drawn = shown.write(_forming("BTC-USD"))
    assert "12:35" in drawn
    assert "12:36" in drawn
    assert "12:34" not in drawn
    drawn = shown.write(_closed("BTC-USD"), _forming("SOL-USD", open_time=later))
    assert "BTC-USD" in drawn[drawn.rindex("Forming") :], "an earlier window has closed"
    drawn = shown.write(_closed("BTC-USD", open_time=later), after_s=1)
    assert "BTC-USD" not in drawn[drawn.rindex("Forming") :]
    assert "ETH-USD" in drawn[drawn.rindex("Forming") :]


def test_unusual_candles_are_marked() -> None:
    shown = _Shown(_pipe())
    text = shown.write(
        _closed("A", revision=2), _closed("B", gap_filled=True), _closed("C", complete=False)
    )
    text += shown.write()
    shown.worker.close()
    text = _text(shown.console)
    assert re.search(r"A .* corrected, revision 2$", text, re.MULTILINE)
    assert re.search(r"B .* no trades$", text, re.MULTILINE)
    assert re.search(r"C .* trades missing$", text, re.MULTILINE)
    assert "3 candles, 1 of them corrections, to 2024-05-01 12:35:00 UTC" in text


def test_at_most_eight_drawings_a_second() -> None:
    shown = _Shown(_terminal())
    for _ in range(2_000):
        shown.write(_forming("BTC-USD"), after_s=0.001)
    assert 10 <= _text(shown.console).count("Forming") <= 18


class _SlowTerminal(StringIO):
    """Takes a fifth of a second for every write."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self.clock = clock
        self.spent_s = 0.0

    def write(self, text: str) -> int:
        self.clock.now_s += 0.2
        self.spent_s += 0.2
        return super().write(text)


def test_a_slow_terminal_takes_at_most_a_twentieth_of_the_time() -> None:
    shown = _Shown(_terminal())
    file = shown.console.file = _SlowTerminal(shown.clock)
    began_s = shown.clock.now_s
    rows = _forming("BTC-USD")
    for _ in range(20_000):
        shown.clock.now_s += 0.01
        shown.worker.write_batch([rows])
    assert file.spent_s < (shown.clock.now_s - began_s) / 18
    assert "Forming" in _text(shown.console)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_backfill_collapses_to_a_few_lines_that_add_up(terminal: bool) -> None:
    shown = _Shown(_terminal() if terminal else _pipe())
    names = [f"I{number:03d}" for number in range(100)]
    rows = _closed(*names)
    for _ in range(2_999):
        shown.clock.now_s += 0.001
        shown.worker.write_batch([rows])
    opened = _MINUTE + timedelta(days=3)
    shown.worker.write_batch([_closed(*names, open_time=opened)])
    shown.worker.close()
    text = _text(shown.console)
    lines = len(re.findall(r"^.*→.*$", text, re.MULTILINE))
    hidden = [int(n.replace(",", "")) for n in re.findall(r"… ([\d,]+) more candles, to", text)]
    assert lines <= 40 + 3 * 20
    assert 3 <= len(hidden) <= 4
    assert lines + sum(hidden) == 300_000
    assert f"to {opened + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}" in text
    assert "300,000 candles" in text


def test_a_pipe_gets_plain_lines_and_forming_prices_once_a_second() -> None:
    shown = _Shown(_pipe())
    for _ in range(300):
        shown.write(_forming(*(f"I{n}" for n in range(8))), after_s=0.01)
    text = _text(shown.console)
    assert _raw(shown.console) == text, "no control codes"
    assert 3 <= text.count("forming: ") <= 4
    assert "forming: I0 1m 64251, I1 1m 64251" in text
    assert ", 3 more" in text
    assert "ADA-USD" in shown.write(_closed("ADA-USD"), after_s=0.2)


def test_a_finite_run_leaves_the_terminal_to_its_bar_and_ends_with_a_summary() -> None:
    console = _terminal(width=200)
    progress = RunProgress(is_finite=True, console=console)
    shown = _Shown(console, progress)
    text = shown.write(_forming("SOL-USD"))
    progress.report(0, 0, 50, 100, 50)
    text += shown.write(_closed("BTC-USD", "ETH-USD"), _forming("SOL-USD"))
    assert "USD" not in text
    progress.report(0, 0, 100, 100, 50)
    shown.clock.now_s += 9.6
    shown.worker.close()
    bar, summary, rows = _text(console).strip().splitlines()[-3:]
    assert "100%" in bar
    assert summary == ("2 candles, 0 of them corrections, to 2024-05-01 12:35:00 UTC, in 10.0 s.")
    assert "postgresql://me@localhost" in rows
    assert "USD " not in _text(console)
    assert _raw(console).rindex("\x1b[?25h") > _raw(console).rindex("\x1b[?25l")


def test_a_finite_run_into_a_pipe_has_lines_and_a_summary() -> None:
    progress = RunProgress(console=_pipe())
    progress.report(0, 0, 50, 100, 50)
    shown = _Shown(_pipe(), progress)
    assert "BTC-USD" in shown.write(_closed("BTC-USD"))
    shown.worker.close()
    assert "1 candles" in _text(shown.console)


def test_the_terminal_is_clean_after_the_last_worker_closes() -> None:
    shown = _Shown(_terminal())
    other = shown.sink.build("terminal", 1, 2)
    shown.write(_forming("BTC-USD"))
    assert "\x1b[?25l" in _raw(shown.console), "the cursor is hidden"
    shown.worker.close()
    assert "\x1b[?25h" not in _raw(shown.console)
    other.write_batch([_closed("ETH-USD")])
    other.close()
    text = _text(shown.console)
    assert text.count(" of them corrections") == 1
    assert text.rstrip().endswith("The next start continues here.")
    assert _raw(shown.console).count("\x1b[?25h") == 1
    assert text.rindex("ETH-USD") > text.rindex("Forming"), "what was pending is still shown"


class _Broken(StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_reader_that_went_away_does_not_stop_the_flow(terminal: bool) -> None:
    shown = _Shown(SteadyConsole(file=_Broken(), force_terminal=terminal))
    for _ in range(3):
        shown.clock.now_s += 1
        shown.worker.write_batch([_closed("BTC-USD"), _forming("ETH-USD")])
    shown.worker.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://u:p%40@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql:///d?host=/s&password=p&user=u", "postgresql:///d?host=/s&user=u"),
        ("postgresql:///d?password=p", "postgresql:///d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
    ],
)
def test_the_hint_has_no_password(url: str, expected: str) -> None:
    console = _pipe()
    worker = ConsoleSink(url, psql="/a b/psql", console=console).build("terminal", 0, 1)
    worker.write_batch([_closed("BTC-USD")])
    command = re.search(r"^Rows +('/a b/psql') '?([^' ]+)'? -c ", _text(console), re.MULTILINE)
    assert command is not None
    assert command[2] == expected


def test_without_a_database_there_is_no_hint() -> None:
    console = _pipe()
    worker = ConsoleSink(console=console).build("terminal", 0, 1)
    worker.write_batch([_closed("BTC-USD"), _closed()])
    assert "psql" not in _text(console)
    assert "PostgreSQL is off" in _text(console)


def test_it_is_a_sink_to_bytewax() -> None:
    console = _pipe()
    flow = Dataflow("shown")
    batches = op.input("in", flow, TestingSource([_forming("SOL-USD"), _closed("BTC-USD")]))
    op.output("terminal", batches, ConsoleSink(_URL, console=console))
    run_main(flow)
    assert "BTC-USD" in _text(console)
    assert "1 candles" in _text(console)
