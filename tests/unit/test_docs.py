"""The pages hold together: links, make targets, and the table of settings."""

import re
from pathlib import Path

import pytest

from dataflows.connections import ConnectionSettings
from dataflows.deribit_settings import DeribitSettings
from dataflows.ewma_settings import EwmaSettings
from dataflows.sellers_settings import SellersSettings
from dataflows.sessions_settings import SessionsSettings
from dataflows.settings import CandleSettings, FlowSettings
from dataflows.statistics_settings import StatisticsSettings
from dataflows.telemetry_settings import TelemetrySettings
from dataflows.vehicles_settings import VehiclesSettings
from page.settings import PageSettings

SETTINGS = (  # as in the page
    ConnectionSettings,
    FlowSettings,
    CandleSettings,
    DeribitSettings,
    EwmaSettings,
    StatisticsSettings,
    SellersSettings,
    SessionsSettings,
    VehiclesSettings,
    PageSettings,
    TelemetrySettings,
)

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"\bmake ([a-z]\w*)\b(?=`|$| #)", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def ids(page: Path) -> str:
    return page.name


def anchors(page: Path) -> set[str]:
    """What GitHub lets one link to: headings in lower case, with hyphens and no punctuation."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_relative_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]\w*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(TARGET.findall(page.read_text()))
    assert named <= targets, named - targets


def as_in_the_environment(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def test_the_table_of_settings_is_the_settings() -> None:
    fields = {}
    for settings in SETTINGS:
        # A field that a flow has in a way of its own is told where it comes first.
        fields |= {n: field for n, field in settings.model_fields.items() if n not in fields}
    rows = [
        f"| `{name.upper()}` | `{as_in_the_environment(field.default)}` | {field.description} |"
        for name, field in fields.items()
    ]
    page = (ROOT / "docs" / "settings.md").read_text()
    assert re.findall(r"^\| `.*$", page, re.MULTILINE) == rows


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(ROOT / link).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    assert set(PAGES[1:]) <= reached


def test_every_image_is_shown() -> None:
    shown = {
        (page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text())
    }
    assert set((ROOT / "docs" / "images").iterdir()) <= shown
