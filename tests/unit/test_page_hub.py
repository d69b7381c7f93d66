"""The hub of the page: a snapshot and what follows is all there is, for everybody who keeps up."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from page.hub import Client, Hub, TooManyClientsError, Wanted
from page.kinds import HEALTH, KIND_NAMES, Row, kinds, make_row
from page.memory import Memory

DEPTH = {"candle": 4, "statistics": 1, "preview": 1, HEALTH: 1}


def row(
    time: int, *, kind: str = "candle", name: str = "A", revision: int = 0, text: str = ""
) -> Row:
    place = ("",) if kind in ("preview", HEALTH) else (f"{time:04}",)
    return Row(kind, (name,), place, revision, text or f"{kind} {name} {time} {revision}", name)


def hub(*, most_clients: int = 3, most_rows: int = 1_000) -> Hub:
    return Hub(Memory(DEPTH), most_clients=most_clients, most_rows=most_rows)


def join(one: Hub, wanted: Wanted | None = None, history: int = 4) -> Client:
    return one.join(wanted or Wanted(), history, lambda: None)


def texts(rows: Iterable[Row]) -> list[str]:
    return [one.text for one in rows]


def test_a_row_that_is_known_is_no_news() -> None:
    one = hub()
    client = join(one)
    assert one.publish([row(1), row(1), row(2)]) == [row(1), row(2)]
    assert one.publish([row(1), row(2)]) == []
    assert client.take() == [row(1), row(2)]


def test_a_correction_is_news_and_an_older_revision_is_none() -> None:
    one = hub()
    one.publish([row(1), row(2)])
    client = join(one)
    assert texts(client.snapshot) == texts([row(1), row(2)])
    one.publish([row(1, revision=2)])
    one.publish([row(1, revision=1), row(1)])
    assert client.take() == [row(1, revision=2)]
    assert join(one).snapshot == [row(1, revision=2), row(2)]


def test_the_snapshot_holds_the_newest_rows_of_each_series_in_order() -> None:
    one = hub()
    one.publish([row(time, name=name) for time in (3, 1, 2, 5, 4) for name in "AB"])
    assert join(one, history=2).snapshot == [row(t, name=n) for n in "AB" for t in (4, 5)]
    assert join(one, history=0).snapshot == []
    assert len(join(one, history=100).snapshot) == 2 * DEPTH["candle"]


def test_a_row_older_than_what_is_kept_is_sent_and_not_kept() -> None:
    one = hub()
    one.publish([row(time) for time in range(10, 14)])
    client = join(one)
    one.publish([row(1)])
    assert client.take() == [row(1)]
    assert row(1) not in join(one).snapshot


def test_of_previews_and_health_only_the_newest_is_sent() -> None:
    one = hub()
    client = join(one)
    for number in range(5):
        one.publish([row(number, kind=kind, text=str(number)) for kind in ("preview", HEALTH)])
        one.publish([row(number)])
    rows = client.take()
    assert [r.text for r in rows if r.kind == "candle"] == texts(map(row, range(5)))
    assert sorted(r.kind for r in rows if r.text == "4") == [HEALTH, "preview"]
    assert len(rows) == 7


def test_the_preview_of_the_next_candle_is_no_older_revision_of_the_last() -> None:
    values = {"instrument": "A", "interval": "1m"}
    preview = kinds("24h")["preview"]
    first = make_row(preview, {**values, "open_time": "2026-11-29T14:00:00Z", "revision": 2})
    second = make_row(preview, {**values, "open_time": "2026-11-29T14:01:00Z", "revision": 0})
    one = hub()
    assert one.publish([first]) == [first]
    assert one.publish([second]) == [second]


def test_a_slow_reader_is_dropped_and_others_are_not() -> None:
    one = hub(most_rows=3)
    cut: list[str] = []
    slow = one.join(Wanted(), 0, lambda: cut.append("slow"))
    quick = join(one)
    for time in range(6):
        one.publish([row(time)])
        assert quick.take() == [row(time)]
    assert cut == ["slow"]
    assert slow.dropped is not None
    assert slow.take() == []
    one.leave(slow)
    assert (one.clients, one.dropped) == (1, 1)
    one.leave(quick)
    assert (one.clients, one.dropped) == (0, 1)


def test_no_more_clients_than_allowed() -> None:
    one = hub(most_clients=2)
    first = join(one)
    join(one)
    with pytest.raises(TooManyClientsError):
        join(one)
    one.leave(first)
    join(one)


def test_a_client_gets_what_it_asked_for() -> None:
    sale = Row("sales", ("S",), ("1",), 0, "sale")
    minute = Row("candle", ("A", "1m"), ("1",), 0, "minute", "A", "1m")
    second = Row("candle", ("A", "1s"), ("1",), 0, "second", "A", "1s")
    other = Row("candle", ("B", "1m"), ("1",), 0, "other", "B", "1m")
    asked: list[tuple[Wanted, set[str]]] = [
        (Wanted(), {"sale", "minute", "second", "other"}),
        (Wanted(("candle",)), {"minute", "second", "other"}),
        (Wanted(instruments=frozenset("A")), {"sale", "minute", "second"}),
        (Wanted(intervals=frozenset({"1m"})), {"sale", "minute", "other"}),
        (Wanted(("candle",), frozenset("B"), frozenset({"1s"})), set()),
    ]
    one = hub(most_clients=100)
    early = [(join(one, wanted), names) for wanted, names in asked]
    one.publish([sale, minute, second, other])
    for client, names in early:
        assert set(texts(client.take())) == names
    for wanted, names in asked:
        assert set(texts(join(one, wanted).snapshot)) == names


def test_many_series_are_kept_less_deep() -> None:
    memory = Memory({"candle": 10}, most_rows=20)
    memory.take(row(time, name=str(n)) for time in range(20) for n in range(10))
    kept = list(memory.tail("candle", lambda _: True, 100, 1_000))
    assert len(kept) == 20
    assert {r.place for r in kept} == {("0018",), ("0019",)}


def test_the_series_that_heard_nothing_for_longest_goes() -> None:
    memory = Memory({"candle": 1}, most_series=2)
    memory.take([row(1, name="A"), row(1, name="B"), row(2, name="A"), row(1, name="C")])
    assert memory.newest("candle") == {("A",): "0002", ("C",): "0001"}


def test_a_snapshot_of_many_series_is_bounded() -> None:
    memory = Memory({"candle": 4})
    memory.take(row(time, name=str(n)) for time in range(4) for n in range(10))
    assert len(list(memory.tail("candle", lambda _: True, 4, 20))) == 20


moves = st.lists(
    st.one_of(
        st.builds(
            row,
            st.integers(0, 30),
            kind=st.sampled_from(("candle", "statistics", "preview")),
            name=st.sampled_from("AB"),
            revision=st.integers(0, 3),
        ),
        st.sampled_from(("join", "take")),
    ),
    max_size=60,
)


@given(moves)
def test_snapshot_and_rows_are_the_content_of_the_tables(steps: list[Row | str]) -> None:
    """Whenever one joins and however the reading goes, one knows what the tables hold."""
    one = hub(most_clients=100)
    clients: list[tuple[Client, dict[tuple[object, ...], Row]]] = []

    def keep(known: dict[tuple[object, ...], Row], rows: Iterable[Row]) -> None:
        known.update({(r.kind, r.group, r.place): r for r in rows})

    def key_of(known: dict[tuple[object, ...], Row]) -> Callable[[Row], bool]:
        return lambda r: known.get((r.kind, r.group, r.place)) == r

    for step in steps:
        if isinstance(step, Row):
            one.publish([step])
        elif step == "join":
            client = join(one)
            clients.append((client, {}))
            keep(clients[-1][1], client.snapshot)
        elif clients:
            keep(clients[-1][1], clients[-1][0].take())
    for client, known in clients:
        keep(known, client.take())
        assert client.dropped is None
        now = [r for kind in KIND_NAMES for r in one.memory.tail(kind, client.wanted, None, 1_000)]
        assert all(map(key_of(known), now))
