"""Sales: Arrow's reader and the standard library's say the same of every value, in any batch."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import sales
from schemas.key_codes import is_key
from schemas.sales import SALE_REASONS, SaleCodec

GOOD = {"seller_id": "LNK", "amount_usd": 250, "sale_ts": 1_673_257_140_000}
ANY_CASE = [
    (None, "no_value"),
    (b"", "undecodable"),
    (b"null", "undecodable"),  # alone, it would end a process that gives it to Arrow
    (b"[1]", "undecodable"),
    (b"17", "undecodable"),
    (b"no sale", "undecodable"),
    (b'{"seller_id":"LNK"', "undecodable"),
    (b'{"a":1}{"a":1}', "undecodable"),
    (b'{"a":1},{"a":1}', "undecodable"),
    (b'{"a":1}\n{"a":1}', "undecodable"),
    (b'{"a":01}', "undecodable"),
    (b'{"a":1,}', "undecodable"),
    (b'{"a\\":1}', "undecodable"),
    (b"\xff", "undecodable"),
    (b'{"\xff":1}', "undecodable"),
    (b"[" * 100_000, "undecodable"),
    (b"{}", "missing_seller"),
    ({**GOOD, "seller_id": None}, "missing_seller"),
    ({**GOOD, "seller_id": ""}, "missing_seller"),
    ({**GOOD, "seller_id": 5}, "invalid_seller"),
    ({**GOOD, "seller_id": "a\n"}, "invalid_seller"),
    ({**GOOD, "seller_id": "\ud800"}, "invalid_seller"),
    ({**GOOD, "seller_id": "x" * 256}, "invalid_seller"),
    ({**GOOD, "amount_usd": None}, "missing_amount"),
    ({**GOOD, "amount_usd": "250"}, "invalid_amount"),
    ({**GOOD, "amount_usd": 2.5}, "invalid_amount"),
    ({**GOOD, "amount_usd": True}, "invalid_amount"),
    ({**GOOD, "amount_usd": 2**63}, "invalid_amount"),
    ({**GOOD, "amount_usd": [250]}, "invalid_amount"),
    ({**GOOD, "sale_ts": None}, "missing_time"),
    ({**GOOD, "sale_ts": -1}, "invalid_time"),
    ({**GOOD, "sale_ts": 253_402_300_800_000}, "invalid_time"),
    ({**GOOD, "sale_ts": "2023-01-09"}, "invalid_time"),
    (GOOD, None),
    ({**GOOD, "amount_usd": 0}, None),
    ({**GOOD, "amount_usd": -(2**63)}, None),
    ({**GOOD, "seller_id": "Köln"}, None),
    ({**GOOD, "seller_id": '"}{[\\'}, None),
    ({**GOOD, "more": {"a": [1, None]}, "also": None}, None),
]


def value_of(case: Any) -> bytes | None:
    return json.dumps(case).encode() if isinstance(case, dict) else case


def decode(values: list[bytes | None]) -> list[tuple[Any, ...]]:
    decoded = SaleCodec().decode(pa.array(values, pa.binary()))
    out: list[tuple[Any, ...]] = []
    for i, code in enumerate(decoded.reasons.tolist()):
        if code:
            out.append((SALE_REASONS[code - 1],))
        else:
            name = decoded.key_names[decoded.key_codes[i]]
            out.append((name, int(decoded.columns["amount"][i]), int(decoded.event_time_ms[i])))
    return out


def expected(value: bytes | None) -> tuple[Any, ...]:  # noqa: PLR0911  # a rule each
    """One value by the rules, with nothing but the standard library."""
    if value is None:
        return ("no_value",)
    try:
        sale = json.loads(value)
        assert type(sale) is dict
    except (ValueError, RecursionError, AssertionError):
        return ("undecodable",)
    seller, amount, time = (sale.get(name) for name in ("seller_id", "amount_usd", "sale_ts"))

    def whole(number: object) -> bool:
        return number is None or (type(number) is int and -(2**63) <= number < 2**63)

    try:
        is_text = seller is None or (isinstance(seller, str) and bool(seller.encode() or True))
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        return ("invalid_seller",)
    if not whole(amount):
        return ("invalid_amount",)
    if not whole(time):
        return ("invalid_time",)
    if not seller:
        return ("missing_seller",)
    if not is_key(seller):
        return ("invalid_seller",)
    if amount is None:
        return ("missing_amount",)
    if time is None:
        return ("missing_time",)
    if not 0 <= time < 253_402_300_800_000:
        return ("invalid_time",)
    return (seller, amount, time)


@pytest.mark.parametrize(("case", "reason"), ANY_CASE, ids=repr)
def test_each_case_alone_and_among_good_ones(case: Any, reason: str | None) -> None:
    value = value_of(case)
    good = value_of(GOOD)
    for before, after in ((0, 0), (1, 1), (40, 40)):
        found = decode([*[good] * before, value, *[good] * after])
        wanted = (reason,) if reason else tuple(case[name] for name in GOOD)
        assert found.pop(before) == wanted
        assert set(found) <= {("LNK", 250, 1_673_257_140_000)}, "its neighbours are not touched"


members = st.dictionaries(
    st.sampled_from([*GOOD, *GOOD, "more"]),
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5), st.integers(), st.floats(allow_nan=False),
        st.text(max_size=4), st.lists(st.integers(), max_size=2),
        st.sampled_from(["LNK", "OMA", 250, 1_673_257_140_000]),
    ),
)  # fmt: skip
good_sales = st.fixed_dictionaries(
    {
        "seller_id": st.sampled_from(["LNK", "OMA", "é"]),
        "amount_usd": st.integers(-(2**63), 2**63 - 1),
        "sale_ts": st.integers(0, 2**41),
    }
)


@st.composite
def values(draw: st.DrawFn) -> bytes | None:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.one_of(st.none(), st.binary(max_size=12)))
    sale = draw(good_sales if kind < 7 else members)
    value = json.dumps(sale, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    if kind == 9 and value:
        at = draw(st.integers(0, len(value) - 1))
        value = value[:at] + draw(st.binary(max_size=2)) + value[at + draw(st.integers(0, 2)) :]
    return value


@settings(max_examples=300)
@given(st.lists(values(), max_size=60))
def test_a_batch_is_what_the_standard_library_makes_of_each_value(
    batch: list[bytes | None],
) -> None:
    assert decode(batch) == [expected(value) for value in batch]


def test_a_slice_is_decoded_like_a_whole() -> None:
    batch = pa.array([value_of(GOOD), b"no", None, value_of(GOOD)] * 10, pa.binary())
    whole = SaleCodec().decode(batch).reasons
    assert SaleCodec().decode(batch[3:31]).reasons.tolist() == whole[3:31].tolist()


@given(st.lists(values().filter(lambda value: value is not None), min_size=1, max_size=10))
def test_the_kernel_runs_uncompiled(batch: list[bytes]) -> None:
    array = pa.array(batch, pa.binary())
    found = []
    for kernel in (sales._to_lines, sales._to_lines.py_func):
        offsets, data = sales.binary_views(array)
        flat, starts = np.zeros(len(batch), bool), np.zeros(len(batch) + 1, np.int64)
        lines = np.zeros(len(data) + 3 * len(batch), np.uint8)
        kernel(offsets, data, flat, lines, starts)
        found.append((flat.tolist(), starts.tolist(), lines[: starts[-1]].tobytes()))
    assert found[0] == found[1]
