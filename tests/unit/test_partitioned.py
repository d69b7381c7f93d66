"""A source partition: its events are a function of its log, and of idle decisions it stored."""

import gc
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from schemas.stream import NEVER, Codec, Decoded, Events, Fetched
from schemas.tables import REJECTED_SCHEMA
from schemas.trades import REASONS, TradeCodec, decode_one
from sources import stopping
from sources.log import Fetcher, Log
from sources.market import SimulatedMarket
from sources.partitioned import (
    AHEAD_OF_LOG,
    LogPartition,
    LogSource,
    PartitionState,
    SourceRule,
)
from sources.siblings import Siblings
from tests.list_log import NOW_MS as _NOW_MS
from tests.list_log import NOW_S as _NOW_S
from tests.list_log import Clock, ListLog, trade

_OPENED_MS = 1_700_000_100_000
_RULE = SourceRule("test", lateness_ms=2_000, ahead_ms=600_000, idle_timeout_s=10)
_AT_END = SourceRule("test", lateness_ms=2_000, stop_at_end=True)


class Chopped:
    """A log whose fetchers hand out what is there in pieces of random size."""

    def __init__(self, log: Log, seed: int) -> None:
        self.log, self.random = log, random.Random(seed)
        self.topic, self.partitions, self.end = log.topic, log.partitions, log.end

    def open(self, partition: int, offset: int | None) -> Fetcher:
        fetcher: Any = self.log.open(partition, offset)
        poll: Callable[[int], Fetched | None] = fetcher.poll
        fetcher.poll = lambda limit: poll(min(limit, self.random.choice([1, 3, 40, 500])))
        return fetcher


class Corrupting:
    """The trade codec over a log some of whose values were damaged, by their checksum."""

    reasons = REASONS

    def __init__(self) -> None:
        self.codec = TradeCodec()

    def decode(self, values: pa.BinaryArray) -> Decoded:
        damaged = []
        for value in values.to_pylist():
            luck = zlib.crc32(value) % 50
            damaged.append(b"\xff" if luck == 0 else None if luck == 1 else value)
        return self.codec.decode(pa.array(damaged, pa.binary()))


def partition_of(
    log: Log,
    rule: SourceRule = _RULE,
    state: PartitionState | None = None,
    *,
    clock: Callable[[], float] | None = None,
    codec: Codec | None = None,
    partition: int = 0,
) -> LogPartition:
    return LogPartition(log, codec or TradeCodec(), rule, partition, state, clock or Clock())


def drain(source: LogPartition) -> list[Events]:
    """Everything to the end of a finite run."""
    out: list[Events] = []
    while not (out and out[-1].ended):
        out += source.next_batch()
    for _ in range(2):
        with pytest.raises(StopIteration):
            source.next_batch()
    return out


def concatenated(batches: list[Events]) -> dict[str, list]:
    """All columns of all batches, however they were cut."""
    out: dict[str, list] = {}

    def put(name: str, column: list) -> None:
        out.setdefault(name, []).extend(column)

    for events in batches:
        put("offset", events.offsets.tolist())
        put("time", events.event_time_ms.tolist())
        put("watermark", events.watermark_ms.tolist())
        put("key", [events.key_names[code] for code in events.key_codes])
        put("value", events.values.to_pylist())
        for name, column in events.columns.items():
            put(name, column.tolist())
        put("rejected", [] if events.rejected is None else events.rejected.to_pylist())
        lost = [] if events.rejected_offsets is None else events.rejected_offsets.tolist()
        put("rejected_offset", lost)
        assert events.read == len(events.offsets) + len(lost), "good + rejected = read"
        assert events.partition == batches[0].partition
    out["watermark_after"] = [batches[-1].watermark_after_ms]
    return out


def market() -> SimulatedMarket:
    return SimulatedMarket(
        _OPENED_MS, partitions=2, instruments=6, rate=50, trades=6_000, pace="fast"
    )


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, list]:
    batches = drain(partition_of(market(), _AT_END, codec=Corrupting(), partition=1))
    assert max(len(events.offsets) for events in batches) > 500
    return concatenated(batches)


@pytest.mark.parametrize("restart", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_restoring_anywhere_gives_the_events_of_an_undisturbed_read(
    undisturbed: dict[str, list], seed: int, restart: float
) -> None:
    rng = random.Random(seed)
    log = Chopped(market(), seed)
    state, batches = None, []
    source = partition_of(log, _AT_END, codec=Corrupting(), partition=1)
    while not (batches and batches[-1].ended):
        batches += source.next_batch()
        if rng.random() < restart:
            state = source.snapshot()
            lost = source.next_batch() if rng.random() < 0.5 else []  # read, and then killed
            assert all(events.partition == 1 for events in lost)
            source.close()
            source = partition_of(log, _AT_END, state, codec=Corrupting(), partition=1)
    assert concatenated(batches) == undisturbed


def test_arrival_watermarks_are_the_running_maximum_less_the_lateness(
    undisturbed: dict[str, list],
) -> None:
    newest, expected = NEVER, []
    for time in undisturbed["time"]:
        expected.append(max(NEVER, newest - 2_000))
        newest = max(newest, time)
    assert undisturbed["watermark"] == expected
    assert undisturbed["watermark_after"] == [newest - 2_000]
    assert expected[0] == NEVER
    assert sorted(expected) == expected
    behind = [t for t, w in zip(undisturbed["time"], expected, strict=True) if t < w]
    assert len(behind) > 0, "the market has delayed trades"


def test_events_are_the_good_records_as_the_reference_decodes_them(
    undisturbed: dict[str, list],
) -> None:
    columns = ("key", "time", "price", "quantity", "side", "seq")
    for *row, value in zip(*(undisturbed[c] for c in columns), undisturbed["value"], strict=True):
        assert decode_one(value) == (0, *row)
    everything = sorted(undisturbed["offset"] + undisturbed["rejected_offset"])
    assert everything == list(range(market().end(1))), "each record in exactly one place"


def test_rejected_rows_say_where_why_and_what(undisturbed: dict[str, list]) -> None:
    raw = market().open(1, None)
    records = {}
    while (fetched := raw.poll(1_000)) is not None:
        rows = zip(fetched.offsets, fetched.values, fetched.timestamps_ms, strict=True)
        records.update({int(o): (value.as_py(), int(ms)) for o, value, ms in rows})
    rejected = undisturbed["rejected"]
    assert len(rejected) > 50
    assert {row["reason"] for row in rejected} == {"undecodable", "no_value"}
    for row, offset in zip(rejected, undisturbed["rejected_offset"], strict=True):
        value, arrival_ms = records[offset]
        assert row == {
            "flow": "test",
            "topic": "trades",
            "partition": 1,
            "offset": offset,
            "reason": "undecodable" if zlib.crc32(value) % 50 == 0 else "no_value",
            "record_time": datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=arrival_ms),
            "key": None,  # the log was opened without them
            "value": value,  # as it lies in the log
        }


def test_a_record_without_value_or_timestamp_is_rejected_with_nulls() -> None:
    log = ListLog()
    log.append(None)
    log.append(b"\xff", stamp=0)
    log.append(trade(5_000), offset=40)
    (events,) = partition_of(log).next_batch()
    assert events.offsets.tolist() == [40]
    assert events.rejected is not None
    assert events.rejected.schema == REJECTED_SCHEMA
    no_value, undecodable = events.rejected.to_pylist()
    assert (no_value["record_time"], no_value["value"]) == (None, None)
    assert undecodable["record_time"] == datetime.fromtimestamp(0, UTC)
    assert undecodable["value"] == b"\xff"


def test_a_poisoned_timestamp_is_rejected_and_moves_no_watermark() -> None:
    log = ListLog()
    log.append(trade(_NOW_MS), _NOW_MS)
    log.append(trade(_NOW_MS + 600_001), _NOW_MS)  # one beyond the bound
    log.append(trade(_NOW_MS + 10**12), _NOW_MS)
    log.append(trade(_NOW_MS + 5), _NOW_MS)
    log.append(trade(_NOW_MS + 600_000), _NOW_MS)  # at the bound
    source = partition_of(log)
    (events,) = source.next_batch()
    assert events.offsets.tolist() == [0, 3, 4]
    assert events.watermark_ms.tolist() == [NEVER, _NOW_MS - 2_000, _NOW_MS - 1_995]
    assert events.watermark_after_ms == source.watermark_ms == _NOW_MS + 598_000
    assert events.rejected is not None
    assert events.rejected["reason"].to_pylist() == [AHEAD_OF_LOG] * 2
    assert events.rejected["offset"].to_pylist() == [1, 2]
    assert events.rejected["value"].to_pylist() == log.values[1:3]
    assert events.read == 5


def test_without_a_log_timestamp_no_event_time_is_ahead() -> None:
    log = ListLog()
    log.append(trade(_NOW_MS + 10**12), -1)
    (events,) = partition_of(log).next_batch()
    assert events.offsets.tolist() == [0]
    assert events.rejected is None


def test_the_codecs_reason_comes_first() -> None:
    log = ListLog()
    log.append(trade(_NOW_MS + 10**12, key=""), _NOW_MS)
    (events,) = partition_of(log).next_batch()
    assert events.rejected is not None
    assert events.rejected["reason"].to_pylist() == ["missing_instrument"]
    assert events.watermark_after_ms == NEVER
    assert concatenated([events])["offset"] == []


# Partitions far apart in event time.


def test_a_partition_far_ahead_waits_for_one_that_has_more_to_read() -> None:
    siblings = Siblings()
    logs = [ListLog(), ListLog()]
    for second in range(100):
        logs[0].append(trade(_NOW_MS + second * 1_000), _NOW_MS + 10**6)
        logs[1].append(trade(_NOW_MS + second), _NOW_MS + 10**6)
    rule = replace(_RULE, stop_at_end=True)
    ahead, behind = (
        LogPartition(log, TradeCodec(), rule, n, None, Clock(), siblings=siblings)
        for n, log in enumerate(logs)
    )
    ahead._limit = behind._limit = 20
    read = [0, 0]
    while read != [100, 100]:
        for n, source in enumerate((ahead, behind)):
            with suppress(StopIteration):
                read[n] += sum(events.read for events in source.next_batch())
        assert read[0] <= 20 or read[1] == 100, "it waits, but not for one that is at its end"


# Idle partitions.


@dataclass
class Idling:
    """A partition at the end of a live log, with the clock in the test's hand."""

    log: ListLog = field(default_factory=ListLog)
    clock: Clock = field(default_factory=Clock)

    def begin(self, *ages_s: float, rule: SourceRule = _RULE) -> LogPartition:
        """Read events of the given ages to the end of the log."""
        for age_s in ages_s:
            self.log.append(trade(_NOW_MS - round(age_s * 1_000)), _NOW_MS)
        source = partition_of(self.log, rule, clock=self.clock)
        while source.next_batch():
            pass
        return source

    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds


@pytest.fixture
def idling() -> Idling:
    return Idling()


def test_an_idle_decision_is_taken_in_snapshot_and_acted_on_later(idling: Idling) -> None:
    source = idling.begin(3.0)
    before = source.watermark_ms
    assert before == _NOW_MS - 5_000
    idling.wait(10)
    assert source.next_batch() == [], "time alone changes nothing"
    assert source.snapshot() == PartitionState(1, _NOW_MS - 3_000, _NOW_MS + 10_000)
    assert source.watermark_ms == before, "nor does the decision"
    idling.wait(1)
    assert source.snapshot().idle_ms == _NOW_MS + 10_000, "one decision until it is acted on"
    (events,) = source.next_batch()
    assert len(events.offsets) == events.read == 0
    assert not events.ended
    assert events.watermark_after_ms == source.watermark_ms == _NOW_MS + 8_000
    assert source.next_batch() == []
    idling.wait(1)
    assert source.snapshot().idle_ms == _NOW_MS + 12_000, "and on it goes with the clock"


def test_no_decision_before_the_timeout_or_before_the_end_was_seen(idling: Idling) -> None:
    idling.log.append(trade(_NOW_MS), _NOW_MS)
    source = partition_of(idling.log, clock=idling.clock)
    assert source.next_batch()
    idling.wait(1_000_000)
    assert source.snapshot().idle_ms is None, "nobody has looked for the end yet"
    idling.clock.now_s = _NOW_S
    assert source.next_batch() == []
    idling.wait(9.999)
    assert source.snapshot().idle_ms is None
    idling.wait(0.001)
    assert source.snapshot().idle_ms == _NOW_MS + 10_000


def test_a_record_starts_the_wait_anew(idling: Idling) -> None:
    source = idling.begin(0)
    idling.wait(9)
    idling.log.append(trade(_NOW_MS + 1_000), _NOW_MS)
    assert source.next_batch()
    assert source.next_batch() == []
    idling.wait(9)
    assert source.snapshot().idle_ms is None
    idling.wait(1)
    assert source.snapshot().idle_ms == _NOW_MS + 19_000


def test_an_idle_decision_is_replayed_after_a_crash(idling: Idling) -> None:
    source = idling.begin(3.0)
    idling.wait(10)
    before, after = PartitionState(1, _NOW_MS - 3_000, None), source.snapshot()
    idling.log.append(trade(_NOW_MS - 100), _NOW_MS)  # comes after the decision
    original = concatenated(source.next_batch() + source.next_batch())
    assert original["watermark"] == [_NOW_MS + 8_000]
    idling.wait(500)
    for state, watermark in ((after, _NOW_MS + 8_000), (before, _NOW_MS - 5_000)):
        restored = partition_of(idling.log, _RULE, state, clock=idling.clock)
        batches = restored.next_batch()
        while len(batches[-1].offsets) == 0:
            batches += restored.next_batch()
        again = concatenated(batches)
        assert again["watermark"] == [watermark]
        assert (again == original) == (state is after)


def test_a_decision_that_is_pending_is_kept_by_further_snapshots_and_restores(
    idling: Idling,
) -> None:
    source = idling.begin(0)
    idling.wait(10)
    state = source.snapshot()
    idling.wait(100)
    for _ in range(3):
        source = partition_of(idling.log, _RULE, state, clock=idling.clock)
        assert source.snapshot() == state
    assert source.next_batch()[0].watermark_after_ms == _NOW_MS + 8_000
    assert source.snapshot() == PartitionState(1, _NOW_MS + 10_000, None)


def test_a_paused_backfill_waits(idling: Idling) -> None:
    source = idling.begin(95.0)  # live is what is younger than 100 s, ten timeouts
    idling.wait(5)
    assert source.next_batch() == []
    idling.wait(20)
    assert source.snapshot().idle_ms is None
    live = Idling()
    source = live.begin(89.0)
    live.wait(10)
    assert source.snapshot().idle_ms == _NOW_MS + 10_000


def test_a_silent_partition_of_a_live_log_is_idle_whatever_its_age(idling: Idling) -> None:
    source = idling.begin(95.0)
    assert source.next_batch() == []
    source._siblings.see(1, _NOW_MS, has_more=False)  # another partition of the log
    idling.wait(20)
    assert source.snapshot().idle_ms == _NOW_MS + 20_000


def test_a_short_timeout_still_calls_a_minute_live(idling: Idling) -> None:
    rule = SourceRule("test", idle_timeout_s=0.5)
    source = idling.begin(58.0, rule=rule)
    idling.wait(1)
    assert source.snapshot().idle_ms == _NOW_MS + 1_000
    idling.wait(2)  # by now the log's own events are old; the partition goes on following
    assert source.next_batch()[0].watermark_after_ms == _NOW_MS - 1_000
    assert source.next_batch() == []
    assert source.snapshot().idle_ms == _NOW_MS + 3_000


def test_an_empty_partition_holds_nobody_up(idling: Idling) -> None:
    source = idling.begin()
    assert source.watermark_ms == NEVER
    assert source.snapshot() == PartitionState(0, NEVER, None)
    idling.wait(10)
    assert source.snapshot() == PartitionState(0, NEVER, _NOW_MS + 10_000)
    (events,) = source.next_batch()
    assert events.watermark_after_ms == _NOW_MS + 8_000


def test_an_idle_decision_never_takes_the_watermark_back(idling: Idling) -> None:
    source = idling.begin(-60.0)  # an event a minute ahead of the clock
    before = source.watermark_ms
    idling.wait(10)
    assert source.snapshot().idle_ms == _NOW_MS + 10_000
    (events,) = source.next_batch()
    assert events.watermark_after_ms == source.watermark_ms == before == _NOW_MS + 58_000


def test_a_record_after_an_idle_decision_carries_its_watermark(idling: Idling) -> None:
    source = idling.begin(0)
    idling.wait(10)
    source.snapshot()
    idling.log.append(trade(_NOW_MS + 1_000), _NOW_MS)
    decided, delayed = source.next_batch() + source.next_batch()
    assert decided.read == 0
    assert delayed.watermark_ms.tolist() == [_NOW_MS + 8_000]
    assert delayed.watermark_after_ms == _NOW_MS + 8_000


@pytest.mark.parametrize("seed", range(20))
def test_what_was_emitted_before_a_crash_is_emitted_again(idling: Idling, seed: int) -> None:
    rng = random.Random(seed)
    log, clock = idling.log, idling.clock
    source = idling.begin()
    state, emitted, decisions = source.snapshot(), [], 0
    for _ in range(400):
        match rng.choice(["append", "wait", "wait", "read", "read", "read", "snapshot", "crash"]):
            case "append":
                for _ in range(rng.choice([1, 1, 4])):
                    now_ms = round(clock.now_s * 1_000)
                    log.append(trade(now_ms - rng.choice([0, 500, 3_000, 20_000])), now_ms)
            case "wait":
                idling.wait(rng.choice([0.5, 11, 30]))
            case "read":
                emitted += rows_of(source.next_batch())
            case "snapshot":
                state, emitted = source.snapshot(), []
                decisions += state.idle_ms is not None
            case "crash":
                source = partition_of(log, _RULE, state, clock=clock)
                again: list[tuple[int, int]] = []
                while len(again) < len(emitted):
                    again += rows_of(source.next_batch())
                assert again[: len(emitted)] == emitted
                emitted = again
    assert decisions > 0


def rows_of(batches: list[Events]) -> list[tuple[int, int]]:
    """Offset and arrival watermark of each record; -1 and the watermark of an idle decision."""
    out = []
    for events in batches:
        rows = zip(events.offsets.tolist(), events.watermark_ms.tolist(), strict=True)
        out += [*rows] if events.read else [(-1, events.watermark_after_ms)]
    return out


# Stopping.


@pytest.fixture
def stop() -> Iterator[Callable[[], None]]:
    yield stopping.request
    stopping._STOP.clear()


def test_a_finite_run_stops_at_the_end_seen_at_start() -> None:
    log = ListLog()
    for i in range(700):
        log.append(trade(_NOW_MS + i))
    source = partition_of(log, _AT_END)
    for i in range(700, 900):  # the log goes on while it is read
        log.append(trade(_NOW_MS + i))
    batches = drain(source)
    assert [events.ended for events in batches] == [False] * (len(batches) - 1) + [True]
    assert batches[-1].read == 0
    assert concatenated(batches)["offset"] == list(range(700))
    assert batches[-1].watermark_after_ms == _NOW_MS + 699 - 2_000
    state = source.snapshot()
    assert state == PartitionState(700, _NOW_MS + 699, None), "nothing beyond was taken in"
    assert log.committed == [700]
    rest = drain(partition_of(log, _AT_END, state))
    assert concatenated(rest)["offset"] == list(range(700, 900))
    assert rest[-1].ended


def test_an_end_inside_the_first_batch_cuts_it() -> None:
    log = ListLog()
    for i in range(3):
        log.append(trade(_NOW_MS + i))
    source = partition_of(log, _AT_END)
    log.append(trade(_NOW_MS + 3))
    events, end = drain(source)
    assert (events.offsets.tolist(), events.read, end.ended) == ([0, 1, 2], 3, True)


def test_the_end_is_found_behind_offsets_without_records() -> None:
    log = ListLog()
    log.append(trade(_NOW_MS), offset=3)
    log.append(trade(_NOW_MS + 1), offset=9)
    log.markers = 2  # such as a transaction's commit
    source = partition_of(log, _AT_END)
    events, end = drain(source)
    assert (events.offsets.tolist(), end.ended) == ([3, 9], True)
    assert source.snapshot().offset == 10
    log.append(trade(_NOW_MS + 2))
    events, end = drain(partition_of(log, _AT_END, source.snapshot()))
    assert (events.offsets.tolist(), end.ended) == ([12], True)


def test_a_batch_wholly_beyond_the_end_is_left_alone() -> None:
    log = ListLog()
    log.append(trade(_NOW_MS))
    log.markers = 5
    source = partition_of(log, _AT_END)
    assert source.next_batch()[0].offsets.tolist() == [0]
    log.append(trade(_NOW_MS + 1), offset=6)
    (end,) = source.next_batch()
    assert end.ended
    assert source.snapshot().offset == 1


def test_an_empty_log_ends_at_once() -> None:
    source = partition_of(ListLog(), _AT_END)
    (events,) = drain(source)
    assert (events.read, events.ended, events.watermark_after_ms) == (0, True, NEVER)


def test_a_finite_run_takes_no_idle_decision(idling: Idling) -> None:
    idling.log.append(trade(_NOW_MS), _NOW_MS)
    source = partition_of(idling.log, _AT_END, clock=idling.clock)
    drain(source)
    idling.wait(1_000)
    assert source.snapshot().idle_ms is None


def test_progress_is_reported_up_to_the_end() -> None:
    log, reports = ListLog(), []
    for i in range(5):
        log.append(trade(_NOW_MS + i) if i != 2 else b"\xff")

    def report(*progress: int) -> None:
        reports.append(progress)

    state = PartitionState(1, _NOW_MS, None)
    drain(LogPartition(log, TradeCodec(), _AT_END, 0, state, Clock(), report))
    assert reports == [(0, 1, 5, 5, 4), (0, 1, 5, 5, 0)]


def test_a_graceful_stop_ends_the_partition_and_loses_nothing(
    idling: Idling, stop: Callable[[], None]
) -> None:
    source = idling.begin(0)
    idling.wait(10)
    pending = source.snapshot()
    assert pending.idle_ms is not None
    idling.log.append(trade(_NOW_MS + 1), _NOW_MS)
    stop()
    with pytest.raises(StopIteration):
        source.next_batch()
    assert source.snapshot() == pending, "the decision waits for the next start"


def test_a_stopping_partition_takes_no_idle_decision(
    idling: Idling, stop: Callable[[], None]
) -> None:
    source = idling.begin(0)
    stop()
    idling.wait(1_000)
    with pytest.raises(StopIteration):
        source.next_batch()
    assert source.snapshot() == PartitionState(1, _NOW_MS, None)


def test_batches_stay_within_their_bounds_and_waits_are_short() -> None:
    log = ListLog()
    value = trade(_NOW_MS)
    for _ in range(40_000):
        log.append(value)
    source = partition_of(log)
    while source.next_batch():
        full = log.limits[-1] <= 40_000 - source.snapshot().offset
        if full:
            assert source.next_awake() is None, "more is there: at once"
    assert 500 <= min(log.limits) <= max(log.limits) <= 10_000
    awake = source.next_awake()
    assert awake is not None
    assert awake - datetime.now(UTC) < timedelta(milliseconds=13)


def test_a_snapshot_commits_what_was_processed_for_lag_tools() -> None:
    log = ListLog()
    source = partition_of(log)
    source.snapshot()
    log.append(trade(_NOW_MS), offset=41)
    source.next_batch()
    source.snapshot()
    assert log.committed == [0, 42]
    source.close()
    assert source._fetcher.closed  # type: ignore[attr-defined]


@pytest.fixture
def collector() -> Iterator[None]:
    """Give the cyclic collector back as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_the_source_has_a_permanent_zero_padded_part_per_partition(collector: None) -> None:
    source = LogSource(
        SimulatedMarket(_OPENED_MS, partitions=12, trades=1_000, pace="fast"),
        TradeCodec(),
        _AT_END,
    )
    parts = source.list_parts()
    assert parts == sorted(parts)
    assert parts == [f"{p:05d}" for p in range(12)]
    read = [drain(source.build_part("in", part, None)) for part in parts]
    assert [events[0].partition for events in read] == list(range(12))
    assert sum(events.read for batches in read for events in batches) == 1_000
    resumed = source.build_part("in", "00003", PartitionState(5, _OPENED_MS, None))
    assert resumed.next_batch()[0].offsets[0] == 5
    assert resumed.watermark_ms >= _OPENED_MS - 2_000
