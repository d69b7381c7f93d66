"""The slow, obvious reference of the sellers flow: windows as `tests.oracle` has them, other rows.

A sale is a `T` whose price is the amount, negative where its side is 1.
"""

from collections.abc import Callable
from fractions import Fraction

from tests import oracle
from tests.oracle import Rule, T, Window

__all__ = ["amount", "totals"]


def amount(sale: T) -> int:
    return -sale.price if sale.side else sale.price


def _mean(total: int, count: int) -> str:
    scaled = round(Fraction(total, count) * 10**8)  # half to even
    whole, fraction = divmod(abs(scaled), 10**8)
    text = f"{whole}.{fraction:08}".rstrip("0").rstrip(".")
    return text if scaled >= 0 else f"-{text}"


class _Shard(oracle.Shard):
    def row(self, window: Window, chain: list[Window]) -> dict:
        amounts = [amount(arrival.trade) for arrival in window.trades]
        return {
            "seller_id": window.key,
            "window_start": window.start,
            "window_end": window.end,
            "aggregated_amount": str(sum(amounts)),
            "sale_count": len(amounts),
            "min_amount": str(min(amounts)),
            "max_amount": str(max(amounts)),
            "mean_amount": _mean(sum(amounts), len(amounts)),
        }


def totals(
    logs: list[list[T]],
    rule: Rule,
    *,
    limit: int | None = None,
    keys: Callable[[str], bool] = lambda key: True,
) -> list[dict]:
    """Rows of the shard that holds `keys`; see `tests.oracle.candles`."""
    rows = oracle.published(_Shard(rule), logs, limit=limit, keys=keys)
    return [{k: v for k, v in row.items() if k not in ("interval", "is_closed")} for row in rows]
