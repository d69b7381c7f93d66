"""Random histories through the operator: equal to the model, however cut and restored."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from operators.vehicles import VehiclesLogic
from schemas.transactions import Captured, RowChange, Transaction
from schemas.vehicles_pb2 import Change
from sources.inventory import Inventory
from tests.vehicles_model import Told, expected, told_of

VEHICLES = [f"aaaaaaaa-0000-4000-8000-{n:012d}" for n in range(3)]
ENGINES = [f"eeeeeeee-0000-4000-8000-{n:012d}" for n in range(3)]


@st.composite
def histories(draw: st.DrawFn) -> list[list[RowChange]]:
    """Transactions after each of which no two engines have one vehicle."""
    engines: dict[str, str | None] = {}
    history = []
    for _ in range(draw(st.integers(1, 25))):
        changes = []
        for _ in range(draw(st.integers(1, 4))):
            if draw(st.booleans()):
                row = draw(st.none() | st.tuples(st.sampled_from([1, 2]), st.sampled_from("ab")))
                changes.append(RowChange("vehicles", draw(st.sampled_from(VEHICLES)), row))
                continue
            engine = draw(st.sampled_from(ENGINES))
            taken = {o for e, o in engines.items() if e != engine}
            free = [v for v in VEHICLES if v not in taken]
            owner = draw(st.sampled_from([None, *free]))
            values = draw(st.none() | st.sampled_from([1, 2]))
            row = None if values is None else (owner, 2020, "MAN", 4_000, 900, values)
            engines[engine] = None if row is None else owner
            changes.append(RowChange("engines", engine, row))
        history.append(changes)
    return history


def run(history: list[list[RowChange]], sizes: list[int], *, repeat: int = 0) -> list[list[Told]]:
    """What is published per transaction, with a restart from a snapshot after each batch."""
    transactions = [
        Transaction(10 * n + 10, 1_000_000 + n, changes) for n, changes in enumerate(history)
    ]
    told: dict[int, list[Told]] = {t.lsn: [] for t in transactions}
    state, at, turn = None, 0, 0
    while at < len(transactions):
        size = sizes[turn % len(sizes)]
        batch = transactions[max(0, at - repeat) : at + size]
        logic = VehiclesLogic(state)
        outputs, _ = logic.on_batch([Captured(batch, [])])
        for output in outputs:
            assert output.positions.tolist() == sorted(output.positions.tolist())
            changes = output.rows["change"].to_pylist()
            for lsn, change in zip(output.positions.tolist(), changes, strict=True):
                message = Change.FromString(change)
                committed_us = next(t.committed_us for t in transactions if t.lsn == lsn)
                assert message.changed_at.ToMicroseconds() == committed_us
                told[lsn].append(told_of(message))
        state = pickle.loads(pickle.dumps(logic.snapshot()))
        at, turn = at + size, turn + 1
    return list(told.values())


@given(histories(), st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(0, 5))
def test_any_history_equals_the_model_whatever_the_batches_restarts_and_repetitions(
    history: list[list[RowChange]], sizes: list[int], repeat: int
) -> None:
    assert run(history, sizes, repeat=repeat) == expected(history)


@given(st.integers(0, 10_000))
def test_the_simulated_inventory_equals_the_model(seed: int) -> None:
    inventory = Inventory(seed, size=8)
    history = [inventory.transaction() for _ in range(150)]
    assert run(history, [40]) == expected(history)


def test_a_snapshot_stays_as_it_was_taken() -> None:
    inventory = Inventory(3, size=20)
    logic = VehiclesLogic(None)
    logic.on_batch([Captured([Transaction(1, 1, inventory.transaction())], [])])
    snapshot = logic.snapshot()
    before = pickle.dumps(snapshot)
    for n in range(2, 50):
        logic.on_batch([Captured([Transaction(n, n, inventory.transaction())], [])])
        logic.snapshot()
    assert pickle.dumps(snapshot) == before


def test_the_inventory_does_everything_there_is() -> None:
    inventory = Inventory(1, size=30)
    told = [one for told in expected(inventory.transaction() for _ in range(3_000)) for one in told]
    assert {one.event for one in told} == {"created", "updated", "deleted"}
    masks = {one.mask for one in told}
    assert {frozenset({"engine"}), frozenset({"model"})} <= masks
    assert frozenset({"engine.remaining_mileage_resource"}) in masks
    assert any(one.event == "created" and one.revision > 1 for one in told)
