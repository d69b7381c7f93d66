"""Where compiled kernels are kept: one directory per state of the sources.

Numba asks only whether the file of a cached function has changed. Our kernels inline
functions and constants of other files, so a change there would go unnoticed and old code
would run on; therefore the cache's directory is named after a hash of every file with kernels
and of all that those import. `NUMBA_CACHE_DIR` still chooses the place, for a read-only
installation.
"""

import hashlib
import os
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import numba

__all__ = ["use_kernel_cache"]

_PACKAGES = ("schemas", "operators", "sources", "sinks")
_IMPORTED = re.compile(rf"^from ((?:{'|'.join(_PACKAGES)})\.\w+) import", re.MULTILINE)
_COMPILED = re.compile(r"^from numba", re.MULTILINE)
_PREFIX = "kernels-"
_OLD_S = 86_400


def use_kernel_cache() -> None:
    """Point Numba to this state's directory; remove those of other states of long ago."""
    root = Path(__file__).resolve().parent.parent
    state = hashlib.blake2b(f"{numba.__version__} {sys.version_info[:2]}".encode(), digest_size=8)
    for name, text in sorted(_kernel_sources(root).items()):
        state.update(name.encode())
        state.update(text.encode())
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(chosen) if chosen else root / "schemas" / "__pycache__"
    directory = base / f"{_PREFIX}{sys.version_info.minor}-{state.hexdigest()}"
    numba.config.CACHE_DIR = str(directory)  # type: ignore[attr-defined]  # made at run time
    if not directory.exists():
        for old in base.glob(f"{_PREFIX}{sys.version_info.minor}-*"):
            with suppress(FileNotFoundError):  # another process removes it too
                # A younger one may still be in use.
                if old.stat().st_mtime < time.time() - _OLD_S:
                    shutil.rmtree(old, ignore_errors=True)


def _kernel_sources(root: Path) -> dict[str, str]:
    """Text by name of the modules with kernels and of those they import, near and far."""
    texts = {
        f"{package}.{path.stem}": path.read_text()
        for package in _PACKAGES
        for path in (root / package).glob("*.py")
    }
    found: dict[str, str] = {}
    left = [name for name, text in texts.items() if _COMPILED.search(text)]
    while left:
        name = left.pop()
        if name in found or name not in texts:
            continue
        found[name] = texts[name]
        left += _IMPORTED.findall(texts[name])
    return found
