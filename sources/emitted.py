"""How far a flow has emitted, told back to its source.

A source that re-reads a span of its log after a restart must know which tick the flow has
emitted last: a partition may be days ahead of the slowest one, which alone decides that.

Contract. A tick that a shard has emitted is a lower bound of what every shard has emitted
in the snapshot that the flow takes next: all shards follow the one watermark, and Bytewax
gives out nothing of an epoch before the one before is complete everywhere. So the newest
tick told by any shard of this process is safe to use; where no shard lives in the process,
nothing is told, and its partitions re-read from where they first began: slow, not wrong.
"""

from schemas.stream import NEVER, Output

__all__ = ["Emitted"]


class Emitted:
    """The newest tick that shards of this process have emitted.

    Its `hear` is the inspector of an `op.inspect` directly behind the shards:
    `op.inspect("emitted", results, emitted.hear)`.
    """

    def __init__(self) -> None:
        self._tick_ms = NEVER

    def __call__(self) -> int:
        """The tick, in ms of event time; `NEVER` before the first."""
        return self._tick_ms

    def hear(self, step_id: str, item: tuple[str, Output]) -> None:  # noqa: ARG002  # Bytewax's signature
        """Take in what a shard emits, by lane; late and rejected rows say nothing."""
        output = item[1]
        if output.kind == "results":
            self._tick_ms = max(self._tick_ms, output.position)
