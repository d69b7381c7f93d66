"""What is traded on the simulated exchange: a function of seed, instrument and `trade_seq`.

Any trade can be made again, so history has no store, and an exchange that starts anew with
the same arguments goes on where the former one was. Prices and times are those of
`sources.market_prices`; a trade is JSON text as the real exchange writes it. Contract: of an
instrument, times never fall with `trade_seq`, which starts at 1 and has no holes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.stream import Int64s
from sources.market_blocks import MarketShape
from sources.market_instruments import Instrument, list_instruments
from sources.market_prices import event_times, prices

__all__ = ["Columns", "ExchangeMarket", "Listed"]

_FUTURES = 20
_LIQUIDATION_EVERY, _BLOCK_EVERY = 997, 499
_LIQUIDATIONS = ("M", "T", "MT")
_OPTION_PRICE, _OPTION_PRICE_SCALE = 425, 4
_OPTION_QUANTITY, _OPTION_QUANTITY_SCALE = 150, 1
_INVERSE = {"BTC": 10, "ETH": 1}
"""Currencies whose perpetual is traded in US dollars, and its contract size there."""
_INVERSE_USD = 300  # a median trade
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Listed:
    """An instrument as the exchange lists it.

    Attributes:
        name: such as BTC-PERPETUAL.
        kind: future or option.
        currency: such as BTC.
        instrument_type: reversed or linear.
        contract_size: amounts are multiples of it; US dollars for a reversed future, else
            the currency.
    """

    name: str
    kind: str
    currency: str
    instrument_type: str
    contract_size: Decimal

    @property
    def is_inverse(self) -> bool:
        """Whether amounts are US dollars, and not the currency."""
        return self.kind == "future" and self.instrument_type == "reversed"


class Columns(NamedTuple):
    """Consecutive trades of an instrument, each (n,) int64, in order.

    Attributes:
        time_ms: epoch ms.
        price: of 10**-price_scale.
        contracts: amount / contract size.
    """

    time_ms: Int64s
    price: Int64s
    contracts: Int64s


def _list(count: int) -> list[tuple[Listed, Instrument]]:
    """Perpetual futures of the best known currencies, then options of the first two."""
    found = []
    for number, plain in enumerate(list_instruments(count)):
        if number < _FUTURES:
            currency = plain.name.partition("-")[0]
            one = replace(plain, name=f"{currency}-PERPETUAL")
            size = Decimal(1).scaleb(-plain.quantity_scale)
            if currency in _INVERSE:
                size = Decimal(_INVERSE[currency])
                one = replace(one, quantity=_INVERSE_USD // _INVERSE[currency], quantity_scale=0)
            kind, type_ = "future", "reversed" if currency in _INVERSE else "linear"
        else:
            currency = ("BTC", "ETH")[number % 2]
            strike, side = 1_000 * (10 + number // 4), "CP"[number // 2 % 2]
            one = Instrument(
                f"{currency}-26DEC31-{strike}-{side}", _OPTION_PRICE, _OPTION_PRICE_SCALE,
                _OPTION_QUANTITY, _OPTION_QUANTITY_SCALE,
            )  # fmt: skip
            size = Decimal(1).scaleb(-_OPTION_QUANTITY_SCALE)
            kind, type_ = "option", "reversed"
        found.append((Listed(one.name, kind, currency, type_, size), one))
    return found


class ExchangeMarket:
    """All trades of the exchange, from its opening on.

    Args:
        opened_at_ms: epoch ms.
        seed: another seed is another market.
        instruments: how many, up to 10,000; the first trade most.
        rate: trades per second, all instruments together.
    """

    def __init__(
        self, opened_at_ms: int, *, seed: int = 1, instruments: int = 20, rate: float = 200.0
    ) -> None:
        pairs = _list(instruments)
        self.listed: Sequence[Listed] = [listed for listed, _ in pairs]
        self.index = {listed.name: at for at, listed in enumerate(self.listed)}
        self.opened_at_ms = opened_at_ms
        self._shape = MarketShape([one for _, one in pairs], seed, rate, opened_at_ms)
        counts = self._shape.counts
        self.price_scales: Sequence[int] = self._shape.price_scale.tolist()
        self._all = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self._ranks = np.arange(len(self._all)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._block = -1
        self._block_times = np.empty(0, np.int64)
        self._block_order = np.empty(0, np.int64)

    def count(self, instrument: int, now_ms: int) -> int:
        """How many trades of an instrument there are at `now_ms`: the last `trade_seq`."""
        block = (now_ms - self.opened_at_ms) // self._shape.span_ms
        if block < 0:
            return 0
        count = int(self._shape.counts[instrument])
        seqs = np.arange(block * count + 1, (block + 1) * count + 1)
        done = np.searchsorted(self._times(instrument, seqs), now_ms, side="right")
        return int(block) * count + int(done)

    def history(self, instrument: int, first: int, last: int) -> list[str]:
        """Trades of an instrument from `first` to `last`, both from 1 on, as JSON."""
        seqs = np.arange(first, last + 1)
        k = np.full(len(seqs), instrument, np.int32)
        return self._texts(k, seqs, self._times(instrument, seqs))

    def columns(self, instrument: int, first: int, last: int) -> Iterator[Columns]:
        """The same trades as numbers, some ten thousand at a time."""
        for start in range(first, last + 1, _CHUNK):
            seqs = np.arange(start, min(start + _CHUNK, last + 1))
            times = self._times(instrument, seqs)
            price, contracts, _ = self._figures(
                np.full(len(seqs), instrument, np.int32), seqs, times
            )
            yield Columns(times, price, contracts)

    def between(self, after_ms: int, upto_ms: int) -> list[tuple[int, str]]:
        """Instrument and JSON of each trade after `after_ms` and up to `upto_ms`, in order."""
        first_block, last_block = (
            max((ms - self.opened_at_ms) // self._shape.span_ms, 0) for ms in (after_ms, upto_ms)
        )
        found: list[tuple[int, str]] = []
        for block in range(first_block, last_block + 1):
            self._generate(block)
            times = self._block_times[self._block_order]
            a, b = np.searchsorted(times, [after_ms, upto_ms], side="right")
            rows = self._block_order[a:b]
            k = self._all[rows]
            seqs = block * self._shape.counts[k] + self._ranks[rows] + 1
            found += zip(k.tolist(), self._texts(k, seqs, self._block_times[rows]), strict=True)
        return found

    def _generate(self, block: int) -> None:
        if block == self._block:
            return
        shape, n = self._shape, len(self._all)
        times = np.empty(n, np.int64)
        blocks, counts = np.full(n, block), shape.counts[self._all]
        event_times(
            shape.market_seed, shape.seeds, shape.span_ms, self._all, blocks, self._ranks,
            counts, times,
        )  # fmt: skip
        self._block = block
        self._block_times = self.opened_at_ms + times
        self._block_order = np.argsort(self._block_times, kind="stable")

    def _times(self, instrument: int, seqs: Int64s) -> Int64s:
        shape, n = self._shape, len(seqs)
        times = np.empty(n, np.int64)
        count = int(shape.counts[instrument])
        blocks, ranks = np.divmod(seqs - 1, count)
        event_times(
            shape.market_seed, shape.seeds, shape.span_ms,
            np.full(n, instrument, np.int32), blocks, ranks, np.full(n, count), times,
        )  # fmt: skip
        return self.opened_at_ms + times

    def _figures(
        self, k: NDArray[np.int32], seqs: Int64s, times: Int64s
    ) -> tuple[Int64s, Int64s, NDArray[np.int32]]:
        """Price, contracts and side of each trade."""
        shape, n = self._shape, len(k)
        blocks, ranks = np.divmod(seqs - 1, shape.counts[k])
        price, contracts = np.empty(n, np.int64), np.empty(n, np.int64)
        side = np.empty(n, np.int32)
        prices(
            shape.seeds, shape.price, shape.quantity, self.opened_at_ms,
            k, blocks, ranks, times - self.opened_at_ms, price, contracts, side,
        )  # fmt: skip
        return price, contracts, side

    def _texts(self, k: NDArray[np.int32], seqs: Int64s, times: Int64s) -> list[str]:
        columns = (k, seqs, times, *self._figures(k, seqs, times))
        return [
            self._text(*row) for row in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _text(self, k: int, seq: int, time_ms: int, price: int, contracts: int, side: int) -> str:
        listed, scale = self.listed[k], self.price_scales[k]
        amount = listed.contract_size * contracts
        more = ""
        if listed.kind == "option":
            more += f',"iv":{_decimal(4_000 + seq % 2_500, 2)}'
        if seq % _LIQUIDATION_EVERY == 0:
            more += f',"liquidation":"{_LIQUIDATIONS[seq % 3]}"'
        if seq % _BLOCK_EVERY == 0:
            more += f',"block_trade_id":"BLOCK-{seq}"'
        return (
            f'{{"trade_seq":{seq},"trade_id":"{listed.currency}-{seq * len(self.listed) + k}",'
            f'"timestamp":{time_ms},"tick_direction":{(seq * 7 + k) % 4},'
            f'"price":{_decimal(price, scale)},"mark_price":{_decimal(price + seq % 3, scale)},'
            f'"index_price":{_decimal(price + seq % 5, scale)},'
            f'"instrument_name":"{listed.name}","direction":"{"sell" if side else "buy"}",'
            f'"amount":{amount:f}{more}}}'
        )


def _decimal(unscaled: int, scale: int) -> str:
    if scale == 0:
        return str(unscaled)
    whole, rest = divmod(unscaled, 10**scale)
    return f"{whole}.{rest:0{scale}d}"
