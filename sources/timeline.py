"""Where a partition is, in its log and in event time, and from where a restart must read.

What it computes. The watermark is the newest event time seen less the lateness; a record's
arrival watermark is the one just before it. An idle decision moves the newest event time to
the clock before the record at a given offset. With these and the log, every arrival
watermark is determined.

Replay. A flow that keeps no copy of its last `replay_ms` of events re-reads them after a
restart. Its snapshot then is not the place reached but a checkpoint further back, with the
idle decisions since, each with its offset, and the place reached. Contract:

* Coverage: every event at or after `emitted - replay_ms` lies after the checkpoint, where
  `emitted` is at or before the watermark of all partitions, or a tick emitted, in the
  snapshot of what is downstream. So the newest *event* there, not only the watermark, is
  before that span.
* Repetition: what is read again carries the same arrival watermarks. A decision takes effect
  before the record it took effect before, also in the middle of a batch; none is taken
  before the place reached is reached again, and none is forgotten.
* A restart during the re-reading is like the first: checkpoints are made anew on the way,
  `emitted` and the place reached never move back, and neither does the checkpoint.

Hence what is downstream needs one number in its own snapshot: the last tick it emitted, E.
It begins empty, with the partitions' watermarks unknown, and emits the ticks after E as the
watermarks of what is read *again* pass them. Such a tick T lies after `emitted`, so all
records from T - replay_ms on are there by coverage, and by repetition they take effect at
the same ticks as before; what takes effect up to E only fills the window. An operator that
also has to know the window at E itself asks for one tick more.

Cost: a few comparisons per batch. About a thousand checkpoints per `replay_ms`, at most
4,096; a pair of numbers per idle decision that was followed by a record.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from schemas.errors import FlowError
from schemas.stream import NEVER, Int64s

__all__ = [
    "Checkpoint",
    "IdleDecision",
    "PartitionState",
    "ReplayState",
    "SourceState",
    "Timeline",
    "resume",
]

_STEPS = 1_000
_CHECKPOINTS = 4_096
_DECISIONS = 1_000


class PartitionState(NamedTuple):
    """Snapshot of a partition that re-reads nothing.

    Attributes:
        offset: next offset to process.
        newest_ms: running maximum of event time; `NEVER` before the first record.
        idle_ms: the event time that an idle decision moves `newest_ms` to; None without.
    """

    offset: int
    newest_ms: int
    idle_ms: int | None


class Checkpoint(NamedTuple):
    """A place to read from again.

    Attributes:
        offset: next offset to process.
        newest_ms: running maximum of event times and idle decisions; gives the watermark.
        event_ms: running maximum of event times alone; `NEVER` where no event is before.
    """

    offset: int
    newest_ms: int
    event_ms: int


class IdleDecision(NamedTuple):
    """The watermark follows the clock.

    Attributes:
        offset: takes effect before the first record at or after this offset.
        newest_ms: the event time that the running maximum is moved to.
    """

    offset: int
    newest_ms: int


class ReplayState(NamedTuple):
    """Snapshot of a partition that re-reads; see the module.

    Attributes:
        start: where to read from again.
        decisions: idle decisions that `start` does not contain, at rising offsets; the last
            may be one that has not taken effect yet.
        reached: next offset that was never processed; >= `start.offset`.
        emitted_ms: a tick that everything downstream has emitted, as far as is known.
    """

    start: Checkpoint
    decisions: tuple[IdleDecision, ...]
    reached: int
    emitted_ms: int


SourceState = PartitionState | ReplayState
"""Snapshot of a partition: without and with a replay."""


def resume(state: SourceState, replay_ms: int, where: str) -> ReplayState:
    """The state to go on from, if it serves a replay of this length.

    Args:
        state: as stored.
        replay_ms: span that is needed now.
        where: the partition, for messages.

    Raises:
        FlowError: The state was stored with a shorter replay, or with none and now there
            is one, or the other way round.
    """
    if isinstance(state, PartitionState):
        idle = () if state.idle_ms is None else (IdleDecision(state.offset, state.idle_ms),)
        start = Checkpoint(state.offset, state.newest_ms, state.newest_ms)
        state = ReplayState(start, idle, state.offset, NEVER)
        known = not replay_ms
    else:
        known = replay_ms > 0 and state.start.event_ms < state.emitted_ms - replay_ms
    nothing_before = replay_ms > 0 and state.start.event_ms == NEVER
    if not known and not nothing_before:
        raise FlowError(
            f"The stored position of {where} does not fit a flow that re-reads "
            f"{replay_ms / 1000:g} s of its log after a restart: it was stored with another span",
            "Set the length of the window as it was, or start a new FLOW_VERSION (with an "
            "OUTPUT_TOPIC and an empty recovery directory of its own).",
        )
    return state


class Timeline:
    """See the module.

    Args:
        state: where to go on, of `resume`; or a first one without decisions.
        lateness_ms: how far the watermark stays behind the newest event time.
        replay_ms: span of event time before the emitted tick to re-read; 0 for none.
    """

    def __init__(self, state: ReplayState, lateness_ms: int, replay_ms: int) -> None:
        self.offset, self.newest_ms, self._event_ms = state.start
        self._lateness_ms = lateness_ms
        self._replay_ms = replay_ms
        self._step_ms = max(1, replay_ms // _STEPS)
        self._checkpoints = deque([state.start])
        self._decisions = list(state.decisions)
        self._effective = 0  # so many of them have taken effect
        self._reached = state.reached
        self._emitted_ms = state.emitted_ms

    @property
    def watermark_ms(self) -> int:
        """No event before this one will be on time; `NEVER` before the first record."""
        return max(NEVER, self.newest_ms - self._lateness_ms)

    @property
    def reached(self) -> int:
        """Next offset that was never processed; never moves back."""
        return max(self.offset, self._reached)

    @property
    def is_replaying(self) -> bool:
        """Whether what comes next was processed before."""
        return self.offset < self._reached

    @property
    def may_decide(self) -> bool:
        """Whether an idle decision can be taken: none is pending, and nothing is re-read."""
        return not self.is_replaying and self._effective == len(self._decisions)

    @property
    def patience(self) -> int:
        """Factor for the idle timeout: a partition with very many decisions waits longer.

        It doubles with each thousand decisions in the span, so that the snapshot stays
        small whatever the log looks like.
        """
        return int(2 ** (len(self._decisions) // _DECISIONS))

    def decide(self, newest_ms: int) -> None:
        """Take an idle decision for the current offset, to take effect later."""
        if self._decisions and self._decisions[-1].offset == self.offset:
            newest_ms = max(newest_ms, self._decisions.pop().newest_ms)
            self._effective -= 1
        self._decisions.append(IdleDecision(self.offset, newest_ms))

    def take_effect(self) -> bool:
        """Let the decisions for the current offset take effect; whether there were any."""
        before = self._effective
        while (decision := self._next_decision(self.offset)) is not None:
            self.newest_ms = max(self.newest_ms, decision.newest_ms)
        taken = self._effective - before
        if not self._replay_ms:
            self._forget(self._effective)
        return taken > 0

    def _next_decision(self, offset: int) -> IdleDecision | None:
        """The next one at or before `offset`, which is thereby taken."""
        if self._effective == len(self._decisions):
            return None
        decision = self._decisions[self._effective]
        if decision.offset > offset:
            return None
        self._effective += 1
        return decision

    def pass_records(self, end: int, offsets: Int64s, event_time_ms: Int64s) -> Int64s:
        """Move past a batch.

        Args:
            end: offset after the last record of the batch, good or rejected.
            offsets: (n,) offsets of the good records.
            event_time_ms: (n,) their event times.

        Returns:
            (n,) int64, the arrival watermark of each.
        """
        if self._replay_ms:
            self._note(self._checkpoints[-1].event_ms + self._step_ms)
            self._event_ms = int(event_time_ms.max(initial=self._event_ms))
        newest = np.empty(len(event_time_ms) + 1, np.int64)
        newest[0] = self.newest_ms
        newest[1:] = event_time_ms
        while (decision := self._next_decision(end - 1)) is not None:
            at = np.searchsorted(offsets, decision.offset)
            newest[at] = max(newest[at], decision.newest_ms)
        np.maximum.accumulate(newest, out=newest)
        self.newest_ms = int(newest[-1])
        self.offset = end
        return np.maximum(newest[:-1] - self._lateness_ms, NEVER)

    def pass_hole(self, end: int) -> None:
        """Move past offsets without records, as far as something was processed there before.

        At the end of the log no record tells that what was there is gone (compaction).
        """
        self.offset = max(self.offset, min(end, self._reached))

    def _note(self, from_event_ms: int) -> None:
        """Make the place a checkpoint, if events have come so far."""
        if self._event_ms < from_event_ms:
            return
        if len(self._checkpoints) == _CHECKPOINTS:
            # Emission is far behind: the oldest places may lie further apart.
            self._checkpoints = deque(list(self._checkpoints)[::2])
        self._checkpoints.append(Checkpoint(self.offset, self.newest_ms, self._event_ms))

    def snapshot(self, emitted_ms: int) -> SourceState:
        """The state to store; forgets what is before it.

        Args:
            emitted_ms: a tick that everything downstream has emitted.
        """
        if not self._replay_ms:
            idle_ms = self._decisions[0].newest_ms if self._decisions else None
            return PartitionState(self.offset, self.newest_ms, idle_ms)
        self._emitted_ms = max(self._emitted_ms, min(emitted_ms, self.watermark_ms))
        before_ms = self._emitted_ms - self._replay_ms
        checkpoints = self._checkpoints
        if self._event_ms < before_ms:
            checkpoints.clear()
            checkpoints.append(Checkpoint(self.offset, self.newest_ms, self._event_ms))
        while len(checkpoints) > 1 and checkpoints[1].event_ms < before_ms:
            checkpoints.popleft()
        start = checkpoints[0]
        contained = 0
        for decision in self._decisions[: self._effective]:
            at_start = decision.offset == start.offset and decision.newest_ms <= start.newest_ms
            if not at_start and decision.offset >= start.offset:
                break
            contained += 1
        self._forget(contained)
        return ReplayState(start, tuple(self._decisions), self.reached, self._emitted_ms)

    def _forget(self, decisions: int) -> None:
        del self._decisions[:decisions]
        self._effective -= decisions
