"""The log: one JSON object a line with what it is about, text by default, and quiet."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from dataflows import logs
from dataflows.telemetry_settings import TelemetrySettings
from schemas import tracing
from schemas.errors import FlowError
from sinks.telling import tell_retry
from sources.kafka import KafkaFetcher
from sources.kafka_client import ClientEvent
from tests.unit.test_tracing import batch, exporter, output  # noqa: F401  # a fixture

LOGGER = logging.getLogger("sources.kafka")
Lines = Callable[[], list[dict]]


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets the log up as in a process of its own."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    levels = {name: logging.getLogger(name).level for name in ("", *logs.PACKAGES)}

    def set_up(**settings: str) -> None:
        for handler in logging.root.handlers[:]:  # those of pytest, for this phase of the test
            logging.root.removeHandler(handler)
        logs.set_up(TelemetrySettings(**settings))
        logs.name_flow("candles")
        added.extend(logging.root.handlers)

    added: list[logging.Handler] = []
    yield set_up
    for handler in added:
        logging.root.removeHandler(handler)
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logs.name_flow(None)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """The lines printed since it was asked last; each is an object."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class LostBroker:
    """A client whose broker went away."""

    def bounds(self, timeout_s: float) -> tuple[int, int]:
        return 0, 100

    def start(self, offset: int) -> None: ...

    def consume(self, limit: int) -> tuple[None, list[ClientEvent]]:
        return None, [ClientEvent(-195, -1, "Broker transport failure")]

    def close(self) -> None: ...


def test_a_warning_of_a_source_says_flow_partition_and_offset(
    set_up: Callable[..., None], lines: Lines
) -> None:
    set_up(log_format="json")
    KafkaFetcher(LostBroker(), "trades", 3, 42).poll(10)
    (line,) = lines()
    stamp = datetime.fromisoformat(line.pop("timestamp"))
    assert stamp.utcoffset() == timedelta(0)
    assert line == {
        "level": "WARNING",
        "logger": "sources.kafka",
        "message": "Partition 3 of topic trades: Broker transport failure",
        "flow": "candles",
        "topic": "trades",
        "partition": 3,
        "offset": 42,
    }


def test_a_warning_of_a_sink_says_flow_lane_and_position(
    set_up: Callable[..., None],
    lines: Lines,
    exporter: object,  # noqa: F811  # the fixture
) -> None:
    set_up(log_format="json")
    traced = batch()
    outputs = [output(traced, lane=2, positions=(7, 9))]
    with tracing.transaction("ewma", "kafka", "01", outputs):
        tell_retry("ewma", "kafka", "01", outputs, "broker away", is_first=True)
        tell_retry("ewma", "kafka", "01", outputs, "broker away", is_first=False)
    tell_retry("ewma", "kafka", "01", [*outputs, output()], "gone", is_first=True)
    one, several = lines()
    about = {"flow": "ewma", "sink": "kafka", "sink_partition": "01"}
    assert one.items() >= {**about, "lane": "results-02", "position": 9}.items()
    assert one["trace_id"] in traced
    assert several["lanes"] == {"results-02": 9, "results-00": 2}
    assert "trace_id" not in several


def test_the_level_is_ours_and_libraries_stay_quiet(
    set_up: Callable[..., None], lines: Lines
) -> None:
    set_up(log_format="json", log_level="DEBUG")
    LOGGER.debug("ours")
    logging.getLogger("some.library").info("theirs")
    logging.getLogger("some.library").warning("theirs, but a warning")
    assert [line["message"] for line in lines()] == ["ours", "theirs, but a warning"]


def test_text_by_default_and_warnings_only(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up()
    LOGGER.info("unheard")
    LOGGER.warning("heard", extra={"partition": 1})
    assert capsys.readouterr().err == "WARNING sources.kafka: heard\n"


def test_the_error_that_ends_a_flow_is_an_object_too(
    set_up: Callable[..., None], lines: Lines
) -> None:
    set_up(log_format="json")
    told = {"level": "CRITICAL", "message": "It broke", "remedy": "Mend it.", "flow": "candles"}
    error = FlowError("It broke", "Mend it.")
    assert logs.stopped(error).code == 1
    outer = RuntimeError("(a step)")
    outer.__cause__ = error
    sys.excepthook(RuntimeError, outer, None)
    start, end = lines()
    assert start.items() >= told.items()
    assert end.items() >= told.items()


def test_any_other_error_is_an_object_with_its_traceback(
    set_up: Callable[..., None], lines: Lines
) -> None:
    set_up(log_format="json")
    sys.excepthook(ValueError, ValueError("a\nb"), None)
    (line,) = lines()
    assert line["message"] == "The flow failed: a\nb"
    assert "ValueError: a" in line["traceback"]


def test_the_error_that_ends_a_flow_is_a_paragraph_in_text(
    set_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up()
    error = FlowError("It broke", "Mend it.")
    assert logs.stopped(error).code == "error: It broke. Mend it."
    sys.excepthook(FlowError, error, None)
    assert capsys.readouterr().err == "error: It broke. Mend it.\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("TRACE_STEPS", "-1"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(FlowError, match=f"{name}='{value}'"):
        TelemetrySettings.load()
