"""The cases that a vehicle's life consists of, each by its name."""

from typing import Any

import pytest

from operators.vehicle_table import VehicleTable
from schemas.transactions import UNCHANGED, RowChange, Transaction
from schemas.vehicles import change_message, change_rows
from schemas.vehicles_pb2 import Change
from tests.vehicles_model import told_of

A, B = "aaaaaaaa-0000-4000-8000-00000000000a", "bbbbbbbb-0000-4000-8000-00000000000b"
E1, E2 = "eeeeeeee-0000-4000-8000-000000000001", "eeeeeeee-0000-4000-8000-000000000002"
COMMITTED_US = 1_700_000_000_123_456


def vehicle(uuid: str, model: str = "Actros", year: int = 2020) -> RowChange:
    return RowChange("vehicles", uuid, (year, model))


def engine(uuid: str, owner: str | None, remaining: int = 500, maker: str = "MAN") -> RowChange:
    return RowChange("engines", uuid, (owner, 2019, maker, 4_000, 900, remaining))


def gone(change: RowChange) -> RowChange:
    return change._replace(row=None)


class Life:
    """Transactions one by one; each gets the next position."""

    def __init__(self) -> None:
        self.table = VehicleTable()
        self.lsn = 0

    def commit(self, *changes: RowChange, lsn: int | None = None) -> list[tuple[Any, ...]]:
        self.lsn = self.lsn + 1 if lsn is None else lsn
        published = self.table.apply(Transaction(self.lsn, COMMITTED_US, changes))
        return [(p.vehicle_uuid, p.revision, p.event, *p.mask) for p in published]


@pytest.fixture
def life() -> Life:
    return Life()


def test_vehicle_then_engine_is_created_with_revision_1(life: Life) -> None:
    assert life.commit(vehicle(A)) == []
    assert life.commit(engine(E1, A)) == [(A, 1, "created")]


def test_engine_then_vehicle_is_created_once_and_never_half_empty(life: Life) -> None:
    assert life.commit(engine(E1, A)) == []
    assert life.commit(vehicle(A)) == [(A, 1, "created")]


def test_both_in_one_transaction_in_either_order(life: Life) -> None:
    assert life.commit(vehicle(A), engine(E1, A)) == [(A, 1, "created")]
    assert life.commit(engine(E2, B), vehicle(B)) == [(B, 1, "created")]


def test_update_of_the_model_only(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(vehicle(A, "Zetros")) == [(A, 2, "updated", "model")]


def test_update_of_the_engine_names_exactly_the_fields_that_changed(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(engine(E1, A, remaining=400, maker="Bosch")) == [
        (A, 2, "updated", "engine.manufacturer", "engine.remaining_mileage_resource")
    ]


def test_engine_deleted_leaves_no_stale_engine(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(gone(engine(E1, A))) == [(A, 2, "updated", "engine")]


def test_engine_unassigned_leaves_no_stale_engine(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    published = life.table.apply(Transaction(9, COMMITTED_US, [engine(E1, None)]))
    message = change_message(published[0])
    assert message.vehicle_updated.field_mask.paths == ["engine"]
    assert not message.resulting_state.HasField("engine")


def test_changed_while_without_engine_then_attached_again_names_all_that_differs(
    life: Life,
) -> None:
    life.commit(vehicle(A), engine(E1, A))
    life.commit(engine(E1, None))
    assert life.commit(vehicle(A, "Econic", 2021)) == []
    assert life.commit(engine(E1, A)) == [
        (A, 3, "updated", "year_of_manufacture", "model", "engine")
    ]


def test_detached_and_changed_in_one_transaction_names_both(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(engine(E1, None), vehicle(A, "Econic")) == [
        (A, 2, "updated", "model", "engine")
    ]


def test_deleted_vehicle_that_was_published(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(gone(vehicle(A))) == [(A, 2, "deleted")]


def test_deleted_vehicle_that_was_never_published_says_nothing(life: Life) -> None:
    life.commit(vehicle(A))
    assert life.commit(gone(vehicle(A))) == []
    assert life.commit(gone(vehicle(B))) == []


def test_engine_detached_and_vehicle_deleted_in_one_transaction_is_one_deletion(
    life: Life,
) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(engine(E1, None), gone(vehicle(A))) == [(A, 2, "deleted")]


def test_engine_moved_from_a_to_b_publishes_both_together(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A), vehicle(B))
    assert life.commit(engine(E1, B)) == [(A, 2, "updated", "engine"), (B, 1, "created")]


def test_engines_swapped_in_one_transaction(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A), vehicle(B), engine(E2, B))
    assert life.commit(engine(E1, None), engine(E2, A), engine(E1, B)) == [
        (A, 2, "updated", "engine"),
        (B, 2, "updated", "engine"),
    ]


def test_engine_inserted_unassigned_later_assigned(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, None))
    assert life.commit(engine(E1, A)) == [(A, 1, "created")]


def test_a_row_without_a_difference_says_nothing(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(vehicle(A), engine(E1, A)) == []


def test_a_transaction_redelivered_has_no_effect(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A), lsn=5)
    life.commit(vehicle(A, "Zetros"), lsn=7)
    assert life.commit(vehicle(A), engine(E1, A), lsn=5) == []
    assert life.commit(vehicle(A, "Zetros"), lsn=7) == []
    assert life.commit(vehicle(A, "Atego"), lsn=8) == [(A, 3, "updated", "model")]


def test_the_revision_never_restarts_after_delete_and_creation_anew(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    life.commit(gone(vehicle(A)), gone(engine(E1, A)))
    assert life.commit(vehicle(A), engine(E2, A)) == [(A, 3, "created")]


def test_created_anew_while_the_engine_still_names_it(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    life.commit(gone(vehicle(A)))
    assert life.commit(vehicle(A)) == [(A, 3, "created")]


def test_deleted_and_created_anew_in_one_transaction_is_what_differs(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    assert life.commit(gone(vehicle(A)), vehicle(A, "Atego")) == [(A, 2, "updated", "model")]


def test_deleted_after_the_engine_was_detached(life: Life) -> None:
    life.commit(vehicle(A), engine(E1, A))
    life.commit(gone(engine(E1, A)))
    assert life.commit(gone(vehicle(A))) == [(A, 3, "deleted")]


def test_a_value_that_the_source_did_not_repeat_stays(life: Life) -> None:
    life.commit(vehicle(A, "a very long name"), engine(E1, A))
    change = RowChange("vehicles", A, (2021, UNCHANGED))
    assert life.commit(change) == [(A, 2, "updated", "year_of_manufacture")]
    message = change_message(
        life.table.apply(Transaction(9, COMMITTED_US, [vehicle(A, "short", 2021)]))[0]
    )
    assert message.vehicle_updated.field_mask.paths == ["model"]


def test_the_message_carries_uuid_and_commit_time_to_the_microsecond() -> None:
    table = VehicleTable()
    changes = [vehicle(A), engine(E1, A)]
    [published] = table.apply(Transaction(1, COMMITTED_US, changes))
    rows = change_rows([published])
    message = Change.FromString(rows["change"][0].as_py())
    assert message.entity_uuid == A
    assert message.changed_at.ToMicroseconds() == COMMITTED_US
    assert message.resulting_state.engine.engine_uuid == E1
    assert told_of(message).revision == 1
    row = rows.to_pylist()[0]
    assert (row["vehicle_uuid"], row["revision"], row["deleted"]) == (A, 1, False)
    assert row["engine_remaining_mileage_resource"] == 500


def test_a_null_stays_apart_from_zero_and_empty() -> None:
    table = VehicleTable()
    changes = [RowChange("vehicles", A, (None, "")), engine(E1, A)]
    [published] = table.apply(Transaction(1, COMMITTED_US, changes))
    state = change_message(published).resulting_state
    assert not state.HasField("year_of_manufacture")
    assert state.HasField("model")


def test_state_of_a_deleted_vehicle_is_its_revision_alone() -> None:
    table = VehicleTable()
    table.apply(Transaction(1, COMMITTED_US, [vehicle(A), engine(E1, A), vehicle(B)]))
    table.apply(
        Transaction(2, COMMITTED_US, [gone(vehicle(A)), gone(engine(E1, A)), gone(vehicle(B))])
    )
    assert [uuid for uuid, _ in table._vehicles] == [A], "never published: forgotten"
    assert len(table._engines) == 0
