"""The sessions flow as a case for the crash harness: two topics of results in one transaction.

Every event is in the topic of events once, under the key of its session; in the topic and the
table of sessions it is one of a session's events.
"""

import random
from collections.abc import Mapping

import psycopg
from typing_extensions import override

from schemas.murmur2 import partition_of
from schemas.stream import lane_name
from tests.crash.log_case import Entry, LogCase
from tests.integration.test_sessions_flow import SHARDS, random_log, value_of
from tests.real.kafka_client import Record

__all__ = ["SessionsCase"]

_POISON = (None, b"", b"\xff\xff\xff", b"no event")


class SessionsCase(LogCase):
    """See `tests.crash.sink_case.SinkCase`."""

    module = "dataflows.sessions"
    settings = {"SESSION_TIMEOUT_S": "2"}  # noqa: RUF012  # declared as ClassVar by its base
    topics = (".events", "")
    tables = ("sessions",)

    @override
    def entries(self, seed: int, records: int) -> list[list[Entry]]:
        self._events = random_log(seed, records)
        chance = random.Random(seed)
        logs = []
        for events in self._events:
            log: list[Entry] = []
            for event in events:
                value = value_of(event)
                if chance.random() < 0.004:
                    log.append((b"device-1", chance.choice(_POISON), event.time))
                if chance.random() < 0.001:
                    log.append((None, value, event.time))
                log.append((event.key.encode(), value, event.time + 400))
            logs.append(log)
        return logs

    @property
    @override
    def result_lanes(self) -> set[str]:
        keys = {event.key for events in self._events for event in events}
        return {lane_name("results", partition_of(key.encode(), SHARDS)) for key in keys}

    @override
    def positions(self, output: str) -> dict[str, dict[str, int]]:
        """Those of the lanes that both stores have: events are in Kafka only."""
        return {
            store: {lane: at for lane, at in lanes.items() if not lane.startswith("events-")}
            for store, lanes in super().positions(output).items()
        }

    @override
    def in_topics(self, results: Mapping[str, list[Record]]) -> int:
        """Events that were passed on."""
        return len(results[".events"])

    @override
    def in_tables(self, connection: psycopg.Connection) -> int:
        """Events of all sessions."""
        query = "SELECT sum(event_count) FROM sessions WHERE reason <> 'withdrawn'"
        row = connection.execute(query).fetchone()
        return int(row[0] or 0) if row else 0
