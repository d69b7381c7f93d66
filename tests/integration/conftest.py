"""Fixtures of the page's tests: tables, and the real server that shows them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page_io import PageTables
from tests.real.browser import Browser
from tests.real.page import PageServer


@pytest.fixture
def tables(postgres_url: str) -> PageTables:
    """The flows' tables, empty, in the test's own database."""
    return PageTables(postgres_url)


@pytest.fixture
def page(browser: Browser, postgres_url: str, tmp_path: Path) -> Iterator[PageServer]:
    """The page of that database, started; the browser has left it before it ends."""
    server = PageServer(tmp_path / "page.log", {"DATABASE_URL": postgres_url})
    server.start()
    yield server
    browser.leave()
    server.kill()
    assert "Traceback" not in server.output(), server.output()
