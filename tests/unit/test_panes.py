"""Effective ticks, groups and partials of a batch equal plain loops over its records."""

from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from operators.candle import CANDLE, PARTIAL
from operators.combine import Combine, CombineRule, PanePartials
from operators.panes import Groups, group
from operators.shards import shard_key
from operators.watermark import LATE_TICK, effective_ticks, first_tick_after
from schemas.murmur2 import partition_of
from schemas.stream import NEVER, Events

BASE = 1_700_000_040_000
LATENESS = 2_000


class Trade(NamedTuple):
    time: int
    key: int = 0
    price: int = 10**8
    quantity: int = 10**8
    side: int = 0
    seq: int = 0


# Times gather at pane borders, so that ties and off-by-ones are the rule.
_times = st.builds(
    lambda second, off: BASE + 1_000 * second + off,
    st.integers(0, 20) | st.sampled_from([0, 60, 300, 301, 302, 303, 700]),
    st.sampled_from([0, 0, 1, 500, 998, 999]),
)
_trades = st.lists(
    st.builds(
        Trade,
        _times,
        st.integers(0, 3),
        st.sampled_from([1, 5, 5, 2**62]),
        st.sampled_from([1, 7, 2**33]),
        st.integers(0, 1),
        st.sampled_from([0, 0, 1, 2, 3, 10]),
    ),
    max_size=60,
)
_panes = st.sampled_from([1, 250, 1_000, 60_000])
_horizons = st.sampled_from([0, 1, 999, 1_000, 300_000])


def watermarks(times: list[int], lateness: int = LATENESS) -> list[int]:
    """Arrival watermark of each record."""
    out, newest = [], NEVER
    for time in times:
        out.append(max(NEVER, newest - lateness))
        newest = max(newest, time)
    return out


def ticks_of(
    times: list[int], marks: list[int], pane: int = 1_000, horizon: int = 300_000
) -> list[int]:
    ticks, late = effective_ticks(
        np.array(times, np.int64), np.array(marks, np.int64), pane, horizon
    )
    assert late == int((ticks == LATE_TICK).sum())
    return ticks.tolist()


def slow_tick(time: int, mark: int, pane: int, horizon: int) -> int:
    """The rule, by looking for the tick."""
    end = time + 1
    while end % pane:
        end += 1
    if end > mark:
        return end
    if mark - end > horizon:
        return LATE_TICK
    tick = mark + 1
    while tick % pane:
        tick += 1
    return tick


@settings(max_examples=60)
@given(
    _trades, st.sampled_from([1, 7, 100]), st.sampled_from([0, 1, 99, 100, 700]), st.integers(0, 9)
)
def test_effective_ticks_equal_a_naive_search(
    trades: list[Trade], pane: int, horizon: int, lateness: int
) -> None:
    times = [trade.time % 2_000 for trade in trades]  # small panes, so that the search is short
    marks = watermarks(times, lateness)
    expected = [slow_tick(t, w, pane, horizon) for t, w in zip(times, marks, strict=True)]
    assert ticks_of(times, marks, pane, horizon) == expected


@settings(max_examples=60)
@given(_trades, _panes, _horizons)
@example([Trade(BASE + 5_000), Trade(BASE + 2_999), Trade(BASE + 3_000)], 1_000, 0)
def test_a_tick_lies_strictly_after_the_arrival_watermark_and_not_before_the_panes_end(
    trades: list[Trade], pane: int, horizon: int
) -> None:
    times = [trade.time for trade in trades]
    marks = watermarks(times)
    for time, mark, tick in zip(times, marks, ticks_of(times, marks, pane, horizon), strict=True):
        end = time // pane * pane + pane
        if tick == LATE_TICK:
            assert mark - end > horizon
        else:
            assert tick % pane == 0
            assert tick > mark
            assert tick >= end
            assert tick == end or tick - pane <= mark


def test_a_delayed_record_takes_effect_strictly_after_the_watermark() -> None:
    """At a watermark that is itself a tick, that tick may already have been processed."""
    watermark = BASE + 10_000
    (tick,) = ticks_of([BASE + 3_500], [watermark])
    assert tick == watermark + 1_000
    assert first_tick_after(watermark, 1_000) == watermark + 1_000
    assert first_tick_after(watermark - 1, 1_000) == watermark


@pytest.mark.parametrize(
    ("time", "watermark", "tick"),
    [
        (BASE, NEVER, BASE + 1_000),  # a pane holds its start and not its end
        (BASE + 999, NEVER, BASE + 1_000),
        (BASE + 1_000, NEVER, BASE + 2_000),
        (BASE + 999, BASE + 999, BASE + 1_000),  # the pane ends just after the watermark
        (BASE + 999, BASE + 1_000, BASE + 2_000),  # it ends at the watermark: delayed
        (BASE, BASE + 301_000, BASE + 302_000),  # exactly the horizon behind: a correction
        (BASE, BASE + 301_001, LATE_TICK),  # one more millisecond: late
        (BASE + 999, BASE + 301_001, LATE_TICK),  # lateness is the pane's, not the record's
        (BASE + 1_000, BASE + 301_001, BASE + 302_000),
    ],
)
def test_ticks_at_the_borders_of_pane_watermark_and_horizon(
    time: int, watermark: int, tick: int
) -> None:
    assert ticks_of([time], [watermark]) == [tick]


def slow_groups(
    trades: list[Trade], ticks: list[int], pane: int
) -> list[tuple[int, int, int] | None]:
    return [
        None if tick == LATE_TICK else (trade.key, trade.time // pane * pane, tick)
        for trade, tick in zip(trades, ticks, strict=True)
    ]


def fast_groups(trades: list[Trade], ticks: list[int], pane: int, n_keys: int = 4) -> Groups:
    return group(
        np.array([trade.key for trade in trades], np.int32),
        n_keys,
        np.array([trade.time for trade in trades], np.int64),
        np.array(ticks, np.int64),
        pane,
    )


def check_groups(groups: Groups, expected: list[tuple[int, int, int] | None]) -> None:
    listed = list(
        zip(groups.keys.tolist(), groups.panes.tolist(), groups.ticks.tolist(), strict=True)
    )
    assert [None if slot < 0 else listed[slot] for slot in groups.slots.tolist()] == expected
    assert listed == list(dict.fromkeys(e for e in expected if e)), "in order of first occurrence"


@settings(max_examples=60)
@given(_trades, _panes, _horizons)
def test_groups_equal_a_dictionary(trades: list[Trade], pane: int, horizon: int) -> None:
    times = [trade.time for trade in trades]
    ticks = ticks_of(times, watermarks(times), pane, horizon)
    groups = fast_groups(trades, ticks, pane)
    check_groups(groups, slow_groups(trades, ticks, pane))
    late = effective_ticks(
        np.array(times, np.int64), np.array(watermarks(times), np.int64), pane, horizon
    )[1]
    assert int((groups.slots == -1).sum()) == late, "what is in no group is late"


def test_many_groups_that_meet_in_the_hash_table_stay_apart() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    trades = [
        Trade(BASE + 1_000 * int(second), int(key))
        for second, key in zip(rng.integers(0, 500, n), rng.integers(0, 300, n), strict=True)
    ]
    ticks = [trade.time + int(d) for trade, d in zip(trades, rng.integers(1, 3, n), strict=True)]
    check_groups(fast_groups(trades, ticks, 1_000, 300), slow_groups(trades, ticks, 1_000))


def test_records_of_one_key_and_pane_with_two_ticks_are_two_groups() -> None:
    trades = [Trade(BASE), Trade(BASE + 4_000), Trade(BASE + 1), Trade(BASE + 2)]
    times = [trade.time for trade in trades]
    ticks = ticks_of(times, watermarks(times))
    groups = fast_groups(trades, ticks, 1_000)
    assert groups.slots.tolist() == [0, 1, 2, 2]
    assert groups.panes.tolist() == [BASE, BASE + 4_000, BASE]
    assert groups.ticks.tolist() == [BASE + 1_000, BASE + 5_000, BASE + 3_000]


def events_of(trades: list[Trade], partition: int, first_offset: int) -> Events:
    times = [trade.time for trade in trades]

    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(trade, name) for trade in trades], kind)

    return Events(
        partition,
        np.arange(first_offset, first_offset + 3 * len(trades), 3, dtype=np.int64),
        np.array(times, np.int64),
        np.array(watermarks(times), np.int64),
        column("key", np.int32),
        ["a", "b", "c", "d"],
        {
            "price": column("price", np.int64),
            "quantity": column("quantity", np.int64),
            "side": column("side", np.int8),
            "seq": column("seq", np.int64),
        },
        pa.array([b""] * len(trades), pa.binary()),
        NEVER,
        len(trades),
    )


def slow_partial(members: list[tuple[Trade, int]]) -> dict[str, int]:
    """A group's partial from its (trade, offset) pairs, without the place in the log."""
    ordered = sorted(members, key=lambda m: (m[0].time, m[0].seq, m[1]))
    trades = [trade for trade, _ in ordered]
    high, low = max(t.price for t in trades), min(t.price for t in trades)
    seqs = [t.seq for t in trades if t.seq > 0]
    return {
        "open": trades[0].price, "open_time": trades[0].time, "open_seq": trades[0].seq,
        "close": trades[-1].price, "close_time": trades[-1].time, "close_seq": trades[-1].seq,
        "high": high, "high_time": min(t.time for t in trades if t.price == high),
        "low": low, "low_time": min(t.time for t in trades if t.price == low),
        "volume": sum(t.quantity for t in trades),
        "quote": sum(t.price * t.quantity for t in trades),
        "buy_volume": sum(t.quantity for t in trades if t.side == 0),
        "buy_quote": sum(t.price * t.quantity for t in trades if t.side == 0),
        "count": len(trades), "seq_count": len(seqs), "seq_sum": sum(seqs),
        "seq_squares": sum(seq * seq for seq in seqs),
        "seq_first": min(seqs, default=0), "seq_last": max(seqs, default=0),
    }  # fmt: skip


def as_dict(partial: np.void) -> dict[str, int]:
    out = {}
    for name in PARTIAL.names or ():
        if name.endswith("_low"):
            wide = name.removesuffix("_low")
            out[wide] = int(partial[name]) + (int(partial[f"{wide}_high"]) << 64)
        elif not name.endswith("_high"):
            out[name] = int(partial[name])
    return out


@settings(max_examples=60)
@given(_trades, st.sampled_from([0, 1, 300_000]), st.integers(0, 5), st.integers(0, 2**40))
def test_the_partials_of_a_batch_equal_a_dictionary_of_its_trades(
    trades: list[Trade], horizon: int, partition: int, first_offset: int
) -> None:
    events = events_of(trades, partition, first_offset)
    ticks, late = effective_ticks(events.event_time_ms, events.watermark_ms, 1_000, horizon)
    groups = group(events.key_codes, 4, events.event_time_ms, ticks, 1_000)
    partials = CANDLE.lift(events, groups)
    members: dict[tuple[int, int, int], list[tuple[Trade, int]]] = defaultdict(list)
    for trade, tick, offset in zip(trades, ticks.tolist(), events.offsets.tolist(), strict=True):
        if tick != LATE_TICK:
            members[trade.key, trade.time // 1_000 * 1_000, tick].append((trade, offset))
    found = {}
    for partial in partials:
        row = as_dict(partial)
        for end in ("open", "close"):
            assert row[f"{end}_place"] >> 48 == partition
        places = [row.pop("open_place"), row.pop("close_place")]
        group_key = (row.pop("key"), row.pop("pane"), row.pop("tick"))
        ordered = sorted(members[group_key], key=lambda m: (m[0].time, m[0].seq, m[1]))
        assert [place & 2**48 - 1 for place in places] == [ordered[0][1], ordered[-1][1]]
        del row["is_candle"], row["seq_hole"]
        found[group_key] = row
    assert found == {key: slow_partial(trades_) for key, trades_ in members.items()}
    assert len(found) == len(partials), "no group twice"
    assert int(partials["count"].sum()) + late == len(trades), "aggregated + late = read"
    assert Counter(t.key for t in trades) - Counter(
        {key: int(partials["count"][partials["key"] == key].sum()) for key in range(4)}
    ) == Counter(t.key for t, tick in zip(trades, ticks.tolist(), strict=True) if tick == LATE_TICK)


@settings(max_examples=40)
@given(_trades, st.sampled_from([1, 3, 8]), st.sampled_from([0, 300_000]))
def test_combine_sends_partials_to_the_shard_of_their_key_and_late_records_aside(
    trades: list[Trade], shards: int, horizon: int
) -> None:
    events = events_of(trades, 2, 70)
    rule = CombineRule("candles", "trades", shards, horizon_ms=horizon)
    items = Combine(CANDLE, rule)(events)
    ticks, late = effective_ticks(events.event_time_ms, events.watermark_ms, 1_000, horizon)
    groups = group(events.key_codes, 4, events.event_time_ms, ticks, 1_000)
    expected = {(events.key_names[p["key"]], *p.tolist()[1:]) for p in CANDLE.lift(events, groups)}
    found, told = [], []
    for key, item in items:
        if not isinstance(item, PanePartials):
            assert (key, item.kind) == ("late-02", "late")
            rows = item.rows.to_pydict()
            at = np.flatnonzero(ticks == LATE_TICK)
            assert rows["offset"] == item.positions.tolist() == events.offsets[at].tolist()
            assert rows["key"] == [events.key_names[trades[i].key] for i in at]
            assert rows["late_by_ms"] == (events.watermark_ms - events.event_time_ms)[at].tolist()
            late -= len(at)
            continue
        assert key == shard_key(item.shard)
        told.append(item.shard)
        assert {partition_of(name.encode(), shards) for name in item.names} <= {item.shard}
        assert sorted(set(item.partials["key"].tolist())) == list(range(len(item.names)))
        found += [(item.names[p["key"]], *p.tolist()[1:]) for p in item.partials]
    assert late == 0, "every late record is in the late stream, once"
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert told == list(range(shards)), "every shard hears of the watermark"
