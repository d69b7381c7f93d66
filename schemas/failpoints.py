"""Named points at which a process can be told to die, for tests of recovery.

A crash test must hit the gap between two steps, not only random moments. `configure` arms
points; `reached` stands in the code between the steps and kills its own process with
SIGKILL when its point is due: no handler, no clean-up, no flush, as in a power cut.
A point can also make its thread wait, so that another gets ahead of it before it dies.
Without `configure` a point costs one look at an empty dict.
"""

import os
import re
import signal
import threading
import time

from schemas.errors import FlowError

__all__ = ["configure", "reached"]

_left: dict[str, int] = {}
_wait_s: dict[str, float] = {}
_lock = threading.Lock()
_PART = re.compile(r"(?P<name>[^:~]+)(:(?P<count>0*[1-9][0-9]*)|~(?P<wait_s>[0-9]+(\.[0-9]+)?))")


def configure(spec: str | None) -> None:
    """Arm points; replaces whatever was armed before.

    Args:
        spec: `name:count` or several of them with commas between, such as
            `kafka.before_write:3`: die the third time that point is reached; or
            `name~seconds`: wait for so long each time. None or an empty text disarms all.

    Raises:
        FlowError: The text has another form.
    """
    armed: dict[str, int] = {}
    waits: dict[str, float] = {}
    for part in filter(None, map(str.strip, (spec or "").split(","))):
        found = _PART.fullmatch(part)
        if found is None:
            raise FlowError(
                f"The failpoint {part!r} cannot be read",
                "Write name:count with a count from 1, such as kafka.before_write:3, or "
                "name~seconds.",
            )
        if found["count"]:
            armed[found["name"]] = int(found["count"])
        else:
            waits[found["name"]] = float(found["wait_s"])
    with _lock:
        _left.clear()
        _left.update(armed)
        _wait_s.clear()
        _wait_s.update(waits)


def reached(name: str) -> None:
    """Wait or die here if it is time to."""
    if not _left and not _wait_s:
        return
    if name in _wait_s:
        time.sleep(_wait_s[name])
    with _lock:
        left = _left.get(name, 0) - 1
        if left < 0:
            return
        _left[name] = left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
