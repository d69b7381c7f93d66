"""The flows that every test with a `flow` runs."""

from collections.abc import Iterable, Mapping

import pytest
from _pytest.mark import ParameterSet

from tests.crash.candles_case import CandlesCase
from tests.crash.deribit_case import DeribitCase
from tests.crash.ewma_case import EwmaCase
from tests.crash.market_case import MarketCase
from tests.crash.sellers_case import SellersCase
from tests.crash.sessions_case import SessionsCase
from tests.crash.sink_case import SinkCase
from tests.crash.statistics_case import StatisticsCase
from tests.crash.vehicles_case import VehiclesCase

__all__ = ["CASES", "with_slow"]

CASES: Mapping[str, type[SinkCase]] = {
    "candles": CandlesCase,
    "ewma": EwmaCase,
    "statistics": StatisticsCase,
    "market": MarketCase,
    "sellers": SellersCase,
    "sessions": SessionsCase,
    "vehicles": VehiclesCase,
    "deribit": DeribitCase,
}


def with_slow(flows: Iterable[str] = CASES) -> list[ParameterSet]:
    """Parameters of a test that `make test` runs with candles alone and `make crash` with all."""
    marks = {flow: () if flow == "candles" else (pytest.mark.slow,) for flow in flows}
    return [pytest.param(flow, marks=mark) for flow, mark in marks.items()]
