"""The plain display: a few lines a second, the rest counted, never an error."""

import io

import pyarrow as pa
from rich.console import Console

from dataflows.line_console import LineConsoleSink
from sources.progress import SteadyConsole


def rows(*names: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"name": list(names)})


def test_lines_are_limited_and_the_rest_is_counted() -> None:
    now, out = [0.0], io.StringIO()
    sink = LineConsoleSink(
        lambda row: f"[{row['name']}]",
        "ewma",
        "postgresql://me:secret@here/db",
        console=Console(file=out, width=200),
        clock_s=lambda: now[0],
    )
    part = sink.build("terminal", 0, 1)
    part.write_batch([rows("a", "b"), rows("c")])
    now[0] = 1.0
    part.write_batch([rows("d")])
    part.close()
    text = out.getvalue()
    assert "secret" not in text
    assert "SELECT * FROM ewma" in text
    assert text.splitlines()[1:] == ["[a]", "[b]", "… 1 more", "[d]", "4 rows."]


def test_a_closed_terminal_ends_only_the_display() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    sink = LineConsoleSink(lambda row: row["name"], "ewma", console=SteadyConsole(file=Gone()))
    part = sink.build("terminal", 0, 1)
    part.write_batch([rows("a")])
    part.write_batch([rows("b")])
    part.close()
