"""The candle aggregate: open, high, low, close, volumes and trade sequence of a pane.

Prices and quantities are int64 of 1e-8, volumes 128-bit sums of 1e-8 and quote volumes
128-bit sums of 1e-16. Open and close carry (event time, sequence, place in the log), a
total order, so a merge in any order picks the same trade; high and low carry the event time
of the earliest trade at that price. Trade sequences are kept as minimum, maximum, count,
sum and sum of squares (modulo 2**64): they show a hole unless at least three holes and as
many duplicates balance each other in both sums.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from operators.aggregate import Aggregate, partial_dtype, register
from operators.candle_rows import candle_rows
from operators.panes import Groups
from schemas.fixed_point import add_wide, multiply_wide
from schemas.stream import OFFSET_BITS, Events

__all__ = ["CANDLE", "PARTIAL"]

_FIELDS = (
    ("open_time", "i8"),
    ("open_seq", "i8"),
    ("open_place", "i8"),
    ("open", "i8"),
    ("close_time", "i8"),
    ("close_seq", "i8"),
    ("close_place", "i8"),
    ("close", "i8"),
    ("high", "i8"),
    ("high_time", "i8"),
    ("low", "i8"),
    ("low_time", "i8"),
    ("volume_low", "u8"),
    ("volume_high", "u8"),
    ("quote_low", "u8"),
    ("quote_high", "u8"),
    ("buy_volume_low", "u8"),
    ("buy_volume_high", "u8"),
    ("buy_quote_low", "u8"),
    ("buy_quote_high", "u8"),
    ("count", "i8"),
    ("seq_first", "i8"),
    ("seq_last", "i8"),
    ("seq_count", "i8"),
    ("seq_sum", "u8"),
    ("seq_squares", "u8"),
    ("seq_hole", "u1"),
)

_ZERO = np.uint64(0)


@njit(cache=True)
def _merge(into: Any, other: Any) -> None:  # noqa: ANN401  # records of this aggregate
    if other["count"] == 0:
        return
    first = into["count"] == 0
    if (
        first
        or other["open_time"] < into["open_time"]
        or (
            other["open_time"] == into["open_time"]
            and (
                other["open_seq"] < into["open_seq"]
                or (
                    other["open_seq"] == into["open_seq"]
                    and other["open_place"] < into["open_place"]
                )
            )
        )
    ):
        into["open_time"] = other["open_time"]
        into["open_seq"] = other["open_seq"]
        into["open_place"] = other["open_place"]
        into["open"] = other["open"]
    if (
        first
        or other["close_time"] > into["close_time"]
        or (
            other["close_time"] == into["close_time"]
            and (
                other["close_seq"] > into["close_seq"]
                or (
                    other["close_seq"] == into["close_seq"]
                    and other["close_place"] > into["close_place"]
                )
            )
        )
    ):
        into["close_time"] = other["close_time"]
        into["close_seq"] = other["close_seq"]
        into["close_place"] = other["close_place"]
        into["close"] = other["close"]
    if (
        first
        or other["high"] > into["high"]
        or (other["high"] == into["high"] and other["high_time"] < into["high_time"])
    ):
        into["high"] = other["high"]
        into["high_time"] = other["high_time"]
    if (
        first
        or other["low"] < into["low"]
        or (other["low"] == into["low"] and other["low_time"] < into["low_time"])
    ):
        into["low"] = other["low"]
        into["low_time"] = other["low_time"]
    if first:  # a gap may stand here: its sums are zero, its sequence is its predecessor's
        into["seq_first"] = 0
        into["seq_last"] = 0
    into["volume_low"], into["volume_high"] = add_wide(
        into["volume_low"], into["volume_high"], other["volume_low"], other["volume_high"]
    )
    into["quote_low"], into["quote_high"] = add_wide(
        into["quote_low"], into["quote_high"], other["quote_low"], other["quote_high"]
    )
    into["buy_volume_low"], into["buy_volume_high"] = add_wide(
        into["buy_volume_low"],
        into["buy_volume_high"],
        other["buy_volume_low"],
        other["buy_volume_high"],
    )
    into["buy_quote_low"], into["buy_quote_high"] = add_wide(
        into["buy_quote_low"],
        into["buy_quote_high"],
        other["buy_quote_low"],
        other["buy_quote_high"],
    )
    into["count"] += other["count"]
    if other["seq_count"] > 0:
        if into["seq_count"] == 0 or other["seq_first"] < into["seq_first"]:
            into["seq_first"] = other["seq_first"]
        if into["seq_count"] == 0 or other["seq_last"] > into["seq_last"]:
            into["seq_last"] = other["seq_last"]
        into["seq_count"] += other["seq_count"]
        into["seq_sum"] = into["seq_sum"] + other["seq_sum"]
        into["seq_squares"] = into["seq_squares"] + other["seq_squares"]


@njit(cache=True)
def _carry(gap: Any, previous: Any) -> bool:  # noqa: ANN401  # records of this aggregate
    """A gap stands at the previous close, and passes on the last sequence seen."""
    price = previous["close"]
    sequence = previous["seq_last"]
    changed = gap["close"] != price or gap["seq_last"] != sequence
    visible = gap["close"] != price
    if changed:
        gap["open"] = price
        gap["high"] = price
        gap["low"] = price
        gap["close"] = price
        gap["seq_last"] = sequence
    return bool(visible)


@njit(cache=True)
def _run_sums(first: int, n: int) -> tuple[np.uint64, np.uint64]:
    """Sum and sum of squares of first, first + 1, ... (n of them), modulo 2**64.

    With t = 0 + ... + (n - 1) = n(n - 1) / 2 and q = n(n - 1)(2n - 1) / 6 they are
    n first + t and n first**2 + 2 first t + q; divisions come before products can wrap.
    """
    a, b, c = n, n - 1, 2 * n - 1
    if a % 2 == 0:
        a //= 2
    else:
        b //= 2
    t = np.uint64(a) * np.uint64(b)
    if a % 3 == 0:
        a //= 3
    elif b % 3 == 0:
        b //= 3
    else:
        c //= 3
    q = np.uint64(a) * np.uint64(b) * np.uint64(c)
    start = np.uint64(first)
    many = np.uint64(n)
    return many * start + t, many * start * start + np.uint64(2) * start * t + q


@njit(cache=True)
def _link(record: Any, previous: Any) -> bool:  # noqa: ANN401  # records of this aggregate
    """Whether the sequence has a hole, inside or since the predecessor."""
    hole = False
    if record["count"] > 0 and record["seq_count"] > 0:
        first = record["seq_first"]
        last = record["seq_last"]
        n = record["seq_count"]
        hole = last - first + 1 != n
        if not hole:
            total, squares = _run_sums(first, n)
            hole = total != record["seq_sum"] or squares != record["seq_squares"]
        if previous["start"] != record["start"] and previous["seq_last"] > 0:
            hole = hole or first > previous["seq_last"] + 1
    changed = (record["seq_hole"] != 0) != hole
    record["seq_hole"] = 1 if hole else 0
    return bool(changed)


@njit(cache=True)
def _lift_trades(
    keys: NDArray[np.int32],
    panes: NDArray[np.int64],
    ticks: NDArray[np.int64],
    slots: NDArray[np.int32],
    event_time_ms: NDArray[np.int64],
    first_place: int,
    offsets: NDArray[np.int64],
    price: NDArray[np.int64],
    quantity: NDArray[np.int64],
    side: NDArray[np.int8],
    seq: NDArray[np.int64],
    partials: NDArray[Any],
    partials_of_one: NDArray[Any],
) -> None:
    for j in range(len(partials)):
        partials[j]["key"] = keys[j]
        partials[j]["pane"] = panes[j]
        partials[j]["tick"] = ticks[j]
    one = partials_of_one[0]  # each trade in turn, as a partial of its own
    one["count"] = 1
    for i in range(len(slots)):
        if slots[i] < 0:
            continue
        time = event_time_ms[i]
        place = first_place + offsets[i]
        one["open_time"] = time
        one["open_seq"] = seq[i]
        one["open_place"] = place
        one["open"] = price[i]
        one["close_time"] = time
        one["close_seq"] = seq[i]
        one["close_place"] = place
        one["close"] = price[i]
        one["high"] = price[i]
        one["high_time"] = time
        one["low"] = price[i]
        one["low_time"] = time
        low, high = multiply_wide(price[i], quantity[i])
        bought = side[i] == 0
        one["volume_low"] = np.uint64(quantity[i])
        one["quote_low"] = low
        one["quote_high"] = high
        one["buy_volume_low"] = np.uint64(quantity[i]) if bought else _ZERO
        one["buy_quote_low"] = low if bought else _ZERO
        one["buy_quote_high"] = high if bought else _ZERO
        number = max(seq[i], 0)
        one["seq_first"] = number
        one["seq_last"] = number
        one["seq_count"] = 1 if number > 0 else 0
        one["seq_sum"] = np.uint64(number)
        one["seq_squares"] = np.uint64(number) * np.uint64(number)
        _merge(partials[slots[i]], one)


def _lift(events: Events, groups: Groups) -> NDArray[Any]:
    """Partials of a batch of trades with the columns of `schemas.trades`."""
    partials = np.zeros(len(groups.keys), PARTIAL)
    _lift_trades(
        groups.keys,
        groups.panes,
        groups.ticks,
        groups.slots,
        events.event_time_ms,
        events.partition << OFFSET_BITS,
        events.offsets,
        events.columns["price"],
        events.columns["quantity"],
        events.columns["side"],
        events.columns["seq"],
        partials,
        np.zeros(1, PARTIAL),
    )
    return partials


CANDLE = register(
    Aggregate(
        name="candle",
        fields=_FIELDS,
        merge=_merge,
        carry=_carry,
        link=_link,
        lift=_lift,
        lower=candle_rows,
    )
)
"""The candle aggregate, for the operators."""

PARTIAL = partial_dtype(CANDLE)
"""Dtype of candle partials, 240 bytes."""
