"""Failpoints kill the process, at the time that was asked for and at no other."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import failpoints
from schemas.errors import FlowError

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from schemas import failpoints
failpoints.configure(sys.argv[1])
for name in sys.argv[2:]:
    failpoints.reached(name)
    print(name, flush=True)
"""


def run(spec: str, *names: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, spec, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.split()


def test_dies_at_the_given_time() -> None:
    assert run("b:2", "a", "b", "a", "b", "b") == (-signal.SIGKILL, ["a", "b", "a"])


def test_the_first_of_several_points_decides() -> None:
    assert run("a:9, b:1", "a", "b") == (-signal.SIGKILL, ["a"])


def test_another_gets_ahead_of_a_point_that_waits() -> None:
    program = """
import threading
from schemas import failpoints
failpoints.configure("slow~20,fast:2")
threading.Thread(target=failpoints.reached, args=("slow",)).start()
for _ in range(2):
    failpoints.reached("fast")
    print("fast", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=15, check=False
    )
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, [b"fast"])


def test_nothing_happens_without_or_after_disarming() -> None:
    failpoints.configure("here:1")
    failpoints.configure(None)
    failpoints.reached("here")
    assert run("", "a") == (0, ["a"])


@pytest.mark.parametrize("spec", ["a", "a:0", "a:x", ":1", "a:-1", "a~", "a~-1", "~1", "a:1~2"])
def test_an_unreadable_text_is_an_error(spec: str) -> None:
    with pytest.raises(FlowError, match="failpoint"):
        failpoints.configure(spec)
