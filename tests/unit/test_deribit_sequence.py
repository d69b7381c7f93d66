"""Order, duplicates, gaps and what history is asked: without a socket, by a clock in hand."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from schemas.trade_rows import TradeRow
from sources.deribit_history import GivenUp, History, HistoryRule
from sources.deribit_protocol import Reply
from sources.deribit_sequence import HELD, PAGE, Sequencer

RULE = HistoryRule(deadline_s=10, grace_s=0.05, answer_s=5, requests_per_s=100, burst=100)


def trade(seq: int, instrument: str = "A") -> TradeRow:
    return TradeRow(instrument, seq, 1_000 + seq, "1", "1", "buy", str(seq))


def trades(*seqs: int) -> list[TradeRow]:
    return [trade(seq) for seq in seqs]


def taken(sequencer: Sequencer) -> list[int]:
    return [one.trade_seq for one in sequencer.take()]


class Harness:
    """A sequencer and its history, with a clock."""

    def __init__(self, rule: HistoryRule = RULE, **positions: int) -> None:
        self.sequencer = Sequencer(positions)
        self.history = History(self.sequencer, rule)
        self.ids = itertools.count(1)
        self.now_s = 100.0

    def live(self, *seqs: int, instrument: str = "A") -> None:
        self.sequencer.add([trade(s, instrument) for s in seqs], self.now_s, live=True)
        self.history.watch(self.now_s)

    def asks(self, after_s: float = 0.0) -> list[tuple[str, int, int | None, int]]:
        self.now_s += after_s
        self.history.watch(self.now_s)
        return [
            (ask.instrument, ask.first, ask.last, ask.request_id)
            for ask in self.history.asks(self.ids, self.now_s)
        ]

    def answer(self, request_id: int, *seqs: int, more: bool = False, code: int = 0) -> None:
        new = self.sequencer.add(trades(*seqs), self.now_s, live=False)
        self.history.answered(Reply(request_id, code, has_more=more), new, self.now_s)


@given(st.permutations(range(1, 13)), st.lists(st.integers(1, 12), max_size=6))
def test_any_order_comes_out_in_order_and_once(order: list[int], again: list[int]) -> None:
    sequencer = Sequencer({"A": 0})
    out = []
    for seq in [*order, *again]:
        sequencer.add([trade(seq)], 0.0, live=True)
        out += taken(sequencer)
    assert out == list(range(1, 13))
    assert not sequencer.holes
    assert sequencer.duplicates == len(again)


def test_an_instrument_begins_with_its_first_trade_or_where_it_is_told() -> None:
    sequencer = Sequencer({})
    sequencer.add(trades(7, 8), 0.0, live=True)
    assert taken(sequencer) == [7, 8]
    sequencer = Sequencer({}, start_seq=5)
    sequencer.add(trades(7), 0.0, live=True)
    assert taken(sequencer) == []
    assert list(sequencer["A"].missing()) == [(5, 6)]


def test_a_trade_that_is_merely_late_costs_no_request() -> None:
    h = Harness(A=0)
    h.live(2, 3)
    assert h.asks() == []
    h.live(1)
    assert taken(h.sequencer) == [1, 2, 3]
    assert h.asks(1.0) == []


def test_a_hole_is_asked_for_and_healed() -> None:
    h = Harness(A=0)
    h.live(1, 4, 5, 8)
    assert taken(h.sequencer) == [1]
    # One request for both holes: what lies between them comes again and is dropped.
    ((name, first, last, number),) = h.asks(0.1)
    assert (name, first, last) == ("A", 2, 7)
    h.answer(number, 2, 3, 4, 5, 6, 7, 8)
    assert taken(h.sequencer) == [2, 3, 4, 5, 6, 7, 8]
    assert h.asks(60) == []
    assert h.history.give_up(h.now_s) == []


def test_a_large_hole_is_asked_for_in_pages_side_by_side() -> None:
    h = Harness(A=0)
    h.live(2_501)
    asked = h.asks(0.1)
    assert [(a, b) for _, a, b, _ in asked] == [(1, PAGE), (PAGE + 1, 2 * PAGE), (2001, 2500)]
    for _, first, last, number in reversed(asked):
        h.answer(number, *range(first, (last or 0) + 1))
    assert taken(h.sequencer) == list(range(1, 2_502))


def test_history_that_is_behind_is_asked_again_ever_more_slowly() -> None:
    h = Harness(A=0)
    h.live(2)
    asked_at = []
    start_s = h.now_s
    while h.now_s < start_s + 5:
        for _, _, _, number in h.asks(0.05):
            asked_at.append(h.now_s - start_s)
            h.answer(number)
    assert 4 < len(asked_at) < 12
    assert asked_at[1] - asked_at[0] < asked_at[-1] - asked_at[-2]


def test_a_hole_is_given_up_at_its_deadline_and_what_waited_goes_on() -> None:
    h = Harness(A=0)
    h.live(1, 4, 5, 9)
    ((_, _, _, number),) = h.asks(1.0)
    h.answer(number, code=11051)
    h.now_s += 9.9
    assert h.history.give_up(h.now_s) == []
    h.now_s += 0.2
    assert h.history.give_up(h.now_s) == [GivenUp("A", 2, 3)]
    assert taken(h.sequencer) == [1, 4, 5]
    assert h.history.give_up(h.now_s) == []
    ((_, first, last, number),) = h.asks(0.1)
    assert (first, last) == (6, 8)
    h.answer(number, 6, 7, 8)
    assert taken(h.sequencer) == [6, 7, 8, 9]
    h.live(2, 3)  # too late: the lane has passed them
    assert taken(h.sequencer) == []


def test_an_answer_that_never_comes_is_asked_for_again() -> None:
    h = Harness(A=0)
    h.live(2)
    assert len(h.asks(0.1)) == 1
    assert h.asks(4.0) == []
    assert h.asks(1.1) == []  # noticed, and asked again after a pause
    assert len(h.asks(0.2)) == 1


def test_a_queue_of_requests_that_moves_gives_nothing_up() -> None:
    h = Harness(HistoryRule(deadline_s=10, requests_per_s=1, burst=1))
    names = [f"I{i:02d}" for i in range(40)]
    for name in names:
        h.live(1, 3, instrument=name)
    healed = 0
    while healed < len(names):
        assert h.history.give_up(h.now_s) == []
        for name, _, _, number in h.asks(1.0):
            new = h.sequencer.add([trade(2, name)], h.now_s, live=False)
            h.history.answered(Reply(number), new, h.now_s)
            healed += 1
    assert not h.sequencer.holes


def test_after_a_reconnect_silent_instruments_are_asked_for_after_the_holes() -> None:
    h = Harness(A=5, B=7)
    h.history.reconnected(h.now_s)
    h.live(8, instrument="A")
    asked = h.asks(0.1)
    assert [(name, first, last) for name, first, last, _ in asked] == [
        ("A", 6, 7),
        ("B", 8, None),
    ]
    new = h.sequencer.add([trade(8, "B")], h.now_s, live=False)
    h.history.answered(Reply(asked[1][3], has_more=True), new, h.now_s)
    assert h.asks()[0][:3] == ("B", 9, None)


def test_an_instrument_that_trades_again_by_itself_is_not_asked_for() -> None:
    h = Harness(A=5)
    h.history.reconnected(h.now_s)
    h.live(6)
    assert h.asks(1) == []


def test_an_expired_instrument_is_forgotten() -> None:
    h = Harness(A=5)
    h.history.reconnected(h.now_s)
    h.answer(h.asks()[0][3], code=13020)
    assert "A" not in h.sequencer
    assert h.asks(60) == []


def test_what_is_held_has_a_bound_and_the_rest_is_fetched_again() -> None:
    h = Harness(A=0)
    end = HELD + 5_000
    h.live(*range(2, end + 1))
    assert len(h.sequencer["A"].held) == HELD
    out: list[int] = []
    while len(out) < end:
        asked = h.asks(0.1)
        assert asked
        for _, first, last, number in asked:
            h.answer(number, *range(first, (last or 0) + 1))
        out += taken(h.sequencer)
    assert out == list(range(1, end + 1))


def test_requests_keep_to_the_pace() -> None:
    h = Harness(HistoryRule(requests_per_s=10, burst=5), **{f"I{i}": 1 for i in range(100)})
    h.history.reconnected(h.now_s)
    sent = 0
    for _ in range(20):
        asked = h.asks(0.1)
        sent += len(asked)
        for *_, number in asked:
            h.answer(number)
    assert 20 <= sent <= 26
