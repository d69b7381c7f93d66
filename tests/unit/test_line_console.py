"""The plain display: a few lines a second, the rest counted, never an error."""

import io

import pyarrow as pa
from rich.console import Console
from rich.text import Text

from dataflows.line_console import LineConsoleSink
from dataflows.trade_text import trade_line
from schemas.trade_rows import TradeRow, trade_rows
from sources.progress import SteadyConsole


def rows(*names: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"name": list(names)})


def test_lines_are_limited_and_the_rest_is_counted() -> None:
    now, out = [0.0], io.StringIO()
    sink = LineConsoleSink(
        lambda row: f"[{row['name']}] :x:",
        "ewma",
        "postgresql://me:secret@here/db",
        shown=slice(2),
        console=Console(file=out, width=200),
        clock_s=lambda: now[0],
    )
    part = sink.build("terminal", 0, 1)
    part.write_batch([rows("a", "b", "c"), rows("d")])
    now[0] = 1.0
    part.write_batch([rows("e")])
    part.close()
    text = out.getvalue()
    assert "secret" not in text
    assert "SELECT * FROM ewma" in text
    shown = ["[a] :x:", "[b] :x:", "… 2 more rows", "[e] :x:", "5 rows."]
    assert text.splitlines()[1:] == shown, "a row's text is no markup"


def test_the_newest_rows_come_after_the_count_of_those_before_them() -> None:
    now, out = [0.0], io.StringIO()
    sink = LineConsoleSink(
        lambda row: Text(row["name"], style="green"),
        "trades",
        shown=slice(-2, None),
        noun="trades",
        console=Console(file=out, width=200, force_terminal=True, color_system="standard"),
        clock_s=lambda: now[0],
    )
    parts = [sink.build("terminal", worker, 2) for worker in range(2)]
    parts[0].write_batch([rows("a", "b", "c"), rows("d", "e")])
    now[0] = 1.0
    parts[1].write_batch([rows("f", "g", "h"), rows()])
    for part in parts:
        part.close()
    dim, green, plain = "\x1b[2m", "\x1b[32m", "\x1b[0m"
    assert out.getvalue().splitlines() == [
        f"{dim}… 1 more trades{plain}",
        f"{green}b{plain}",
        f"{green}c{plain}",
        f"{dim}… 3 more trades{plain}",
        f"{green}g{plain}",
        f"{green}h{plain}",
        "8 trades.",
    ]


def test_a_trade_is_a_line_with_its_direction_in_colour() -> None:
    row = TradeRow("BTC-PERPETUAL", 42, 1_700_000_000_123, "37000.5", "10", "sell", "x-42")
    line = trade_line(trade_rows([row]).to_pylist()[0])
    assert line.plain == "22:13:20.123  BTC-PERPETUAL        sell          10 at 37000.5    #42"
    assert [(line.plain[span.start : span.end], span.style) for span in line.spans] == [
        (" sell", "red")
    ]


def test_a_closed_terminal_ends_only_the_display() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    sink = LineConsoleSink(lambda row: row["name"], "ewma", console=SteadyConsole(file=Gone()))
    part = sink.build("terminal", 0, 1)
    part.write_batch([rows("a")])
    part.write_batch([rows("b")])
    part.close()
