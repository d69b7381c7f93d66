"""Rolling statistics are those of pandas' time-based `rolling` with `closed="left"`.

A window at tick T is [T - window, T). pandas computes it at the ticks of the operator's rows,
in floats; so what it is given is small whole numbers, which floats hold exactly: ranks for
prices, and products cut into limbs. At which tick a record is known is the flow's own rule and
comes from the oracle, as does what else a row holds.
"""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.oracle import T
from tests.rolling_oracle import Rolling, arrivals
from tests.unit.test_rolling_property import RollingRun, records

LIMB_BITS = 32
LIMBS = ["limb_0", "limb_1", "limb_2"]
FIGURES = {
    "place": ["first", "last", "count"],
    "high": "min",
    "low": "min",
    "quantity": "sum",
    **dict.fromkeys(LIMBS, "sum"),
}


def known_trades(logs: list[list[T]], rule: Rolling) -> pd.DataFrame:
    """Those that are not late, in order, with the tick from which they are known."""
    trades = pd.DataFrame(
        [
            (trade.key, trade.time, trade.seq, *a.place, trade.price, trade.quantity, a.tick)
            for partition, log in enumerate(logs)
            for trade, a in zip(log, arrivals(partition, records(log), rule), strict=True)
            if a.tick is not None
        ],
        columns=["instrument", "time", "seq", "partition", "offset", "price", "quantity", "tick"],
    )
    trades = trades.sort_values(["time", "seq", "partition", "offset"], ignore_index=True)
    trades["place"] = np.arange(len(trades))
    trades["high"] = ranks(trades, price_ascending=False)
    trades["low"] = ranks(trades, price_ascending=True)
    for i, limb in enumerate(LIMBS):
        products = trades["price"].astype(object) * trades["quantity"].astype(object)
        trades[limb] = (products // 2 ** (LIMB_BITS * i) % 2**LIMB_BITS).astype("int64")
    own_tick = (trades["time"] // rule.pane + 1) * rule.pane
    own_tick = -(-own_tick // rule.tick) * rule.tick
    trades["is_delayed"] = trades["tick"] > own_tick
    return trades


def ranks(trades: pd.DataFrame, *, price_ascending: bool) -> pd.Series:
    """Rank by price; of equal prices the first in time comes first."""
    by_price = trades.sort_values(["price", "place"], ascending=[price_ascending, True])
    return pd.Series(np.arange(len(trades)), by_price.index)


def by_pandas(trades: pd.DataFrame, points: pd.DataFrame, rule: Rolling) -> pd.DataFrame:
    """`FIGURES` of the windows at points of (instrument, time).

    What a window holds changes by itself, but for delayed trades: so the points between two
    ticks at which any become known are computed together, from the trades known there.
    """
    delayed = trades["is_delayed"]
    marks = np.unique(trades["tick"][delayed])
    epochs = np.searchsorted(marks, points["time"], side="right")
    parts = []
    for epoch in np.unique(epochs):
        known = ~delayed | (trades["tick"] < (marks[epoch] if epoch < len(marks) else np.inf))
        part = pd.concat([trades[known], points[epochs == epoch]], ignore_index=True)
        parts.append(part.assign(epoch=epoch))
    order = ["epoch", "instrument", "time", "place"]  # that of the groups that pandas returns
    everything = pd.concat(parts).sort_values(order, ignore_index=True)
    everything["at"] = pd.to_datetime(everything["time"], unit="ms")
    windows = everything.groupby(order[:2]).rolling(f"{rule.window}ms", on="at", closed="left")
    figures = windows.agg(FIGURES).set_axis(pd.MultiIndex.from_frame(everything[order[1:3]]))
    figures.columns = ["_".join(name) for name in figures.columns]
    return figures[everything["place"].isna().to_numpy()].fillna(0).astype("int64")


@settings(max_examples=60)
@given(
    strategies.logs(),
    strategies.rolling_rules(),
    st.sampled_from([0, 2_000, 1_000_000]),  # with the last, nothing is delayed
    st.integers(0, 2**32),
)
def test_every_window_is_that_of_pandas(
    logs: list[list[T]], rule: Rolling, lateness: int, seed: int
) -> None:
    rule = replace(rule, lateness=lateness)
    run = RollingRun([records(log) for log in logs], rule, seed)
    run.all()
    rows = {(row["instrument"], row["tick"]): row for row in run.finish()}
    assert len(rows) == len(run.rows)
    trades = known_trades(logs, rule)
    on_time = trades[~trades["is_delayed"]]
    assert set(zip(on_time["instrument"], on_time["tick"], strict=True)) <= set(rows)
    if not rows:
        return
    points = pd.DataFrame(list(rows), columns=["instrument", "time"])
    in_place, by_high, by_low = (
        list(trades.sort_values(rank).itertuples()) for rank in ("place", "high", "low")
    )
    windows = by_pandas(trades, points, rule)
    assert set(windows.index) == set(rows)
    for window in windows.itertuples():
        row = rows[window.Index]
        assert row["trade_count"] == window.place_count
        assert as_int(row["volume"], 8) == window.quantity_sum
        limbs = [window.limb_0_sum, window.limb_1_sum, window.limb_2_sum]
        quote_volume = sum(limb << LIMB_BITS * i for i, limb in enumerate(limbs))
        assert as_int(row["quote_volume"], 16) == quote_volume
        if not row["trade_count"]:
            continue
        first, last = in_place[window.place_first], in_place[window.place_last]
        high, low = by_high[window.high_min], by_low[window.low_min]
        assert as_int(row["open"], 8) == first.price
        assert as_int(row["last"], 8) == last.price
        assert (as_int(row["high"], 8), row["high_time"]) == (high.price, high.time)
        assert (as_int(row["low"], 8), row["low_time"]) == (low.price, low.time)
        assert row["first_trade_id"] == (first.seq or None)
        assert row["last_trade_id"] == (last.seq or None)


def as_int(text: str, places: int) -> int:
    """A row's figure in its smallest units."""
    value = Decimal(text).scaleb(places)
    assert value == int(value)
    return int(value)
