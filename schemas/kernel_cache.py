"""Where compiled kernels are kept: one directory per state of the sources.

Numba asks only whether the file of a cached function has changed. Our kernels inline
functions of other files, so a change there would go unnoticed and old code would run on;
therefore the cache's directory is named after a hash of everything that kernels are made
of. `NUMBA_CACHE_DIR` still chooses the place, for a read-only installation.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numba

__all__ = ["use_kernel_cache"]

_PACKAGES = ("schemas", "operators", "sources")
_PREFIX = "kernels-"


def use_kernel_cache() -> None:
    """Point Numba to this state's directory; remove those of other states beside it."""
    root = Path(__file__).resolve().parent.parent
    state = hashlib.blake2b(f"{numba.__version__} {sys.version_info[:2]}".encode(), digest_size=8)
    for package in _PACKAGES:
        for path in sorted((root / package).glob("*.py")):
            state.update(path.name.encode())
            state.update(path.read_bytes())
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(chosen) if chosen else root / "schemas" / "__pycache__"
    directory = base / f"{_PREFIX}{sys.version_info.minor}-{state.hexdigest()}"
    numba.config.CACHE_DIR = str(directory)  # type: ignore[attr-defined]  # made at run time
    if not directory.exists():
        for old in base.glob(f"{_PREFIX}{sys.version_info.minor}-*"):
            shutil.rmtree(old, ignore_errors=True)
