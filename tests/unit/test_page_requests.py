"""What the page is asked, and how it refuses what it cannot answer."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from page.history import decode_cursor, encode_cursor
from page.hub import Wanted
from page.kinds import KIND_NAMES
from page.parameters import Parameters
from page.refusals import RefusedError

KNOWN = {"kind", "instrument", "interval", "history", "from"}


def request(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


def parameters(query: str) -> Parameters:
    return Parameters(request(query), KNOWN)


def refused(query: str, read: Any = lambda given: given.wanted()) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read(parameters(query))
    assert caught.value.status == 400
    assert caught.value.hint
    return caught.value


def test_everything_is_wanted_unless_something_is_named() -> None:
    for query in ("", "kind=&instrument=&interval="):
        assert parameters(query).wanted() == Wanted(KIND_NAMES)
    wanted = parameters("kind=candle,%20health,candle&instrument=A,B&interval=1m").wanted()
    assert wanted == Wanted(("candle", "health"), frozenset("AB"), frozenset({"1m"}))


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("kind=candle,trades", "'trades'"),
        ("interval=2m", "'2m'"),
        ("colour=red", "'colour'"),
        ("kind=candle&kind=ewma", "twice"),
        (f"instrument={'x' * 256}", "instrument"),
    ],
)
def test_what_is_wrong_is_named(query: str, named: str) -> None:
    assert named in refused(query).error


@pytest.mark.parametrize("text", ["-1", "301", "1.5", "one", "٣", "9" * 30, "+1", " 1"])
def test_numbers_out_of_range(text: str) -> None:
    refused(f"history={text}", lambda given: given.number("history", 300, 0, 300))


def test_numbers_in_range() -> None:
    for text, value in (("", 300), ("0", 0), ("300", 300), ("007", 7)):
        assert parameters(f"history={text}").number("history", 300, 0, 300) == value


@pytest.mark.parametrize("text", ["yesterday", "12", "2026-13-01", "0001-01-01T00:00:00%2B01:00"])
def test_times_that_are_none(text: str) -> None:
    refused(f"from={text}", lambda given: given.time("from"))


@given(st.datetimes(timezones=st.just(UTC)))
def test_times(time: datetime) -> None:
    text = time.isoformat().replace("+", "%2B")
    assert parameters(f"from={text}").time("from") == time
    assert parameters(f"from={time.replace(tzinfo=None).isoformat()}Z").time("from") == time


places = st.tuples(
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
)


@given(places)
def test_a_cursor_brings_back_the_place(place: tuple[str, str]) -> None:
    cursor = encode_cursor(place)
    assert cursor.isascii()
    assert not set(cursor) & set("&=+/% ")
    assert decode_cursor(cursor, 2) == place


@given(st.text() | st.binary().map(lambda data: data.hex()))
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        decode_cursor(text, 1)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "content", [[], ["2026-11-29T14:00:00Z", "x"], ["soon"], [1], {}, "2026", None, ["\ud800"]]
)
def test_a_cursor_of_another_shape_is_refused(content: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    with pytest.raises(RefusedError):
        decode_cursor(cursor, 1)
