"""`make page`, as a newcomer runs it: everything is there to see, and nothing is left over."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.real.flows import _environment
from tests.real.process import Child, free_port
from tests.stream_io import StreamReader, eventually

START_S = 300  # on a machine that compiles the kernels first, and does other things besides
FLOWS = ("market", "sellers", "sessions")


def demo(directory: Path, port: int, **env: str) -> Child:
    settings = {"DATA_DIR": str(directory / "data"), "PAGE_PORT": str(port), **env}
    command = [sys.executable, "-m", "page.demo"]
    return Child(command, log=directory / "demo.log", env=_environment(settings), cwd=directory)


def flows_of(child: Child) -> dict[str, psutil.Process]:
    """The processes of the flows, by name."""
    found = {}
    for process in psutil.Process(child.pid).children(recursive=True):
        command = " ".join(process.cmdline())
        name = re.search(r"bytewax\.run dataflows\.(\w+)", command)
        if name is not None:
            found[name[1]] = process
    return found


def is_running(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


@pytest.mark.timeout(900)
def test_everything_is_shown_a_flow_that_fails_is_started_again_and_all_end(
    scratch_dir: Path,
) -> None:
    directory = scratch_dir / "demo"
    directory.mkdir()
    port = free_port()
    child = demo(directory, port)
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: f"The page is at {url}/" in child.output(), START_S, "no address")
        with StreamReader(url) as reader:
            for kind in ("preview", "candle", "statistics", "ewma", "sales", "session"):
                eventually(lambda kind=kind: bool(reader.of(kind)), START_S, kind)
            eventually(
                lambda: {row["interval"] for row in reader.of("candle")} == {"1s", "1m"},
                START_S,
                "both intervals",
            )
            for flow in FLOWS:
                eventually(
                    lambda flow=flow: any(
                        row["up"] and row["events_per_s"] for row in reader.of("health", flow=flow)
                    ),
                    START_S,
                    flow,
                )
            before = reader.of("preview")[-1]
            eventually(lambda: reader.of("preview")[-1] != before, START_S, "it does not move")

            first = flows_of(child)
            assert set(first) == set(FLOWS)
            first["sellers"].kill()
            eventually(lambda: "sellers ended with status -9" in child.output(), START_S)
            eventually(
                lambda: flows_of(child).get("sellers") not in (None, first["sellers"]), START_S
            )
            sold = len(reader.of("sales"))
            eventually(lambda: len(reader.of("sales")) > sold, START_S, "sales do not go on")

        second = Child(
            [sys.executable, "-m", "page.demo"],
            log=directory / "second.log",
            env=_environment({"DATA_DIR": str(directory / "data"), "PAGE_PORT": "1"}),
            cwd=directory,
        )
        assert second.wait(START_S) == 1
        assert "runs already" in second.output()

        processes = psutil.Process(child.pid).children(recursive=True)
        assert child.stop(signal.SIGTERM, timeout_s=60) == 0, child.output()
        eventually(lambda: not any(map(is_running, processes)), 30, "something is left over")
        assert not any(
            str(directory) in " ".join(process.info["cmdline"] or ())
            for process in psutil.process_iter(["cmdline"])
        )
    finally:
        child.kill()


def test_flows_die_with_a_page_that_is_killed(scratch_dir: Path) -> None:
    directory = scratch_dir / "demo-killed"
    directory.mkdir()
    child = demo(directory, free_port())
    try:
        eventually(lambda: set(flows_of(child)) == set(FLOWS), START_S, "no flows")
        flows = flows_of(child).values()
        os.kill(child.pid, signal.SIGKILL)
        eventually(lambda: not any(map(is_running, flows)), 60, "flows are left over")
    finally:
        child.kill()
        # The embedded server outlives a killed page, by its contract.
        time.sleep(0.1)
        for process in psutil.process_iter(["name", "cmdline"]):
            if str(directory) in " ".join(process.info["cmdline"] or ()):
                process.kill()


@pytest.mark.parametrize(
    ("name", "value"),
    [("DATABASE_URL", "postgresql://h/d"), ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")],
)
def test_it_is_for_the_embedded_defaults_only(tmp_path: Path, name: str, value: str) -> None:
    child = demo(tmp_path, free_port(), **{name: value})
    assert child.wait(START_S) == 1
    assert f"error: {name} is set" in child.output()
    assert "python -m page" in child.output()
