"""Follows one start of a flow to the end that its step asks for, while its log grows.

Contract: `outcome` returns how the start ended, once it ended as the step says: at its fail
point, killed or stopped from outside, or at the end of the log: by itself, or stopped there if
the flow has no end of its own. Any other end, and standing still, is a `CrashError` with the end
of the flow's log.
"""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from tests.crash.case import Case
from tests.crash.plan import Step
from tests.real.flows import Cluster

__all__ = ["DISTURBED", "FINISH_S", "PIECES", "CrashError", "Watch"]

DISTURBED = "disturbed"
"""Output of the flow under test."""
PIECES = 20
"""In so many pieces the log grows during a step."""
FINISH_S = 120.0

_PIECE_S = 0.1
_PATIENCE_S = 1.0  # the first piece may end before any window does
_SLOW_PIECE_S = 0.4  # until it writes: what is there at once leaves in one transaction
_REACHED_S = 60.0
_ALONE_S = 1.0
_IDLE_S = 4.0
_LOOK_S = 0.05


class CrashError(AssertionError):
    """The flow failed, or its output is not what it must be."""


class Watch:
    """One start.

    Args:
        case: Whose log grows.
        flow: Just started.
        step: How it shall end.
        done_share: Share of the log that belongs to the steps before.
        share: Share of the log that belongs to this step.
        output: Where the flow writes.
    """

    def __init__(
        self,
        case: Case,
        flow: Cluster,
        step: Step,
        done_share: float = 1.0,
        share: float = 0.0,
        *,
        output: str = DISTURBED,
    ) -> None:
        self._case = case
        self._flow = flow
        self._step = step
        self._done_share = done_share
        self._share = share
        self._output = output
        self._began_s = time.monotonic()
        self._written = case.written(output)
        self._writes_since_s: float | None = None
        self._pieces = 1
        self._fed_s = self._began_s

    def outcome(self) -> str:
        """How it ended.

        Raises:
            CrashError: Not as the plan wants it.
        """
        step = self._step
        limit_s = FINISH_S if step.is_last else _REACHED_S + (step.after_s or 0)
        while True:
            codes = self._codes()
            if any(code is not None for code in codes):
                return self._ended(codes)
            now_s = time.monotonic()
            if now_s - self._began_s > limit_s:
                raise self._stood_still(limit_s)
            if self._is_due(now_s):
                return self._end(f"{now_s - self._began_s:.1f} s after its start")
            self._look(now_s)
            self._feed(now_s)
            if self._is_complete(now_s):
                return self._end("once all was written")
            time.sleep(_LOOK_S)

    def _end(self, when: str) -> str:
        """End it from outside, as the step says; killing all that is left is the caller's."""
        if self._step.stop or self._step.is_last:
            self._flow.terminate()
            deadline_s = time.monotonic() + FINISH_S
            while None in (codes := self._codes()):
                if time.monotonic() > deadline_s:
                    raise self._stood_still(FINISH_S)
                self._feed(time.monotonic())
                time.sleep(_LOOK_S)
            if any(codes) and not (self._had_nothing_to_do and set(codes) <= {0, -signal.SIGTERM}):
                raise CrashError(f"Stopped {when} it ended with {codes}:\n{_tail(self._flow)}")
            return f"stopped {when}: {codes}"
        if self._step.alone is None:
            return f"killed {when}"
        self._flow.processes[self._step.alone].kill9()
        self._linger()
        return f"killed alone {when}: {self._codes()}"

    def _ended(self, codes: Sequence[int | None]) -> str:
        if self._step.is_last and not any(codes):
            return f"ended with {self._flow.wait(FINISH_S)}"
        if self._step.point and -signal.SIGKILL in codes:
            if None in codes:
                self._linger()
            return f"died {time.monotonic() - self._began_s:.1f} s after its start: {self._codes()}"
        raise CrashError(f"It ended with {codes}:\n{_tail(self._flow)}")

    def _codes(self) -> list[int | None]:
        return [process.returncode for process in self._flow.processes]

    def _is_due(self, now_s: float) -> bool:
        since_s = self._began_s if self._step.since == "start" else self._writes_since_s
        after_s = self._step.after_s
        return after_s is not None and since_s is not None and now_s - since_s >= after_s

    def _is_complete(self, now_s: float) -> bool:
        """Whether a flow without an end of its own has come to the end of the log."""
        # One that finds all written gets the time to write it again, wrongly.
        is_due = not self._had_nothing_to_do or now_s - self._began_s > _IDLE_S
        return self._step.is_last and is_due and self._case.is_complete(self._output)

    @property
    def _had_nothing_to_do(self) -> bool:
        """Whether it is at the end of the log and has written nothing since its start.

        It may then be stopped before it listens to signals.
        """
        return self._step.is_last and self._writes_since_s is None

    def _look(self, now_s: float) -> None:
        if self._writes_since_s is None and self._case.written(self._output) > self._written:
            self._writes_since_s = now_s

    def _feed(self, now_s: float) -> None:
        """Let the log grow if it is time to.

        A fail point that is not reached with this step's share of the log gets more, which
        then lacks the steps to come; any other step makes do with its share.
        """
        writes = self._writes_since_s is not None
        pause_s = _PIECE_S if writes and self._pieces < PIECES else _SLOW_PIECE_S
        if (
            not self._step.is_last
            and (writes or now_s - self._began_s > _PATIENCE_S)
            and (self._pieces < PIECES or self._step.point)
            and now_s - self._fed_s >= pause_s
        ):
            self._fed_s = now_s
            self._pieces += 1
            self._case.grow(min(1.0, self._done_share + self._share * self._pieces / PIECES))

    def _linger(self) -> None:
        """Let the others go on without the dead one for a while."""
        end_s = time.monotonic() + _ALONE_S
        while time.monotonic() < end_s:
            self._feed(time.monotonic())
            time.sleep(_LOOK_S)

    def _stood_still(self, limit_s: float) -> CrashError:
        """The error, after each process was made to log where its threads are, and to end."""
        for process in self._flow.processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGABRT)
        with suppress(TimeoutError):
            self._flow.wait(5)
        return CrashError(f"It stood still for {limit_s} s:\n{_tail(self._flow)}")


def _tail(flow: Cluster) -> str:
    return "\n".join(flow.output().splitlines()[-100:])
