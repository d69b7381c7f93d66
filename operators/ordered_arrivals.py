"""What has come to a shard and is not folded yet: its keys, and their events in a buffer."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from operators.ordered_buffer import ReorderBuffer
from operators.ordered_scatter import ShardEvents
from schemas.stream import NEVER, OFFSET_BITS

__all__ = ["Arrivals", "KeyCodes"]

Keys = TypeVar("Keys", bound="KeyCodes")


class KeyCodes(Protocol):
    """Codes of keys, see `operators.keys`."""

    def __len__(self) -> int: ...

    def codes(self, names: Sequence[str]) -> NDArray[np.int64]:
        """(n,) codes of (n,) keys; new ones for those not seen before."""
        ...


class Arrivals(Generic[Keys]):
    """Keys by code, and the events that wait to be put in order.

    Args:
        columns: names and NumPy types of what the events carry.
        sequence: column that orders events of one time; None for place in the log alone.
        keys: where they get their codes.
        events: snapshot of the buffer; None for an empty one.
        newest_ms: newest event time seen.
        with_values: whether to keep the events' raw bytes.

    Attributes:
        buffer: the events.
        newest_ms: newest event time seen; `NEVER` without any.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        sequence: str | None,
        keys: Keys,
        events: Mapping[str, bytes] | None = None,
        newest_ms: int = NEVER,
        *,
        with_values: bool = False,
    ) -> None:
        self._sequence = sequence
        self.keys = keys
        self.buffer = ReorderBuffer(columns, events, with_values=with_values)
        self.newest_ms = newest_ms

    def add(self, events: ShardEvents, states: NDArray[Any]) -> NDArray[Any]:
        """Take in a batch; the records by key code, with zeros for keys that are new."""
        if not len(events.keys):
            return states
        codes = self.keys.codes(events.names)
        self.buffer.add(
            codes[events.keys],
            events.event_time_ms,
            events.columns[self._sequence] if self._sequence else np.zeros_like(events.offsets),
            (events.partition << OFFSET_BITS) + events.offsets,
            events.columns,
            events.values,
        )
        self.newest_ms = max(self.newest_ms, int(events.event_time_ms.max()))
        more = len(self.keys) - len(states)
        if more <= 0:
            return states
        fresh = np.zeros(max(16, 2 * more + len(states)), states.dtype)
        return np.concatenate((states, fresh))
