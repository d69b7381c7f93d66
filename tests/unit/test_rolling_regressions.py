"""Mistakes of earlier systems' 24-hour statistics that must not come back, each by name."""

import pickle
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from operators.candle import CANDLE, PARTIAL
from operators.combine import CombineRule, PanePartials, combine
from operators.rolling import RollingRule, RollingShard, RollingState, rolling
from operators.rolling_panes import PANE, USED
from operators.rolling_rows import rolling_rows
from operators.rolling_ticks import ROW
from schemas.market_pb2 import Statistics
from schemas.statistics import STATISTICS_SCHEMA, encode_statistics
from schemas.stream import NEVER, Output
from schemas.tables import STATISTICS_24H
from tests.oracle import T
from tests.rolling_oracle import Rolling
from tests.runs import as_rows, batch
from tests.unit.test_rolling_property import RollingRun, record_columns, records

DAY = 86_400_000
MINUTE = 60_000
BASE = 1_700_006_400_000  # a midnight
ONE = 10**8


def statistics(*logs: list[T], rule: Rolling | None = None, finite: bool = True) -> list[dict]:
    run = RollingRun([records(log) for log in logs], rule or Rolling(), 0)
    run.all()
    return run.finish() if finite else run.rows


def of(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def by_name(rows: list[dict], name: str) -> list[dict]:
    return [row for row in rows if row["instrument"] == name]


def test_all_expired_trades_leave_not_one_per_arrival() -> None:
    hour = 3_600_000
    times = [0, 1 * hour, 2 * hour, 20 * hour, 21 * hour, 26 * hour + 1_000]
    log = [T(BASE + at, "A", (i + 1) * ONE, ONE) for i, at in enumerate(times)]
    ticks = {BASE + at + 1_000 for at in times}
    rows = [row for row in statistics(log) if row["tick"] in ticks]
    assert [row["quote_volume"] for row in rows] == ["1", "3", "6", "10", "15", "15"]
    last = rows[-1]
    assert (last["open"], last["low"], last["last"], last["trade_count"]) == ("4", "4", "6", 3)


def test_high_and_low_shrink_when_their_trade_leaves_without_a_new_trade() -> None:
    prices = [5, 9, 1, 6, 7]
    log = [T(BASE + i * 1_000, "A", price * ONE, ONE) for i, price in enumerate(prices)]
    log.append(T(BASE + 30_000, "B", ONE, ONE))
    rule = Rolling(window=10_000, quiet=1_000, lateness=0)
    rows = by_name(statistics(log, rule=rule, finite=False), "A")
    expiring = [row for row in rows if row["tick"] > BASE + 10_000]
    assert of(expiring, "open", "high", "low", "last", "trade_count") == [
        ("9", "9", "1", "7", 4),
        ("1", "7", "1", "7", 3),
        ("6", "7", "6", "7", 2),
        ("7", "7", "7", "7", 1),
        (None, None, None, None, 0),
    ]


def test_an_empty_window_is_reported_once_then_the_instrument_is_gone() -> None:
    log = [T(BASE, "A", 7 * ONE, ONE, 0, 5), T(BASE + 3 * MINUTE, "B", ONE, ONE)]
    log += [T(BASE + 4 * MINUTE + 500, "A", 8 * ONE, ONE)]
    rule = Rolling(window=90_000)
    rows = by_name(statistics(log, rule=rule), "A")
    assert of(rows, "tick", "trade_count", "last", "volume", "first_trade_id") == [
        (BASE + 1_000, 1, "7", "1", 5),
        (BASE + MINUTE, 1, "7", "1", 5),
        (BASE + 91_000, 0, None, "0", None),
        (BASE + 4 * MINUTE + 1_000, 1, "8", "1", None),
    ]


@pytest.mark.parametrize("late_ms", [0, 1, 999])
def test_a_trade_leaves_at_the_tick_where_its_age_reaches_the_window(late_ms: int) -> None:
    log = [T(BASE + late_ms, "A", ONE, ONE), T(BASE + DAY + 10_000, "B", ONE, ONE)]
    rule = Rolling(quiet=1_000, lateness=0)
    rows = by_name(statistics(log, rule=rule, finite=False), "A")
    assert rows[0]["tick"] == BASE + 1_000
    assert of(rows[-2:], "tick", "open_time", "trade_count") == [
        (BASE + DAY, BASE, 1),
        (BASE + DAY + 1_000, BASE + 1_000, 0),
    ]


def test_the_window_of_minute_panes_begins_at_the_minute() -> None:
    log = [T(BASE + 59_999, "A", ONE, ONE), T(BASE + DAY + 3 * MINUTE, "B", ONE, ONE)]
    rule = Rolling(pane=MINUTE, tick=MINUTE)
    rows = by_name(statistics(log, rule=rule), "A")
    assert of(rows[-2:], "tick", "open_time", "trade_count") == [
        (BASE + DAY, BASE, 1),
        (BASE + DAY + MINUTE, BASE + MINUTE, 0),
    ]


def test_state_does_not_grow_with_the_number_of_trades_nor_with_time() -> None:
    rule = RollingRule(window_ms=10_000)
    shard = RollingShard(rule, 1, None)
    partial = np.zeros(1, PARTIAL)
    partial["count"], partial["volume_low"] = 1_000_000, 1
    partial["open"] = partial["high"] = partial["low"] = partial["close"] = ONE
    for second in range(1_000):
        start = BASE + second * 1_000
        for field in ("pane", "open_time", "close_time", "high_time", "low_time"):
            partial[field] = start
        partial["tick"] = start + 1_000
        for _ in range(3):  # more of the same second
            shard.on_batch([PanePartials(0, 0, start, ["A"], partial.copy(), ended=False)])
    assert shard._table._arena[USED] <= 12
    assert shard._table._pending_n <= 6
    assert PANE.itemsize <= 144


def test_the_names_of_instruments_without_a_window_are_forgotten() -> None:
    log = [T(BASE + i * 1_000, f"key {i}", ONE, ONE) for i in range(2_000)]
    run = RollingRun([records(log)], Rolling(window=5_000), 0, crashes=False)
    rows = run.all()
    assert len(run.shard._table.names) <= 128
    assert len(run.shard._table._windows) <= 256
    assert sum(row["trade_count"] == 0 for row in rows) > 1_900


def test_the_output_has_figures_only() -> None:
    (output,) = _outputs([T(BASE, "A", ONE, ONE)])
    assert output.rows.schema == STATISTICS_SCHEMA
    assert [column.name for column in STATISTICS_24H.columns] == STATISTICS_SCHEMA.names
    (row,) = map(Statistics.FromString, encode_statistics(output.rows).to_pylist())
    assert (row.instrument, row.high, row.trade_count) == ("A", "1", 1)
    assert (row.open_time_ms, row.close_time_ms) == (BASE + 1_000 - DAY, BASE + 1_000)
    assert (row.first_trade_id, row.price_change, row.high_time_ms) == (0, "0", BASE)


def _outputs(log: list[T]) -> list[Output]:
    shard = RollingShard(RollingRule(), 1, None)
    run = RollingRun([records(log)], Rolling(), 0)
    items = run.step(batch(0, run.logs[0], 0, len(log), run.rule, record_columns))
    partials = [item for _, item in items if isinstance(item, PanePartials)]
    partials[-1] = PanePartials(0, 0, NEVER, partials[-1].names, partials[-1].partials, ended=True)
    return shard.on_batch(partials)[0]


def test_an_empty_window_is_a_message_without_prices() -> None:
    rows = np.zeros(1, ROW)
    rows["tick"] = BASE
    batch_of_one = rolling_rows(rows, ["A"], RollingRule())
    (row,) = map(Statistics.FromString, encode_statistics(batch_of_one).to_pylist())
    assert (row.open, row.price_change_percent, row.volume) == ("", "", "0")
    assert (row.trade_count, row.high_time_ms, row.close_time_ms) == (0, 0, BASE)


@pytest.mark.parametrize(
    ("first", "last", "change", "percent"),
    [
        (3 * ONE, 4 * ONE, "1", "33.33333333"),
        (3 * ONE, 2 * ONE, "-1", "-33.33333333"),
        (3 * ONE, 1 * ONE, "-2", "-66.66666667"),
        (2**63 - 1, 1, "-92233720368.54775806", "-100"),
        (1, 2**63 - 1, "92233720368.54775806", "922337203685477580600"),
        (2**62, 2**62 - 1, "-0.00000001", "0"),
        (2 * 10**10, 2 * 10**10 + 1, "0.00000001", "0"),  # half of a unit, to the even one
        (2 * 10**10, 2 * 10**10 + 3, "0.00000003", "0.00000002"),
        (5 * ONE, 5 * ONE, "0", "0"),
    ],
)
def test_change_and_percent_are_signed_and_exact(
    first: int, last: int, change: str, percent: str
) -> None:
    rows = np.zeros(1, ROW)
    rows["open"], rows["last"] = first, last
    rows["high"], rows["low"] = max(first, last), min(first, last)
    rows["count"] = rows["volume_low"] = 1
    (row,) = rolling_rows(rows, ["A"], RollingRule()).to_pylist()
    assert (row["price_change"], row["price_change_percent"]) == (change, percent)


def test_a_silence_of_ages_costs_its_quiet_rows_and_no_more() -> None:
    ages = 10**14  # three thousand years; tick by tick it would not end
    log = [T(BASE, "A", ONE, ONE), T(BASE + ages, "A", 2 * ONE, ONE)]
    rows = statistics(log)
    assert of(rows[-2:], "tick", "trade_count") == [
        (BASE + DAY + 1_000, 0),
        (BASE + ages + 1_000, 1),
    ]
    assert len(rows) == 1 + 1_440 + 1 + 1


def test_a_long_silence_leaves_in_parts_of_whole_ticks() -> None:
    log = [T(BASE + i, f"K{i}", ONE, ONE) for i in range(30)]
    log.append(T(BASE + 2 * DAY, "B", ONE, ONE))
    run = RollingRun([records(log)], Rolling(), 0, crashes=False)
    sizes: list[int] = []
    take = run.take

    def count(items: list[Output]) -> None:
        sizes.extend(output.rows.num_rows for output in items)
        take(items)  # asserts that no tick is cut in two

    run.take = count  # type: ignore[method-assign]
    run.all()
    assert sum(sizes) == 30 * (1 + 1_440 + 1)
    assert len(sizes) > 2
    assert max(sizes) <= 20_000 + 30


def test_a_delayed_trade_counts_from_its_effective_tick_and_corrects_nothing() -> None:
    log = [
        T(BASE + 1_000, "A", 5 * ONE, ONE, 0, 1),
        T(BASE + 9_000, "A", 6 * ONE, ONE, 0, 3),
        T(BASE + 2_500, "A", 9 * ONE, ONE, 0, 2),
        T(BASE + 20_000, "A", 7 * ONE, ONE, 0, 4),
    ]
    rows = statistics(log)
    assert of(rows, "tick", "high", "trade_count", "open", "last") == [
        (BASE + 2_000, "5", 1, "5", "5"),
        (BASE + 8_000, "9", 2, "5", "9"),
        (BASE + 10_000, "9", 3, "5", "6"),
        (BASE + 21_000, "9", 4, "5", "7"),
    ]


def test_instruments_are_apart_and_in_the_order_of_their_names() -> None:
    log = [T(BASE + i, key, (i + 1) * ONE, ONE) for i, key in enumerate(["b", "é", "a", "Z"])]
    assert of(statistics(log), "instrument", "last") == [
        ("Z", "4"), ("a", "3"), ("b", "1"), ("é", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "setting"),
    [
        ({"pane_ms": 0}, "pane_ms=0"),
        ({"pane_ms": 2**31, "tick_ms": 2**31, "window_ms": 2**32}, "pane_ms=2147483648"),
        ({"window_ms": 86_400_500}, "window_ms=86400500"),
        ({"window_ms": 0}, "window_ms=0"),
        ({"tick_ms": 1_500}, "tick_ms=1500"),
        ({"tick_ms": -1_000}, "tick_ms=-1000"),
        ({"tick_ms": 7_000}, "quiet_every_ms=60000"),
        ({"tick_ms": 60_000, "window_ms": 30_000}, "tick_ms=60000"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_by_name(lengths: dict, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        RollingRule(**lengths)


def test_a_snapshot_is_a_tick_not_a_day_of_panes() -> None:
    log = [T(BASE + i * 1_000, f"K{i % 7}", ONE, ONE) for i in range(500)]
    run = RollingRun([records(log)], Rolling(), 0, crashes=False)
    run.all()
    state = run.shard.snapshot()
    assert state == RollingState(0, run.position)
    assert len(pickle.dumps(state)) < 100


def test_a_resumed_shard_fills_its_windows_in_silence() -> None:
    log = records([T(BASE + i * 900, f"K{i % 3}", (i + 1) * ONE, ONE, 0, i) for i in range(200)])
    rule = Rolling(window=30_000)
    whole = RollingRun([log], rule, 0, crashes=False)
    whole.all()
    run = RollingRun([log], rule, 0, crashes=False)
    run.all([120])
    stored, shown = run.shard.snapshot(), len(run.rows)
    assert stored.emitted_ms == run.rows[-1]["tick"] > BASE + 60_000
    at = run.replay_from(min(run.watermarks()))
    assert 0 < at[0] < 120
    run.resume(stored, at)
    run.all([120])
    assert len(run.rows) == shown
    assert run.emitted == stored.emitted_ms, "nothing was emitted again, not even to be dropped"
    assert run.all() == whole.rows


def test_the_step_runs_in_a_dataflow() -> None:
    log = records([T(BASE + i * 700, f"K{i % 3}", (i + 1) * ONE, ONE, 0, i + 1) for i in range(50)])
    rule = Rolling(window=10_000)
    events = [batch(0, log, first, first + 10, rule, record_columns) for first in range(0, 50, 10)]
    out: list[tuple[str, Any]] = []
    flow = Dataflow("statistics")
    up = op.input("in", flow, TestingSource(events))
    partials, _ = combine("combine", up, CANDLE, CombineRule("s", "t", 2))
    op.output(
        "out",
        rolling("rolling", partials, RollingRule(10_000), flow="s", partitions=1),
        TestingSink(out),
    )
    run_main(flow)
    assert {lane for lane, _ in out} <= {"results-00", "results-01"}
    assert all(lane == output.lane for lane, output in out)
    rows = [row for _, output in out for row in as_rows(output)]
    run = RollingRun([log], rule, 0, crashes=False)
    expected = run.all()
    ordered = sorted(rows, key=lambda row: (row["tick"], row["instrument"].encode()))
    assert ordered == expected
    assert expected
