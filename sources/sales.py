"""Simulated sales: a few sellers, amounts of 100 to 999, as JSON; in bursts when produced."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.stream import Int64s
from sources.simulated import Made, shuffled

__all__ = ["SELLERS", "Sales"]

SELLERS = ("LNK", "OMA", "KC", "DEN")
_AMOUNTS = range(100, 1_000)


class Sales:
    """A `sources.simulated.Maker`.

    Args:
        seed: of sellers and amounts.
        sellers: their ids.
    """

    def __init__(self, seed: int, sellers: Sequence[str] = SELLERS) -> None:
        self._seed = seed
        self._sellers = np.array(sellers)

    def __call__(self, partition: int, numbers: Int64s, event_ms: Int64s) -> Made:  # noqa: ARG002
        """Sales without keys."""
        chance = shuffled(self._seed, numbers)
        count = len(self._sellers)
        sellers = self._sellers[chance % count]
        amounts = _AMOUNTS.start + chance // count % len(_AMOUNTS)
        rows = zip(sellers.tolist(), amounts.tolist(), event_ms.tolist(), strict=True)
        values = [
            json.dumps({"seller_id": seller, "amount_usd": amount, "sale_ts": time}).encode()
            for seller, amount, time in rows
        ]
        return Made(pa.array(values, pa.binary()))
