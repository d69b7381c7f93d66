"""Which programs there are, and whether an environment suits one: for tests of deployments."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from dataflows.deribit_settings import DeribitSettings
from dataflows.ewma_settings import EwmaSettings
from dataflows.market_settings import MarketSettings
from dataflows.sellers_settings import SellersSettings
from dataflows.sessions_settings import SessionsSettings
from dataflows.settings import CandleSettings, FlowSettings
from dataflows.statistics_settings import StatisticsSettings
from dataflows.telemetry_settings import TelemetrySettings
from dataflows.vehicles_settings import VehiclesSettings
from page.settings import PageSettings

__all__ = ["APART", "FLOWS", "PAGE", "ROOT", "assert_settings"]

ROOT = Path(__file__).parents[1]
FLOWS: Mapping[str, type[FlowSettings] | type[MarketSettings]] = {
    "candles": CandleSettings,
    "deribit": DeribitSettings,
    "ewma": EwmaSettings,
    "market": MarketSettings,
    "sellers": SellersSettings,
    "sessions": SessionsSettings,
    "statistics": StatisticsSettings,
    "vehicles": VehiclesSettings,
}
APART = {"candles", "statistics", "ewma"}
"""What `market` is in one; together they would fence each other."""

PAGE = "page"

_OF_EVERY_PROCESS = {name.upper() for name in TelemetrySettings.model_fields}
_OF_THE_SCRIPT = {
    name
    for script in ("flow", "writable")
    for name in re.findall(r"[A-Z]{3,}(?:_[A-Z]+)*", (ROOT / "docker" / script).read_text())
}


def assert_settings(program: str, variables: Mapping[str, str]) -> None:
    """Each variable means something, and the flow or the page takes all of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        TelemetrySettings.load()
        loaded = PageSettings.load() if program == PAGE else FLOWS[program].load()
    parts = loaded if isinstance(loaded, MarketSettings) else [loaded]
    fields = {name.upper() for part in parts for name in type(part).model_fields}
    assert set(variables) <= fields | _OF_THE_SCRIPT | _OF_EVERY_PROCESS
