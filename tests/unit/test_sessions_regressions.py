"""The rules of sessions by case, and faults of earlier systems by name."""

import io
import json
import math
import pickle
import random
import statistics

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from dataflows.sessions_settings import SessionsSettings
from operators.ordered_scatter import ShardEvents
from operators.session_table import SessionTable
from operators.sessions import SessionRule
from schemas.avro_files import avro_text
from schemas.device_wire import sensor_words
from schemas.errors import FlowError
from schemas.sessions import SESSION_SCHEMA, encode_session
from schemas.stream import NEVER
from schemas.tables import SESSIONS
from sinks.staging import to_csv
from tests import sessions_oracle
from tests.oracle import FOREVER
from tests.sessions_oracle import DATA, SENT, WOKE, E, Rule
from tests.unit.test_sessions_property import SessionRun, events_of

BASE = 1_700_000_100_000


def events(*told: tuple, device: str = "d") -> list[E]:
    """(ms after BASE, kind) and for data the sensor and the value."""
    return [E(BASE + at, device, kind, *more) for at, kind, *more in told]


def finished(*logs: list[E], rule: Rule | None = None) -> SessionRun:
    run = SessionRun(list(logs), rule or Rule(), 0, restore=True)
    run.all()
    run.finish()
    return run


def keys(run: SessionRun) -> list[str]:
    return [event["key"] for event in run.events]


def reasons(run: SessionRun) -> list[str]:
    return [row["reason"] for row in run.rows]


def test_a_wake_up_is_one_record_under_its_session() -> None:
    run = finished(events((0, WOKE)))
    assert keys(run) == [f"d/{BASE}-0-0"]
    (row,) = run.rows
    assert (row["device"], row["session_id"]) == ("d", f"{BASE}-0-0")
    assert (row["reason"], row["event_count"], row["sensors"]) == ("timeout", 1, {})
    assert (row["started_at"], row["ended_at"]) == (BASE, BASE + 4_000)


def test_a_wake_up_and_data_are_two_records_under_one_key_in_order() -> None:
    run = finished(events((0, WOKE), (10, DATA, "temperature", 5.0)))
    assert keys(run) == [f"d/{BASE}-0-0"] * 2
    assert [event["place"] for event in run.events] == [(0, 0), (0, 1)]
    (row,) = run.rows
    figures = {"count": 1, "min": 5.0, "max": 5.0, "mean": 5.0, "last": 5.0}
    assert row["sensors"] == {"temperature": figures}


def test_data_after_two_wake_ups_belong_to_the_second() -> None:
    run = finished(events((0, WOKE), (10, WOKE), (20, DATA, "t", 1.0)))
    first, second, data = keys(run)
    assert first != second == data
    assert reasons(run) == ["superseded", "timeout"]
    assert run.rows[0]["ended_at"] == BASE + 10


def test_all_data_sent_belongs_to_the_session_it_completes() -> None:
    run = finished(events((0, WOKE), (10, SENT)))
    assert len(set(keys(run))) == 1
    (row,) = run.rows
    assert (row["reason"], row["ended_at"], row["event_count"]) == ("completed", BASE + 10, 2)


def test_a_silent_device_times_out_by_what_another_tells() -> None:
    log = [E(BASE, "device-2", WOKE), E(BASE + 5_000, "device-1", WOKE)]
    run = SessionRun([log], Rule(lateness=0), 0, restore=False)
    run.all()
    (row,) = run.rows
    assert (row["device"], row["reason"], row["ended_at"]) == ("device-2", "timeout", BASE + 4_000)
    state = run.shard.snapshot().table
    assert state.names == ("device-1",), "the other's state is gone"
    assert run.shard._table._states["count"].sum() == 0


def test_data_without_a_wake_up_begin_a_session() -> None:
    run = finished(events((0, DATA, "t", 1.0), (10, DATA, "t", 2.0)))
    assert keys(run) == [f"d/{BASE}-0-0"] * 2
    assert run.rows[0]["sensors"]["t"]["count"] == 2


def test_all_data_sent_alone_is_a_session_of_one_event() -> None:
    (row,) = finished(events((0, SENT))).rows
    assert (row["reason"], row["event_count"]) == ("completed", 1)
    assert row["started_at"] == row["ended_at"] == BASE


def test_a_repeated_all_data_sent_belongs_to_the_session_it_repeats() -> None:
    run = finished(events((0, WOKE), (10, SENT), (2_000, SENT), (4_009, SENT)))
    assert len(set(keys(run))) == 1
    (row,) = run.rows
    assert (row["event_count"], row["ended_at"]) == (4, BASE + 10)


def test_a_repetition_at_the_end_of_the_timeout_is_a_session_of_its_own() -> None:
    run = finished(events((0, SENT), (4_000, SENT)))
    assert [row["event_count"] for row in run.rows] == [1, 1]
    assert reasons(run) == ["completed", "completed"]


def test_repetitions_do_not_prolong_a_session() -> None:
    run = finished(events(*((at, SENT) for at in range(0, 12_000, 3_000))))
    assert [row["event_count"] for row in run.rows] == [2, 2], "3 s apart, for ever"


@pytest.mark.parametrize("next_kind", [WOKE, DATA])
def test_what_follows_a_completed_session_begins_another(next_kind: int) -> None:
    told = (10, DATA, "t", 1.0) if next_kind == DATA else (10, WOKE)
    run = finished(events((0, SENT), told, (20, SENT)))
    first, second, third = keys(run)
    assert first != second == third, "a later AllDataSent completes the new one"
    assert reasons(run) == ["completed", "completed"]


def test_an_event_just_before_the_timeout_continues_and_one_at_it_does_not() -> None:
    run = finished(events((0, WOKE), (3_999, DATA, "t", 1.0)))
    assert len(run.rows) == 1
    run = finished(events((0, WOKE), (4_000, DATA, "t", 1.0)))
    assert len(run.rows) == 2
    assert run.rows[0]["ended_at"] == BASE + 4_000


def test_each_event_prolongs_an_open_session() -> None:
    told = [(0, WOKE), *((at, DATA, "t", 1.0) for at in range(3_000, 30_000, 3_000))]
    run = finished(events(*told))
    assert [row["event_count"] for row in run.rows] == [10]


def test_the_result_does_not_depend_on_when_snapshots_are_taken() -> None:
    rng = random.Random(7)
    log = [
        E(BASE + i * 40, f"d{rng.randrange(9)}", rng.choice([WOKE, DATA, SENT]), "t", 1.0)
        for i in range(600)
    ]
    log = [e if e.kind == DATA else E(e.time, e.key, e.kind) for e in log]
    expected = sessions_oracle.sessions([log], Rule(), limit=FOREVER)
    for seed in range(5):
        run = SessionRun([log], Rule(), seed, restore=seed > 0)
        run.all()
        run.finish()
        assert (run.events, run.rows) == expected


def test_the_same_input_gives_the_same_ids() -> None:
    log = events((0, WOKE), (5, WOKE), (5, WOKE), (9, SENT))
    ids = [keys(finished(log)) for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3, "two sessions of one millisecond are two"


def test_events_out_of_order_within_the_lateness_are_put_in_order_first() -> None:
    told = [(0, WOKE), (100, DATA, "t", 1.0), (200, SENT)]
    run = finished(events(told[2], told[0], told[1]))
    assert [e["place"] for e in run.events] == [(0, 1), (0, 2), (0, 0)]
    assert reasons(run) == ["completed"]


def test_late_events_are_in_no_session() -> None:
    run = finished(events((0, WOKE), (9_000, WOKE), (6_999, DATA, "t", 1.0)))
    assert run.late == 1
    assert sum(row["event_count"] for row in run.rows) == len(run.events) == 2


def test_timeouts_fire_on_a_silent_partition() -> None:
    quiet = events((0, WOKE))
    loud = [E(BASE + at, "other", WOKE) for at in range(0, 20_000, 500)]
    run = SessionRun([quiet, loud], Rule(), 0, restore=False)
    for partition in (0, 1):
        for batch in events_of(partition, run.logs[partition], run.rule, random.Random(1)):
            run.feed(batch)
    assert not any(row["device"] == "d" for row in run.rows), "its watermark stands"
    idle = events_of(0, quiet, run.rule, random.Random(1))[0]
    nothing = idle.event_time_ms[:0]
    run.step(idle)
    item = ShardEvents(
        0, 0, BASE + 10_000, [], nothing, nothing, nothing, {}, ended=False
    )  # the idle decision of the silent partition
    run.take(run.shard.on_batch([item])[0])
    assert [r["reason"] for r in run.rows if r["device"] == "d"] == ["timeout"]


def test_every_session_ends_in_a_row() -> None:
    rng = random.Random(11)
    log = [
        E(BASE + i * 150, f"d{rng.randrange(30)}", rng.choice([WOKE, SENT])) for i in range(2_000)
    ]
    run = finished(log)
    assert {tuple(key.rsplit("/", 1)) for key in keys(run)} == {
        (row["device"], row["session_id"]) for row in run.rows
    }
    assert set(reasons(run)) == {"completed", "superseded", "timeout"}


def test_state_of_ended_sessions_is_gone_from_memory_and_store() -> None:
    table = SessionTable(SessionRule(), 1_000)
    sizes = []
    for step in range(40):
        n = 500
        names = [f"device-{step}-{i}" for i in range(n)]
        times = np.full(n, BASE + step * 10_000) + np.arange(n) % 900
        columns = {
            "kind": np.full(n, DATA, np.uint8),
            "sensor": sensor_words([f"s{i % 7}".encode() for i in range(n)]),
            "value": np.ones(n),
        }
        values = pa.array([b"v" * 100] * n, pa.binary())
        offsets = np.arange(n) + step * n
        table.add(ShardEvents(0, 0, 0, names, np.arange(n), times, offsets, columns, False, values))
        table.advance(BASE + step * 10_000 + 5_000)
        sizes.append(len(pickle.dumps(table.snapshot())))
    assert max(sizes) < 2 * min(sizes), "devices that are gone leave nothing"
    assert len(table._arrivals.keys) <= 500
    assert len(table._cells) < 3_000
    table.advance(BASE + 1_000_000)
    last = table.snapshot()
    assert (last.names, last.states) == ((), b"")
    assert not any(len(part) for part in last.events.values())


def test_a_mean_lies_between_minimum_and_maximum_and_never_overflows() -> None:
    told = [(0, WOKE), *((1 + i, DATA, "t", 1.7e308) for i in range(9))]
    (row,) = finished(events(*told)).rows
    assert row["sensors"]["t"]["mean"] == 1.7e308
    told = [(0, WOKE), *((1 + i, DATA, "t", 0.1) for i in range(3))]
    (row,) = finished(events(*told)).rows
    assert row["sensors"]["t"]["mean"] == 0.1, "not 0.10000000000000002"
    values = [random.Random(3).uniform(-5, 5) for _ in range(50)]
    told = [(i, DATA, "t", value) for i, value in enumerate(values)]
    (row,) = finished(events(*told)).rows
    assert math.isclose(row["sensors"]["t"]["mean"], statistics.fmean(values), rel_tol=1e-12)
    assert row["sensors"]["t"]["last"] == values[-1]


def test_sensors_stand_by_name() -> None:
    told = [(i, DATA, name, float(i)) for i, name in enumerate("zébaz")]
    (row,) = finished(events(*told)).rows
    assert list(row["sensors"]) == ["a", "b", "z", "é"]
    assert row["sensors"]["z"] == {"count": 2, "min": 0.0, "max": 4.0, "mean": 2.0, "last": 4.0}


def test_a_session_that_a_longer_log_denies_is_withdrawn() -> None:
    run = SessionRun([events((500, DATA, "t", 1.0), (100, WOKE))], Rule(), 0, restore=True)
    one_by_one = random.Random(0)
    one_by_one.choice = lambda options: 1  # type: ignore[method-assign]
    one, other = events_of(0, run.logs[0], run.rule, one_by_one)
    run.feed(one)
    run.finish([BASE - 1_500])
    ghost = run.rows[-1]["session_id"]
    run.shard = run.restored()
    run.shard._ended = [False]
    run.feed(other)
    run.finish()
    last = {row["session_id"]: row for row in run.rows}
    assert (last[ghost]["reason"], last[ghost]["event_count"]) == ("withdrawn", 0)
    assert last[ghost]["revision"] == 1
    assert last[f"{BASE + 100}-0-1"]["event_count"] == 2
    final = {event["place"]: event["key"] for event in run.events}
    assert set(final.values()) == {f"d/{BASE + 100}-0-1"}


def rows_of(run: SessionRun) -> pa.RecordBatch:
    names = SESSION_SCHEMA.names
    columns = {name: [row[name] for row in run.rows] for name in names}
    columns["sensors"] = [list(sensors.items()) for sensors in columns["sensors"]]
    return pa.record_batch(
        [pa.array(columns[name], SESSION_SCHEMA.field(name).type) for name in names],
        schema=SESSION_SCHEMA,
    )


def test_the_published_row_holds_every_field() -> None:
    told = [(0, WOKE), (5, DATA, "wind", 0.5), (9, DATA, "heat", -1.0)]
    run = finished(events(*told, (10, SENT)), events((3, SENT), device="other"))
    schema = json.loads(avro_text("sessions.avsc"))
    parsed = fastavro.parse_schema(schema)
    values = encode_session(rows_of(run)).to_pylist()
    for value, row in zip(values, run.rows, strict=True):
        rest = io.BytesIO(value)
        message = fastavro.schemaless_reader(rest, parsed)
        assert rest.tell() == len(value)
        for name in ("started_at", "ended_at"):
            message[name] = round(message[name].timestamp() * 1000)
        assert message == {name: row[name] for name in message}
    assert [field["name"] for field in schema["fields"]] == SESSION_SCHEMA.names
    assert SESSION_SCHEMA.names == [column.name for column in SESSIONS.columns]


def test_a_row_of_sensors_is_json_for_postgres() -> None:
    run = finished(events((0, DATA, 'a"b,\\c', 0.1), (1, SENT)))
    text = bytes(to_csv(pa.Table.from_batches([rows_of(run)]).select(["sensors"]))).decode()
    written = json.loads(text.strip().strip('"').replace('""', '"'))
    assert written == run.rows[0]["sensors"]


def test_settings_of_sessions_are_checked() -> None:
    assert SessionsSettings().rule.timeout_ms == 4_000
    assert SessionsSettings(session_timeout_s=0.5).rule.timeout_ms == 500
    assert SessionsSettings().output == "sessions"
    assert SessionsSettings().events_output == "session-events"
    assert SessionsSettings(output_topic="x").events_output == "x.events"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "90000"])
def test_a_timeout_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_TIMEOUT_S", value)
    with pytest.raises(FlowError, match="SESSION_TIMEOUT_S"):
        SessionsSettings.load()


def test_too_few_simulated_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_DEVICES", "3")
    with pytest.raises(FlowError, match="MARKET_PARTITIONS"):
        SessionsSettings.load()


def test_an_empty_log_ends_without_rows() -> None:
    run = SessionRun([[]], Rule(), 0, restore=False)
    run.finish([NEVER])
    assert (run.rows, run.events) == ([], [])
