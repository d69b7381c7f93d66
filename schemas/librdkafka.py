"""The shared library behind the Kafka client, for compiled kernels.

confluent-kafka brings librdkafka; its public C interface is called through ctypes, and from
kernels by the address of a function. The ABI is stable within the major version. Source:
rdkafka.h of librdkafka 2.x.
"""

import ctypes
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["address_of", "bytes_at", "call_2", "call_3", "load", "words_at"]

_MAJOR_2 = 0x02000000
_MAJOR_3 = 0x03000000


def load(signatures: Mapping[str, tuple[Any, Sequence[Any]]]) -> ctypes.CDLL | None:
    """The library that the Python client uses; None where its wheel brings none.

    Args:
        signatures: result and arguments of the functions that will be called.
    """
    for path in metadata.files("confluent-kafka") or ():
        if path.name.startswith("librdkafka") and ".so" in path.name:
            try:
                library = ctypes.CDLL(str(path.locate()))
                for name, (result, arguments) in signatures.items():
                    function = getattr(library, name)
                    function.restype, function.argtypes = result, arguments
                library.rd_kafka_version.restype = ctypes.c_int
            except (OSError, AttributeError):
                return None
            return library if _MAJOR_2 <= library.rd_kafka_version() < _MAJOR_3 else None
    return None


def address_of(function: Any) -> int:  # noqa: ANN401  # a ctypes function
    """Where a function of the library is, for a kernel."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None  # noqa: S101  # it was found when the library was loaded
    return address


def _as_words(context: Any, address: types.Type) -> Any:  # noqa: ANN401, ARG001  # numba's protocol
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:  # noqa: ANN401
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), generate  # type: ignore[no-untyped-call]


def _as_bytes(context: Any, address: types.Type) -> Any:  # noqa: ANN401, ARG001  # numba's protocol
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:  # noqa: ANN401
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.CPointer(types.uint8)(types.int64), generate  # type: ignore[no-untyped-call]


def _call(builder: Any, args: Any) -> Any:  # noqa: ANN401
    function, *words = args
    word = ir.IntType(64)
    kind = ir.FunctionType(word, [word] * len(words)).as_pointer()
    return builder.call(builder.inttoptr(function, kind), words)


def _as_call_2(context: Any, function: types.Type, a: types.Type, b: types.Type) -> Any:  # noqa: ANN401, ARG001
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:  # noqa: ANN401
        return _call(builder, args)

    return types.int64(types.int64, types.int64, types.int64), generate


def _as_call_3(
    context: Any,  # noqa: ANN401, ARG001
    function: types.Type,  # noqa: ARG001
    a: types.Type,  # noqa: ARG001
    b: types.Type,  # noqa: ARG001
    c: types.Type,  # noqa: ARG001
) -> Any:  # noqa: ANN401
    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:  # noqa: ANN401
        return _call(builder, args)

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


words_at: Any = intrinsic(_as_words)
"""In a kernel: an address as a pointer to int64 words."""

bytes_at: Any = intrinsic(_as_bytes)
"""In a kernel: an address as a pointer to bytes."""

call_2: Any = intrinsic(_as_call_2)
"""In a kernel: call the C function at an address with two words; its result as a word."""

call_3: Any = intrinsic(_as_call_3)
"""In a kernel: the same with three."""
