"""What can go wrong at the simulated exchange, on request or by chance.

A test asks for a fault by name; the next message or request that it can befall takes it.
With `share` every notification besides meets one with that probability, from a seed. Safe
to call from any thread.
"""

import random
import threading
from collections import Counter
from typing import Literal, get_args

__all__ = ["NOTIFICATION_FAULTS", "Fault", "Faults"]

NotificationFault = Literal["gap", "duplicate", "reorder", "disconnect", "unknown"]
"""Befall a notification of trades: swallowed; sent twice; sent after the next one; cut off
in its middle together with the connection; preceded by a message that means nothing."""

Fault = (
    NotificationFault
    | Literal["silent", "history_error", "history_empty", "history_late", "too_many_requests"]
)
"""Besides: the connection goes dead without being closed; a request for history is answered
with an error, with nothing, late, or with error 10028 and the end of the session."""

NOTIFICATION_FAULTS: tuple[NotificationFault, ...] = get_args(NotificationFault)


class Faults:
    """Faults that are still to come.

    Args:
        share: of notifications that meet a fault by chance.
        seed: of chance.

    Attributes:
        late_s: how late a late answer is.
        slow_s: how long every message takes on its way; a slow network.
    """

    def __init__(self, share: float = 0.0, seed: int = 1) -> None:
        self.late_s = 0.3
        self.slow_s = 0.0
        self._share = share
        self._chance = random.Random(seed)  # noqa: S311  # no secret
        self._wanted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def request(self, fault: Fault, times: int = 1) -> None:
        """Let a fault happen so many times more."""
        with self._lock:
            self._wanted[fault] += times

    def clear(self) -> None:
        """Take back what has not happened yet."""
        with self._lock:
            self._wanted.clear()

    def takes(self, fault: Fault) -> bool:
        """Whether this fault happens now; it is then counted as having happened."""
        with self._lock:
            if self._wanted[fault] == 0:
                return False
            self._wanted[fault] -= 1
            return True

    def of_notification(self) -> NotificationFault | None:
        """What befalls the next notification."""
        for fault in NOTIFICATION_FAULTS:
            if self.takes(fault):
                return fault
        if self._share and self._chance.random() < self._share:
            return self._chance.choice(NOTIFICATION_FAULTS)
        return None
