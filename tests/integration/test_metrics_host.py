"""Who may ask a flow for its metrics."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real.flows import FlowProcess
from tests.real.process import free_port


def other_addresses() -> list[str]:
    """Of this machine, besides loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.255", 9))
        except OSError:
            return []
        return [probe.getsockname()[0]]


@contextmanager
def serving(directory: Path, **settings: str) -> Iterator[int]:
    """A flow on the simulated market; the port of its metrics, once they are there."""
    port = free_port()
    env = {"DATA_DIR": str(directory / "data"), "DATABASE_URL": "off", "METRICS_PORT": str(port)}
    flow = FlowProcess(
        "dataflows.ewma", log=directory / "log", env=env | settings, recovery_dir=None
    )
    try:
        deadline_s = time.monotonic() + 90
        while "tidemark_" not in asked("127.0.0.1", port):
            assert time.monotonic() < deadline_s, flow.output()
            assert flow.returncode is None, flow.output()
            time.sleep(0.05)
        yield port
        flow.terminate()
        assert flow.wait(30) == 0, flow.output()
    finally:
        flow.kill9()


def asked(host: str, port: int) -> str:
    """The metrics; nothing where the connection is refused."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ConnectionRefusedError):
            raise
        return ""


def test_only_this_machine_is_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as port:
        assert [asked(host, port) for host in other_addresses()] == [""] * len(other_addresses())
        assert asked("127.0.0.1", port), "again"


def test_everybody_is_answered_if_so_set(tmp_path: Path) -> None:
    with serving(tmp_path, METRICS_HOST="0.0.0.0") as port:
        assert all("tidemark_" in asked(host, port) for host in other_addresses())
