"""Errors meant for the person who runs a flow.

An error says what failed, with which value, and what to do next. At start-up a flow
prints it as one paragraph and exits with status 1.
"""

__all__ = ["FlowError"]


class FlowError(Exception):
    """Something the operator of a flow can mend.

    Args:
        message: What failed, with the value that made it fail.
        hint: What to do about it, as a full sentence.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.hint}"
