"""Settings of the page: what may stand in them, and what follows from it."""

import pytest

from page.settings import MetricsSource, PageSettings
from schemas.errors import FlowError


def load(**variables: str) -> PageSettings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return PageSettings.load()


def test_it_is_for_this_machine_unless_told_otherwise() -> None:
    assert (load().page_host, load().page_port) == ("127.0.0.1", 8600)


def test_the_topics_are_those_of_the_flows() -> None:
    topics = load().topics
    assert ("candle", "candles.1m") in topics
    assert ("preview", "candles.1s.live") in topics
    assert ("statistics", "statistics.24h") in topics
    assert {kind for kind, _ in topics} == {
        "candle", "preview", "statistics", "ewma", "sales", "session",
    }  # fmt: skip
    assert ("statistics", "statistics.1h") in load(STATISTICS_WINDOW_S="3600").topics


def test_other_topics() -> None:
    given = load(PAGE_TOPICS="candle=mine.1m, preview=mine.1m.live,candle=yours")
    assert given.topics == (
        ("candle", "mine.1m"),
        ("preview", "mine.1m.live"),
        ("candle", "yours"),
    )


def test_where_metrics_are() -> None:
    given = load(PAGE_METRICS="market=http://127.0.0.1:9101/metrics,http://b:1/metrics")
    assert given.metrics_sources == (
        MetricsSource("market", "http://127.0.0.1:9101/metrics"),
        MetricsSource("http://b:1/metrics", "http://b:1/metrics"),
    )
    assert load().metrics_sources == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAGE_PORT", "0"),
        ("PAGE_PORT", "http"),
        ("PAGE_TOPICS", "candles.1m"),
        ("PAGE_TOPICS", "health=x"),
        ("PAGE_TOPICS", "trades=trades"),
        ("PAGE_METRICS", "127.0.0.1:9101"),
        ("PAGE_HISTORY", "0"),
        ("PAGE_CLIENTS", "0"),
        ("PAGE_QUEUE_ROWS", "0"),
        ("PAGE_SEND_TIMEOUT_S", "0"),
        ("PAGE_POLL_MS", "1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(FlowError, match=name):
        load(**{name: value})
