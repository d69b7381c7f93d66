"""A program that reads the page's stream, as the tests need it."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import httpx

__all__ = ["StreamReader", "eventually"]

_CONNECT_S = 30.0

Known = dict[tuple[Any, ...], dict[str, Any]]
_KEYS = {
    "candle": ("instrument", "interval", "open_time"),
    "preview": ("instrument", "interval"),
    "statistics": ("instrument", "close_time"),
    "ewma": ("instrument", "window_start"),
    "sales": ("seller_id", "window_start"),
    "session": ("device", "session_id"),
    "health": ("flow",),
}


def eventually(check: Callable[[], bool], timeout_s: float = 60, what: str = "") -> None:
    """Wait for something that is to come about."""
    deadline_s = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline_s, what or "it did not come about"
        time.sleep(0.02)


class StreamReader:
    """Reads in a thread until it is closed or the server ends the stream.

    Attributes:
        server: id of the server.
        kinds: which it sends.
        rows: all that came, in order, the snapshot's first.
        in_snapshot: how many of them were in the snapshot.
    """

    def __init__(self, url: str, **query: str) -> None:
        self.server = ""
        self.kinds: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.in_snapshot = 0
        self._has_snapshot = threading.Event()
        self._ended = threading.Event()
        self._client = httpx.Client(timeout=httpx.Timeout(_CONNECT_S, read=None), trust_env=False)
        request = self._client.build_request("GET", f"{url}/stream", params=query)
        self._response = self._client.send(request, stream=True)
        assert self._response.status_code == 200, self._response.read()
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._has_snapshot.wait(_CONNECT_S)

    @property
    def has_ended(self) -> bool:
        """Whether the server has ended the stream."""
        return self._ended.is_set()

    def of(self, kind: str, **values: Any) -> list[dict[str, Any]]:
        """The rows of a kind that have such values, in order."""
        return [
            row
            for row in list(self.rows)
            if row["kind"] == kind and all(row[name] == value for name, value in values.items())
        ]

    def known(self) -> Known:
        """What one knows who read all of it: the last row of each key."""
        known: Known = {}
        for row in list(self.rows):
            key = (row["kind"], *(row[name] for name in _KEYS[row["kind"]]))
            before = known.get(key)
            if before is None or before.get("revision", 0) <= row.get("revision", 0):
                known[key] = row
        return known

    def close(self) -> None:
        """End it."""
        self._response.close()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        event = ""
        try:
            for line in self._response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    self._take(event, json.loads(value))
        except (httpx.HTTPError, httpx.StreamError):
            pass
        finally:
            self._ended.set()

    def _take(self, event: str, data: Mapping[str, Any] | list[dict[str, Any]]) -> None:
        if isinstance(data, list):
            assert event == "rows"
            assert self._has_snapshot.is_set(), "the snapshot is first"
            self.rows += data
            return
        assert event == "snapshot"
        assert not self._has_snapshot.is_set(), "there is one snapshot"
        self.server, self.kinds = data["server"], data["kinds"]
        self.rows += data["rows"]
        self.in_snapshot = len(self.rows)
        self._has_snapshot.set()
