"""The market view in a real browser, on a real database and the real server."""

import time
from datetime import timedelta
from itertools import pairwise

from schemas.tables import CANDLES
from tests.page_io import MINUTE, PageTables, candle, this_minute
from tests.real.browser import Browser
from tests.real.page import PageServer

NAME = "BTC-USD"
CLOSED = "document.getElementById('chart').data?.find(one => one.name === 'closed')"
FORMING = "document.getElementById('chart').data?.find(one => one.name === 'forming')"
LIVE = "document.getElementById('connection').dataset.condition === 'live'"
ROWS = "[...document.querySelectorAll('#instruments tbody tr:not(.blank)')]"


def text(selector: str) -> str:
    return f"document.querySelector({selector!r}).textContent"


def show(browser: Browser, page: PageServer, where: str = "") -> None:
    """Open the page and wait for its first candle."""
    browser.open(f"{page.url}/{where}")
    browser.wait(LIVE)
    browser.wait(f"({CLOSED})?.x.length > 0")


def closes(browser: Browser) -> list[float]:
    found: list[float] = browser.run(f"return {CLOSED}.close")
    return found


def test_a_closed_candle_is_on_the_page_about_a_second_after_its_commit(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    tables.candles(NAME, until=now - 20 * MINUTE, count=30)
    tables.preview(NAME, now, "1")  # so that it is in the list
    show(browser, page)
    delays_ms = []
    for n in range(19, 0, -1):
        # In the page, at the clock's next look: when is the chart drawn with this candle?
        browser.run(
            f"""
            const closed = () => {CLOSED};
            window.drawnMs = null;
            const look = setInterval(() => {{
                if (closed().close.at(-1) !== arguments[0]) return;
                clearInterval(look);
                window.drawnMs = Date.now();
            }}, 5);
            """,
            n + 0.5,
        )
        tables.write(CANDLES, candle(NAME, now - n * MINUTE, close=f"{n}.5"))
        committed_ms = time.time() * 1000
        delays_ms.append(browser.wait("window.drawnMs") - committed_ms)
    delays_ms.sort()
    print(f"\ncommitted to drawn: p50 {delays_ms[9]:.0f} ms, most {delays_ms[-1]:.0f} ms")
    assert closes(browser)[-19:] == [n + 0.5 for n in range(19, 0, -1)]


def test_the_preview_moves_and_gives_way_to_its_candle(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    tables.candles(NAME, until=now, count=10)
    tables.preview(NAME, now, "101.50000001")
    show(browser, page)
    browser.wait(f"{text('#last')} === '101.50000001'")
    for price, tick in (("99.25", "down"), ("99.250000000000000001", "up"), ("7", "down")):
        tables.preview(NAME, now, price)
        browser.wait(f"{text('#last')} === arguments[0]", price)
        browser.wait(f"({FORMING}).close[0] === arguments[0]", float(price))
        assert browser.text("td.last") == price
        assert browser.run(f"return {ROWS}[0].querySelector('.last').className") == f"last {tick}"
        assert browser.text("#readout-note") == "forming"
    assert len(closes(browser)) == 10
    tables.write(CANDLES, candle(NAME, now, close="8.5"))
    browser.wait(f"({CLOSED}).close.at(-1) === 8.5")
    assert browser.run(f"return {FORMING}.x.length") == 0
    assert browser.text("#readout-note") == ""


def test_a_correction_takes_the_place_of_its_candle(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    tables.candles(NAME, until=now, count=10, price=200)
    tables.preview(NAME, now - MINUTE, "1")
    show(browser, page)
    before = closes(browser)
    assert len(before) == 10
    for back, revision, close in ((5, 1, "150.5"), (1, 2, "160.5")):
        row = candle(NAME, now - back * MINUTE, close=close, revision=revision)
        tables.write(CANDLES, row)
        before[-back] = float(close)
        browser.wait(f"({CLOSED}).close[arguments[0]] === arguments[1]", 10 - back, float(close))
        assert closes(browser) == before
    assert browser.text("#readout-note") == "corrected, revision 2"


def test_instrument_and_interval_are_chosen_and_stay_in_the_address(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    for name, price in (("AAA", 10), ("BBB", 500)):
        tables.candles(name, until=now, count=5, price=price)
        tables.candles(name, until=now, count=8, price=price + 1000, interval="1s")
        tables.preview(name, now, f"{price}")
        tables.preview(name, now, f"{price + 1000}", interval="1s")
    tables.statistics("BBB", now)
    tables.average("BBB", now, 498.125)
    show(browser, page)
    assert browser.text("#instrument") == "AAA"
    browser.run(f"{ROWS}[1].querySelector('a').click()")
    browser.wait(f"{text('#instrument')} === 'BBB' && ({CLOSED}).close[0] === 500.25")
    assert browser.run("return location.hash") == "#/market/BBB/1m"
    browser.wait("document.getElementById('figures').textContent.includes('498.13')")
    assert "12,345.678" in browser.text("#figures")
    assert browser.text("#change") == "+1.5 (+1.52 %)"
    browser.run("document.querySelector('#intervals a').click()")
    browser.wait(f"({CLOSED}).close[0] === 1500.25 && ({CLOSED}).close.length === 8")
    assert browser.run("return location.hash") == "#/market/BBB/1s"
    browser.run("history.back()")
    browser.wait(f"({CLOSED}).close[0] === 500.25")
    browser.run("location.reload()")
    browser.wait(f"({CLOSED})?.close[0] === 500.25")
    assert browser.text("#instrument") == "BBB"
    # An interval that nobody makes says so.
    browser.run("document.querySelectorAll('#intervals a')[2].click()")
    browser.wait("!document.getElementById('chart-empty').hidden")
    assert "INTERVALS" in browser.text("#chart-empty")


def test_the_past_is_loaded_when_it_comes_into_sight(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    tables.candles(NAME, until=now, count=1300, price=1000)
    tables.preview(NAME, now, "1")
    show(browser, page, f"#/market/{NAME}/1m")
    browser.wait(f"({CLOSED}).close.at(-1) === 2299.25")
    assert browser.run("return document.getElementById('latest').hidden")
    for _ in range(60):
        if 1000.25 in closes(browser):
            break
        browser.run("document.getElementById('earlier').click()")
        time.sleep(0.3)
    browser.wait(f"{text('#past')} === 'Nothing older was found'")
    browser.run("document.getElementById('wider').click()")
    browser.wait(f"({CLOSED}).close.length > 50 && ({CLOSED}).close[0] === 1000.25")
    times = browser.run(f"return {CLOSED}.x")
    assert [b - a for a, b in pairwise(times)] == [60_000] * (len(times) - 1)
    browser.run("document.getElementById('latest').click()")
    browser.wait(f"({CLOSED}).close.at(-1) === 2299.25")


def test_of_many_instruments_only_the_visible_ones_are_rows(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    names = [f"PAIR{n:03}" for n in range(300)]
    for n, name in enumerate(names):
        tables.preview(name, now, f"{n + 1}")
        tables.statistics(name, now - timedelta(minutes=5), price_change_percent=f"{n % 7}.{n:03}")
    tables.candles(names[0], until=now, count=5)
    show(browser, page)
    browser.wait(f"{text('#instruments-tally')} === '300 instruments'")
    assert 10 < browser.run(f"return {ROWS}.length") < 60
    assert browser.run("return document.getElementById('instruments').ariaRowCount") == "301"

    def first() -> str:
        return browser.text("#instruments tbody tr:not(.blank) a")

    browser.run("document.querySelector('[data-sort=last]').click()")
    assert first() == "PAIR299"
    browser.run("document.querySelector('[data-sort=last]').click()")
    assert first() == "PAIR000"
    browser.run("document.querySelector('[data-sort=change]').click()")
    assert first() == "PAIR293"
    filtering = """
        const field = document.getElementById('filter');
        field.value = arguments[0];
        field.dispatchEvent(new Event('input'));
    """
    browser.run(filtering, "pair01")
    assert browser.text("#instruments-tally") == "10 of 300"
    browser.run(filtering, "")
    browser.run("document.querySelector('[data-sort=name]').click()")
    browser.run("document.getElementById('instruments-box').scrollTop = 28 * 200")
    browser.wait(f"{ROWS}.some(row => row.textContent.startsWith('PAIR205'))")
    # A row that comes into sight has the newest price, and goes on with it.
    tables.preview(names[205], now, "4711")
    browser.wait(
        f"{ROWS}.find(r => r.textContent.startsWith('PAIR205')).innerText.includes('4711')"
    )
    # The keyboard goes from row to row.
    browser.run(f"{ROWS}.find(r => r.textContent.startsWith('PAIR205')).querySelector('a').focus()")
    browser.run(
        "document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))"
    )
    assert browser.run("return document.activeElement.textContent") == "PAIR206"


def test_names_stay_text(browser: Browser, tables: PageTables, page: PageServer) -> None:
    now = this_minute()
    names = [
        "<img src=x onerror=\"document.title='taken'\">",
        "</script><script>document.title='taken'</script>",
        "%3Cb%3E &amp; #?/日本",
        "constructor",
        "a, b",
        "__proto__",
    ]
    for name in names:
        tables.candles(name, until=now, count=5)
        tables.preview(name, now, "100.125")
        tables.statistics(name, now)
        tables.sales(name, now - MINUTE, "5")
        tables.session(name, now, "completed", sensors={name: {"mean": 1.5, "count": 1}})
    browser.open(page.url)
    browser.wait(f"{ROWS}.length === arguments[0]", len(names))
    for name in names:
        browser.run(f"{ROWS}.find(r => r.querySelector('a').textContent === arguments[0])"
                    ".querySelector('a').click()", name)  # fmt: skip
        browser.wait(f"{text('#instrument')} === arguments[0] && ({CLOSED})?.x.length === 5", name)
        assert browser.run("return document.title") == f"{name} · Tidemark"
    for view, cells in (("sales", "#sales-body th"), ("sessions", "#sessions-body th")):
        browser.run("location.hash = arguments[0]", f"#/{view}")
        found = f"[...document.querySelectorAll('{cells}')].map(cell => cell.textContent)"
        browser.wait(f"({found}).length === arguments[0]", len(names))
        assert set(browser.run(f"return {found}")) == set(names)
    browser.wait("document.querySelectorAll('#sales-chart .legendtext').length === 6")
    assert browser.run("return document.querySelectorAll('img, b:not([id])').length") == 0
    assert "taken" not in browser.run("return document.title")


def test_the_page_heals_after_a_restart_of_the_server(
    browser: Browser, tables: PageTables, page: PageServer
) -> None:
    now = this_minute()
    tables.candles(NAME, until=now - MINUTE, count=5)
    tables.preview(NAME, now, "100.5")
    show(browser, page)
    browser.forgive(
        "ERR_CONNECTION_REFUSED",
        "ERR_CONTENT_LENGTH_MISMATCH",
        "ERR_EMPTY_RESPONSE",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "/stream",
    )
    page.stop()
    browser.wait(f"{text('#connection')}.startsWith('Reconnecting, stale since')")
    tables.write(CANDLES, candle(NAME, now - MINUTE, close="77.5"))
    tables.preview(NAME, now, "78.5")
    assert browser.text("#last") == "100.5"  # what was known stays in sight
    page.start()
    browser.wait(f"{LIVE} && {text('#last')} === '78.5'", timeout_s=60)
    browser.wait(f"({CLOSED}).close.at(-1) === 77.5", timeout_s=60)
    page.kill()
    page.start()
    tables.preview(NAME, now, "79.5")
    browser.wait(f"{LIVE} && {text('#last')} === '79.5'", timeout_s=60)
