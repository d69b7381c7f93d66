"""Health of the flows as their metrics tell it, however little they tell."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from page.health import Health
from page.hub import Hub
from page.memory import Memory
from page.settings import MetricsSource
from tests.metrics_server import MetricsServer
from tests.real.process import HOST, free_port

FULL = """
# TYPE tidemark_source_records_total counter
tidemark_source_records_total{flow="market",partition="0"} %d
tidemark_source_records_total{flow="market",partition="1"} 100
# TYPE tidemark_late_records_total counter
tidemark_late_records_total{flow="market",partition="0"} 3
tidemark_late_records_total{flow="candles",partition="0"} 4
# TYPE tidemark_source_rejected_total counter
tidemark_source_rejected_total{flow="market",partition="0",reason="no_value"} 2
tidemark_source_rejected_total{flow="market",partition="0",reason="undecodable"} 3
# TYPE tidemark_source_watermark_lag_seconds gauge
tidemark_source_watermark_lag_seconds{flow="market",partition="0"} 2.25
tidemark_source_watermark_lag_seconds{flow="market",partition="1"} 7.5
# TYPE tidemark_source_consumer_lag_records gauge
tidemark_source_consumer_lag_records{flow="market",partition="0"} 40
tidemark_source_consumer_lag_records{flow="market",partition="1"} 2
# TYPE python_info gauge
python_info{flow="nobody"} 1
"""


@pytest.fixture
def metrics() -> Iterator[MetricsServer]:
    server = MetricsServer()
    yield server
    server.close()


def rows_of(
    *texts: tuple[int, str], server: MetricsServer, url: str, starting_s: float = 180
) -> Any:
    """The last row of each flow, after the health was asked once for each text."""
    hub = Hub(Memory({}), most_clients=1, most_rows=100)

    async def ask() -> None:
        health = Health([MetricsSource("market", url)], hub, starting_s=starting_s)
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            for status, text in texts:
                server.status, server.text = status, text
                await health.ask(http)

    asyncio.run(ask())
    rows = hub.memory.tail("health", lambda _: True, None, 100)
    return {row["flow"]: row for row in (json.loads(one.text) for one in rows)}


def test_what_the_metrics_say(metrics: MetricsServer) -> None:
    url = f"http://{metrics.address}/metrics"
    rows = rows_of((200, FULL % 50), (200, FULL % 90), server=metrics, url=url)
    market = rows["market"]
    assert market["up"] is True
    assert (market["records"], market["late"], market["rejected"]) == (190, 3, 5)
    assert (market["watermark_lag_s"], market["consumer_lag"]) == (7.5, 42)
    assert market["events_per_s"] > 0
    assert rows["candles"]["late"] == 4
    assert rows["candles"]["records"] is None
    assert set(rows) == {"market", "candles", "page"}


def test_a_process_that_tells_nothing_yet_is_up(metrics: MetricsServer) -> None:
    url = f"http://{metrics.address}/metrics"
    market = rows_of((200, ""), server=metrics, url=url)["market"]
    assert (market["up"], market["records"], market["watermark_lag_s"]) == (True, None, None)


def test_one_that_does_not_answer_is_down_and_so_is_what_it_told(metrics: MetricsServer) -> None:
    url = f"http://{metrics.address}/metrics"
    rows = rows_of((200, FULL % 1), (500, ""), server=metrics, url=url)
    assert [rows[flow]["up"] for flow in ("market", "candles")] == [False, False]
    nobody = f"http://{HOST}:{free_port()}/metrics"
    assert rows_of((200, ""), server=metrics, url=nobody)["market"]["up"] is False
    assert rows_of((200, "<html>"), server=metrics, url=url)["market"]["error"]


def test_one_that_has_not_answered_yet_is_starting_but_not_for_ever(
    metrics: MetricsServer,
) -> None:
    url = f"http://{metrics.address}/metrics"

    def state(*statuses: int, starting_s: float = 180) -> tuple[bool, bool]:
        texts = ((status, FULL % 1) for status in statuses)
        market = rows_of(*texts, server=metrics, url=url, starting_s=starting_s)["market"]
        return market["up"], market["starting"]

    assert state(500) == (False, True)
    assert state(500, starting_s=0) == (False, False)
    assert state(500, 200) == (True, False)
    assert state(500, 200, 500) == (False, False)


def test_no_password_is_told(metrics: MetricsServer) -> None:
    url = f"http://user:hunter2@{metrics.address}/metrics?token=hunter2"
    for status in (200, 500):
        rows = rows_of((status, FULL % 1), server=metrics, url=url)
        assert "hunter2" not in json.dumps(rows)
        assert metrics.address in rows["market"]["url"]
