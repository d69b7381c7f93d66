"""Named points at which a process can be told to die, for tests of recovery.

A crash test must hit the gap between two steps, not only random moments. `configure` arms
points; `reached` stands in the code between the steps and kills its own process with
SIGKILL when its point is due: no handler, no clean-up, no flush, as in a power cut.
Without `configure` a point costs one look at an empty dict.
"""

import os
import signal
import threading

from schemas.errors import FlowError

__all__ = ["configure", "reached"]

_left: dict[str, int] = {}
_lock = threading.Lock()


def configure(spec: str | None) -> None:
    """Arm points; replaces whatever was armed before.

    Args:
        spec: `name:count` or several of them with commas between, such as
            `kafka.before_write:3`: die the third time that point is reached. None or an
            empty text disarms all.

    Raises:
        FlowError: The text has another form.
    """
    armed: dict[str, int] = {}
    for part in (spec or "").split(","):
        if not part.strip():
            continue
        name, _, count = part.strip().partition(":")
        if not name or not count.isdecimal() or int(count) < 1:
            raise FlowError(
                f"The failpoint {part.strip()!r} cannot be read",
                "Write name:count with a count from 1, such as kafka.before_write:3.",
            )
        armed[name] = int(count)
    with _lock:
        _left.clear()
        _left.update(armed)


def reached(name: str) -> None:
    """Die here if it is time to."""
    if not _left:
        return
    with _lock:
        left = _left.get(name, 0) - 1
        if left < 0:
            return
        _left[name] = left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
