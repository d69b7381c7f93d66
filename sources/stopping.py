"""Graceful stop: SIGTERM and SIGINT end every source partition, nothing else.

A partition that sees `requested()` raises StopIteration; the dataflow then drains, takes a
last snapshot and exits with status 0, and nothing is replayed at the next start. A second
signal interrupts at once, as Ctrl-C does in any program.
"""

import signal
import threading
from types import FrameType

__all__ = ["install", "request", "requested"]

_STOP = threading.Event()


def request() -> None:
    """Ask every partition of this process to stop."""
    _STOP.set()


def requested() -> bool:
    """Whether a stop was asked for."""
    return _STOP.is_set()


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _STOP.is_set():
        signal.default_int_handler(number, frame)
    _STOP.set()


def install() -> None:
    """Turn SIGTERM and SIGINT of this process into a graceful stop; main thread only."""
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
