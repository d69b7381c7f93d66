"""What the crash harness knows of a flow: `Case`.

The harness kills, restarts and compares; all that differs from flow to flow is here. A flow
that writes through the exactly-once sinks subclasses `SinkCase`, see `sink_case.py`; one with
another output implements `Case`, see `test_harness.py`.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

__all__ = ["Account", "Case"]


class Account(NamedTuple):
    """Where the records of a log are, in one store."""

    aggregated: int
    late: int
    rejected: int


class Case(Protocol):
    """A flow, its log, and where its outputs are.

    Outputs are named, so that one log can be read into several of them.
    """

    @property
    def module(self) -> str:
        """Import string of the flow."""
        ...

    @property
    def points(self) -> Mapping[str, int]:
        """Fail points it comes to, and the highest time of it to ask for; see `plan`."""
        ...

    @property
    def records(self) -> int:
        """Length of the whole log."""
        ...

    def env(self, output: str, *, to_the_end: bool = False) -> dict[str, str]:
        """Settings of a run that writes to `output`, for ever or to the end of the log."""
        ...

    def grow(self, share: float) -> None:
        """Let the log have at least this share of its records, 0 to 1."""
        ...

    def written(self, output: str) -> int:
        """A figure that rises when the flow writes; cheap."""
        ...

    def is_complete(self, output: str) -> bool:
        """Whether all is written, for a flow with no end of its own, which is then stopped."""
        ...

    def contents(self, output: str) -> dict[str, list[bytes]]:
        """Everything a reader of committed data sees, in order, by partition or table."""
        ...

    def expected(self) -> dict[str, list[bytes]]:
        """The part of `contents` that follows from the whole log without any run of the flow."""
        ...

    def positions(self, output: str) -> dict[str, dict[str, int]]:
        """How far each lane is stored, by store; what is open is not waited for."""
        ...

    def accounted(self, output: str) -> dict[str, Account]:
        """Records of the log found in the output, by store."""
        ...
