"""Sales, sessions, health and empty states in a real browser, on the real server."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.metrics_server import MetricsServer
from tests.page_io import MINUTE, PageTables, this_minute
from tests.real.browser import Browser
from tests.real.page import PageServer
from tests.real.process import free_port

BARS = "document.getElementById('sales-chart').data"


def cells(browser: Browser, body: str) -> list[list[str]]:
    """Texts of a table, row by row."""
    found: list[list[str]] = browser.run(
        "return [...document.querySelectorAll(arguments[0] + ' tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))",
        body,
    )
    return found


def test_sales_are_totals_rows_and_bars(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    for n, seller in enumerate(("ACME", "LNK", "Zephyr")):
        tables.sales(seller, now - 2 * MINUTE, f"{1000 + n}")
    big = "9007199254740993.01"  # no float holds it
    tables.sales("LNK", now - MINUTE, big)
    browser.open(f"{page.url}/#/sales")
    browser.wait("document.querySelectorAll('#sales-body tr').length === 4")
    assert cells(browser, "#sales-body")[0][1:4] == ["LNK", "9,007,199,254,740,993.01", "3"]
    tables.sales("ACME", now - MINUTE, "0.02", sale_count=2)
    browser.wait(
        "document.getElementById('sales-amount').textContent === '9,007,199,254,740,993.03'"
    )
    assert browser.text("#sales-count") == "5"
    assert browser.text("#sales-sellers") == "2"
    browser.wait(f"{BARS}.length === 3 && {BARS}[0].y.length === 2")
    assert browser.run(f"return {BARS}[0].y") == [1000, 0.02]
    # A correction takes the place of its row.
    tables.sales("LNK", now - MINUTE, "10.5", revision=1)
    browser.wait("document.getElementById('sales-amount').textContent === '10.52'")
    assert len(cells(browser, "#sales-body")) == 5
    browser.run(
        "const field = document.getElementById('seller-filter'); field.value = 'ze';"
        "field.dispatchEvent(new Event('input'))"
    )
    assert [row[1] for row in cells(browser, "#sales-body")] == ["Zephyr"]


def test_sessions_come_as_they_end(browser: Browser, tables: PageTables, page: PageServer) -> None:
    now = this_minute()
    for n, reason in enumerate(("completed", "completed", "timeout", "superseded")):
        tables.session(f"device-{n}", now - timedelta(seconds=10 * n), reason)
    browser.open(f"{page.url}/#/sessions")
    browser.wait("document.querySelectorAll('#sessions-body tr').length === 4")
    first = cells(browser, "#sessions-body")[0]
    assert first[1:5] == ["device-0", "completed", "12.5 s", "9"]
    assert re.sub(r"\s+", " ", first[5]) == "temperature 21.25"
    assert "2 · 50 %" in browser.text("#reasons")
    tables.session("device-9", now + timedelta(seconds=5), "timeout", sensors={})
    browser.wait("document.querySelectorAll('#sessions-body tr').length === 5")
    assert cells(browser, "#sessions-body")[0][1:3] == ["device-9", "timeout"]
    assert "2 · 40 %" in browser.text("#reasons")


def test_what_is_missing_and_how_to_start_it_is_said(
    browser: Browser, postgres_url: str, page: PageServer
) -> None:
    browser.open(page.url)
    browser.wait("document.body.dataset.known")
    for view, command in (
        ("market", "make run FLOW=market"),
        ("sales", "make run FLOW=sellers"),
        ("sessions", "make run FLOW=sessions"),
    ):
        browser.run("location.hash = arguments[0]", f"#/{view}")
        browser.wait("!document.getElementById(arguments[0]).hidden", f"{view}-empty")
        assert command in browser.text(f"#{view}-empty")
    assert "PAGE_METRICS" in browser.text("#health-empty")
    # Tables that come to be while the page is open are shown.
    PageTables(postgres_url).preview("BTC-USD", this_minute(), "5.5")
    browser.run("location.hash = '#/market'")
    browser.wait("document.getElementById('last').textContent === '5.5'")


def test_a_flow_that_does_not_answer_is_starting_at_first_and_later_down(
    browser: Browser, postgres_url: str, tmp_path: Path
) -> None:
    metrics = MetricsServer()
    metrics.status = 503
    sources = f"candles=http://{metrics.address}/metrics"
    page = PageServer(
        tmp_path / "page.log", {"DATABASE_URL": postgres_url, "PAGE_METRICS": sources}
    )
    page.start()
    try:
        browser.open(page.url)
        for status, state in ((503, "starting"), (200, "up"), (503, "down")):
            metrics.status = status
            browser.wait(f"document.querySelector('#health-list .{state}')")
            assert bool(browser.text("#health-list .error")) == (state == "down")
        assert browser.text("#health-list h3") == "candles"
    finally:
        browser.leave()
        page.kill()
        metrics.close()


def test_a_database_that_is_away_is_told(browser: Browser, tmp_path: Path) -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/none"
    page = PageServer(tmp_path / "page.log", {"DATABASE_URL": url})
    page.start()
    try:
        browser.open(page.url)
        browser.wait("document.getElementById('health-problem').textContent.includes('PostgreSQL')")
    finally:
        browser.leave()
        page.kill()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page_and_all_text_is_readable(
    browser: Browser, tables: PageTables, page: PageServer, width: int, scheme: str
) -> None:
    now = this_minute()
    tables.candles("A-RATHER-LONG-NAME-27JUN27-120000-C", until=now, count=30)
    tables.preview("A-RATHER-LONG-NAME-27JUN27-120000-C", now, "12345678.00000001")
    tables.statistics("A-RATHER-LONG-NAME-27JUN27-120000-C", now)
    tables.sales("LNK", now - MINUTE, "123456789012.5")
    tables.session("device", now, "timeout")
    browser.resize(width, 844)
    browser.prefer(scheme)
    for view in ("market", "sales", "sessions"):
        browser.open(f"{page.url}/#/{view}")
        browser.wait("document.querySelector('tbody th')")
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run(CONTRAST) == []


CONTRAST = """
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const behind = (node) => {
        for (let n = node; n; n = n.parentElement) {
            const [r, g, b, a = 1] = parse(getComputedStyle(n).backgroundColor);
            if (a > 0) return [r, g, b];
        }
        return [255, 255, 255];
    };
    return [...document.querySelectorAll('body *:not(svg *):not(option)')]
        .filter((node) => [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
        .filter((node) => node.checkVisibility() && node.tagName !== 'NOSCRIPT')
        .map((node) => {
            const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            return [ratio, node];
        })
        .filter(([ratio]) => ratio < 4.5)
        .map(([ratio, node]) => `${ratio.toFixed(2)} ${node.tagName}.${node.className} ` +
            node.textContent.slice(0, 40));
"""
"""Texts with less than the contrast that WCAG 2.2 asks for at level AA."""
