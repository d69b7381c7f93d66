"""Records as Debezium writes them: what each means, and what cannot be used."""

import json
from typing import Any

import pytest

from schemas.transactions import UNCHANGED, RowChange
from schemas.vehicles import ENGINES, VEHICLES_CAPTURED
from sources.debezium_records import End, Event, Rejected, as_json, decode_end, decode_event

V1 = "aaaaaaaa-0000-4000-8000-000000000001"
ROW = {"vehicle_uuid": V1, "year_of_manufacture": 2020, "model": "Actros"}


def envelope(op: str = "c", **values: Any) -> dict[str, Any]:
    return {
        "before": None,
        "after": ROW,
        "source": {
            "snapshot": "false",
            "txId": 774,
            "lsn": 32936488,
            "ts_us": 1_700_000_000_000_001,
        },
        "transaction": {"id": "774:32936488", "total_order": 3, "data_collection_order": 1},
        "op": op,
        "ts_ms": 1_700_000_000_500,
    } | values


def decoded(payload: Any, *, with_schema: bool = False) -> Event | Rejected | None:
    value = {"schema": {"type": "struct"}, "payload": payload} if with_schema else payload
    return decode_event(json.dumps(value).encode(), VEHICLES_CAPTURED, as_json)


@pytest.mark.parametrize("with_schema", [False, True])
@pytest.mark.parametrize("op", ["c", "u"])
def test_create_and_update(op: str, with_schema: bool) -> None:
    assert decoded(envelope(op), with_schema=with_schema) == Event(
        RowChange("vehicles", V1, (2020, "Actros")), 774, 3, 32936488, 1_700_000_000_000_001, op
    )


def test_a_row_of_a_snapshot_behaves_as_created_and_names_no_transaction() -> None:
    source = {"snapshot": "first_in_data_collection", "lsn": 5, "ts_ms": 7}
    event = decoded(envelope("r", transaction=None, source=source))
    assert event == Event(
        RowChange("vehicles", V1, (2020, "Actros")), None, 0, 5, 7_000, "r", source["snapshot"]
    )


def test_of_a_deleted_row_only_the_key_is_read() -> None:
    before = {"vehicle_uuid": V1, "year_of_manufacture": None, "model": None}
    event = decoded(envelope("d", before=before, after=None))
    assert isinstance(event, Event)
    assert event.change == RowChange("vehicles", V1, None)
    nonsense = before | {"year_of_manufacture": "x"}
    assert decoded(envelope("d", before=nonsense, after=None)) == event


def test_a_value_that_was_not_sent_is_unchanged() -> None:
    row = ROW | {"model": "__debezium_unavailable_value"}
    event = decoded(envelope("u", after=row))
    assert isinstance(event, Event)
    assert event.change == RowChange("vehicles", V1, (2020, UNCHANGED))


def test_tombstone_and_heartbeat_and_begin_have_no_effect() -> None:
    assert decode_event(None, VEHICLES_CAPTURED, as_json) is None
    assert decoded(None, with_schema=True) is None
    assert decoded({"ts_ms": 1}) is None
    begin = {"status": "BEGIN", "id": "774:1", "event_count": None, "data_collections": None}
    assert decode_end(json.dumps(begin).encode(), as_json) is None
    assert decode_end(None, as_json) is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (envelope("t", after=None), "truncate"),
        (envelope("m"), "unknown_op"),
        (envelope(after={"vehicle_uuid": V1, "model": "a"}), "schema_change"),
        (envelope(after={"model": "a", "year_of_manufacture": 1}), "schema_change"),
        (envelope(after=ROW | {"year_of_manufacture": "MjA="}), "invalid_value"),
        (envelope(after=ROW | {"year_of_manufacture": 2**63}), "invalid_value"),
        (envelope(after=ROW | {"year_of_manufacture": True}), "invalid_value"),
        (envelope(after=ROW | {"vehicle_uuid": "7"}), "invalid_value"),
        (envelope(after=ROW | {"vehicle_uuid": None}), "invalid_value"),
        (envelope(after=None), "invalid_value"),
        (envelope("d", before=None), "invalid_value"),
        (envelope("d", before={"id": 1}), "schema_change"),
    ],
)
def test_what_cannot_be_used_counts_for_its_transaction_all_the_same(
    payload: dict[str, Any], reason: str
) -> None:
    rejected = decoded(payload)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason
    assert rejected.event is not None
    assert (rejected.event.transaction, rejected.event.change) == (774, None)


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"{", b"[]", b"7", b'"x"', b"{}", b'{"op":"c"}', b'{"payload":{}}']
)
def test_bytes_that_are_no_event_are_undecodable(value: bytes) -> None:
    assert decode_event(value, ENGINES, as_json) == Rejected("undecodable")


def test_a_change_without_its_transaction_is_rejected() -> None:
    assert decoded(envelope(transaction=None)) == Rejected("without_transaction")


def test_end_of_a_transaction() -> None:
    end = {
        "status": "END",
        "id": "774:32936864",
        "event_count": 3,
        "data_collections": [
            {"data_collection": "public.engines", "event_count": 1},
            {"data_collection": "public.vehicles", "event_count": 2},
        ],
    }
    counts = {"public.engines": 1, "public.vehicles": 2}
    assert decode_end(json.dumps(end).encode(), as_json) == End(774, 32936864, counts)
    empty = end | {"data_collections": []}
    assert decode_end(json.dumps({"schema": {}, "payload": empty}).encode(), as_json) == End(
        774, 32936864, {}
    )


@pytest.mark.parametrize("value", [b"", b"{", b'{"status":"END","id":"x"}', b"[]"])
def test_a_marker_that_cannot_be_read(value: bytes) -> None:
    assert decode_end(value, as_json) == Rejected("undecodable")
    assert decode_end(b'{"status":"PAUSE"}', as_json) == Rejected("unknown_op")
