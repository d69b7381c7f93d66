"""Runs any flow through a plan of kills and compares what it left with an undisturbed run.

Contract: a flow under test is a `FlowCase`. Its log grows while it is being killed; the
last step runs to the end of the log. After that every output, partition by partition and
byte for byte, must be that of one undisturbed run over the same log, and the records
counted in the output must be the records of the log. A failure shows the plan, with what
came of each step, and the directory of the logs.
"""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tests.crash.plan import Step, show
from tests.real.flows import Cluster

__all__ = ["CALM", "DISTURBED", "CrashError", "FlowCase", "Tally", "compare", "prove", "run_plan"]

DISTURBED = "disturbed"
CALM = "calm"

_PIECES = 20
_PIECE_S = 0.1
_PATIENCE_S = 4.0  # the first piece may end before any window does
_REACHED_S = 60.0  # the first start may compile every kernel
_FINISH_S = 120.0
_ALONE_S = 1.0
_LOOK_S = 0.05


class FlowCase(Protocol):
    """A flow, its log, and where its outputs are.

    Outputs are named, so that one log can be read into several of them.
    """

    @property
    def module(self) -> str:
        """Import string of the flow."""
        ...

    @property
    def records(self) -> int:
        """Length of the whole log."""
        ...

    def env(self, output: str) -> dict[str, str]:
        """Settings of a run that goes on for ever and writes to `output`."""
        ...

    def grow(self, share: float) -> None:
        """Let the log have at least this share of its records, 0 to 1."""
        ...

    def written(self, output: str) -> int:
        """A figure that rises when the flow writes; cheap."""
        ...

    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Everything a reader of committed data sees, in order, by partition or table."""
        ...

    def accounted(self, output: str) -> dict[str, int]:
        """Records of the log found in the output, aggregated, late or rejected, by store."""
        ...


class CrashError(AssertionError):
    """The flow failed, or its output is not what it must be."""


@dataclass(slots=True)
class Tally:
    """What all plans of a test run came to.

    Attributes:
        kills: starts that ended with SIGKILL, of a process or of all.
        lost: rows that an undisturbed run has and the flow has not.
        repeated: rows that the flow has and an undisturbed run has not.
        runs: starts of the flow under test.
    """

    kills: int = 0
    lost: int = 0
    repeated: int = 0
    runs: int = 0

    def __str__(self) -> str:
        return (
            f"kills: {self.kills}, lost: {self.lost}, repeated: {self.repeated}, runs: {self.runs}"
        )


def prove(case: FlowCase, plan: Sequence[Step], directory: Path, tally: Tally) -> list[Step]:
    """Run the plan and compare with an undisturbed run; the steps with their outcomes.

    Raises:
        CrashError: The flow failed by itself, or something is lost, repeated or reordered.
    """
    done = run_plan(case, plan, directory, tally)
    compare(case, directory, tally, done)
    return done


def run_plan(case: FlowCase, plan: Sequence[Step], directory: Path, tally: Tally) -> list[Step]:
    """Run the plan on one recovery store; the steps with their outcomes.

    They are also in `plan.txt`, step by step, beside the logs.

    Raises:
        CrashError: A process failed by itself, or neither came to its point nor to its end;
            the message then ends with where its threads were.
    """
    done: list[Step] = []
    for number, step in enumerate(plan):
        if step.forget:
            shutil.rmtree(directory / "recovery", ignore_errors=True)
        case.grow(1.0 if step.is_last else (number + 1 / _PIECES) / len(plan))
        env = case.env(DISTURBED) | {"PYTHONFAULTHANDLER": "1", "FAILPOINTS": step.point}
        flow = Cluster(
            case.module,
            processes=step.processes,
            log=directory / f"step-{number:02d}.log",
            env=env | ({"STOP_AT_END": "1"} if step.is_last else {}),
            recovery_dir=directory / "recovery",
            workers=step.workers,
            snapshot_interval_s=step.snapshot_interval_s,
        )
        tally.runs += 1
        try:
            outcome = _Watch(case, flow, step, number / len(plan), 1 / len(plan)).outcome()
        except CrashError as error:
            raise CrashError(f"{error}\n{_told(case, plan, done, directory)}") from None
        finally:
            flow.kill9()
        tally.kills += not step.is_last
        done.append(replace(step, outcome=outcome))
        (directory / "plan.txt").write_text(show([*done, *plan[len(done) :]]))
    return done


def compare(case: FlowCase, directory: Path, tally: Tally, done: Sequence[Step] = ()) -> None:
    """Compare what the flow left with an undisturbed run over the whole log.

    Raises:
        CrashError: Something is lost, repeated or reordered, or the counts do not add up.
    """
    _run_calm(case, directory)
    ours, theirs = case.contents(DISTURBED), case.contents(CALM)
    wrong = []
    for name in sorted(ours.keys() | theirs.keys()):
        found, expected = ours.get(name, []), theirs.get(name, [])
        lost = (Counter(expected) - Counter(found)).total()
        repeated = (Counter(found) - Counter(expected)).total()
        tally.lost += lost
        tally.repeated += repeated
        if found != expected:
            wrong.append(_difference(name, found, expected, lost, repeated))
    if not any(theirs.values()):
        wrong.append("the undisturbed run has no output: nothing was proved")
    for store, count in case.accounted(DISTURBED).items():
        if count != case.records:
            wrong.append(f"{store} accounts for {count} of {case.records} records")
    if wrong:
        raise CrashError("\n".join([*wrong, _told(case, done, done, directory)]))


def _run_calm(case: FlowCase, directory: Path) -> None:
    case.grow(1.0)
    flow = Cluster(
        case.module,
        processes=1,
        log=directory / "calm.log",
        env=case.env(CALM) | {"STOP_AT_END": "1"},
        recovery_dir=None,
    )
    try:
        code = flow.wait(_FINISH_S)
    finally:
        flow.kill9()
    if code:
        raise CrashError(f"The undisturbed run ended with {code}:\n{flow.output()}")


class _Watch:
    """Follows one start to its end, and lets the log grow meanwhile."""

    def __init__(
        self, case: FlowCase, flow: Cluster, step: Step, done_share: float, share: float
    ) -> None:
        self._case = case
        self._flow = flow
        self._step = step
        self._done_share = done_share
        self._share = share
        self._began_s = time.monotonic()
        self._written = case.written(DISTURBED)
        self._writes_since_s: float | None = None
        self._pieces = 1
        self._fed_s = self._began_s

    def outcome(self) -> str:
        """How it ended.

        Raises:
            CrashError: Not as the plan wants it.
        """
        step, flow = self._step, self._flow
        limit_s = _FINISH_S if step.is_last else _REACHED_S + (step.after_s or 0)
        while True:
            codes = [process.returncode for process in flow.processes]
            if any(code is not None for code in codes):
                return self._ended(codes)
            now_s = time.monotonic()
            if now_s - self._began_s > limit_s:
                _show_threads(flow)
                raise CrashError(f"It stood still for {limit_s} s:\n{_tail(flow)}")
            if self._is_due(now_s):
                if step.alone is None:
                    return f"killed {now_s - self._began_s:.1f} s after its start"
                flow.processes[step.alone].kill9()
                self._linger()
                codes = [process.returncode for process in flow.processes]
                return f"killed alone {now_s - self._began_s:.1f} s after its start: {codes}"
            self._look(now_s)
            self._feed(now_s)
            time.sleep(_LOOK_S)

    def _ended(self, codes: Sequence[int | None]) -> str:
        if self._step.is_last and not any(codes):
            return f"ended with {self._flow.wait(_FINISH_S)}"
        if self._step.point and -signal.SIGKILL in codes:
            if None in codes:
                self._linger()
            codes = [process.returncode for process in self._flow.processes]
            return f"died {time.monotonic() - self._began_s:.1f} s after its start: {codes}"
        raise CrashError(f"It ended with {codes}:\n{_tail(self._flow)}")

    def _is_due(self, now_s: float) -> bool:
        since_s = self._began_s if self._step.since == "start" else self._writes_since_s
        after_s = self._step.after_s
        return after_s is not None and since_s is not None and now_s - since_s >= after_s

    def _look(self, now_s: float) -> None:
        if self._writes_since_s is None and self._case.written(DISTURBED) > self._written:
            self._writes_since_s = now_s

    def _feed(self, now_s: float) -> None:
        if (
            not self._step.is_last
            and (self._writes_since_s is not None or now_s - self._began_s > _PATIENCE_S)
            and self._pieces < _PIECES
            and now_s - self._fed_s >= _PIECE_S
        ):
            self._fed_s = now_s
            self._pieces += 1
            self._case.grow(self._done_share + self._share * self._pieces / _PIECES)

    def _linger(self) -> None:
        """Let the others go on without the dead one for a while."""
        end_s = time.monotonic() + _ALONE_S
        while time.monotonic() < end_s:
            self._feed(time.monotonic())
            time.sleep(_LOOK_S)


def _difference(
    name: str, found: Sequence[bytes], expected: Sequence[bytes], lost: int, repeated: int
) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
        min(len(found), len(expected)),
    )
    return (
        f"{name}: {len(found)} rows for {len(expected)}, {lost} lost, {repeated} repeated; "
        f"first difference at {at}:\n  found    {found[at : at + 2]}\n"
        f"  expected {expected[at : at + 2]}"
    )


def _told(case: FlowCase, plan: Sequence[Step], done: Sequence[Step], directory: Path) -> str:
    return (
        f"flow {case.module}, plan\n{show(plan)}\nso far\n{show(done)}\n"
        f"logs and recovery store in {directory}"
    )


def _show_threads(flow: Cluster) -> None:
    """Let each process log where its threads are, and end."""
    for process in flow.processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGABRT)
    with suppress(TimeoutError):
        flow.wait(5)


def _tail(flow: Cluster) -> str:
    return "\n".join(flow.output().splitlines()[-100:])
