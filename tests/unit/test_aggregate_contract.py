"""What kernels rely on: merging is commutative and associative, bit for bit, and loses nothing."""

import random
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from operators import aggregate
from operators.aggregate import cell_dtype, merge
from operators.candle import CANDLE, PARTIAL
from operators.panes import Groups
from schemas.stream import NEVER, Events

_FIELDS = [name for name, _ in CANDLE.fields]
_BASE = 1_700_000_040_000


@njit
def _merge_compiled(into: Any, other: Any) -> None:
    merge(into[0], other[0])


def _merge_plain(into: np.ndarray, other: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # limbs wrap on purpose
        merge(into[0], other[0])


both = pytest.mark.parametrize(
    "add", [_merge_compiled, _merge_plain], ids=["compiled", "uncompiled"]
)

# Few distinct values, so that ties of every kind are the rule; extremes, so that limbs carry.
_times = st.sampled_from([_BASE, _BASE, _BASE + 1, _BASE + 999])
_seqs = st.sampled_from([0, 0, 1, 2, 3, 9, 2**62])
_figures = st.sampled_from([1, 5, 5, 525_000_000, 2**62, 2**63 - 1])
_trades = st.lists(
    st.tuples(_times, _figures, st.sampled_from([1, 7, 10**8, 2**33]), st.integers(0, 1), _seqs),
    max_size=16,
)


def lift(trades: list[tuple[int, ...]], slots: list[int], n: int, partition: int = 0) -> np.ndarray:
    """n partials; trade i, at offset i of its partition, goes to partial `slots[i]`."""
    columns = np.array(trades, np.int64).reshape(len(trades), 5).T
    time, price, quantity, side, seq = (np.ascontiguousarray(column) for column in columns)
    events = Events(
        partition, np.arange(len(trades)), time, np.full(len(trades), NEVER),
        np.zeros(len(trades), np.int32), ["a"],
        {"price": price, "quantity": quantity, "side": side.astype(np.int8), "seq": seq},
        pa.array([b""] * len(trades), pa.binary()), NEVER, len(trades),
    )  # fmt: skip
    groups = Groups(
        np.array(slots, np.int32), np.zeros(n, np.int32), np.full(n, _BASE), np.full(n, _BASE)
    )
    return CANDLE.lift(events, groups)


def bits(record: np.ndarray) -> tuple[Any, ...]:
    """Every field of the aggregate."""
    return tuple(record[name][0].tobytes() for name in _FIELDS)


def merged(add: Any, *parts: np.ndarray) -> np.ndarray:
    out = parts[0].copy()
    for part in parts[1:]:
        before = bits(part)
        add(out, part)
        assert bits(part) == before, "the other record is only read"
    return out


@st.composite
def _partials(draw: st.DrawFn, n: int) -> list[np.ndarray]:
    """n partials of trades of one log, some of them empty."""
    trades = draw(_trades)
    slots = draw(st.lists(st.integers(0, n - 1), min_size=len(trades), max_size=len(trades)))
    partials = lift(trades, slots, n, partition=draw(st.sampled_from([0, 1, 5_000])))
    return [partials[i : i + 1].copy() for i in range(n)]


@both
@settings(max_examples=100)
@given(_partials(2))
def test_merge_is_commutative(add: Any, parts: list[np.ndarray]) -> None:
    a, b = parts
    assert bits(merged(add, a, b)) == bits(merged(add, b, a))


@both
@settings(max_examples=100)
@given(_partials(3))
def test_merge_is_associative(add: Any, parts: list[np.ndarray]) -> None:
    a, b, c = parts
    assert bits(merged(add, merged(add, a, b), c)) == bits(merged(add, a, merged(add, b, c)))


@both
@settings(max_examples=50)
@given(_partials(1))
def test_a_record_without_events_changes_nothing(
    add: Any,
    parts: list[np.ndarray],
) -> None:
    (a,) = parts
    empty = np.zeros(1, PARTIAL)
    assert bits(merged(add, a, empty)) == bits(merged(add, empty, a)) == bits(a)


@both
@settings(max_examples=100)
@given(_trades, st.integers(1, 6), st.integers(0, 2**32))
def test_any_split_of_trades_merges_to_the_same_record(
    add: Any,
    trades: list[tuple[int, ...]],
    n: int,
    seed: int,
) -> None:
    rng = random.Random(seed)
    whole = lift(trades, [0] * len(trades), 1)
    partials = lift(trades, [rng.randrange(n) for _ in trades], n)
    parts = [partials[i : i + 1] for i in range(n)]
    while len(parts) > 1:  # merge in a random tree
        rng.shuffle(parts)
        parts.append(merged(add, parts.pop(), parts.pop()))
    assert bits(parts[0]) == bits(whole)


@both
@settings(max_examples=30)
@given(_partials(2))
def test_partials_merge_into_a_cell_and_leave_its_place_alone(
    add: Any,
    parts: list[np.ndarray],
) -> None:
    cell = np.zeros(1, cell_dtype(CANDLE))
    place = {"key": 3, "interval": 1, "start": 7, "end": 8, "newer": -1, "older": 4, "emitted": 2}
    for name, value in place.items():
        cell[name] = value
    for part in parts:
        add(cell, part)
    assert bits(cell) == bits(merged(add, *parts))
    assert {name: int(cell[name][0]) for name in place} == place


@both
@settings(max_examples=50)
@given(_partials(2).filter(lambda parts: all(part["count"][0] for part in parts)))
def test_a_gap_takes_the_previous_close_and_gives_way_to_trades(
    add: Any,
    parts: list[np.ndarray],
) -> None:
    previous, late = parts
    gap = np.zeros(1, PARTIAL)
    assert aggregate.carry(gap[0], previous[0])
    assert not aggregate.carry(gap[0], previous[0]), "the second time nothing changes"
    close = previous["close"][0]
    assert [gap[name][0] for name in ("open", "high", "low", "close")] == [close] * 4
    assert gap["seq_last"] == previous["seq_last"]
    assert gap["count"] == gap["volume_low"] == gap["quote_low"] == 0
    assert bits(merged(add, gap, late)) == bits(late), "nothing of the gap remains"


_sequences = st.lists(st.integers(0, 3), min_size=1, max_size=6).map(
    lambda steps: [sum(steps[: i + 1]) for i in range(len(steps))]
)


def _looks_whole(seqs: list[int]) -> bool:
    """What a record can see of its sequence: ends, count, sum and sum of squares."""
    run = range(seqs[0], seqs[-1] + 1)
    return (len(seqs), sum(seqs), sum(s * s for s in seqs)) == (
        len(run), sum(run), sum(s * s for s in run),
    )  # fmt: skip


@settings(max_examples=100)
@given(_sequences, st.integers(0, 12), st.integers(0, 2**32))
def test_link_finds_holes_in_the_sequence_and_before_it(
    seqs: list[int], before: int, seed: int
) -> None:
    known = sorted(seq for seq in seqs if seq > 0)
    trades = [(_BASE, 5, 5, 0, seq) for seq in seqs]
    random.Random(seed).shuffle(trades)
    cells = np.zeros(2, cell_dtype(CANDLE))
    cells["start"] = [0, 60_000]
    previous, cell = cells[0:1], cells[1:2]
    previous["seq_last"] = before
    merge(cell[0], lift(trades, [0] * len(trades), 1)[0])
    hole = bool(known) and not _looks_whole(known)
    assert aggregate.link(cell[0], cell[0]) == hole, "alone"
    assert bool(cell["seq_hole"][0]) == hole
    hole |= bool(known) and before > 0 and known[0] > before + 1
    aggregate.link(cell[0], previous[0])
    assert bool(cell["seq_hole"][0]) == hole
    assert not aggregate.link(cell[0], previous[0]), "the second time nothing changes"


def test_up_to_two_holes_are_never_hidden_by_repetitions() -> None:
    for n in range(1, 8):
        for seqs in combinations_with_replacement(range(1, n + 1), n):
            if len(set(range(seqs[0], seqs[-1] + 1)) - set(seqs)) <= 2:
                assert _looks_whole(list(seqs)) == (len(set(seqs)) == seqs[-1] - seqs[0] + 1 == n)


@pytest.mark.parametrize("far", [0, 2**62])
@pytest.mark.parametrize("seqs", [[1, 1, 3, 5, 5], [1, 2, 2, 4, 6, 6, 7], [1, 3], [2, 2]])
def test_a_hole_that_repetitions_balance_is_found(seqs: list[int], far: int) -> None:
    cells = np.zeros(1, cell_dtype(CANDLE))
    merge(cells[0], lift([(_BASE, 5, 5, 0, far + s) for s in seqs], [0] * len(seqs), 1)[0])
    assert aggregate.link(cells[0], cells[0])
    whole = np.zeros(1, cell_dtype(CANDLE))
    run = range(far + seqs[0], far + seqs[-1] + 1)
    merge(whole[0], lift([(_BASE, 5, 5, 0, s) for s in run], [0] * len(run), 1)[0])
    assert not aggregate.link(whole[0], whole[0])


def test_sums_carry_from_limb_to_limb() -> None:
    trades = [(_BASE, 2**63 - 1, 2**33, 0, 2**62)] * 7
    whole = lift(trades, [0] * 7, 1)
    quote = int(whole["quote_low"][0]) + (int(whole["quote_high"][0]) << 64)
    assert quote == 7 * (2**63 - 1) * 2**33
    assert whole["buy_quote_high"] == whole["quote_high"] > 0
    assert int(whole["seq_sum"][0]) == 7 * 2**62 % 2**64
    assert int(whole["seq_squares"][0]) == 0  # 7 * 2**124, modulo 2**64
