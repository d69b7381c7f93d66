"""The PostgreSQL sink writes each row once, as it is, and nothing that does not belong."""

import threading
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from schemas import failpoints
from schemas.errors import FlowError
from schemas.stream import FlowIdentity, Output
from schemas.tables import LATE, PROGRESS, REJECTED_SCHEMA
from sinks.postgres import postgres_sink, prepare_postgres
from tests.integration.postgres_rows import (
    FLOW,
    MS,
    ROUTES,
    at,
    candles,
    minutes,
    partition,
    positions,
    query,
)
from tests.real.process import HOST


@pytest.fixture
def url(postgres_url: str) -> str:
    prepare_postgres(FLOW, ROUTES, url=postgres_url, other_tables=[LATE])
    return postgres_url


def test_values_arrive_as_they_are(url: str) -> None:
    texts = ["plain", "", 'q"u,o\n\\.\r\n', "\\N", "nul\x00", " ü "]
    values = [b"\x00\xff\\", b"", None, b"a,b", b'"', b"\\x00"]
    rejected = pa.record_batch(
        [
            pa.array(["candles"] * 6).dictionary_encode(),
            pa.array(["trades"] * 6),
            pa.array([0] * 6, pa.int32()),
            pa.array(range(6), pa.int64()),
            pa.array(texts),
            pa.array([-1, 0, None, 1_700_000_000_123, 5, 253_402_300_799_999], MS),
            pa.array(values[::-1], pa.binary()),
            pa.array(values, pa.binary()),
        ],
        schema=pa.schema(
            [REJECTED_SCHEMA.field(0).with_type(pa.dictionary(pa.int32(), pa.string()))]
            + [REJECTED_SCHEMA.field(i) for i in range(1, 8)]
        ),
    )
    sink = partition(url)
    sink.write_batch([Output("rejected", 0, np.arange(6), 5, rejected), candles([7])])
    sink.snapshot()
    sink.close()
    stored = query(url, 'SELECT reason, record_time, value, key FROM rejected ORDER BY "offset"')
    assert [row[0] for row in stored] == [*texts[:4], "nul\ufffd", " ü "]
    assert [row[2] for row in stored] == values
    assert [row[3] for row in stored] == values[::-1]
    assert stored[0][1] == datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)
    assert stored[2][1] is None
    assert stored[3][1] == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    (row,) = query(
        url,
        "SELECT open_time, open, close, vwap, first_trade_seq, close_trade_time, is_closed, "
        "gap_filled FROM candles",
    )
    assert row == (
        *(datetime(1970, 1, 1, 0, 7, tzinfo=UTC), Decimal("2.00000001"), Decimal("1.50000000")),
        *(None, None, None, True, False),
    )


def test_what_is_stored_is_dropped_after_reopening(url: str) -> None:
    first = partition(url)
    first.write_batch([candles([1, 2]), candles([1], lane=1)])
    first.close()
    second = partition(url)
    # The same rows with another price: were they written again, it would show.
    second.write_batch([candles([1, 2, 3], close="9", revision=5), candles([2], lane=1)])
    second.close()
    assert minutes(url) == [1, 2, 3]
    assert minutes(url, lane=1) == [1, 2]
    assert query(url, "SELECT count(*) FROM candles WHERE close = 9") == [(1,)]
    assert positions(url) == {"results-00": 3, "results-01": 2}


def test_a_row_with_a_lower_revision_replaces_nothing(url: str) -> None:
    sink = partition(url)
    sink.write_batch(
        [at(1, candles([1], revision=1, close="11")), at(2, candles([1], revision=2, close="12"))]
    )
    sink.snapshot()
    sink.write_batch([at(3, candles([1], revision=2, close="13"))])
    sink.snapshot()
    sink.write_batch([at(4, candles([1], revision=1, close="14"))])
    sink.close()
    assert query(url, "SELECT revision, close FROM candles") == [(2, Decimal(13))]


@pytest.mark.parametrize("begun", [True, False], ids=["in the lane", "before the lane begins"])
@pytest.mark.parametrize("first", ["zombie", "successor"])
def test_the_newer_of_two_goes_on_whoever_writes_first(url: str, first: str, begun: bool) -> None:
    zombie = partition(url)
    if begun:
        zombie.write_batch([candles([1])])
        zombie.snapshot()
    successor = partition(url)
    if first == "successor":
        successor.write_batch([candles([1, 2])])
        successor.snapshot()
    zombie.write_batch([candles([2, 3], close="666", revision=9)])
    with pytest.raises(FlowError, match=r"Another process writes flow candles, version 1.*00"):
        zombie.snapshot()
    zombie.close()
    successor.write_batch([candles([1, 2]), candles([3])])
    successor.close()
    assert query(url, "SELECT DISTINCT close FROM candles") == [(Decimal("1.5"),)]
    assert minutes(url) == [1, 2, 3]


@pytest.mark.parametrize("begun", [True, False], ids=["in the lane", "before the lane begins"])
def test_opening_waits_for_the_transaction_of_a_predecessor(
    url: str, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    zombie = partition(url)
    if begun:
        zombie.write_batch([candles([1])])
        zombie.snapshot()
    inside, go_on = threading.Event(), threading.Event()

    def reached(name: str) -> None:
        if name == "postgres.between_write_and_commit" and not inside.is_set():
            inside.set()
            go_on.wait(20)

    monkeypatch.setattr(failpoints, "reached", reached)
    zombie.write_batch([candles([2])])
    assert inside.wait(20)
    successor = postgres_sink(FLOW, ROUTES, url=url).build_part("out", "00", None)
    successor.write_batch([candles([2, 3])])
    opened = threading.Thread(target=successor.snapshot)
    opened.start()
    opened.join(0.3)
    assert opened.is_alive()
    assert positions(url) == ({"results-00": 1} if begun else {})
    go_on.set()
    opened.join(20)
    zombie.write_batch([candles([3, 4], close="666", revision=9)])
    with pytest.raises(FlowError, match="Another process"):
        zombie.snapshot()
    zombie.close()
    successor.close()
    assert minutes(url) == ([1, 2, 3] if begun else [2, 3])
    assert query(url, "SELECT DISTINCT close FROM candles") == [(Decimal("1.5"),)]


def test_the_other_partition_of_a_sink_is_no_rival(url: str) -> None:
    one, two = partition(url), partition(url, name="01")
    one.write_batch([candles([1])])
    two.write_batch([candles([1], lane=1)])
    one.close()
    two.close()
    assert positions(url) == {"results-00": 1, "results-01": 1}


def test_a_database_that_lost_what_was_written_is_noticed(url: str) -> None:
    sink = partition(url)
    sink.write_batch([candles([1])])
    sink.snapshot()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE progress SET position = 0")
    sink.write_batch([candles([2])])
    with pytest.raises(FlowError, match=r"progress in PostgreSQL does not say .*results-00"):
        sink.snapshot()
    sink.close()
    assert minutes(url) == [1]


def test_other_settings_are_refused_before_anything_is_written(url: str) -> None:
    sink = partition(url)
    sink.write_batch([candles([1])])
    sink.close()
    changed = FlowIdentity("candles", "1", {"shards": 4, "intervals": ("1m",), "fill_gaps": True})
    with pytest.raises(FlowError) as caught:
        prepare_postgres(changed, ROUTES, url=url)
    assert str(caught.value) == (
        "The output of flow candles, version 1, was begun with other settings: fill_gaps was "
        "(not set) and is now true; shards was 8 and is now 4. Restore the old setting to go on "
        "with that output, or set a new FLOW_VERSION to begin another, and OUTPUT_TOPIC to keep "
        "the two apart."
    )
    with pytest.raises(FlowError, match="shards was 8"):
        partition(url, changed)
    # Who is refused shuts nobody out.
    assert query(url, "SELECT epoch FROM writers") == [(1,)]
    other_version = FlowIdentity("candles", "2", changed.fingerprint)
    prepare_postgres(other_version, ROUTES, url=url)
    assert query(url, "SELECT count(*) FROM flows") == [(1,)]


def test_two_that_begin_a_version_with_different_settings(url: str) -> None:
    one = partition(url)
    two = partition(url, FlowIdentity("candles", "1", {"shards": 4}), name="01")
    one.write_batch([candles([1])])
    one.snapshot()
    two.write_batch([candles([1], lane=1)])
    with pytest.raises(FlowError, match="other settings"):
        two.snapshot()
    one.close()
    two.close()
    assert minutes(url, lane=1) == []


def test_preparing_changes_nothing_when_a_table_does_not_fit(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE candles (instrument text, interval text)")
    with pytest.raises(FlowError, match="Table candles lacks the columns open_time, close_time"):
        prepare_postgres(FLOW, ROUTES, url=postgres_url)
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert query(postgres_url, tables) == [(1,)]


def test_several_processes_prepare_at_a_time(postgres_url: str) -> None:
    errors: list[FlowError] = []

    def prepare() -> None:
        try:
            prepare_postgres(FLOW, ROUTES, url=postgres_url)
        except FlowError as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert query(postgres_url, f"SELECT count(*) FROM {PROGRESS.name}") == [(0,)]


def test_an_unreachable_server_is_named_without_its_password() -> None:
    url = f"postgresql://me:s3cret@{HOST}:1/db?sslpassword=s3cret"
    with pytest.raises(FlowError) as caught:
        prepare_postgres(FLOW, ROUTES, url=url)
    assert "DATABASE_URL" in str(caught.value)
    assert f"host={HOST}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(FlowError, match="DATABASE_URL cannot be read") as caught:
        prepare_postgres(FLOW, ROUTES, url="postgresql://me:s3/c%ret@host")
    assert "s3" not in str(caught.value)
    assert caught.value.__suppress_context__  # libpq's own text may repeat what it was given
