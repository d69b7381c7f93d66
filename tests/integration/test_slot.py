"""The source of a logical slot on a real PostgreSQL: what it hands on, rejects and refuses."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from schemas.errors import FlowError
from schemas.transactions import UNCHANGED, Captured, RowChange
from schemas.vehicles import CAPTURED
from sources.inventory_driver import DDL
from sources.slot import SlotPartition, SlotState
from sources.slot_setup import SlotPlace, prepare_source
from tests.real.postgres import PostgresServer

V1 = "aaaaaaaa-0000-4000-8000-000000000001"
V2 = "aaaaaaaa-0000-4000-8000-000000000002"
E1 = "eeeeeeee-0000-4000-8000-000000000001"

Execute = Callable[..., None]


@pytest.fixture
def place(postgres: PostgresServer, postgres_url: str) -> Iterator[SlotPlace]:
    with psycopg.connect(postgres_url) as connection:
        connection.execute(DDL)
    place = SlotPlace(postgres_url, f"slot_{time.time_ns()}", "tidemark_vehicles", CAPTURED)
    prepare_source(place)
    yield place
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for _ in range(100):
            with suppress(psycopg.errors.ObjectInUse):
                query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                connection.execute(query + " WHERE slot_name = %s", [place.slot])
                break
            time.sleep(0.1)


@pytest.fixture
def execute(place: SlotPlace) -> Execute:
    def run(*statements: str) -> None:
        with psycopg.connect(place.url) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    return run


def opened(place: SlotPlace, state: SlotState | None = None, **options: Any) -> SlotPartition:
    return SlotPartition("vehicles", place, state, **options)


def take(partition: SlotPartition, transactions: int, *, wait_s: float = 20.0) -> Captured:
    """Call it until so many transactions, or a reject, were handed on."""
    found, rejected = [], []
    deadline_s = time.monotonic() + wait_s
    while len(found) < transactions:
        assert time.monotonic() < deadline_s, (found, rejected)
        for captured in partition.next_batch():
            found += captured.transactions
            rejected += captured.rejected
        time.sleep(0.005)
    return Captured(found, rejected)


def begun(place: SlotPlace) -> SlotPartition:
    """A partition whose first snapshot was handed on."""
    partition = opened(place)
    partition.snapshot()
    take(partition, 1)
    return partition


def changes(captured: Captured) -> list[list[RowChange]]:
    return [list(transaction.changes) for transaction in captured.transactions]


def test_rows_that_are_there_come_first_and_only_once_they_are_durable(
    place: SlotPlace, execute: Execute
) -> None:
    execute(
        f"INSERT INTO vehicles VALUES ('{V1}', 2020, 'Actros')",
        f"INSERT INTO engines VALUES ('{E1}', '{V1}', 2019, 'MAN', 4000, 900, 500)",
    )
    rows = [
        RowChange("vehicles", V1, (2020, "Actros")),
        RowChange("engines", E1, (V1, 2019, "MAN", 4000, 900, 500)),
    ]
    with closing(opened(place)) as partition:
        execute(f"UPDATE vehicles SET model = 'Atego' WHERE vehicle_uuid = '{V1}'")
        for _ in range(20):
            assert partition.next_batch() == []
        state = partition.snapshot()
        first = take(partition, 2)
    assert changes(first) == [rows, [RowChange("vehicles", V1, (2020, "Atego"))]]
    with closing(opened(place, state)) as again:
        assert take(again, 2) == first, "a crash repeats it to the byte"


def test_a_crash_before_the_first_snapshot_is_durable_begins_anew(
    place: SlotPlace, execute: Execute
) -> None:
    with closing(opened(place)):
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 2020, 'Actros')")
    with closing(opened(place)) as partition:
        partition.snapshot()
        assert changes(take(partition, 1)) == [[RowChange("vehicles", V1, (2020, "Actros"))]]


def test_what_is_not_in_a_durable_snapshot_comes_again_and_the_rest_does_not(
    place: SlotPlace, execute: Execute
) -> None:
    partition = begun(place)
    execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
    take(partition, 1)
    state = partition.snapshot()
    partition.next_batch()  # the server may forget the first
    execute(f"UPDATE vehicles SET model = 'b' WHERE vehicle_uuid = '{V1}'")
    second = take(partition, 1)
    partition.close()
    with closing(opened(place, state)) as again:
        assert take(again, 1) == second


def test_deletes_moves_of_the_key_and_rollbacks(place: SlotPlace, execute: Execute) -> None:
    with closing(begun(place)) as partition:
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
        execute(f"UPDATE vehicles SET vehicle_uuid = '{V2}' WHERE vehicle_uuid = '{V1}'")
        with closing(psycopg.connect(place.url)) as connection:
            connection.execute("DELETE FROM vehicles")
            connection.rollback()
        execute(f"DELETE FROM vehicles WHERE vehicle_uuid = '{V2}'")
        assert changes(take(partition, 3))[1:] == [
            [RowChange("vehicles", V1, None), RowChange("vehicles", V2, (1, "a"))],
            [RowChange("vehicles", V2, None)],
        ]


def test_a_long_value_that_did_not_change_is_not_repeated(
    place: SlotPlace, execute: Execute
) -> None:
    execute("ALTER TABLE vehicles ALTER model SET STORAGE EXTERNAL")
    with closing(begun(place)) as partition:
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, repeat('x', 9000))")
        execute("UPDATE vehicles SET year_of_manufacture = 2")
        assert changes(take(partition, 2))[1] == [RowChange("vehicles", V1, (2, UNCHANGED))]


def test_commit_times_are_those_of_the_source(place: SlotPlace, execute: Execute) -> None:
    with closing(begun(place)) as partition:
        before_us = time.time_ns() // 1000
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
        [transaction] = take(partition, 1).transactions
        assert before_us <= transaction.committed_us <= time.time_ns() // 1000


def test_truncate_is_rejected_and_the_rest_of_its_transaction_goes_on(
    place: SlotPlace, execute: Execute
) -> None:
    with closing(begun(place)) as partition:
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
        execute("TRUNCATE vehicles", f"INSERT INTO vehicles VALUES ('{V2}', 2, 'b')")
        captured = take(partition, 2)
    assert changes(captured)[1] == [RowChange("vehicles", V2, (2, "b"))]
    [output] = captured.rejected
    row = output.rows.to_pylist()[0]
    assert (row["reason"], row["topic"], row["value"][:1]) == ("truncate", place.slot, b"T")
    assert output.positions.tolist() == [captured.transactions[1].lsn]


def test_a_schema_change_is_rejected_and_other_tables_go_on(
    place: SlotPlace, execute: Execute
) -> None:
    with closing(begun(place)) as partition:
        execute("ALTER TABLE vehicles ADD COLUMN colour text DEFAULT 'red'")
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a', 'blue')")
        assert changes(take(partition, 1)) == [[RowChange("vehicles", V1, (1, "a"))]]
        execute("ALTER TABLE vehicles RENAME model TO kind")
        execute(
            f"INSERT INTO vehicles VALUES ('{V2}', 1, 'a', 'blue')",
            f"INSERT INTO engines VALUES ('{E1}', '{V2}', 2019, 'MAN', 4000, 900, 500)",
        )
        captured = take(partition, 1)
        assert [change.table for change in captured.transactions[0].changes] == ["engines"]
        assert captured.rejected[0].rows["reason"].to_pylist() == ["schema_change"]
        execute("ALTER TABLE vehicles RENAME kind TO model")
        execute("UPDATE vehicles SET year_of_manufacture = 9")
        assert len(changes(take(partition, 1))[0]) == 2, "the next change heals the row"


def test_a_value_of_another_type_is_rejected(place: SlotPlace, execute: Execute) -> None:
    with closing(begun(place)) as partition:
        execute("ALTER TABLE vehicles ALTER year_of_manufacture TYPE numeric")
        execute(
            f"INSERT INTO vehicles VALUES ('{V1}', 1.5, 'a'), ('{V2}', 2, 'b')",
        )
        captured = take(partition, 1)
    assert changes(captured) == [[RowChange("vehicles", V2, (2, "b"))]]
    assert captured.rejected[0].rows["reason"].to_pylist() == ["invalid_value"]


def test_a_slot_in_use_is_an_error_that_names_it(
    place: SlotPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.replication._TAKEN_S", 0.2)
    monkeypatch.setattr("sources.slot_setup._TAKEN_S", 0.2)
    partition = begun(place)
    with closing(partition):
        with pytest.raises(FlowError, match=rf"Another process reads .*{place.slot}"):
            opened(place, partition.snapshot())
        with pytest.raises(FlowError, match=rf"Another process reads .*{place.slot}"):
            opened(place)


def test_a_slot_that_is_gone_is_an_error(place: SlotPlace, execute: Execute) -> None:
    partition = begun(place)
    state = partition.snapshot()
    partition.close()
    execute(f"SELECT pg_drop_replication_slot('{place.slot}')")
    with pytest.raises(FlowError, match=r"is gone.*FLOW_VERSION"):
        opened(place, state)


def test_a_slot_that_has_forgotten_too_much_is_an_error(place: SlotPlace, execute: Execute) -> None:
    partition = begun(place)
    state = partition.snapshot()
    partition.close()
    execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
    execute(f"SELECT pg_replication_slot_advance('{place.slot}', pg_current_wal_lsn())")
    with pytest.raises(FlowError, match="has forgotten what came before"):
        opened(place, state)


def test_a_database_that_is_behind_the_state_is_an_error(place: SlotPlace) -> None:
    partition = begun(place)
    state = partition.snapshot()
    partition.close()
    with pytest.raises(FlowError, match="restored from a backup"):
        opened(place, state._replace(lsn=state.lsn + 2**40))


def test_output_without_state_is_an_error(place: SlotPlace) -> None:
    with pytest.raises(FlowError, match="there is no state to go on from"):
        opened(place, has_output=True)


def test_an_idle_slot_moves_on_though_nothing_of_it_changes(
    place: SlotPlace, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.slot._ASK_S", 0.05)
    with closing(begun(place)) as partition:
        before = partition.snapshot().lsn
        execute("CREATE TABLE other AS SELECT generate_series(1, 1000)")
        deadline_s = time.monotonic() + 20
        while partition.snapshot().lsn < before + 10_000:
            assert time.monotonic() < deadline_s
            assert partition.next_batch() == []
            time.sleep(0.01)


def test_a_restart_of_the_server_is_waited_out(
    postgres: PostgresServer, place: SlotPlace, execute: Execute
) -> None:
    with closing(begun(place)) as partition:
        execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
        take(partition, 1)
        postgres.kill()
        for _ in range(3):
            assert partition.next_batch() == []
        postgres.start()
        execute(f"INSERT INTO vehicles VALUES ('{V2}', 2, 'b')")
        assert changes(take(partition, 1)) == [[RowChange("vehicles", V2, (2, "b"))]]


def test_a_finite_run_ends_where_the_log_was(place: SlotPlace, execute: Execute) -> None:
    partition = begun(place)
    state = partition.snapshot()
    partition.close()
    execute(f"INSERT INTO vehicles VALUES ('{V1}', 1, 'a')")
    found = []
    with closing(opened(place, state, stop_at_end=True)) as finite, suppress(StopIteration):
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            found += [t for captured in finite.next_batch() for t in captured.transactions]
            time.sleep(0.005)
        pytest.fail("it did not end")
    assert [change.key for t in found for change in t.changes] == [V1]


def test_a_source_without_the_tables_is_an_error(postgres_url: str) -> None:
    place = SlotPlace(postgres_url, "s", "p", CAPTURED)
    with pytest.raises(FlowError, match=r"no table public\.vehicles"):
        prepare_source(place)


def test_a_publication_without_the_tables_is_an_error(place: SlotPlace, execute: Execute) -> None:
    execute("CREATE PUBLICATION other FOR TABLE vehicles")
    with pytest.raises(FlowError, match="leaves out engines"):
        prepare_source(place._replace(publication="other"))


def test_a_source_that_does_not_answer_is_an_error(place: SlotPlace) -> None:
    gone = place._replace(url="postgresql://postgres@127.0.0.1:1/x")
    with pytest.raises(FlowError, match="SOURCE_DATABASE_URL"):
        prepare_source(gone)
    with pytest.raises(FlowError, match="SOURCE_DATABASE_URL"):
        opened(gone)
