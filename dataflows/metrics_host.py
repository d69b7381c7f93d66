"""Where metrics are served: to this machine alone, unless `METRICS_HOST` says otherwise.

Bytewax's web server listens on all interfaces and has no setting for it. So its listening
socket, once it is there, is bound to the loopback device: the kernel then refuses connections
that come by another. Between the two moments lie a few milliseconds, in which the server
answers everybody.

Contract: `prepare` comes with the settings and fails where the kernel does not allow it
(before Linux 5.7 it takes a privilege); `keep` comes once the flow is built, directly before
Bytewax starts the server.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from schemas.errors import FlowError

__all__ = ["keep", "prepare"]

_LOOPBACK = b"lo\0"
_SOON_S = 10.0
_ports: list[int] = []
"""Of the server of this process that is to be kept to itself; at most one."""


def prepare(port: int, host: str) -> None:
    """Have Bytewax serve metrics, and see that it can be kept to `host`.

    Args:
        port: `METRICS_PORT`.
        host: `METRICS_HOST`: `127.0.0.1` or `0.0.0.0`.

    Raises:
        FlowError: The port is taken, or the kernel does not let a process keep a socket to the
            loopback device.
    """
    # Bytewax serves Python's Prometheus registry beside its own metrics.
    os.environ["BYTEWAX_DATAFLOW_API_ENABLED"] = "1"
    os.environ["BYTEWAX_DATAFLOW_API_PORT"] = str(port)
    _ports.clear()
    _check_free(port)
    if host != "127.0.0.1":
        return
    try:
        with socket.socket() as tried:
            _bind(tried)
    except (OSError, AttributeError) as error:
        raise FlowError(
            f"METRICS_PORT={port} cannot be kept to METRICS_HOST={host}: {error}",
            "It takes Linux 5.7 or later. Set METRICS_HOST=0.0.0.0 and keep others away with a "
            "firewall, or unset METRICS_PORT.",
        ) from error
    _ports.append(port)


def keep() -> None:
    """Bind the server to the loopback device as soon as it listens; in a thread of its own."""
    for port in _ports:
        threading.Thread(target=_keep, args=(port,), name="metrics-host", daemon=True).start()


def _check_free(port: int) -> None:
    """Bytewax would say nothing, and serve nothing."""
    try:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Bytewax does
            tried.bind(("", port))
    except OSError as error:
        raise FlowError(
            f"METRICS_PORT={port} cannot be listened on: {error}",
            "Each process needs a port of its own: end the other process, or choose another one.",
        ) from error


def _keep(port: int) -> None:
    began_s = time.monotonic()
    while not (found := list(_listening(port))):
        time.sleep(0.001 if time.monotonic() - began_s < _SOON_S else 0.1)
    for listener in found:
        with listener:
            _bind(listener)


def _bind(tried: socket.socket) -> None:
    tried.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _LOOPBACK)


def _listening(port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's sockets that listen on a port."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            if not entry.is_socket():
                continue
            one = socket.socket(fileno=os.dup(int(entry.name)))
            if _listens(one, port):
                yield one
            else:
                one.close()


def _listens(one: socket.socket, port: int) -> bool:
    return (
        one.family == socket.AF_INET
        and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        and one.getsockname()[1] == port
    )
