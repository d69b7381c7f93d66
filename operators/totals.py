"""The totals aggregate: sum, count, minimum and maximum of the amounts of a pane.

Amounts are int64, of either sign; the sum is a 128-bit two's complement number in two limbs,
so 2**64 amounts of any size cannot overflow it.
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from operators.aggregate import Aggregate, partial_dtype, register
from operators.panes import Groups
from schemas.fixed_point import add_wide
from schemas.stream import Events
from schemas.totals import TOTALS_SCHEMA

__all__ = ["TOTALS", "mean_text"]

_UTC_MS = pa.timestamp("ms", tz="UTC")
_PLACES = 8
_DIGITS = 60  # of 2**127 and the places, with room
_MINUS_ONE = np.uint64(2**64 - 1)
_ZERO = np.uint64(0)


@njit(cache=True)
def _merge(into: Any, other: Any) -> None:  # noqa: ANN401  # records of this aggregate
    if other["count"] == 0:
        return
    first = into["count"] == 0
    if first or other["lowest"] < into["lowest"]:
        into["lowest"] = other["lowest"]
    if first or other["highest"] > into["highest"]:
        into["highest"] = other["highest"]
    into["sum_low"], into["sum_high"] = add_wide(
        into["sum_low"], into["sum_high"], other["sum_low"], other["sum_high"]
    )
    into["count"] += other["count"]


@njit(cache=True)
def _unchanged(record: Any, previous: Any) -> bool:  # noqa: ANN401, ARG001  # an aggregate's form
    """A window's totals say nothing of the window before."""
    return False


@njit(cache=True)
def _lift_sales(
    groups: Groups, amount: NDArray[np.int64], partials: NDArray[Any], of_one: NDArray[Any]
) -> None:
    for j in range(len(partials)):
        partials[j]["key"] = groups.keys[j]
        partials[j]["pane"] = groups.panes[j]
        partials[j]["tick"] = groups.ticks[j]
    one = of_one[0]  # each sale in turn, as a partial of its own
    one["count"] = 1
    for i in range(len(groups.slots)):
        if groups.slots[i] < 0:
            continue
        one["lowest"] = amount[i]
        one["highest"] = amount[i]
        one["sum_low"] = np.uint64(amount[i])
        one["sum_high"] = _MINUS_ONE if amount[i] < 0 else _ZERO
        _merge(partials[groups.slots[i]], one)


def _lift(events: Events, groups: Groups) -> NDArray[Any]:
    """Partials of a batch of sales with the columns of `schemas.sales`."""
    partials = np.zeros(len(groups.keys), _PARTIAL)
    _lift_sales(groups, events.columns["amount"], partials, np.zeros(1, _PARTIAL))
    return partials


def mean_text(total: int, count: int) -> str:
    """Total / count as decimal text, rounded half to even at 8 places."""
    with localcontext(prec=_DIGITS) as context:
        context.Emax = 999
        mean = (Decimal(total) / count).quantize(Decimal(1).scaleb(-_PLACES))
    return f"{mean.normalize():f}"


def _lower(
    cells: NDArray[Any],
    names: Sequence[str],
    intervals_ms: Sequence[int],  # noqa: ARG001  # an aggregate's form, as the next
    closed: bool,  # noqa: ARG001, FBT001
) -> pa.RecordBatch:
    """Rows of (n,) cells, in their order."""
    counts = cells["count"].tolist()
    high = cells["sum_high"].view(np.int64).tolist()
    sums = [(h << 64) + low for h, low in zip(high, cells["sum_low"].tolist(), strict=True)]
    columns = {
        "seller_id": pa.array([names[code] for code in cells["key"].tolist()], pa.string()),
        "window_start": pa.array(cells["start"]).view(_UTC_MS),
        "window_end": pa.array(cells["end"]).view(_UTC_MS),
        "aggregated_amount": pa.array(map(str, sums), pa.string()),
        "sale_count": pa.array(counts, pa.int64()),
        "min_amount": pa.array(cells["lowest"]).cast(pa.string()),
        "max_amount": pa.array(cells["highest"]).cast(pa.string()),
        "mean_amount": pa.array(map(mean_text, sums, counts), pa.string()),
        "revision": pa.array(cells["emitted"]),
    }
    return pa.record_batch([columns[field.name] for field in TOTALS_SCHEMA], schema=TOTALS_SCHEMA)


TOTALS = register(
    Aggregate(
        name="totals",
        fields=(
            ("sum_low", "u8"),
            ("sum_high", "u8"),
            ("lowest", "i8"),
            ("highest", "i8"),
            ("count", "i8"),
        ),
        merge=_merge,
        carry=_unchanged,
        link=_unchanged,
        lift=_lift,
        lower=_lower,
    )
)
"""The totals aggregate, for the operators."""

_PARTIAL = partial_dtype(TOTALS)
