"""What operators tell: of records that come to them, and of the state of each shard.

`step` is the operator's step in the dataflow; `shard` is a group of keys, or 0 where one holds
them all. State is looked at only when somebody asks; the cost is then a look at each open
window's record.
"""

from typing import NamedTuple, Protocol, TypeVar

from prometheus_client import Counter

from schemas.live_gauges import LiveGauges, Reading

__all__ = ["AGGREGATED", "LATE", "StateSize", "Stateful", "watched"]

AGGREGATED = Counter("tidemark_aggregated_records", "Records aggregated.", ["flow", "partition"])
LATE = Counter("tidemark_late_records", "Records too late to count.", ["flow", "partition"])

_WINDOWS = "tidemark_operator_open_windows"
_KEYS = "tidemark_operator_keys"
_WAITING = "tidemark_operator_waiting_records"
_BYTES = "tidemark_operator_state_bytes"
_GAUGES = LiveGauges(
    {
        _WINDOWS: "Windows that are still forming.",
        _KEYS: "Keys that are known.",
        _WAITING: "Records, or partials of many, that wait for the watermark.",
        _BYTES: "Memory reserved for state, without the text of keys.",
    },
    ["flow", "step", "shard"],
)


class StateSize(NamedTuple):
    """How much a shard holds.

    Attributes:
        windows: those still forming; None where there are none, as for the next but one.
        keys: those that are known.
        waiting: records or partials that wait for the watermark.
        size_bytes: memory reserved, without the text of keys.
    """

    windows: int | None
    keys: int
    waiting: int | None
    size_bytes: int


class Stateful(Protocol):
    """A shard."""

    def state_size(self) -> tuple[int, StateSize]:
        """Number of the shard, -1 before it is known; how much it holds. Any thread may ask."""
        ...


Shard = TypeVar("Shard", bound=Stateful)


def watched(shard: Shard, flow: str, step: str) -> Shard:
    """The same shard, whose state is shown as long as it is there.

    Args:
        shard: the shard.
        flow: name.
        step: of the operator.
    """
    _GAUGES.watch(shard, lambda shard: _reading(shard, flow, step))
    return shard


def _reading(shard: Stateful, flow: str, step: str) -> Reading | None:
    number, held = shard.state_size()
    if number < 0:
        return None
    return Reading(
        (flow, step, str(number)),
        {
            _WINDOWS: held.windows,
            _KEYS: held.keys,
            _WAITING: held.waiting,
            _BYTES: held.size_bytes,
        },
    )
