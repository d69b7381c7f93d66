"""Keeping the server of metrics to this machine."""

import os
import socket
from errno import EPERM

import pytest

from dataflows import metrics_host
from schemas.errors import FlowError
from tests.real.process import free_port


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
    port = free_port()
    metrics_host.prepare(port, "0.0.0.0")
    assert os.environ["BYTEWAX_DATAFLOW_API_PORT"] == str(port)
    assert os.environ["BYTEWAX_DATAFLOW_API_ENABLED"] == "1"


def test_where_the_kernel_refuses_the_flow_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: socket.socket) -> None:
        raise PermissionError(EPERM, "Operation not permitted")

    monkeypatch.setattr(metrics_host, "_bind", refuse)
    with pytest.raises(FlowError, match=r"METRICS_HOST=127\.0\.0\.1: .*not permitted") as raised:
        metrics_host.prepare(free_port(), "127.0.0.1")
    assert "METRICS_HOST=0.0.0.0" in str(raised.value)
    metrics_host.prepare(free_port(), "0.0.0.0")


def test_a_port_that_is_taken_is_told_at_start() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(FlowError, match=rf"METRICS_PORT={port} cannot be listened on"):
            metrics_host.prepare(port, "127.0.0.1")
