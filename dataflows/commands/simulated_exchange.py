"""Run the simulated exchange on its own: `python -m dataflows.commands.simulated_exchange`.

What it trades is a function of the options: started again with the same ones it goes on as if
it had never been away, so a feed reads it as it reads the real one. It listens on this machine
only, unless told otherwise. Ctrl-C or SIGTERM ends it.
"""

import argparse
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from sources.exchange.faults import Faults
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer

__all__ = ["main"]

_DONE, _FAILED = 0, 2
_MAX_INSTRUMENTS, _MAX_RATE = 10_000, 1_000_000
_MAX_PORT = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command until a signal; its exit status."""
    options = _options(arguments)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    problem = _occupied(options.host, options.port)
    if problem is not None:
        sys.stderr.write(
            f"error: {options.host}:{options.port} cannot be listened at ({problem}). "
            "Name another --host or --port; 0 is a free port.\n"
        )
        return _FAILED
    market = ExchangeMarket(
        int(options.opened_at.timestamp() * 1000),
        seed=options.seed,
        instruments=options.instruments,
        rate=options.rate,
    )
    faults = Faults(options.faults, options.seed)
    server = ExchangeServer(market, faults, host=options.host, port=options.port).start()
    sys.stdout.write(f"DERIBIT_ENDPOINT={server.url}\n")
    sys.stdout.flush()
    stopping.wait()
    server.stop()
    return _DONE


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflows.commands.simulated_exchange",
        description="A WebSocket server that trades as Deribit does, from a seed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at")
    add("--port", type=int, default=8765, help="0 for a free one")
    add("--seed", type=int, default=1, help="of the market and of the faults")
    add("--instruments", type=int, default=20, help="how many, up to 10,000")
    add("--rate", type=float, default=200.0, help="trades per second, all instruments together")
    add("--faults", type=float, default=0.0, help="share of messages that meet a fault")
    add("--opened-at", type=_time, default="2026-01-01T00:00:00Z", help="when trade 1 was, UTC")
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= _MAX_PORT or options.seed < 0:
        parser.error("--port must be a port, --seed 0 or more")
    if not 1 <= options.instruments <= _MAX_INSTRUMENTS or not 0 < options.rate <= _MAX_RATE:
        parser.error("--instruments must be 1 to 10,000, --rate more than 0, up to 1,000,000")
    if not 0 <= options.faults <= 1:
        parser.error("--faults is a share, 0 to 1")
    return options


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-01-01T00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _occupied(host: str, port: int) -> str | None:
    """Why nothing can listen there; None if something can."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.create_server((host, port), family=family):
            return None
    except OSError as error:
        return error.strerror or str(error)


if __name__ == "__main__":
    sys.exit(main())
