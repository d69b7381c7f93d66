"""The simulated exchange as a WebSocket server on this machine, in a thread of its own.

It publishes the trades of an `ExchangeMarket` as its clock reaches them: to raw channels at
once, to the others every 100 ms; sends heartbeats, and closes on a client that leaves a test
request unanswered or does not read. Faults befall what is sent as `Faults` says.
"""

import asyncio
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress

from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.protocol import Answer, Client, Limits
from sources.websocket import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frames,
    WebSocketError,
    accept_key,
    frame,
    header_fields,
)

__all__ = ["ExchangeServer"]

_HOST = "127.0.0.1"
_TICK_S = 0.02
_SLOW_TICKS = 5  # 100 ms
_READ_BYTES = 1 << 16
_UNREAD_BYTES = 16 * 1024 * 1024
_START_S = 10.0
_HEARTBEAT = '{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}'
_TEST_REQUEST = '{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
_NONSENSE = '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"platform_state"}}'


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class ExchangeServer:
    """The server; `start` it, connect to `url`, `stop` it.

    Args:
        market: what is traded.
        faults: what goes wrong.
        now_ms: the exchange's clock, epoch ms; may be a test's.
        limits: of each client.
        tls: certificate for `wss://`; None for `ws://`.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        faults: Faults | None = None,
        *,
        now_ms: Callable[[], int] = _wall_clock_ms,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.market = market
        self.faults = faults or Faults()
        self._now_ms = now_ms
        self._limits = limits or Limits()
        self._tls = tls
        self._sessions: set[_Session] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._run, name="simulated-exchange", daemon=True)

    def start(self) -> "ExchangeServer":
        """Listen on a free port; returns once it does."""
        self._thread.start()
        if not self._started.wait(_START_S):
            raise RuntimeError("the simulated exchange did not start")
        return self

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"{'wss' if self._tls else 'ws'}://{_HOST}:{self._port}/ws/api/v2"

    def stop(self) -> None:
        """Drop all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def disconnect(self) -> None:
        """Drop all connections now."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def _abort_all(self) -> None:
        for session in tuple(self._sessions):
            session.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, _HOST, 0, ssl=self._tls, limit=_READ_BYTES)
        )
        self._port = server.sockets[0].getsockname()[1]
        publishing = self._loop.create_task(self._publish())
        self._started.set()
        self._loop.run_forever()
        publishing.cancel()
        server.close()
        self._abort_all()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(self.market, self._now_ms, time.monotonic, self._limits, self.faults)
        session = _Session(client, reader, writer, self.faults)
        self._sessions.add(session)
        # A broken connection or a client that breaks the protocol ends its own session only.
        with suppress(
            OSError, EOFError, WebSocketError, ValueError,
            asyncio.LimitOverrunError, asyncio.CancelledError,
        ):  # fmt: skip
            await session.serve()
        self._sessions.discard(session)
        session.abort()

    async def _publish(self) -> None:
        raw_ms = slow_ms = self._now_ms()
        tick = 0
        while True:
            await asyncio.sleep(_TICK_S)
            tick += 1
            now_ms = self._now_ms()
            self._notify(raw_ms, now_ms, ("raw",))
            raw_ms = now_ms
            if tick % _SLOW_TICKS == 0:
                self._notify(slow_ms, now_ms, ("100ms", "agg2"))
                slow_ms = now_ms
            for session in tuple(self._sessions):
                session.beat(time.monotonic())

    def _notify(self, after_ms: int, upto_ms: int, intervals: Iterable[str]) -> None:
        """Send the trades of a span to the channels of these intervals."""
        readers: defaultdict[str, list[_Session]] = defaultdict(list)
        for session in self._sessions:
            for channel in session.client.channels:
                readers[channel].append(session)
        wanted = [one for one in intervals if any(name.endswith(f".{one}") for name in readers)]
        if not wanted or upto_ms <= after_ms:
            return
        by_what: defaultdict[str, list[str]] = defaultdict(list)
        for k, text in self.market.between(after_ms, upto_ms):
            listed = self.market.listed[k]
            by_what[listed.name].append(text)
            by_what[f"{listed.kind}.{listed.currency}"].append(text)
            by_what[f"{listed.kind}.any"].append(text)
        for what, texts in by_what.items():
            for interval in wanted:
                channel = f"trades.{what}.{interval}"
                for session in readers.get(channel, ()):
                    session.notify(channel, texts)


class _Session:
    """One client's connection."""

    def __init__(
        self,
        client: Client,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        faults: Faults,
    ) -> None:
        self.client = client
        self._reader = reader
        self._writer = writer
        self._faults = faults
        self._frames = Frames(masked=True)
        self._held: str | None = None
        self._is_dead = False
        self._beat_at_s = time.monotonic()
        self._is_tested = False

    async def serve(self) -> None:
        """Shake hands and answer requests until the connection ends."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        _, fields = header_fields(head)
        key = fields.get("sec-websocket-key", "")
        self._writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
        )
        while data := await self._reader.read(_READ_BYTES):
            for opcode, payload in self._frames.feed(data):
                if opcode == CLOSE:
                    return
                if opcode == PING:
                    self._writer.write(frame(payload, PONG, masked=False))
                elif opcode == TEXT:
                    self._is_tested = False
                    self._reply(self.client.answer(payload))

    def _reply(self, answer: Answer) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(answer.late_s, self._send, answer.text)
        if answer.ends:
            # After the reply has left, as the real exchange does.
            loop.call_later(answer.late_s + _TICK_S, self.abort)

    def notify(self, channel: str, trades: list[str]) -> None:
        """Send trades to a channel, as the faults let it."""
        text = (
            f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}",'
            f'"data":[{",".join(trades)}]}}}}'
        )
        fault = self._faults.of_notification()
        if fault == "gap":
            return
        if fault == "reorder" and self._held is None:
            self._held = text
            return
        if fault == "disconnect":
            whole = frame(text.encode(), masked=False)
            self._writer.write(whole[: len(whole) // 2])
            # Not aborted: what is written must arrive, and the rest must not.
            self._writer.close()
            self._is_dead = True
            return
        if fault == "unknown":
            self._send(_NONSENSE)
        self._send(text)
        if fault == "duplicate":
            self._send(text)
        if self._held is not None:
            held, self._held = self._held, None
            self._send(held)

    def beat(self, now_s: float) -> None:
        """Send a heartbeat and a test request when they are due."""
        if self._faults.takes("silent"):
            self._is_dead = True
        interval_s = self.client.heartbeat_s
        if self._is_dead or interval_s is None or now_s - self._beat_at_s < interval_s:
            return
        self._beat_at_s = now_s
        if self._is_tested:  # the last one was not answered
            self.abort()
            return
        self._is_tested = True
        self._send(_HEARTBEAT)
        self._send(_TEST_REQUEST)

    def _send(self, text: str) -> None:
        if self._faults.slow_s:
            asyncio.get_running_loop().call_later(self._faults.slow_s, self._write, text)
        else:
            self._write(text)

    def _write(self, text: str) -> None:
        if self._is_dead or self._writer.is_closing():
            return
        self._writer.write(frame(text.encode(), masked=False))
        if self._writer.transport.get_write_buffer_size() > _UNREAD_BYTES:
            self.abort()  # it does not read

    def abort(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()
