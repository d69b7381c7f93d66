"""Settings of the flow `market`: those of candles, statistics and ewma together."""

from typing import NamedTuple, Self, TypeVar

from dataflows.ewma_settings import EwmaSettings
from dataflows.settings import CandleSettings, FlowSettings
from dataflows.statistics_settings import StatisticsSettings

__all__ = ["MarketSettings"]

Settings = TypeVar("Settings", bound=FlowSettings)


class MarketSettings(NamedTuple):
    """What each of the three would take if it ran alone.

    With `OUTPUT_TOPIC` each has a topic of its own behind it: `x.candles`, `x.statistics`
    and `x.ewma`.
    """

    candles: CandleSettings
    statistics: StatisticsSettings
    ewma: EwmaSettings

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            FlowError: Some value is wrong, or several do not go together.
        """
        # The first refuses candles as INPUT_FORMAT: there would be none to make.
        candles = CandleSettings.load()
        statistics = StatisticsSettings.load()
        ewma = EwmaSettings.load()
        if candles.output_topic is not None:
            candles = _moved(candles, "candles")
            statistics = _moved(statistics, "statistics")
            ewma = _moved(ewma, "ewma")
        return cls(candles, statistics, ewma)


def _moved(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"output_topic": f"{settings.output_topic}.{name}"})
