"""The log of a process, on its standard error stream: text for people, or JSON for programs.

With `LOG_FORMAT=json` each line is one object: `timestamp` (ISO 8601, UTC), `level`, `logger`,
`message`, and what the record is about, such as `flow`, `lane`, `partition`, `offset` or
`position`; `trace_id` where a transaction is traced. So is the error that ends the flow, with
what to do about it as `remedy`. Modules give these fields as `extra` of what they log.

A healthy flow logs nothing by default. At INFO it tells what it does once and at each
recovery snapshot, at DEBUG of each transaction.
"""

import logging
import sys
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter
from typing_extensions import override

from dataflows.telemetry_settings import TelemetrySettings
from schemas import tracing
from schemas.errors import FlowError

__all__ = ["PACKAGES", "explain", "name_flow", "set_up", "stopped"]

_LOGGER = logging.getLogger(__name__)
_TEXT = "%(levelname)s %(name)s: %(message)s"
PACKAGES = ("dataflows", "operators", "page", "schemas", "sinks", "sources")
"""What `LOG_LEVEL` is about: all loggers of these packages."""


class _Context(logging.Filter):
    """Adds what is known of the process and of the thread to each record."""

    flow: str | None = None

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if self.flow is not None and not hasattr(record, "flow"):
            record.flow = self.flow
        trace_id = tracing.trace_id()
        if trace_id is not None:
            record.trace_id = trace_id
        return True


class _Process:
    is_json = False
    context = _Context()


_process = _Process()


def set_up(settings: TelemetrySettings) -> None:
    """Log this process as the settings say, unless it has a set-up of its own already.

    Libraries log warnings and errors only, whatever the level.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    _process.is_json = settings.log_format == "json"
    handler = logging.StreamHandler()
    if _process.is_json:
        handler.setFormatter(
            JsonFormatter(
                ["levelname", "name", "message"],
                rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
                timestamp=True,
            )
        )
        handler.addFilter(_process.context)
        logging.captureWarnings(capture=True)
    else:
        handler.setFormatter(logging.Formatter(_TEXT))
    logging.basicConfig(level=max(logging.WARNING, level), handlers=[handler])
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)
    sys.excepthook = _on_exception


def name_flow(name: str | None) -> None:
    """The flow that records are about which do not say."""
    _process.context.flow = name


def explain(error: FlowError) -> None:
    """Tell the operator of the error that ends the process."""
    if _process.is_json:
        _LOGGER.critical(error.message, extra={"remedy": error.hint})
    else:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # to the operator


def stopped(error: FlowError) -> SystemExit:
    """The end of a process that cannot start; to be raised."""
    if not _process.is_json:
        return SystemExit(f"error: {error}")
    explain(error)
    return SystemExit(1)


def _on_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Tell of the `FlowError` that ended the dataflow, if one did; else the traceback."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FlowError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        explain(cause)
    elif _process.is_json and issubclass(kind, Exception):
        _LOGGER.critical(
            "The flow failed: %s", error or kind.__name__, exc_info=(kind, error, trace)
        )
    else:
        sys.__excepthook__(kind, error, trace)
