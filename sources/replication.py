"""A streaming replication connection to PostgreSQL: what a logical slot sends, without waiting.

Source of the protocol: PostgreSQL documentation, "Streaming Replication Protocol". The server
pushes each transaction as soon as it is committed; messages lie in libpq's buffer until `read`
takes them. A slot serves one connection at a time. `confirm` tells the server what it may
forget; nothing else does.
"""

import struct
import time
from typing import NamedTuple

import psycopg
from psycopg import pq

from schemas.errors import FlowError
from sources.pgoutput import PG_EPOCH_US

__all__ = ["ReplicationStream", "SlotMessage", "lsn_text"]

_DATA = struct.Struct("!xqqq")  # w: start, end of log, server's clock
_KEEPALIVE = struct.Struct("!xqqB")  # k: end of what was sent, clock, whether to answer
_STATUS = struct.Struct("!cqqqqB")
_TAKEN_S = 15.0  # a predecessor that was killed lets go of the slot well within it
_IN_USE = b"55006"


class SlotMessage(NamedTuple):
    """A message of the output plugin and its place in the log."""

    lsn: int
    data: bytes


def lsn_text(lsn: int) -> str:
    """A place in the log as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFF_FFFF:X}"


class ReplicationStream:
    """One connection.

    Args:
        url: libpq URL; its user needs the attribute REPLICATION.

    Attributes:
        sent_lsn: everything committed before it has been read.

    Raises:
        psycopg.OperationalError: The server does not answer or refuses.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(
            url, autocommit=True, replication="database", application_name="tidemark"
        )
        self._libpq = self._connection.pgconn
        self._confirmed = 0
        self.sent_lsn = 0

    def create_slot(self, name: str) -> tuple[int, str]:
        """Create a slot that outlives the connection.

        Returns:
            Its consistent point, and the name of a snapshot of exactly that moment, which
            other connections may use until the next command of this one.

        Raises:
            psycopg.OperationalError: The server refuses.
        """
        command = f"CREATE_REPLICATION_SLOT \"{name}\" LOGICAL pgoutput (SNAPSHOT 'export')"
        result = self._libpq.exec_(command.encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
        high, low = (result.get_value(0, 1) or b"").decode().split("/")
        lsn = int(high, 16) << 32 | int(low, 16)
        return lsn, (result.get_value(0, 2) or b"").decode()

    def start(self, slot: str, publication: str, lsn: int) -> None:
        """Begin to stream transactions that end after `lsn`.

        Raises:
            FlowError: Another process reads the slot.
            psycopg.OperationalError: The server refuses.
        """
        command = (
            f'START_REPLICATION SLOT "{slot}" LOGICAL {lsn_text(lsn)} '
            f"(proto_version '1', publication_names '\"{publication}\"')"
        ).encode()
        deadline_s = time.monotonic() + _TAKEN_S
        while True:
            self._libpq.send_query(command)
            result = self._libpq.get_result()
            if result is not None and result.status == pq.ExecStatus.COPY_BOTH:
                break
            reason = "" if result is None else result.error_message.decode(errors="replace")
            state = None if result is None else result.error_field(pq.DiagnosticField.SQLSTATE)
            while self._libpq.get_result() is not None:
                pass
            if state != _IN_USE:
                raise psycopg.OperationalError(reason)
            if time.monotonic() > deadline_s:
                raise FlowError(
                    f"Another process reads the replication slot {slot} ({_line(reason)})",
                    "Run each flow and version once; end the other process, or give this flow "
                    "a slot of its own with VEHICLES_SLOT.",
                )
            time.sleep(0.1)
        self._libpq.nonblocking = 1
        self.sent_lsn = lsn
        self._confirmed = lsn

    def read(self, limit: int) -> list[SlotMessage]:
        """Up to `limit` messages that are at hand, and perhaps none.

        `sent_lsn` holds once they are taken in.

        Raises:
            psycopg.OperationalError: The connection was lost.
        """
        libpq = self._libpq
        messages: list[SlotMessage] = []
        unpack = _DATA.unpack_from
        libpq.consume_input()
        while len(messages) < limit:
            length, data = libpq.get_copy_data(1)
            if length <= 0:
                if length < 0:
                    self._ended()
                break
            if data[0] == ord("w"):
                messages.append(SlotMessage(unpack(data)[0], bytes(data[_DATA.size :])))
            else:
                end, _, answer = _KEEPALIVE.unpack_from(data)
                self.sent_lsn = max(self.sent_lsn, end)
                if answer:
                    self.confirm(self._confirmed)
        return messages

    def confirm(self, lsn: int, *, ask: bool = False) -> None:
        """Let the server forget what ended at or before `lsn`.

        Args:
            lsn: rises, or stays.
            ask: whether the server is to tell at once how far it has sent.

        Raises:
            psycopg.OperationalError: The connection was lost.
        """
        self._confirmed = max(self._confirmed, lsn)
        clock_us = time.time_ns() // 1_000 - PG_EPOCH_US
        done = self._confirmed
        received = max(done, self.sent_lsn)
        self._libpq.put_copy_data(_STATUS.pack(b"r", received, done, done, clock_us, ask))
        self._libpq.flush()

    def close(self) -> None:
        """Let go of the connection, and so of the slot."""
        self._connection.close()

    def _ended(self) -> None:
        result = self._libpq.get_result()
        reason = "" if result is None else result.error_message.decode(errors="replace")
        raise psycopg.OperationalError(reason or "the server ended the stream")


def _line(text: str) -> str:
    return " ".join(text.split())
