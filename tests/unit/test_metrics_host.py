"""Keeping the server of metrics to this machine."""

import os
import socket
from errno import EPERM

import pytest

from dataflows import metrics_host
from schemas.errors import FlowError


@pytest.fixture(autouse=True)
def settings_of_bytewax(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENABLED", "PORT"):
        monkeypatch.setenv(f"BYTEWAX_DATAFLOW_API_{name}", "")


def bound_device(one: socket.socket) -> bytes:
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")


def test_the_listener_of_the_port_and_no_other_socket_is_bound() -> None:
    with socket.socket() as listener, socket.socket() as other, socket.socket() as unbound:
        for one in (listener, other):
            one.bind(("127.0.0.1", 0))
        listener.listen()
        metrics_host._keep(listener.getsockname()[1])
        assert [bound_device(one) for one in (listener, other, unbound)] == [b"lo", b"", b""]


def test_a_port_of_metrics_is_given_to_bytewax() -> None:
    metrics_host.prepare(9_464, "0.0.0.0")
    assert os.environ["BYTEWAX_DATAFLOW_API_PORT"] == "9464"
    assert os.environ["BYTEWAX_DATAFLOW_API_ENABLED"] == "1"


def test_where_the_kernel_refuses_the_flow_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket) -> None:
        raise PermissionError(EPERM, "Operation not permitted")

    monkeypatch.setattr(metrics_host, "_bind", refuse)
    with pytest.raises(FlowError, match=r"METRICS_HOST=127\.0\.0\.1: .*not permitted") as raised:
        metrics_host.prepare(9_464, "127.0.0.1")
    assert "METRICS_HOST=0.0.0.0" in str(raised.value)
    metrics_host.prepare(9_464, "0.0.0.0")
