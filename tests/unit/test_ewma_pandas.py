"""The averages are those of pandas' `ewm(adjust=False).mean()` over the sorted prices.

pandas is a reference that none of us wrote; the oracle beside it says the bits. Which trades
are late is the flow's own rule and comes from the oracle.
"""

import math
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.ewma import alpha_of
from tests import strategies
from tests.ewma_oracle import Ewma as Rule
from tests.ewma_oracle import accepted
from tests.oracle import T
from tests.unit.test_ewma_property import EwmaRun

WEIGHTS = {
    "span": [1.0, 9.0, 300.0, 1e6],
    "alpha": [1e-9, 2 / 301, 0.5, 1.0],
    "com": [0.0, 0.5, 149.5],
    "halflife": [0.1, 1.0, 200.0],
}
HALFLIVES_MS = [1.0, 500.0, 60_000.0]
PERIODS_MS = st.sampled_from([1_000, 60_000, 300_000])
LATENESSES_MS = st.sampled_from([0, 2_000, 5_000])


def sorted_trades(logs: list[list[T]], rule: Rule) -> pd.DataFrame:
    """Those that are not late, with the period of each."""
    trades = pd.DataFrame(
        [
            (a.trade.key, a.trade.time, a.trade.seq, *a.place, a.trade.price, a.trade.quantity)
            for partition, log in enumerate(logs)
            for a in accepted(partition, log, rule)
        ],
        columns=["instrument", "time", "seq", "partition", "offset", "price", "quantity"],
    )
    trades["window_start"] = trades["time"] // rule.period * rule.period
    return trades.sort_values(["time", "seq", "partition", "offset"], ignore_index=True)


def by_pandas(logs: list[list[T]], rule: Rule, parameters: dict[str, Any]) -> pd.DataFrame:
    """A row per instrument and period; weighted by volume it is the quotient of two averages."""
    trades = sorted_trades(logs, rule)
    weight = trades["quantity"] / 1e8 if rule.weighted else 1.0
    columns = trades.assign(weight=weight, weighted=weight * trades["price"] / 1e8)
    window = ["instrument", "window_start"]
    begins = window if rule.mode == "window" else ["instrument"]
    if rule.mode == "time":
        parameters = {**parameters, "times": pd.to_datetime(trades["time"], unit="ms")}
    ewm = columns.groupby(begins)[["weighted", "weight"]].ewm(adjust=False, **parameters)
    averages = ewm.mean().droplevel(begins)
    trades["value"] = averages["weighted"] / averages["weight"]  # by the rows' numbers
    return trades.groupby(window).agg(
        value=("value", "last"),
        trade_count=("price", "size"),
        volume=("quantity", "sum"),
        last_price=("price", "last"),
    )


def check(logs: list[list[T]], rule: Rule, parameters: dict[str, Any], seed: int) -> None:
    run = EwmaRun(logs, rule, seed, restore=True)
    run.all()
    rows = {(row["instrument"], row["window_start"]): row for row in run.finish()}
    expected = by_pandas(logs, rule, parameters) if any(logs) else pd.DataFrame()
    assert set(rows) == set(expected.index)
    for at, value, trade_count, volume, last_price in expected.itertuples():
        row = rows[at]
        assert math.isclose(row["value"], value, rel_tol=1e-12), at
        assert row["trade_count"] == trade_count
        assert Decimal(row["volume"]) == Decimal(volume).scaleb(-8)
        assert Decimal(row["last_price"]) == Decimal(last_price).scaleb(-8)


@pytest.mark.parametrize("parameter", WEIGHTS)
@pytest.mark.parametrize("mode", ["window", "carry"])
@settings(max_examples=30)
@given(st.data())
def test_an_average_by_trades_is_that_of_pandas(
    mode: str, parameter: str, data: st.DataObject
) -> None:
    parameters = {parameter: data.draw(st.sampled_from(WEIGHTS[parameter]))}
    rule = Rule(
        data.draw(PERIODS_MS),
        mode,
        alpha_of(**parameters),
        weighted=data.draw(st.booleans()),
        lateness=data.draw(LATENESSES_MS),
    )
    check(data.draw(strategies.logs()), rule, parameters, data.draw(st.integers(0, 2**32)))


@settings(max_examples=60)
@given(strategies.logs(), st.data())
def test_an_average_by_time_is_that_of_pandas(logs: list[list[T]], data: st.DataObject) -> None:
    halflife_ms = data.draw(st.sampled_from(HALFLIVES_MS))
    rule = Rule(
        data.draw(PERIODS_MS),
        "time",
        None,
        halflife_ms,
        weighted=data.draw(st.booleans()),
        lateness=data.draw(LATENESSES_MS),
    )
    parameters = {"halflife": pd.Timedelta(milliseconds=halflife_ms)}
    check(logs, rule, parameters, data.draw(st.integers(0, 2**32)))
