"""The vehicles operator: transactions in, published changes out, in one lane.

All that a transaction makes public has one position, the end of its commit in the source's log,
and lies in one item of one lane. A sink therefore writes it in one transaction, whatever shards
of the topic its rows go to. The price is one key, which one worker computes: transactions have
one order, and splitting them would need a step that puts the parts together again.
"""

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Stream
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from operators.metrics import StateSize, watched
from operators.vehicle_table import VehicleTable, VehicleTableState
from schemas.origin import newest_origin
from schemas.stream import Output
from schemas.transactions import Captured
from schemas.vehicles import change_rows

__all__ = ["VehiclesLogic", "vehicles"]

_KEY = "vehicles"  # permanent: recovery finds the state by it


class VehiclesLogic(StatefulBatchLogic[Captured, Output, VehicleTableState]):
    """The one key's logic; see the module.

    Args:
        state: where to go on.
    """

    def __init__(self, state: VehicleTableState | None) -> None:
        self._table = VehicleTable(state)

    @override
    def on_batch(self, values: list[Captured]) -> tuple[list[Output], bool]:
        published = []
        for captured in values:
            for transaction in captured.transactions:
                published += self._table.apply(transaction)
        if not published:
            return [], False
        positions = np.array([change.lsn for change in published], np.int64)
        rows = change_rows(published)
        origin = newest_origin(captured.origin for captured in values)
        return [Output("results", 0, positions, int(positions[-1]), rows, origin=origin)], False

    def state_size(self) -> tuple[int, StateSize]:
        """See `operators.metrics.Stateful`."""
        return 0, self._table.size()

    @override
    def on_eof(self) -> tuple[list[Output], bool]:
        return [], False  # the end of a run is not the end of the log

    @override
    def snapshot(self) -> VehicleTableState:
        return self._table.snapshot()


def vehicles(step_id: str, up: Stream[Captured], *, flow: str) -> KeyedStream[Output]:
    """Published changes, and what the source rejected, by lane.

    Args:
        step_id: unique and permanent name; recovery finds the state by it.
        up: what the source captured.
        flow: name, for metrics.
    """
    keyed = op.key_on(f"{step_id}_key", up, lambda _: _KEY)
    results = op.stateful_batch(
        step_id, keyed, lambda state: watched(VehiclesLogic(state), flow, step_id)
    )
    rejected = op.flat_map(f"{step_id}_rejected", up, lambda captured: captured.rejected)
    outputs = op.merge(f"{step_id}_outputs", op.map(f"{step_id}_plain", results, _output), rejected)
    return op.map(f"{step_id}_lanes", outputs, lambda output: (output.lane, output))


def _output(item: tuple[str, Output]) -> Output:
    return item[1]
