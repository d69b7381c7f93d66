"""Every kind of flow tells of its sources, operators and sinks; embedded, as after `make run`."""

import re
import time
import urllib.request
from pathlib import Path

import pytest

from tests.real.flows import FlowProcess
from tests.real.process import free_port

SOURCE = {"tidemark_source_records_total", "tidemark_source_watermark_timestamp_seconds"}
SOURCE |= {"tidemark_source_watermark_lag_seconds"}
LOG = SOURCE | {"tidemark_source_consumer_lag_records", "tidemark_source_idle"}
LOG |= {"tidemark_aggregated_records_total"}
STATE = {f"tidemark_operator_{name}" for name in ("keys", "state_bytes")}
WINDOWS = STATE | {f"tidemark_operator_{name}" for name in ("open_windows", "waiting_records")}
SINK = {"tidemark_sink_rows_total", "tidemark_sink_transaction_seconds_count"}
SINK |= {"tidemark_sink_queued_rows", "tidemark_end_to_end_latency_seconds_count"}

FLOWS = {
    "deribit": SOURCE | SINK,
    "sessions": LOG | WINDOWS | SINK,
    "statistics": LOG | WINDOWS | SINK,
    "vehicles": SOURCE | STATE | SINK,
}


def asked(port: int) -> dict[str, float]:
    """Sum of the series of each name; nothing before the server is there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    totals: dict[str, float] = {}
    for name, value in re.findall(r"^(tidemark_\w+){.*} (\S+)$", text, re.MULTILINE):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_tells_what_it_does(flow: str, scratch_dir: Path) -> None:
    directory = scratch_dir / f"metrics-{flow}"
    directory.mkdir()
    port = free_port()
    process = FlowProcess(
        f"dataflows.{flow}",
        log=directory / "log",
        env={
            "DATA_DIR": str(directory / "data"),
            "METRICS_PORT": str(port),
            "SESSION_TIMEOUT_S": "1",
        },
        recovery_dir=directory / "recovery",
    )
    counted = {name for name in FLOWS[flow] if name.endswith(("_total", "_count"))}
    try:
        deadline_s = time.monotonic() + 200
        totals: dict[str, float] = {}
        while not (set(totals) >= FLOWS[flow] and all(totals[name] > 0 for name in counted)):
            assert process.returncode is None, process.output()
            assert time.monotonic() < deadline_s, (FLOWS[flow] - set(totals), totals)
            time.sleep(0.2)
            totals = asked(port)
        process.terminate()
        assert process.wait(60) == 0, process.output()
    finally:
        process.kill9()
