"""The simulated market: the same log from any offset, realistic, and exactly as documented."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptars import HandlerPool

from schemas.errors import FlowError
from schemas.market_pb2 import DESCRIPTOR, SELL, Trade
from schemas.murmur2 import partition_of
from schemas.stream import Fetched
from sources import market_prices
from sources.log import Fetcher, Log
from sources.market import SimulatedMarket, opening
from sources.market_blocks import LATE_DELAY_MS, ORDINARY_DELAY_MS, SLOW_DELAY_MS
from sources.market_instruments import MAX_INSTRUMENTS, list_instruments

_OPENED_MS = 1_700_000_100_000
_TRADES = 600_000
_CODEC = HandlerPool([DESCRIPTOR]).get_for_message(Trade.DESCRIPTOR)


def _market(trades: int | None = _TRADES, **settings_: object) -> SimulatedMarket:
    return SimulatedMarket(_OPENED_MS, trades=trades, pace="fast", **settings_)  # type: ignore[arg-type]


def _polls(fetcher: Fetcher, limit: int) -> Iterator[Fetched]:
    while (fetched := fetcher.poll(limit)) is not None:
        assert 1 <= len(fetched.offsets) <= limit
        assert len(fetched.values) == len(fetched.timestamps_ms) == len(fetched.offsets)
        yield fetched


def _table(log: Log, partition: int, offset: int | None = None, limit: int = 4_000) -> pa.Table:
    """A partition to its end: the columns of `Trade`, offset, arrival, and the bytes."""
    fetcher = log.open(partition, offset)
    batches = []
    for fetched in _polls(fetcher, limit):
        batch = _CODEC.array_to_record_batch(fetched.values)
        batches.append(
            pa.table(
                {
                    **{name: batch.column(name) for name in batch.schema.names},
                    "offset": fetched.offsets,
                    "arrival_ms": fetched.timestamps_ms,
                    "value": fetched.values,
                }
            )
        )
    assert fetcher.at_end
    assert fetcher.position == log.end(partition)
    return pa.concat_tables(batches) if batches else pa.table({})


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    outer, *inner = name.split(".")
    column = table[outer].combine_chunks()
    return (column.field(inner[0]) if inner else column).to_numpy()


@pytest.fixture(scope="module")
def logs() -> list[pa.Table]:
    return [_table(_market(), partition) for partition in range(4)]


@pytest.fixture(scope="module")
def trades(logs: list[pa.Table]) -> pa.Table:
    """All partitions, one after the other, in order of offsets."""
    return pa.concat_tables(logs)


def test_the_same_settings_give_the_same_bytes(logs: list[pa.Table]) -> None:
    again = _market()
    for partition, table in enumerate(logs):
        assert _table(again, partition, limit=777).equals(table)


def test_another_seed_is_another_market(logs: list[pa.Table]) -> None:
    other = _table(_market(seed=2), 1)
    assert other.num_rows == logs[1].num_rows
    same = np.mean(_numbers(other, "timestamp_ms") == _numbers(logs[1], "timestamp_ms"))
    assert same < 0.01
    assert other["value"][0] != logs[1]["value"][0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.floats(0, 1), st.integers(1, 9_000))
def test_reading_may_begin_at_any_offset(
    logs: list[pa.Table], partition: int, where: float, limit: int
) -> None:
    expected = logs[partition]
    offset = int(where * (expected.num_rows - 1))
    fetched = _market().open(partition, offset).poll(limit)
    assert fetched is not None
    rows = expected.slice(offset, len(fetched.offsets))
    np.testing.assert_array_equal(fetched.offsets, _numbers(rows, "offset"))
    np.testing.assert_array_equal(fetched.timestamps_ms, _numbers(rows, "arrival_ms"))
    assert fetched.values.to_pylist() == rows["value"].to_pylist()


@pytest.mark.parametrize("rate", [200.0, 100_000.0])
def test_a_far_offset_of_an_endless_log_costs_nothing_and_agrees(rate: float) -> None:
    far = 10**12
    before = _market(None, rate=rate).open(2, far - 10_000)
    values: list[bytes] = []
    for fetched in _polls(before, 3_000):
        values += fetched.values.to_pylist()
        if len(values) > 10_100:
            break
    after = _market(None, rate=rate).open(2, far).poll(100)
    assert after is not None
    assert after.offsets[0] == far
    assert after.values.to_pylist() == values[10_000 : 10_000 + len(after.offsets)]


def test_every_sequence_runs_from_one_without_holes(trades: pa.Table) -> None:
    """But for trades that are still under way when the log ends."""
    under_way = LATE_DELAY_MS[1] + 2 * 164_000
    arrived_by = _numbers(trades, "arrival_ms").max() - under_way
    assert len(set(trades["trade_id"].to_pylist())) == trades.num_rows
    instrument = trades["instrument"].to_numpy(zero_copy_only=False)
    sequence = _numbers(trades, "trade_seq")
    event_time = _numbers(trades, "timestamp_ms")
    assert np.sum(event_time < arrived_by) > trades.num_rows / 2
    assert len(set(instrument)) == 20
    for name in set(instrument):
        of = instrument == name
        order = np.argsort(sequence[of])
        assert np.all(np.diff(event_time[of][order]) >= 0), "sequence and time disagree"
        all_there = sequence[of][event_time[of] < arrived_by]
        np.testing.assert_array_equal(np.sort(all_there), np.arange(1, len(all_there) + 1))


def test_delays_are_as_documented(logs: list[pa.Table], trades: pa.Table) -> None:
    for table in logs:
        assert np.all(np.diff(_numbers(table, "arrival_ms")) >= 0)
    delay = _numbers(trades, "arrival_ms") - _numbers(trades, "timestamp_ms")
    assert delay.min() >= 0
    assert np.mean(delay <= 1_000) > 0.98
    slow = (delay > ORDINARY_DELAY_MS) & (delay < LATE_DELAY_MS[0])
    assert 0.0003 < np.mean(slow) < 0.0007
    assert delay[slow].max() <= SLOW_DELAY_MS[1]
    late = delay >= LATE_DELAY_MS[0]
    assert 0 < np.mean(late) < 0.0003
    assert delay[late].max() <= LATE_DELAY_MS[1] + 164_000


def test_records_are_out_of_order_within_the_bound(logs: list[pa.Table]) -> None:
    """Seen as a watermark sees it: how far each event lies behind the newest before it."""
    for table in logs:
        event_time = _numbers(table, "timestamp_ms")
        behind = np.maximum.accumulate(event_time) - event_time
        assert np.mean(behind > 0) > 0.3
        assert np.mean(behind <= 1_000) > 0.98
        assert 0.995 < np.mean(behind <= ORDINARY_DELAY_MS) < 0.9995
        # Later than 300 s of correction horizon, 2 s of lateness and a minute of candle.
        assert np.any(behind > 362_000)


def test_timestamps_repeat_and_activity_comes_in_bursts(trades: pa.Table) -> None:
    bitcoin = trades.filter(pa.compute.equal(trades["instrument"], "BTC-USD"))
    event_time = np.sort(_numbers(bitcoin, "timestamp_ms"))
    assert 0.05 < np.mean(np.diff(event_time) == 0) < 0.5
    per_second = np.bincount((event_time - _OPENED_MS) // 1_000)
    assert per_second.var() > 3 * per_second.mean(), "no burstier than a Poisson process"
    assert per_second.max() > 3 * per_second.mean()


def test_popularity_falls_as_zipf_says(trades: pa.Table) -> None:
    counts = trades.group_by("instrument").aggregate([("instrument", "count")])
    by_name = dict(zip(*(column.to_pylist() for column in counts.columns), strict=True))
    ranked = [by_name[one.name] for one in list_instruments(20)]
    assert sum(ranked) == _TRADES
    for rank, count in enumerate(ranked, start=1):
        assert count == pytest.approx(ranked[0] / rank, rel=0.05)


def test_prices_and_quantities_are_sane(trades: pa.Table) -> None:
    for one in list_instruments(20):
        rows = trades.filter(pa.compute.equal(trades["instrument"], one.name))
        price, quantity = _numbers(rows, "price.unscaled"), _numbers(rows, "quantity.unscaled")
        assert set(_numbers(rows, "price.scale")) == {one.price_scale}
        assert set(_numbers(rows, "quantity.scale")) == {one.quantity_scale}
        assert one.price / 4 < price.min()
        assert price.max() < one.price * 4
        assert price.max() / price.min() < 1.2, "within an hour"
        assert quantity.min() >= one.quantity // 64
        assert quantity.max() <= one.quantity * 65
        assert np.median(quantity) == pytest.approx(one.quantity, rel=0.15)
        assert np.log(quantity).std() == pytest.approx(1.2, rel=0.15)
    side = _numbers(trades, "side")
    assert set(side) == {0, SELL}
    assert side.mean() == pytest.approx(0.5, abs=0.05)


def test_prices_spread_as_a_random_walk_does() -> None:
    """Over 600 days: a move over 64 times the time is about eight times as large."""
    minutes = np.arange(864_000, dtype=np.int64) * 60_000
    n = len(minutes)
    zeros = np.zeros(n, np.int64)
    price, quantity = np.empty(n, np.int64), np.empty(n, np.int64)
    for seed in range(3):
        market_prices.prices(
            np.array([market_prices.stream_seed(seed)], np.uint64),
            np.array([10**8]),
            np.array([1_000]),
            0,
            np.zeros(n, np.int32),
            zeros,
            np.arange(n),
            minutes,
            price,
            quantity,
            np.empty(n, np.int32),
        )
        assert price.min() > 10**8 / 4
        assert price.max() < 4 * 10**8
        moves = {step: np.diff(np.log(price[::step])).std() for step in (1, 64)}
        assert 0.0003 < moves[1] < 0.003
        assert 4 < moves[64] / moves[1] < 16


def test_the_compiled_loops_do_what_they_say_in_plain_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    n, k = 200, 3
    seeds = np.array([market_prices.stream_seed("plain", one) for one in range(k)], np.uint64)
    instrument = np.arange(n, dtype=np.int32) % k
    rank = np.arange(n, dtype=np.int64) // k
    block, count = np.full(n, 7), np.full(n, n // k + 1)
    base, median = np.array([642_500, 100_000, 999_999]), np.array([1, 4_669, 9_999])

    def run() -> list[np.ndarray]:
        time_ms, price, quantity = (np.empty(n, np.int64) for _ in range(3))
        side = np.empty(n, np.int32)
        seed = market_prices.stream_seed("plain")
        market_prices.event_times(seed, seeds, 10_000, instrument, block, rank, count, time_ms)
        market_prices.prices(
            seeds, base, median, 5, instrument, block, rank, time_ms, price, quantity, side
        )
        return [time_ms, price, quantity, side]

    compiled = run()
    for name, function in vars(market_prices).copy().items():
        if hasattr(function, "py_func"):
            monkeypatch.setattr(market_prices, name, function.py_func)
    with np.errstate(over="ignore"):
        plain = run()
    for one, other in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_values_are_trades_to_the_reference_decoder() -> None:
    fetched = _market().open(3, 1_000).poll(50)
    assert fetched is not None
    batch = _CODEC.array_to_record_batch(fetched.values)
    for row, value in zip(batch.to_pylist(), fetched.values.to_pylist(), strict=True):
        trade = Trade.FromString(value)
        assert trade.instrument == row["instrument"]
        assert trade.timestamp_ms == row["timestamp_ms"]
        assert (trade.price.unscaled, trade.price.scale) == tuple(row["price"].values())
        assert (trade.quantity.unscaled, trade.quantity.scale) == tuple(row["quantity"].values())
        assert trade.side == row["side"]
        assert trade.trade_seq == row["trade_seq"]
        assert trade.trade_id == row["trade_id"]
        assert not trade.liquidation


def test_keys_lie_where_a_java_client_puts_them(logs: list[pa.Table]) -> None:
    for partition, table in enumerate(logs):
        for name in set(table["instrument"].to_pylist()):
            assert partition_of(name.encode(), 4) == partition


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(0, 60_000),
    partitions=st.integers(1, 8),
    instruments=st.integers(1, 60),
    rate=st.sampled_from([0.5, 20, 200, 5_000, 300_000]),
    seed=st.integers(0, 10**9),
)
def test_a_finite_log_has_exactly_its_trades(
    length: int, partitions: int, instruments: int, rate: float, seed: int
) -> None:
    log = _market(length, partitions=partitions, instruments=instruments, rate=rate, seed=seed)
    tables = [_table(log, partition) for partition in range(partitions)]
    assert sum(table.num_rows for table in tables) == length
    for partition, table in enumerate(tables):
        assert table.num_rows == log.end(partition)
        if table.num_rows:
            np.testing.assert_array_equal(_numbers(table, "offset"), np.arange(table.num_rows))
            assert np.all(np.diff(_numbers(table, "arrival_ms")) >= 0)
            assert np.all(_numbers(table, "arrival_ms") >= _numbers(table, "timestamp_ms"))
            assert _numbers(table, "timestamp_ms").min() >= _OPENED_MS
            assert table.num_rows == len(set(table["trade_id"].to_pylist()))


@pytest.mark.parametrize("rate", [200.0, 2_000_000.0])
def test_disorder_keeps_its_bounds_at_any_rate(rate: float) -> None:
    """From a place in the endless log that late trades of an earlier time reach."""
    fetcher = _market(None, rate=rate).open(0, 10**9)
    delay = np.empty(0, np.int64)
    for fetched in _polls(fetcher, 20_000):
        batch = _CODEC.array_to_record_batch(fetched.values)
        delay = np.append(delay, fetched.timestamps_ms - batch["timestamp_ms"].to_numpy())
        if len(delay) > 50_000:
            break
    assert delay.min() >= 0
    assert 0.9985 < np.mean(delay <= ORDINARY_DELAY_MS) < 0.9998
    assert 0.0003 < np.mean((delay > ORDINARY_DELAY_MS) & (delay <= SLOW_DELAY_MS[1])) < 0.0007
    assert 0 < np.mean(delay >= LATE_DELAY_MS[0]) < 0.0003


@given(st.integers(0, 50_000))
@settings(max_examples=10, deadline=None)
def test_a_shorter_log_is_the_beginning_of_a_longer_one(logs: list[pa.Table], length: int) -> None:
    short = _market(length)
    for partition in range(4):
        table = _table(short, partition)
        assert table.num_rows == 0 or table.equals(logs[partition].slice(0, table.num_rows))


def test_thousands_of_instruments() -> None:
    log = _market(80_000, instruments=3_000)
    names = set()
    for partition in range(4):
        table = _table(log, partition)
        assert _numbers(table, "price.unscaled").min() > 0
        assert _numbers(table, "quantity.unscaled").min() > 0
        names |= set(table["instrument"].to_pylist())
    assert len(names) == 3_000
    assert len({one.name for one in list_instruments(MAX_INSTRUMENTS)}) == MAX_INSTRUMENTS


def test_a_partition_without_instruments_is_empty() -> None:
    home = partition_of(b"BTC-USD", 4)
    for trades in (None, 1_000):
        log = _market(trades, instruments=1)
        for partition in set(range(4)) - {home}:
            fetcher = log.open(partition, None)
            assert fetcher.poll(10) is None
            assert fetcher.at_end
            assert log.end(partition) == 0


class _Clock:
    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def test_at_the_live_pace_records_come_when_they_arrive(logs: list[pa.Table]) -> None:
    clock = _Clock(_OPENED_MS - 1)
    live = SimulatedMarket(_OPENED_MS, pace="live", clock_ms=clock)
    arrival = _numbers(logs[1], "arrival_ms")
    fetcher = live.open(1, None)
    assert not fetcher.at_end
    assert live.end(1) == 0
    assert fetcher.poll(10) is None
    read = 0
    # The clock also stands still, jumps over a block and steps back.
    for now_s in (0, 0.5, 0.5, 10, 9, 163.9, 164, 500, 500):
        clock.now_ms = _OPENED_MS + int(now_s * 1_000)
        for fetched in _polls(fetcher, 1_000):
            n = len(fetched.offsets)
            np.testing.assert_array_equal(fetched.offsets, np.arange(read, read + n))
            np.testing.assert_array_equal(fetched.timestamps_ms, arrival[read : read + n])
            assert fetcher.at_end == (read + n == live.end(1))
            read += n
        assert fetcher.at_end
        assert fetcher.position == read
        assert live.end(1) == np.searchsorted(arrival, clock.now_ms, side="right")
        assert read == live.end(1) or now_s == 9
    assert fetcher.poll(1) is None
    fetcher.commit(read)
    fetcher.close()


def test_a_finite_live_log_ends_like_the_same_log_at_full_pace() -> None:
    clock = _Clock(_OPENED_MS + 10_000)
    live = SimulatedMarket(_OPENED_MS, trades=30_000, pace="live", clock_ms=clock)
    assert 0 < live.end(1) < _market(30_000).end(1)
    clock.now_ms = _OPENED_MS + 10**9
    assert [live.end(p) for p in range(4)] == [_market(30_000).end(p) for p in range(4)]
    assert _table(live, 1).num_rows == live.end(1)


def test_an_offset_beyond_the_log_is_an_error_with_a_remedy() -> None:
    log = _market(1_000)
    assert log.open(1, log.end(1)).poll(1) is None
    for offset in (log.end(1) + 1, -1):
        with pytest.raises(FlowError, match=f"Offset {offset} of partition 1"):
            log.open(1, offset)
    clock = _Clock(_OPENED_MS + 600_000)
    live = SimulatedMarket(_OPENED_MS, clock_ms=clock)
    reached = live.end(1)
    clock.now_ms -= 30_000
    assert live.open(1, reached).poll(1) is None, "a small step back of the clock just waits"
    clock.now_ms -= 300_000
    with pytest.raises(FlowError, match="set the clock, or remove"):
        live.open(1, reached)


def test_an_endless_log_at_full_pace_has_no_end() -> None:
    with pytest.raises(FlowError, match="Give it a number of trades"):
        _market(None).end(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"partitions": 0},
        {"instruments": 0},
        {"instruments": MAX_INSTRUMENTS + 1},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"trades": -1},
        {"opened_at_ms": -1},
    ],
)
def test_a_wrong_argument_is_an_error_with_a_remedy(wrong: dict[str, float]) -> None:
    with pytest.raises(FlowError, match=r"cannot have .* Give a value from"):
        SimulatedMarket(**{"opened_at_ms": _OPENED_MS, **wrong})  # type: ignore[arg-type]


def test_the_definition_names_what_the_log_depends_on() -> None:
    assert json.loads(json.dumps(_market().definition)) == _market().definition
    assert _market(seed=2).definition != _market().definition
    assert _market().topic == "trades"
    assert _market().partitions == 4


@given(st.integers(10**12, 2 * 10**12))
def test_the_market_opens_on_a_whole_five_minutes_two_to_seven_minutes_ago(
    tmp_path_factory: pytest.TempPathFactory, now_ms: int
) -> None:
    data_dir = tmp_path_factory.mktemp("data") / "new"
    opened_at_ms = opening(data_dir, now_ms)
    assert opened_at_ms % 300_000 == 0
    assert 120_000 <= now_ms - opened_at_ms < 420_000
    assert opening(data_dir, now_ms + 10**9) == opened_at_ms
    assert [path.name for path in data_dir.iterdir()] == ["market.json"]


def test_processes_that_start_together_agree_on_the_opening(tmp_path: Path) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda now=now: found.append(opening(tmp_path, now)))
        for now in range(10**12, 10**12 + 20 * 300_000, 300_000)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"opened_at_ms": "x"}', '{"opened_at_ms": -5}']
)
def test_an_unusable_opening_is_an_error_with_a_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "market.json").write_text(content)
    with pytest.raises(FlowError, match="Remove the directory"):
        opening(tmp_path, 10**12)
