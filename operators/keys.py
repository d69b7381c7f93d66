"""The keys of a shard: text outside, codes inside.

Codes are dense and given in order of first use, so that kernels can keep per-key records in
arrays. Nothing about the results depends on them: what must be in a fixed order is ordered
by `ranks`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keys"]


class Keys:
    """Keys by code.

    Args:
        names: keys of the codes 0, 1, ...
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)
        self._codes = {name: code for code, name in enumerate(self.names)}
        self._ranks = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self.names)

    def codes(self, names: Sequence[str]) -> NDArray[np.int64]:
        """(n,) codes of (n,) keys; new ones for those not seen before."""
        return np.array([self._code(name) for name in names], np.int64)

    def ranks(self) -> NDArray[np.int32]:
        """(k,) position of each key in the order of their UTF-8 bytes."""
        if len(self._ranks) != len(self.names):
            by_name = sorted(range(len(self.names)), key=lambda i: self.names[i].encode())
            self._ranks = np.empty(len(self.names), np.int32)
            self._ranks[by_name] = np.arange(len(self.names), dtype=np.int32)
        return self._ranks

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self.names)
            self.names.append(name)
        return code
