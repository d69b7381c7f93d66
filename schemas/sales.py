"""Column codec of sales: JSON objects to a seller, an amount and a time.

    {"seller_id": "LNK", "amount_usd": 250, "sale_ts": 1673257140000}

`amount_usd` is a whole number of 64 bits, negative for a refund; `sale_ts` is epoch ms. Other
members are passed over. Columns: `amount`, (n,) int64.

Cost: objects without nested values, in printable ASCII, are decoded batch by batch by Arrow's
JSON reader, about 0.3 us each; all others one by one by the standard library, which is also
what decides on a batch that Arrow refuses. Arrow's reader must see no other values: some, such
as a lone `null`, end its process.
"""

import json
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from numba import njit
from numpy.typing import NDArray

from schemas.binary import binary_views
from schemas.key_codes import DELETE, FIRST_PRINTABLE, is_key
from schemas.stream import Decoded

__all__ = ["SALE_REASONS", "SaleCodec"]

SALE_REASONS = (
    "no_value",
    "undecodable",
    "missing_seller",
    "invalid_seller",
    "missing_amount",
    "invalid_amount",
    "missing_time",
    "invalid_time",
)
_REASON = {name: 1 + i for i, name in enumerate(SALE_REASONS)}

_SCHEMA = pa.schema(
    [("seller_id", pa.string()), ("amount_usd", pa.int64()), ("sale_ts", pa.int64())]
)
_PARSE = pyarrow.json.ParseOptions(
    explicit_schema=_SCHEMA, unexpected_field_behavior="ignore", newlines_in_values=False
)
_FEW = 16  # values that are not worth another attempt at once
_INT64 = 2**63
_YEAR_10000_MS = 253_402_300_800_000
_OPEN, _CLOSE, _NEWLINE = b"{}\n"
_ORDINARY, _IS_QUOTE, _IS_BACKSLASH, _IS_BRACKET, _IS_STRANGE = range(5)
_KINDS = np.full(256, _IS_STRANGE, np.uint8)
_KINDS[FIRST_PRINTABLE:DELETE] = _ORDINARY
_KINDS[list(b"{}[]")] = _IS_BRACKET
_KINDS[list(b'"')] = _IS_QUOTE
_KINDS[list(b"\\")] = _IS_BACKSLASH


@njit(cache=True)
def _to_lines(
    offsets: NDArray[np.int32],
    data: NDArray[np.uint8],
    flat: NDArray[np.bool_],
    lines: NDArray[np.uint8],
    starts: NDArray[np.int64],
) -> None:
    """A line for each flat value, and one with an empty object for each other.

    A flat one is a single object in printable ASCII, as far as brackets and quotes tell.
    """
    at = 0
    for i in range(len(flat)):
        starts[i] = at
        first, end = offsets[i], offsets[i + 1]
        good = end - first > 1 and data[first] == _OPEN and data[end - 1] == _CLOSE
        in_text = False
        k = first + 1
        while good and k < end - 1:
            kind = _KINDS[data[k]]
            k += 1
            if kind == _ORDINARY:
                continue
            if kind == _IS_QUOTE:
                in_text = not in_text
            elif kind == _IS_BACKSLASH:
                k += 1
                good = in_text and k < end
            else:
                good = in_text and kind == _IS_BRACKET
        flat[i] = good and not in_text and k == end - 1
        if flat[i]:
            lines[at : at + end - first] = data[first:end]
            at += end - first
        else:
            lines[at] = _OPEN
            lines[at + 1] = _CLOSE
            at += 2
        lines[at] = _NEWLINE
        at += 1
    starts[len(flat)] = at


class _Sale(NamedTuple):
    seller: str | None = None
    amount: int | None = None
    time_ms: int | None = None
    reason: str | None = None


class SaleCodec:
    """Decodes sales; see `schemas.stream.Codec`."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reject reasons, indexed by code - 1."""
        return SALE_REASONS

    def decode(self, values: pa.BinaryArray) -> Decoded:
        """Decode (n,) values; see the module for the columns."""
        n = len(values)
        reasons = np.zeros(n, np.uint8)
        if values.null_count:
            reasons[values.is_null().to_numpy(zero_copy_only=False)] = _REASON["no_value"]
            values = pc.fill_null(values, b"{}")
        offsets, data = binary_views(values)
        flat, starts = np.empty(n, bool), np.empty(n + 1, np.int64)
        lines = np.empty(int(offsets[-1] - offsets[0]) + 3 * n, np.uint8)
        _to_lines(offsets, data, flat, lines, starts)
        sellers, amounts, times = _read(lines, starts, flat).combine_chunks().itercolumns()
        if not flat.all():
            alone = pa.array(~flat)
            sales = [_sale(value) for value in values.filter(alone).to_pylist()]
            codes = np.array([_REASON[sale.reason] if sale.reason else 0 for sale in sales])
            reasons[~flat] = np.where(reasons[~flat] > 0, reasons[~flat], codes)
            sellers, amounts, times = (
                pc.replace_with_mask(column, alone, pa.array([sale[k] for sale in sales], of.type))
                for k, (column, of) in enumerate(
                    zip((sellers, amounts, times), _SCHEMA, strict=True)
                )
            )
        return _columns(sellers, amounts, times, reasons)


def _read(lines: NDArray[np.uint8], starts: NDArray[np.int64], flat: NDArray[np.bool_]) -> pa.Table:
    """Sales of (n,) lines at `starts`, read at once.

    Where Arrow refuses a line, it and a few neighbours are no longer `flat`, and null.
    """
    n = len(flat)
    if n > _FEW:
        data = pa.py_buffer(lines[starts[0] : starts[n]])
        read = pyarrow.json.ReadOptions(use_threads=False, block_size=max(data.size, 1))
        with suppress(pa.ArrowInvalid):
            return pyarrow.json.read_json(pa.BufferReader(data), read, _PARSE)
        half = n // 2
        return pa.concat_tables(
            [
                _read(lines, starts[: half + 1], flat[:half]),
                _read(lines, starts[half:], flat[half:]),
            ]
        )
    flat[:] = False
    return pa.table([pa.nulls(n, field.type) for field in _SCHEMA], schema=_SCHEMA)


def _sale(value: bytes) -> _Sale:
    """A sale as the standard library reads it."""
    try:
        members = json.loads(value)
    except (ValueError, RecursionError):
        return _Sale(reason="undecodable")
    if not isinstance(members, dict):
        return _Sale(reason="undecodable")
    seller, amount, time_ms = (members.get(field.name) for field in _SCHEMA)
    if seller is not None and not (isinstance(seller, str) and _is_text(seller)):
        return _Sale(reason="invalid_seller")
    if amount is not None and not _is_whole(amount):
        return _Sale(seller, reason="invalid_amount")
    if time_ms is not None and not _is_whole(time_ms):
        return _Sale(seller, amount, reason="invalid_time")
    return _Sale(seller, amount, time_ms)


def _is_whole(value: object) -> bool:
    return type(value) is int and -_INT64 <= value < _INT64


def _is_text(value: str) -> bool:
    """Whether UTF-8 can say it: a lone surrogate is no character."""
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _columns(
    sellers: pa.ChunkedArray,
    amounts: pa.ChunkedArray,
    times: pa.ChunkedArray,
    reasons: NDArray[np.uint8],
) -> Decoded:
    def judge(reason: str, bad: NDArray[np.bool_]) -> None:
        reasons[bad & (reasons == 0)] = _REASON[reason]

    def number(column: pa.ChunkedArray, what: str) -> NDArray[np.int64]:
        judge(f"missing_{what}", column.is_null().to_numpy(zero_copy_only=False))
        filled: NDArray[np.int64] = column.fill_null(0).to_numpy()
        return filled

    keys = sellers.fill_null("").combine_chunks().dictionary_encode()
    names = keys.dictionary.to_pylist()
    codes: NDArray[np.int32] = keys.indices.to_numpy()
    judge("missing_seller", np.array([not name for name in names], bool)[codes])
    judge("invalid_seller", np.array([not is_key(name) for name in names], bool)[codes])
    amount = number(amounts, "amount")
    time_ms = number(times, "time")
    judge("invalid_time", (time_ms < 0) | (time_ms >= _YEAR_10000_MS))
    return Decoded(time_ms, codes, names, {"amount": amount}, reasons)
