"""Plans: how often a flow is started, in which shape, and how each start ends.

Contract: a plan is a pure function of its seed and of the fail points of the flow; its
printed form is Python, and running that again starts, kills and stops the same processes in
the same way. Which record a kill hits depends on the machine, except at fail points, which
count.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BETWEEN_SINKS",
    "KAFKA_POINTS",
    "LAYOUTS",
    "POSTGRES_POINTS",
    "SOURCE_POINTS",
    "Step",
    "random_plan",
    "show",
    "tour_of_points",
]

LAYOUTS = ((1, 1), (1, 2), (2, 1))
"""Processes, and workers in each."""

# Fail points as `schemas.failpoints` takes them, each with the highest time of being reached
# that a plan asks for.
SOURCE_POINTS = {"source.before_snapshot": 9, "source.after_snapshot": 9}
KAFKA_POINTS = {
    "kafka.before_write": 6,
    "kafka.between_write_and_commit": 6,
    "kafka.after_commit": 6,
}
POSTGRES_POINTS = {
    "postgres.before_write": 6,
    "postgres.between_write_and_commit": 6,
    "postgres.after_commit": 6,
}
BETWEEN_SINKS = {
    "postgres.between_write_and_commit~3,kafka.after_commit": 2,
    "kafka.between_write_and_commit~3,postgres.after_commit": 2,
}
"""After one committed and before the other, which has written and waits with its commit."""

_DELAY_S = 1.5
_SHARE_OF_POINTS = 0.5
_SHARE_AT_START = 0.15
_SHARE_ALONE = 0.5
_SHARE_FORGETTING = 0.1
_SHARE_OF_STOPS = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """One start of the flow.

    Attributes:
        processes: how many.
        workers: worker threads in each.
        snapshot_interval_s: whole seconds; 0 for a snapshot at every activation.
        point: `FAILPOINTS` of every process; empty to end from outside.
        after_s: when to end from outside; None without.
        since: what `after_s` counts from: `write`, the first output, or `start`.
        alone: number of the process that is killed a second before the others; None for
            all at once.
        stop: whether the end from outside is SIGTERM, which must end it with 0, not SIGKILL.
        forget: whether the recovery store is lost before this start.
        outcome: what came of it, for the reader of a log; no part of the plan.
    """

    processes: int = 1
    workers: int = 1
    snapshot_interval_s: int = 1
    point: str = ""
    after_s: float | None = None
    since: str = "write"
    alone: int | None = None
    stop: bool = False
    forget: bool = False
    outcome: str = field(default="", compare=False)

    @property
    def is_last(self) -> bool:
        """Whether it runs to the end by itself."""
        return not self.point and self.after_s is None

    @property
    def is_kill(self) -> bool:
        """Whether it ends with SIGKILL."""
        return not self.is_last and not self.stop

    @property
    def point_name(self) -> str:
        """The fail point without its count; empty without."""
        return self.point.rpartition(":")[0]

    @property
    def is_between_sinks(self) -> bool:
        """Whether one sink waits for the other to get ahead."""
        return self.point_name in BETWEEN_SINKS


def random_plan(seed: int, kills: int, points: Mapping[str, int]) -> list[Step]:
    """Kills of every kind in a random order, some stops among them, then a run to the end."""
    chance = random.Random(seed)
    plan = []
    for _ in range(kills):
        processes, workers = chance.choice(LAYOUTS)
        shape = {
            "processes": processes,
            "workers": workers,
            "snapshot_interval_s": chance.choice((0, 1)),
            "forget": chance.random() < _SHARE_FORGETTING,
        }
        if points and chance.random() < _SHARE_OF_POINTS:
            plan.append(Step(**shape, point=_point(chance, points, chance.choice(list(points)))))
        else:
            at_start = chance.random() < _SHARE_AT_START
            alone = chance.randrange(processes) if chance.random() < _SHARE_ALONE else None
            plan.append(
                Step(
                    **shape,
                    after_s=round(chance.uniform(0, 2 * _DELAY_S if at_start else _DELAY_S), 3),
                    since="start" if at_start else "write",
                    alone=alone if processes > 1 else None,
                )
            )
        if chance.random() < _SHARE_OF_STOPS:
            after_s = round(chance.uniform(0, _DELAY_S), 3)
            plan.append(Step(*chance.choice(LAYOUTS), after_s=after_s, stop=True))
    return [*plan, _to_the_end(chance)]


def tour_of_points(seed: int, points: Mapping[str, int]) -> list[Step]:
    """A death at each fail point, in a random order and shape, then a run to the end."""
    chance = random.Random(seed)
    plan = []
    for name in chance.sample(list(points), len(points)):
        processes, workers = chance.choice(LAYOUTS[:2])
        interval_s = chance.choice((0, 1))
        plan.append(Step(processes, workers, interval_s, _point(chance, points, name)))
    return [*plan, _to_the_end(chance)]


def show(steps: Sequence[Step]) -> str:
    """The plan as Python, a step a line."""
    return "\n".join(["[", *(f"    {step}," for step in steps), "]"])


def _point(chance: random.Random, points: Mapping[str, int], name: str) -> str:
    return f"{name}:{chance.randint(1, points[name])}"


def _to_the_end(chance: random.Random) -> Step:
    processes, workers = chance.choice(LAYOUTS)
    return Step(processes, workers)
