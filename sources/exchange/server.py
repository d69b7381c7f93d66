"""The simulated exchange as a WebSocket server on this machine, in a thread of its own.

It publishes the trades of an `ExchangeMarket` as its clock reaches them: to raw channels at
once, to the others every 100 ms; sends heartbeats, and closes on a client that leaves a test
request unanswered or does not read. Faults befall what is sent as `Faults` says. The library
websockets speaks WebSocket; what is sent is never waited for, so no client holds up another.
"""

import asyncio
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.protocol import Answer, Client, Limits

__all__ = ["ExchangeServer"]

_HOST = "127.0.0.1"
_TICK_S = 0.02
_SLOW_TICKS = 5  # 100 ms
_UNREAD_BYTES = 16 * 1024 * 1024
_START_S = 10.0
_SHAKE_S = 5.0  # for opening and closing handshakes; `stop` waits for those under way
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
        host: address to listen at.
        port: the same; 0 for a free one.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        faults: Faults | None = None,
        *,
        now_ms: Callable[[], int] = _wall_clock_ms,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = _HOST,
        port: int = 0,
    ) -> None:
        self.market = market
        self.faults = faults or Faults()
        self._now_ms = now_ms
        self._limits = limits or Limits()
        self._tls = tls
        self._sessions: set[_Session] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._host = host
        self._port = port
        self._thread = threading.Thread(target=self._run, name="simulated-exchange", daemon=True)

    def start(self) -> "ExchangeServer":
        """Listen; returns once it does."""
        self._thread.start()
        if not self._started.wait(_START_S):
            raise RuntimeError("the simulated exchange did not start")
        return self

    @property
    def url(self) -> str:
        """Where to connect."""
        return f"{'wss' if self._tls else 'ws'}://{self._host}:{self._port}/ws/api/v2"

    def stop(self) -> None:
        """Drop all connections and end the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def disconnect(self) -> None:
        """Drop all connections now."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def _abort_all(self) -> None:
        for session in tuple(self._sessions):
            session.abort()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = serve(
            self._talk, self._host, self._port, ssl=self._tls,
            compression=None, ping_interval=None, open_timeout=_SHAKE_S, close_timeout=_SHAKE_S,
        )  # fmt: skip
        async with serving as server:
            self._port = server.sockets[0].getsockname()[1]
            publishing = asyncio.create_task(self._publish())
            self._started.set()
            await self._stopping.wait()
            publishing.cancel()
            self._abort_all()

    async def _talk(self, connection: ServerConnection) -> None:
        client = Client(self.market, self._now_ms, time.monotonic, self._limits, self.faults)
        session = _Session(client, connection, self.faults)
        self._sessions.add(session)
        try:
            # A broken connection or a client that breaks the protocol ends its own session only.
            with suppress(ConnectionClosed):
                await session.serve()
        finally:
            self._sessions.discard(session)

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

    def __init__(self, client: Client, connection: ServerConnection, faults: Faults) -> None:
        self.client = client
        self._connection = connection
        self._faults = faults
        self._held: str | None = None
        self._is_dead = False
        self._beat_at_s = time.monotonic()
        self._is_tested = False

    async def serve(self) -> None:
        """Answer requests until the connection ends."""
        async for request in self._connection:
            if isinstance(request, str):
                self._is_tested = False
                self._reply(self.client.answer(request.encode()))

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
            whole = Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
            self._connection.transport.write(whole[: len(whole) // 2])
            # Not aborted: what is written must arrive, and the rest must not.
            self._connection.transport.close()
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
        transport = self._connection.transport
        if self._is_dead or transport.is_closing():
            return
        broadcast([self._connection], text)  # unlike `send`, it does not wait for the client
        if transport.get_write_buffer_size() > _UNREAD_BYTES:
            self.abort()  # it does not read

    def abort(self) -> None:
        """End the connection at once."""
        self._connection.transport.abort()
