"""The flows that every test with a `flow` runs."""

from collections.abc import Mapping

from tests.crash.candles_case import CandlesCase
from tests.crash.case import SinkCase

__all__ = ["CASES"]

CASES: Mapping[str, type[SinkCase]] = {"candles": CandlesCase}
