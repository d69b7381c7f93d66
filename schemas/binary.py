"""Arrow binary as NumPy arrays, for compiled kernels."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["binary_views"]


def binary_views(values: pa.BinaryArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """(n + 1,) offsets of (n,) values, and the bytes they point into; read-only, no copy.

    Read-only even where Arrow's memory is not, so that a kernel is compiled for one form.
    """
    _, offset_buffer, data_buffer = values.buffers()
    first, n = values.offset, len(values)
    offsets = np.frombuffer(offset_buffer, np.int32)[first : first + n + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    offsets.flags.writeable = data.flags.writeable = False
    return offsets, data
