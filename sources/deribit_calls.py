"""Requests to the exchange, one after the other, each waited for: for commands, not for feeds.

A request is sent again on a new connection when the connection breaks, no answer comes in
time, or the exchange ends the session for its limits (error 10028). So only requests that
change nothing may be made. Numbers are exact: a fraction comes back as a `Decimal`.
"""

import itertools
import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from schemas.errors import FlowError
from sources.deribit_feed import ClosableTexts, Connect
from sources.deribit_history import Pace
from sources.deribit_protocol import TOO_MANY_REQUESTS, request
from sources.deribit_socket import WebSocketError

__all__ = ["CallRule", "Calls", "RefusedError"]

_decode = json.JSONDecoder(parse_float=Decimal).decode


class RefusedError(Exception):
    """The exchange answered a request with an error; the text has its code and reason."""


@dataclass(frozen=True, slots=True)
class CallRule:
    """Parameters.

    Attributes:
        requests_per_s: at most.
        burst: requests that may be sent at once.
        answer_s: how long to wait for an answer.
        tries: of each request.
        backoff_s: wait before the second try; doubles.
    """

    requests_per_s: float = 5.0
    burst: int = 5
    answer_s: float = 30.0
    tries: int = 4
    backoff_s: float = 1.0


class Calls:
    """A connection for requests, opened when it is needed.

    Args:
        connect: opens a connection.
        rule: parameters.
    """

    def __init__(self, connect: Connect, rule: CallRule | None = None) -> None:
        self._connect = connect
        self._rule = rule or CallRule()
        self._pace = Pace(self._rule.requests_per_s, self._rule.burst)
        self._ids = itertools.count(1)
        self._texts: ClosableTexts | None = None

    def call(self, method: str, **params: object) -> Any:  # noqa: ANN401  # whatever JSON holds
        """The result of a method.

        Raises:
            RefusedError: The exchange refuses it.
            FlowError: No answer came, however often it was asked.
        """
        failure: Exception | None = None
        for tried in range(self._rule.tries):
            if tried:
                time.sleep(self._rule.backoff_s * 2 ** (tried - 1))
            try:
                return self._call(method, params)
            except (OSError, WebSocketError) as error:
                failure = error
                self.close()
        raise FlowError(
            f"The exchange did not answer {method} in {self._rule.tries} tries ({failure})",
            "See that it can be reached at the endpoint you named, and try again.",
        ) from failure

    def _call(self, method: str, params: dict[str, object]) -> Any:  # noqa: ANN401
        if self._texts is None:
            self._texts = self._connect()
        while not self._pace.take(time.monotonic()):
            time.sleep(1 / self._rule.requests_per_s)
        number = next(self._ids)
        self._texts.send(request(number, method, **params))
        until_s = time.monotonic() + self._rule.answer_s
        while (left_s := until_s - time.monotonic()) > 0:
            for text in self._texts.receive(left_s):
                match _message(text):
                    case {"id": answered, "result": result} if answered == number:
                        return result
                    case {"id": answered, "error": {"code": code, **rest}} if answered == number:
                        if code == TOO_MANY_REQUESTS:
                            raise ConnectionError(f"error {code}, too many requests")
                        why = f"{rest.get('message', '')} {rest.get('data', '')}".strip()
                        raise RefusedError(f"error {code}: {why}")
        raise TimeoutError(f"no answer within {self._rule.answer_s:g} s")

    def close(self) -> None:
        """Let go of the connection."""
        if self._texts is not None:
            self._texts.close()
            self._texts = None


def _message(text: bytes) -> object:
    try:
        return _decode(text.decode())
    except (ValueError, RecursionError):  # not an answer to anything
        return None
