"""Kernels are ordinary functions: rows of a module, once compiled and once by plain Python.

The module runs itself in a process of its own, with `print_rows` when it is the main one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

__all__ = ["TIMEOUT_S", "print_rows", "same_uncompiled"]

TIMEOUT_S = 120
_ROOT = Path(__file__).resolve().parents[1]


def same_uncompiled(module: str, rows: Callable[[], list[dict]]) -> list[dict]:
    """Assert that both runs give the same rows, more than 200, and return them."""
    assert not numba.config.DISABLE_JIT
    child = subprocess.run(
        [sys.executable, "-W", "error", "-m", module],
        cwd=_ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    plain, compiled = json.loads(child.stdout), json.loads(json.dumps(rows()))
    assert len(plain) == len(compiled) > 200
    for one, other in zip(plain, compiled, strict=True):
        assert one == other
    return plain


def print_rows(rows: Callable[[], list[dict]]) -> None:
    """What the uncompiled process does."""
    assert numba.config.DISABLE_JIT
    with np.errstate(over="ignore"):  # limbs and hashes wrap on purpose
        print(json.dumps(rows()))
