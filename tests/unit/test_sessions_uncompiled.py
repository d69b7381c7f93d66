"""The kernels of sessions and their keys are ordinary functions: uncompiled, in a process of
their own, they give the same rows and events to the bit."""

import random

import pyarrow as pa
import pytest

from schemas.murmur2 import partitions_of
from tests.sessions_oracle import DATA, SENT, WOKE, E, Rule
from tests.uncompiled import TIMEOUT_S, print_rows, same_uncompiled
from tests.unit.test_device_events import data as measured
from tests.unit.test_device_events import decoded, written
from tests.unit.test_sessions_property import _DELAYS, _STEPS, BASE, SessionRun

_RULES = [Rule(), Rule(1_000, 0), Rule(60_000, 5_000), Rule(500)]


def _log(rng: random.Random) -> list[E]:
    time, log = BASE, []
    for _ in range(150):
        time += rng.choice(_STEPS)
        kind = rng.choice([WOKE, DATA, DATA, SENT])
        told = (rng.choice(["t", "wind", "é"]), rng.uniform(-1, 1)) if kind == DATA else ()
        log.append(E(time - rng.choice(_DELAYS), rng.choice("abé"), kind, *told))
    return log


def _rows() -> list[dict]:
    names = ["a", "device-1", "é", ""]
    out: list[dict] = [{"places": partitions_of(pa.array(names), 7).tolist()}]
    broken = written(measured("ü"))
    out += [e._asdict() for e in decoded([(b"d", broken[:n]) for n in range(len(broken) + 1)])]
    for seed, rule in enumerate(_RULES):
        rng = random.Random(seed)
        run = SessionRun([_log(rng), _log(rng)], rule, seed, restore=True)
        run.all()
        run.finish()
        out += [{"seed": seed, "late": run.late}, *run.rows, *run.events]
    return out


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_sessions_are_the_same_uncompiled() -> None:
    plain = same_uncompiled("tests.unit.test_sessions_uncompiled", _rows)
    assert all(row["late"] > 0 for row in plain if "late" in row)


if __name__ == "__main__":
    print_rows(_rows)
