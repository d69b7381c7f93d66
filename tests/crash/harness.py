"""Runs any flow through a plan of kills and compares what it left with an undisturbed run.

Contract: a flow under test is a `tests.crash.case.Case`, the only thing to write for a new
flow. Its log grows while it is being killed; the last step runs to the end of the log. After
that

* every output, partition by partition and byte for byte, must be that of one undisturbed run
  over the same log;
* what the case knows of the outputs without any run, as from an oracle, must be just that;
* in each store aggregated + late + rejected must be the records of the log.

A failure shows the plan, with what came of each step, and the directory of the logs.
"""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.crash.case import Case
from tests.crash.plan import Step, show
from tests.crash.tally import Tally
from tests.crash.watch import DISTURBED, PIECES, CrashError, Watch
from tests.real.flows import Cluster

__all__ = ["CALM", "DISTURBED", "CrashError", "Tally", "compare", "prove", "run_plan"]

CALM = "calm"

_DECIDED_S = 2.0


def prove(case: Case, plan: Sequence[Step], directory: Path, tally: Tally) -> list[Step]:
    """Run the plan and compare with an undisturbed run; the steps with their outcomes.

    Raises:
        CrashError: The flow failed by itself, or something is lost, repeated or reordered.
    """
    done = run_plan(case, plan, directory, tally)
    compare(case, directory, tally, done)
    return done


def run_plan(case: Case, plan: Sequence[Step], directory: Path, tally: Tally) -> list[Step]:
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
            tally.forgotten += 1
        case.grow(1.0 if step.is_last else (number + 1 / PIECES) / len(plan))
        flow = Cluster(
            case.module,
            processes=step.processes,
            log=directory / f"step-{number:02d}.log",
            env=case.env(DISTURBED, to_the_end=step.is_last)
            | {"PYTHONFAULTHANDLER": "1", "FAILPOINTS": step.point},
            recovery_dir=directory / "recovery",
            workers=step.workers,
            snapshot_interval_s=step.snapshot_interval_s,
        )
        tally.starts[case.module] += 1
        try:
            outcome = Watch(case, flow, step, number / len(plan), 1 / len(plan)).outcome()
        except CrashError as error:
            raise CrashError(f"{error}\n{_told(case, plan, done, directory)}") from None
        finally:
            flow.kill9()
        tally.kills[case.module] += step.is_kill
        tally.stops += step.stop
        if step.point:
            tally.points[step.point_name] += 1
        if step.is_between_sinks:
            ahead = _ahead(case)
            tally.ahead.update(ahead)
            outcome += f"; ahead: {', '.join(ahead) or 'neither'}"
        done.append(replace(step, outcome=outcome))
        (directory / "plan.txt").write_text(show([*done, *plan[len(done) :]]))
    return done


def compare(case: Case, directory: Path, tally: Tally, done: Sequence[Step] = ()) -> None:
    """Compare what the flow left with an undisturbed run over the whole log.

    Raises:
        CrashError: Something is lost, repeated or reordered, or the counts do not add up.
    """
    _run_calm(case, directory)
    ours, theirs = case.contents(DISTURBED), case.contents(CALM)
    wrong = [
        f"the undisturbed run, {_difference(name, theirs.get(name, []), rows)}"
        for name, rows in case.expected().items()
        if theirs.get(name, []) != rows
    ]
    for name in sorted(ours.keys() | theirs.keys()):
        found, expected = ours.get(name, []), theirs.get(name, [])
        tally.lost += _more(expected, found)
        tally.repeated += _more(found, expected)
        if found != expected:
            wrong.append(_difference(name, found, expected))
    if not any(theirs.values()):
        wrong.append("the undisturbed run has no output: nothing was proved")
    for store, account in case.accounted(DISTURBED).items():
        if sum(account) != case.records:
            wrong.append(f"{store} holds {account}, together not the {case.records} records read")
    if wrong:
        raise CrashError("\n".join([*wrong, _told(case, done, done, directory)]))


def _run_calm(case: Case, directory: Path) -> None:
    case.grow(1.0)
    flow = Cluster(
        case.module,
        processes=1,
        log=directory / "calm.log",
        env=case.env(CALM, to_the_end=True),
        recovery_dir=None,
    )
    try:
        Watch(case, flow, Step(), output=CALM).outcome()
    except CrashError as error:
        raise CrashError(f"The undisturbed run failed. {error}") from None
    finally:
        flow.kill9()


def _ahead(case: Case) -> list[str]:
    """Stores that hold a lane further than another store does."""
    deadline_s = time.monotonic() + _DECIDED_S
    while True:
        stores = case.positions(DISTURBED)
        ahead = [
            store
            for store, lanes in stores.items()
            if any(
                lane not in other or position > other[lane]
                for lane, position in lanes.items()
                for other in stores.values()
            )
        ]
        # Brokers answer a commit before it can be read.
        if ahead or time.monotonic() > deadline_s:
            return ahead
        time.sleep(0.05)


def _more(rows: Sequence[bytes], others: Sequence[bytes]) -> int:
    return (Counter(rows) - Counter(others)).total()


def _difference(name: str, found: Sequence[bytes], expected: Sequence[bytes]) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
        min(len(found), len(expected)),
    )
    return (
        f"{name}: {len(found)} rows for {len(expected)}, {_more(expected, found)} lost, "
        f"{_more(found, expected)} repeated; first difference at {at}:\n"
        f"  found    {found[at : at + 2]}\n"
        f"  expected {expected[at : at + 2]}"
    )


def _told(case: Case, plan: Sequence[Step], done: Sequence[Step], directory: Path) -> str:
    return (
        f"flow {case.module}, plan\n{show(plan)}\nso far\n{show(done)}\n"
        f"logs and recovery store in {directory}"
    )
