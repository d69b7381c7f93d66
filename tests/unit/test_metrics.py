"""Metrics: the page's table is what the code declares, and live gauges show what is alive."""

import gc
import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from dataflows import build_info
from operators.candle import CANDLE
from operators.ewma import Ewma, EwmaRule
from operators.metrics import watched
from operators.ordered import OrderedShard
from operators.rolling import RollingRule, RollingShard
from operators.session_table import SessionTable
from operators.sessions import SessionRule
from operators.tumbling import TumblingShard
from operators.vehicles import VehiclesLogic
from operators.window_table import WindowRule
from schemas.live_gauges import LiveGauges, Reading
from sources import metrics
from tests.declared_metrics import Declared, declared_metrics

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(tidemark_\w+)` \| (\w+) \| ([\w, ]+) \| .+ \|$", re.MULTILINE)


def test_the_table_of_metrics_is_what_the_code_declares() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    told = {
        name: Declared(kind, tuple(labels.split(", "))) for name, kind, labels in ROW.findall(page)
    }
    assert told == declared_metrics()


def test_names_follow_the_conventions() -> None:
    for name, (kind, labels) in declared_metrics().items():
        assert (kind == "counter") == name.endswith("_total"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not set(labels) & {"key", "instrument", "device", "offset", "le"}, name


def test_pages_name_only_metrics_that_exist() -> None:
    known = declared_metrics()
    for path in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`(tidemark_[a-z_]+)`", path.read_text()):
            is_prefix = name.endswith("_") or name == "tidemark_vehicles"  # a slot
            assert name in known or is_prefix, path.name


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == build_info.VERSION


class Tank:
    def __init__(self, name: str, litres: float | None) -> None:
        self.name, self.litres = name, litres

    def reading(self) -> Reading | None:
        return Reading((self.name,), {"tank_litres": self.litres})


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def gauges(registry: CollectorRegistry) -> LiveGauges:
    return LiveGauges({"tank_litres": "What is in it."}, ["tank"], registry)


def shown(registry: CollectorRegistry) -> list[str]:
    return re.findall(r"^tank_litres.*$", generate_latest(registry).decode(), re.MULTILINE)


def test_live_objects_are_read_when_asked(registry: CollectorRegistry, gauges: LiveGauges) -> None:
    assert shown(registry) == []
    one, other = Tank("a", 1), Tank("b", None)
    for tank in (one, other):
        gauges.watch(tank, Tank.reading)
    assert shown(registry) == ['tank_litres{tank="a"} 1.0'], "the other has nothing to show"
    one.litres, other.litres = 2, 3
    assert shown(registry) == ['tank_litres{tank="a"} 2.0', 'tank_litres{tank="b"} 3.0']


def test_what_is_gone_is_not_shown(registry: CollectorRegistry, gauges: LiveGauges) -> None:
    kept, dropped = Tank("a", 1), Tank("b", 2)
    for tank in (kept, dropped):
        gauges.watch(tank, Tank.reading)
    del tank, dropped
    gc.collect()
    assert shown(registry) == ['tank_litres{tank="a"} 1.0']
    gauges.forget(kept)
    gauges.forget(kept)
    assert shown(registry) == []


def test_a_successor_takes_the_place_of_what_is_not_gone_yet(
    registry: CollectorRegistry, gauges: LiveGauges
) -> None:
    tanks = [Tank("a", 1), Tank("a", 2)]
    for tank in tanks:
        gauges.watch(tank, Tank.reading)
    assert shown(registry) == ['tank_litres{tank="a"} 2.0']


def test_a_name_is_taken_once(registry: CollectorRegistry, gauges: LiveGauges) -> None:
    with pytest.raises(ValueError, match="tank_litres"):
        LiveGauges({"tank_litres": "Another."}, ["tank"], registry)


SHARDS = {
    "tumbling": lambda: TumblingShard(CANDLE, WindowRule((60_000,)), 1, None, None),
    "rolling": lambda: RollingShard(RollingRule(10_000), 1, None),
    "ewma": lambda: OrderedShard(Ewma(EwmaRule(60_000, "window", 0.5, None)), 1, 1_000, None),
    "sessions": lambda: OrderedShard(SessionRule(), 1, 1_000, None, SessionTable),
    "vehicles": lambda: VehiclesLogic(None),
}


@pytest.mark.parametrize("step", SHARDS)
def test_every_shard_can_tell_its_size(step: str) -> None:
    shard = watched(SHARDS[step](), "test", step)
    number, size = shard.state_size()
    assert number == (0 if step == "vehicles" else -1), "not known before the first item"
    assert size.keys == 0
    assert size.size_bytes >= 0
    assert not size.windows
    assert not size.waiting


def test_a_partition_without_a_watermark_shows_none() -> None:
    assert metrics._values(metrics.Standing()) == dict.fromkeys(metrics._values(metrics.Standing()))
    values = metrics._values(metrics.Standing(1_500, 7, is_idle=True))
    assert values["tidemark_source_watermark_timestamp_seconds"] == 1.5
    assert values["tidemark_source_consumer_lag_records"] == 7
    assert values["tidemark_source_idle"] == 1
