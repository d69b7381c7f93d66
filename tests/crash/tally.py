"""What all plans of a test run came to, as text for the reader of a log or of a result."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["LEAST_KILLS", "Tally"]

LEAST_KILLS = 100
"""Kills below which `make crash` has not done what it is for."""


@dataclass(slots=True)
class Tally:
    """Counts.

    Attributes:
        kills: starts that ended with SIGKILL, of a process or of all; by flow.
        stops: starts that ended with SIGTERM and status 0.
        starts: of flows that were to be killed, stopped or cut off; undisturbed runs apart;
            by flow.
        forgotten: starts with the recovery store lost.
        lost: rows that an undisturbed run has and the flow has not.
        repeated: rows that the flow has and an undisturbed run has not.
        points: deaths by fail point.
        ahead: deaths between the sinks, by the store that was found ahead of the other.
        outages: servers killed and started again.
        began_s: monotonic time of the beginning.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    forgotten: int = 0
    lost: int = 0
    repeated: int = 0
    points: Counter[str] = field(default_factory=Counter)
    ahead: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)

    def missing(self, points: Iterable[str], flows: Iterable[str]) -> list[str]:
        """What `make crash` should have done and has not."""
        found = [f"{name} was never hit" for name in points if not self.points[name]]
        found += [f"{name} was never killed" for name in flows if not self.kills[name]]
        kills = self.kills.total()
        if kills < LEAST_KILLS:
            found.append(f"{kills} kills are fewer than {LEAST_KILLS}")
        return found

    def __str__(self) -> str:
        rows = [
            ("kills", self.kills.total()),
            ("starts", self.starts.total()),
            ("lost", self.lost),
            ("repeated", self.repeated),
            ("seconds", round(time.monotonic() - self.began_s)),
            ("stops by SIGTERM", self.stops),
            ("recovery stores lost", self.forgotten),
            *((f"{name} killed and started again", n) for name, n in sorted(self.outages.items())),
        ]
        lines = [f"{name + ':':<40}{count:>6}" for name, count in rows]
        lines += ["", "by flow:"]
        lines += [
            f"  {flow + ':':<38}{self.kills[flow]:>6} kills, {starts} starts"
            for flow, starts in sorted(self.starts.items())
        ]
        lines += ["", "deaths at fail points:"]
        lines += [f"  {name:<58}{count:>6}" for name, count in sorted(self.points.items())]
        lines += ["", "ahead after a death between the sinks:"]
        lines += [f"  {name:<58}{count:>6}" for name, count in sorted(self.ahead.items())]
        return "\n".join(lines)
