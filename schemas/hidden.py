"""Text that must not be shown: passwords, and URLs that may hold one."""

from typing_extensions import override

__all__ = ["Hidden"]


class Hidden(str):
    """A secret as libraries take it, plain text, but for its `repr`.

    So it does not show where a dictionary, a tuple or a data class around it is printed.
    """

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "'(hidden)'"
