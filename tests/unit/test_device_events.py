"""The codec of device events against fastavro: good bytes, bad bytes, and foreign schemas."""

import io
import json
import math
import random
import struct
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avro_files import avro_text
from schemas.device_events import REASONS, DeviceEvent, DeviceEventCodec, decode_one
from schemas.device_schemas import WriterSchemas
from schemas.device_wire import KINDS, sensor_words, write_device_events
from schemas.wire import id_header

OURS = json.loads(avro_text("devices.avsc"))
NOW = 1_700_000_000_000
WOKE, SENT = ("devices.DeviceWokeUp", {}), ("devices.AllDataSent", {})


def data(name: str = "temperature", value: float = 5.0) -> tuple[str, dict]:
    return "devices.DataReceived", {"name": name, "value": value}


def plain(schema: Any) -> Any:
    """Times as numbers."""
    if isinstance(schema, dict):
        return {k: plain(v) for k, v in schema.items() if k != "logicalType"}
    return [plain(s) for s in schema] if isinstance(schema, list) else schema


def written(event: tuple[str, dict], time: int = NOW, schema: Any = OURS, **more: Any) -> bytes:
    out = io.BytesIO()
    message = {"event": event, "timestamp": time, **more}
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), message)
    return out.getvalue()


def decoded(
    records: list[tuple[bytes | None, bytes | None]], writers: WriterSchemas | None = None
) -> list[DeviceEvent]:
    """What the codec makes of (key, value) pairs, in the words of the reference."""
    keys = pa.array([key for key, _ in records], pa.binary())
    values = pa.array([value for _, value in records], pa.binary())
    got = DeviceEventCodec(writers).decode_keyed(keys, values)
    out = []
    for i, reason in enumerate(got.reasons.tolist()):
        if reason:
            out.append(DeviceEvent(REASONS[reason - 1], "", 0, "", 0.0, 0))
            continue
        name = got.columns["sensor"][i].astype(">u8").tobytes().rstrip(b"\0").decode()
        kind, value = int(got.columns["kind"][i]), float(got.columns["value"][i])
        device = got.key_names[got.key_codes[i]]
        out.append(DeviceEvent("", device, kind, name, value, int(got.event_time_ms[i])))
    return out


def test_each_kind_of_event_decodes_with_its_fields() -> None:
    records = [(b"d", written(event)) for event in (WOKE, data(), SENT)]
    assert decoded(records) == [
        DeviceEvent("", "d", 0, "", 0.0, NOW),
        DeviceEvent("", "d", 1, "temperature", 5.0, NOW),
        DeviceEvent("", "d", 2, "", 0.0, NOW),
    ]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"d", None, "no_value"),
        (b"d", b"", "undecodable"),
        (b"d", b"\x00", "undecodable"),
        (b"d", written(WOKE)[:-1], "undecodable"),
        (b"d", written(WOKE) + b"x", "undecodable"),
        (b"d", b"\x06" + written(WOKE)[1:], "undecodable"),
        (b"d", b"\x01" + written(WOKE)[1:], "undecodable"),  # index -1
        (b"d", b"\x02\x01", "undecodable"),  # a text of -1 bytes
        (b"d", b"\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "undecodable"),
        (b"d", b"\x02\x04\xff\xfe" + b"\0" * 8 + b"\x02", "undecodable"),  # no UTF-8
        (b"d", b"\x00" + b"\xff" * 9 + b"\x7f", "undecodable"),  # more than 64 bits
        (b"d", b"\x00" + b"\x80" * 10 + b"\x01", "undecodable"),
        (None, written(WOKE), "missing_device"),
        (b"", written(WOKE), "missing_device"),
        (b"\xff", written(WOKE), "invalid_device"),
        (b"a\nb", written(WOKE), "invalid_device"),
        (b"d" * 256, written(WOKE), "invalid_device"),
        (b"d", written(data("")), "missing_sensor"),
        (b"d", written(data("s" * 65)), "invalid_sensor"),
        (b"d", written(data("a\0b")), "invalid_sensor"),
        (b"d", written(WOKE, -1), "invalid_timestamp"),
        (b"d", written(WOKE, 253_402_300_800_000), "invalid_timestamp"),
        (b"d", written(data(value=math.nan)), "value_not_finite"),
        (b"d", written(data(value=math.inf)), "value_not_finite"),
        (b"d", written(data(value=-math.inf)), "value_not_finite"),
    ],
)
def test_a_bad_record_gets_its_reason_and_leaves_its_neighbours_alone(
    key: bytes | None, value: bytes | None, reason: str
) -> None:
    good = (b"device-1", written(data("wind", 0.25)))
    first, bad, last = decoded([good, (key, value), good])
    assert bad.reason == reason
    assert first == last == DeviceEvent("", "device-1", 1, "wind", 0.25, NOW)


@pytest.mark.parametrize("key", ["é", "a/b", "x" * 255, "器件-1"])
@pytest.mark.parametrize("sensor", ["é", "s" * 64, "höhe über NN"])
def test_any_text_is_a_device_and_a_sensor(key: str, sensor: str) -> None:
    (event,) = decoded([(key.encode(), written(data(sensor, -0.5)))])
    assert event == DeviceEvent("", key, 1, sensor, -0.5, NOW)


_events = st.one_of(
    st.just(WOKE),
    st.just(SENT),
    st.builds(data, st.text(max_size=70), st.floats()),
)
_keys = st.one_of(st.none(), st.binary(max_size=5), st.text(max_size=5).map(str.encode))
_times = st.one_of(st.integers(0, 2**41), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=200)
@given(st.lists(st.tuples(_keys, _events, _times), max_size=20))
def test_what_the_library_writes_decodes_as_by_the_reference(records: list[tuple]) -> None:
    pairs = [(key, written(event, time)) for key, event, time in records]
    assert decoded(pairs) == [decode_one(*pair) for pair in pairs]


@st.composite
def _mutilated(draw: st.DrawFn) -> bytes:
    value = bytearray(written(draw(_events), draw(_times)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        match draw(st.integers(0, 3)):
            case 0:
                del value[at:]
            case 1:
                value[at:at] = draw(st.binary(min_size=1, max_size=3))
            case 2:
                value[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case _:
                del value[at : at + 1]
    return bytes(value)


def _is_odd_for_the_library(value: bytes) -> bool:
    """fastavro takes an index of -1 for the last branch, and varints of any length."""
    longest = run = 0
    for byte in value:
        run = run + 1 if byte >= 0x80 else 0
        longest = max(longest, run)
    return not value or value[0] & 1 == 1 or longest >= 9


@settings(max_examples=1_000)
@given(st.lists(st.one_of(_mutilated(), st.binary(max_size=40)), min_size=1, max_size=10))
def test_malformed_bytes_never_decode_to_what_the_library_does_not_read(
    values: list[bytes],
) -> None:
    got = decoded([(b"d", value) for value in values])
    for value, event in zip(values, got, strict=True):
        expected = decode_one(b"d", value)
        if event != expected:
            assert _is_odd_for_the_library(value), (value.hex(), event, expected)
            assert event.reason, "a reject, though perhaps for another of its faults"


def test_the_compiled_writer_writes_what_the_library_does() -> None:
    rng = random.Random(3)
    names = [b"pressure", "höhe".encode()]
    kinds = np.array([rng.randrange(3) for _ in range(300)], np.uint8)
    sensors = np.array([rng.randrange(2) for _ in kinds])
    figures = np.array([rng.uniform(-1, 1) for _ in kinds])
    times = np.array([rng.choice([0, 1, NOW, 2**62, -5]) + rng.randrange(9) for _ in kinds])
    values = write_device_events(kinds, sensors, figures, times, names, b"??").to_pylist()
    for i, value in enumerate(values):
        event = [WOKE, data(names[sensors[i]].decode(), figures[i]), SENT][kinds[i]]
        assert value == b"??" + written(event, int(times[i]))


def test_words_of_names_order_as_their_bytes() -> None:
    names = sorted([b"a", b"ab", b"b", "é".encode(), b"z" * 64, b"a" * 63])
    words = [tuple(row) for row in sensor_words(names).tolist()]
    assert words == sorted(words)


def changed(**by: str) -> dict:
    """Our schema with other words in it."""
    text = json.dumps(OURS)
    for old, new in by.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return json.loads(text)


def reordered() -> dict:
    schema = json.loads(json.dumps(OURS))
    schema["fields"][0]["type"].reverse()
    return schema


def extended() -> dict:
    schema = json.loads(json.dumps(OURS))
    schema["fields"].append({"name": "firmware", "type": ["null", "string"], "default": None})
    schema["fields"][0]["type"][1]["fields"].append({"name": "unit", "type": "string"})
    return schema


MICROS = json.loads(json.dumps(OURS).replace("timestamp-millis", "timestamp-micros"))
SCHEMAS = {
    1: json.dumps(OURS),
    2: json.dumps(changed(AllDataSent="AllDataReceived")),
    3: json.dumps(reordered()),
    4: json.dumps(extended()),
    5: '"string"',
    6: json.dumps(MICROS),
    7: "no schema",
    8: json.dumps(changed(devices="other.space")),
}


def framed(schema_id: int, value: bytes) -> bytes:
    return id_header(schema_id) + value


def foreign() -> list[tuple[bytes, DeviceEvent]]:
    """Values of several schemas, and what they mean."""
    received = ("devices.AllDataReceived", {})
    more = ("devices.DataReceived", {"name": "wind", "value": 0.5, "unit": "m/s"})
    other = ("other.space.AllDataSent", {})
    wind, sent = DeviceEvent("", "d", 1, "wind", 0.5, NOW), DeviceEvent("", "d", 2, "", 0.0, NOW)
    return [
        (framed(1, written(data("wind", 0.5))), wind),
        (framed(2, written(received, schema=json.loads(SCHEMAS[2]))), sent),
        (framed(3, written(data("wind", 0.5), schema=reordered())), wind),
        (framed(3, written(SENT, schema=reordered())), sent),
        (framed(4, written(more, schema=extended(), firmware="1.0")), wind),
        (framed(4, written(SENT, schema=extended(), firmware=None)), sent),
        (framed(8, written(other, schema=json.loads(SCHEMAS[8]))), sent),
    ]


def test_several_writers_schemas_in_one_batch_are_each_read_by_its_own() -> None:
    asked: list[int] = []

    def lookup(schema_id: int) -> str | None:
        asked.append(schema_id)
        return SCHEMAS.get(schema_id)

    writers = WriterSchemas(lookup)
    values = [*foreign(), *foreign()]
    random.Random(1).shuffle(values)
    for _ in range(2):
        got = decoded([(b"d", value) for value, _ in values], writers)
        assert got == [event for _, event in values]
    assert sorted(asked) == [1, 2, 3, 4, 8], "each id is looked up once"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "no_wire_header"),
        (written(WOKE)[:4], "no_wire_header"),
        (b"\x01" + framed(1, written(WOKE))[1:], "no_wire_header"),
        (framed(99, written(WOKE)), "unknown_schema"),
        (framed(5, b"\x02a"), "incompatible_schema"),
        (framed(6, written(WOKE)), "incompatible_schema"),
        (framed(7, written(WOKE)), "incompatible_schema"),
        (framed(1, written(WOKE) + b"x"), "undecodable"),
        (framed(4, written(SENT, schema=extended(), firmware=None) + b"x"), "undecodable"),
        (framed(4, b"\x02"), "undecodable"),
        (framed(1, written(data("x", math.inf))), "value_not_finite"),
    ],
)
def test_framed_values_get_their_reasons(value: bytes, reason: str) -> None:
    good, event = foreign()[0]
    got = decoded([(b"d", good), (b"d", value), (b"d", good)], WriterSchemas(SCHEMAS.get))
    assert [g.reason for g in got] == ["", reason, ""]
    assert got[0] == got[2] == event


def test_a_double_keeps_all_its_bits() -> None:
    for bits in (1, 2**63, 0x7FEFFFFFFFFFFFFF, 0x000FFFFFFFFFFFFF):
        (value,) = struct.unpack("<d", struct.pack("<Q", bits))
        (event,) = decoded([(b"d", written(data("x", value)))])
        assert struct.pack("<d", event.value) == struct.pack("<d", value)


def test_kinds_are_those_of_the_schema_in_its_order() -> None:
    assert tuple(branch["name"] for branch in OURS["fields"][0]["type"]) == KINDS
