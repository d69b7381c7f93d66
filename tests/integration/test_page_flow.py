"""The page with real flows behind it: from a trade to the chart, and the whole demonstration."""

import json
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import candles_io as io
from tests.oracle import T
from tests.real.browser import Browser
from tests.real.flows import FlowProcess, _environment
from tests.real.kafka_client import Kafka
from tests.real.page import PageServer
from tests.real.process import Child, free_port, wait_until_ready

ONE = 10**8
CLOSED = "document.getElementById('chart').data?.find(one => one.name === 'closed')"
FORMING = "document.getElementById('chart').data?.find(one => one.name === 'forming')"
SCREENSHOT = Path(__file__).parents[2] / "docs" / "images" / "page.png"
MOST_BYTES = 250_000


def test_a_trade_moves_the_chart_and_closes_its_candle(
    browser: Browser, kafka: Kafka, topic: str, postgres_url: str, tmp_path: Path
) -> None:
    kafka.create_topic(topic, 1)
    port = free_port()
    env = io.settings(kafka, topic, postgres_url, STOP_AT_END="0", METRICS_PORT=str(port))
    flow = FlowProcess("dataflows.candles", log=tmp_path / "flow.log", env=env, recovery_dir=None)
    page = PageServer(
        tmp_path / "page.log",
        {
            "DATABASE_URL": postgres_url,
            "PAGE_METRICS": f"candles=http://127.0.0.1:{port}/metrics",
        },
    )
    minute_ms = int(time.time()) // 60 * 60_000
    prices = iter(range(1, 1000))

    def trade(time_ms: int, price: str) -> None:
        unscaled = int(price.replace(".", "")) * 10 ** (8 - len(price.partition(".")[2]))
        io.produce(kafka, topic, [[T(time_ms, "BTC-USD", unscaled, ONE, 0, next(prices))]])

    try:
        page.start()
        browser.open(f"{page.url}/#/market/BTC-USD/1m")
        trade(minute_ms - 60_000, "100.00000001")
        browser.wait(
            "document.getElementById('last').textContent === '100.00000001'", timeout_s=120
        )
        trade(minute_ms - 59_000, "101.5")
        browser.wait(f"({FORMING})?.close[0] === 101.5")
        assert browser.text("#last") == "101.5"
        # Its event time is past the end of the minute and the lateness, so the minute closes.
        trade(minute_ms + 5_000, "99.25")
        browser.wait(f"({CLOSED})?.close.at(-1) === 101.5 && ({FORMING}).close[0] === 99.25")
        # One more of the minute that is closed corrects it.
        trade(minute_ms - 58_000, "250")
        # A correction leaves at a tick after its arrival: time must go on.
        trade(minute_ms + 9_000, "99.5")
        browser.wait(f"({CLOSED}).high.at(-1) === 250")
        assert browser.run(f"return {CLOSED}.x.length") == 1
        browser.wait("document.querySelector('#health-list .state')?.textContent === 'up'")
        assert browser.text("#health-list h3") == "candles"
        browser.wait("/rejected\\s*0/.test(document.getElementById('health-list').innerText)")
    finally:
        browser.leave()
        flow.kill9()
        page.kill()


@pytest.fixture
def demonstration(browser: Browser, scratch_dir: Path) -> Iterator[str]:
    """URL of what `make page` starts."""
    port = free_port()
    directory = scratch_dir / "demonstration"
    directory.mkdir()
    env = {
        "DATA_DIR": str(directory),
        "PAGE_PORT": str(port),
        "MARKET_RATE": "60",
        # So that there is a day of figures after seconds.
        "STATISTICS_WINDOW_S": "86400",
    }
    child = Child(
        [sys.executable, "-m", "page.demo"],
        log=directory / "page.log",
        env=_environment(env),
        cwd=directory,
        death_signal=signal.SIGTERM,
    )

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return bool(json.load(answer)["up"])
        except OSError:
            return False

    wait_until_ready(child, ready, what="The demonstration", timeout_s=120)
    yield f"http://127.0.0.1:{port}"
    browser.leave()
    child.stop(timeout_s=60)


def test_the_demonstration_shows_a_moving_market(
    browser: Browser, demonstration: str, pytestconfig: pytest.Config
) -> None:
    browser.open(f"{demonstration}/#/market/BTC-USD/1s")
    browser.wait(f"({CLOSED})?.close.length > 2", timeout_s=240)
    newest = browser.run(f"return {CLOSED}.x.at(-1)")
    browser.wait(f"({CLOSED}).x.at(-1) > arguments[0]", newest, timeout_s=60)
    browser.wait("document.querySelectorAll('#instruments-body th').length > 10")
    browser.wait("[...document.querySelectorAll('#health-list .state')]"
                 ".filter(one => one.textContent === 'up').length >= 3", timeout_s=120)  # fmt: skip
    for view in ("sales", "sessions"):
        browser.run("location.hash = arguments[0]", f"#/{view}")
        browser.wait(f"document.querySelectorAll('#{view}-body tr').length > 2", timeout_s=120)
    if not pytestconfig.getoption("update_screenshot"):
        return
    browser.open(f"{demonstration}/#/market/BTC-USD/1s")
    browser.wait(f"({CLOSED})?.close.length > 100", timeout_s=400)
    browser.resize(1280, 800)
    time.sleep(3)  # until the chart has its new size, and the flows some figures
    browser.screenshot(SCREENSHOT)
    assert SCREENSHOT.stat().st_size < MOST_BYTES
