"""A Bytewax source of one permanent partition, for what has one order."""

from collections.abc import Callable
from typing import TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

__all__ = ["OnePartitionSource"]

Item = TypeVar("Item")
State = TypeVar("State")


class OnePartitionSource(FixedPartitionedSource[Item, State]):
    """The source.

    Args:
        build: makes the partition of where to go on; None to begin.
    """

    def __init__(
        self, build: Callable[[State | None], StatefulSourcePartition[Item, State]]
    ) -> None:
        self._build = build

    @override
    def list_parts(self) -> list[str]:
        return ["00000"]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[Item, State]:
        return self._build(resume_state)
