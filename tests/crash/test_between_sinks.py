"""A death after one sink has committed and before the other, each way round."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.cases import with_slow
from tests.crash.harness import Tally, prove
from tests.crash.plan import BETWEEN_SINKS, Step
from tests.crash.sink_case import SinkCase

KAFKA_FIRST, POSTGRES_FIRST = BETWEEN_SINKS


@pytest.mark.parametrize("flow", with_slow())
def test_the_sink_that_was_behind_catches_up_alone(
    new_case: Callable[..., SinkCase], tmp_path: Path, tally: Tally, first_seed: int, flow: str
) -> None:
    """The stop between the two deaths brings both sinks to the same positions."""
    plan = [
        Step(point=f"{KAFKA_FIRST}:1"),
        Step(workers=2, after_s=0.2, stop=True),
        Step(point=f"{POSTGRES_FIRST}:1"),
        Step(workers=2),
    ]
    case = new_case(flow, seed=first_seed + 51, records=4_000)
    done = prove(case, plan, tmp_path, tally)
    assert done[0].outcome.endswith("ahead: Kafka"), done
    assert done[2].outcome.endswith("ahead: PostgreSQL"), done
