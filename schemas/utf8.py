"""UTF-8 as compiled kernels see it: whether bytes are text.

Source: the syntax of byte sequences in RFC 3629, section 4. It leaves out overlong forms,
surrogates and what lies beyond U+10FFFF. Cost: about 2 ns a byte; callers ask for text that
is not ASCII only.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["NOT_ASCII", "is_utf8"]

NOT_ASCII = 0x80
"""The least byte that is no ASCII character; also the least that may follow another."""

_LAST_TAIL = 0xBF
_FIRST_LEAD, _LAST_LEAD = 0xC2, 0xF4
_LEAD_OF_THREE, _LEAD_OF_FOUR = 0xE0, 0xF0
_LEAD_OF_SURROGATES = 0xED
# Behind some leads the second byte has narrower bounds, or the character would be one of a
# shorter form, a surrogate, or beyond the last.
_LEAST_OF_THREE, _LEAST_OF_FOUR = 0xA0, 0x90
_MOST_BELOW_SURROGATES, _MOST_OF_ALL = 0x9F, 0x8F


@njit(cache=True)
def is_utf8(data: NDArray[np.uint8], start: np.int64, end: np.int64) -> bool:
    """Whether `data[start:end]` is text in UTF-8."""
    valid = True
    tails = 0  # bytes of the character still to come
    least, most = NOT_ASCII, _LAST_TAIL
    for place in range(start, end):
        byte = data[place]
        if tails > 0:
            valid = valid and least <= byte <= most
            tails -= 1
            least, most = NOT_ASCII, _LAST_TAIL
        elif byte >= NOT_ASCII:
            valid = valid and _FIRST_LEAD <= byte <= _LAST_LEAD
            tails = 1 + (byte >= _LEAD_OF_THREE) + (byte >= _LEAD_OF_FOUR)
            if byte == _LEAD_OF_THREE:
                least = _LEAST_OF_THREE
            elif byte == _LEAD_OF_SURROGATES:
                most = _MOST_BELOW_SURROGATES
            elif byte == _LEAD_OF_FOUR:
                least = _LEAST_OF_FOUR
            elif byte == _LAST_LEAD:
                most = _MOST_OF_ALL
    return valid and tails == 0
