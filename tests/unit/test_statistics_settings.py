"""Settings of the flows statistics and market: what goes together, and what things are called."""

import pytest

from dataflows.market_settings import MarketSettings
from dataflows.statistics_settings import StatisticsSettings
from operators.rolling_table import RollingRule
from schemas.candles import INTERVALS_MS
from schemas.errors import FlowError
from schemas.tables import STATISTICS_24H, statistics_table

KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "k:9092"}


def load(**variables: str | int) -> StatisticsSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        return StatisticsSettings.load()


def market(**variables: str | int) -> MarketSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        return MarketSettings.load()


def refusal(**variables: str | int) -> str:
    with pytest.raises(FlowError) as caught:
        load(**variables)
    assert "\n" not in str(caught.value), "one paragraph"
    return str(caught.value)


def test_the_defaults_are_a_day_by_seconds() -> None:
    settings = load()
    assert settings.rule == RollingRule(86_400_000, 1_000, 1_000, 60_000, replaces=False)
    assert (settings.topic, settings.window, settings.output) == (
        "trades", "24h", "statistics.24h"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("window_s", "name"),
    [
        (86_400, "24h"), (3_600, "1h"), (604_800, "7d"), (90, "90s"), (1, "1s"), (60, "1m"),
        (5_400, "90m"), (90_000, "25h"), (172_800, "2d"), (3_024_000, "35d"),
    ],
)  # fmt: skip
def test_topics_and_tables_are_named_after_the_window(window_s: int, name: str) -> None:
    settings = load(STATISTICS_WINDOW_S=window_s)
    assert settings.window == name
    assert settings.output == f"statistics.{name}"
    assert load(STATISTICS_WINDOW_S=window_s, OUTPUT_TOPIC="mine").output == "mine"
    table = statistics_table(name)
    assert table.name == f"statistics_{name}"
    assert [c.name for c in table.columns] == [c.name for c in STATISTICS_24H.columns]
    assert [c.name for c in table.primary_key] == ["instrument", "close_time"]
    assert statistics_table(name) is table


@pytest.mark.parametrize(
    ("given", "tick_ms", "quiet_ms"),
    [
        ({}, 1_000, 60_000),
        ({"STATISTICS_PANE_S": 60}, 60_000, 60_000),
        ({"STATISTICS_PANE_S": 300}, 300_000, 300_000),
        ({"STATISTICS_PANE_S": 5, "STATISTICS_TICK_S": 20}, 20_000, 60_000),
        ({"STATISTICS_TICK_S": 120}, 120_000, 120_000),
        ({"STATISTICS_TICK_S": 7, "STATISTICS_QUIET_S": 14}, 7_000, 14_000),
        ({"STATISTICS_TICK_S": 7}, 7_000, 63_000),
        ({"STATISTICS_QUIET_S": 1}, 1_000, 1_000),
    ],
)
def test_ticks_follow_the_pane_and_quiet_ones_the_tick(
    given: dict[str, int], tick_ms: int, quiet_ms: int
) -> None:
    rule = load(**given).rule
    assert (rule.tick_ms, rule.quiet_every_ms) == (tick_ms, quiet_ms)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"STATISTICS_WINDOW_S": 90, "STATISTICS_PANE_S": 60},
            (
                "STATISTICS_WINDOW_S=90 is not a multiple of STATISTICS_PANE_S=60. "
                "Set STATISTICS_WINDOW_S to a multiple of STATISTICS_PANE_S."
            ),
        ),
        (
            {"STATISTICS_PANE_S": 5, "STATISTICS_TICK_S": 7},
            (
                "STATISTICS_TICK_S=7 is not a multiple of STATISTICS_PANE_S=5. "
                "Set STATISTICS_TICK_S to a multiple of STATISTICS_PANE_S."
            ),
        ),
        (
            {"STATISTICS_TICK_S": 2, "STATISTICS_QUIET_S": 3},
            (
                "STATISTICS_QUIET_S=3 is not a multiple of STATISTICS_TICK_S=2. "
                "Set STATISTICS_QUIET_S to a multiple of STATISTICS_TICK_S."
            ),
        ),
        (
            {"STATISTICS_WINDOW_S": 30, "STATISTICS_TICK_S": 60},
            (
                "STATISTICS_TICK_S=60 is longer than STATISTICS_WINDOW_S=30: trades between two "
                "windows would be in none. Set STATISTICS_TICK_S to the length of the window at "
                "most."
            ),
        ),
        (
            {"STATISTICS_PANE_S": 5, "INPUT_FORMAT": "candle", **KAFKA},
            (
                "INPUT_FORMAT=candle with STATISTICS_PANE_S=5: there are no candles of this "
                "length. Set STATISTICS_PANE_S to the length of the candles: 1, 60, 300, 3600, "
                "86400."
            ),
        ),
        (
            {"STATISTICS_PANE_S": 60, "INPUT_FORMAT": "candle"},
            (
                "INPUT_FORMAT=candle needs Kafka, and KAFKA_BOOTSTRAP_SERVERS is unset: the "
                "simulated market has trades only. Set KAFKA_BOOTSTRAP_SERVERS, or leave "
                "INPUT_FORMAT unset."
            ),
        ),
    ],
)
def test_lengths_that_do_not_go_together_are_refused_by_name(
    given: dict[str, str | int], told: str
) -> None:
    assert refusal(**given).startswith(told)


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "STATISTICS_WINDOW_S": ["0", "-1", "3024001", "1.5", "1d"],
        "STATISTICS_PANE_S": ["0", "86401", "0.5"],
        "STATISTICS_TICK_S": ["0", "x"],
        "STATISTICS_QUIET_S": ["0", "-60"],
        "INPUT_FORMAT": ["candles", "Trade"],
    }.items(),
)
def test_a_wrong_value_is_refused_with_the_variables_name(name: str, values: list[str]) -> None:
    for value in values:
        told = refusal(**{name: value})
        assert f"{name}={value!r}" in told
        assert "docs/settings.md" in told


@pytest.mark.parametrize("interval", INTERVALS_MS)
def test_candles_as_input_are_those_of_the_pane(interval: str) -> None:
    pane_s = INTERVALS_MS[interval] // 1000
    given = {"STATISTICS_PANE_S": pane_s, "STATISTICS_WINDOW_S": 10 * 86_400, **KAFKA}
    settings = load(INPUT_FORMAT="candle", **given)
    assert settings.topic == f"candles.{interval}"
    assert settings.candle_interval == interval
    assert settings.rule.replaces
    assert load(**given).topic == "trades"
    assert not load(**given).rule.replaces
    assert load(INPUT_FORMAT="order_execution_report", **given).topic == "trades"


def test_what_is_allowed_is_what_the_operator_takes() -> None:
    for pane_s in (1, 5, 60, 86_400):
        for window_s in (1, 60, 90, 86_400, 3_024_000):
            for tick_s in (None, 5, 60, 3_600):
                for quiet_s in (None, 60, 300):
                    settings = StatisticsSettings(
                        statistics_pane_s=pane_s, statistics_window_s=window_s,
                        statistics_tick_s=tick_s, statistics_quiet_s=quiet_s,
                    )  # fmt: skip
                    try:
                        settings.check()
                    except FlowError:
                        with pytest.raises(ValueError, match="_ms="):
                            _ = settings.rule
                    else:
                        assert settings.rule.window_ms == window_s * 1_000


def test_the_market_has_the_settings_of_each_of_its_flows() -> None:
    settings = market(
        INTERVALS="1s,1m", STATISTICS_WINDOW_S=3_600, EWMA_PERIOD_S=60, SHARDS=4, **KAFKA
    )
    assert settings.candles.topics == {"1s": "candles.1s", "1m": "candles.1m"}
    assert settings.statistics.output == "statistics.1h"
    assert settings.ewma.output == "ewma.1m"
    assert {one.shards for one in settings} == {4}


def test_the_outputs_of_a_market_stand_behind_its_output_topic() -> None:
    settings = market(OUTPUT_TOPIC="x", INTERVALS="1s,1m")
    assert settings.candles.topics == {"1s": "x.candles.1s", "1m": "x.candles.1m"}
    assert [one.output for one in settings] == ["x.candles", "x.statistics", "x.ewma"]
    assert market(OUTPUT_TOPIC="x").candles.topics == {"1m": "x.candles"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"INPUT_FORMAT": "candle", **KAFKA}, "INPUT_FORMAT='candle'"),
        ({"INTERVALS": "2m"}, "INTERVALS='2m'"),
        ({"STATISTICS_WINDOW_S": 90, "STATISTICS_PANE_S": 60}, "STATISTICS_WINDOW_S=90"),
        ({"EWMA_MODE": "time"}, "EWMA_HALFLIFE"),
    ],
)
def test_a_market_refuses_what_any_of_its_flows_refuses(
    given: dict[str, str | int], told: str
) -> None:
    with pytest.raises(FlowError) as caught:
        market(**given)
    assert told in str(caught.value)
