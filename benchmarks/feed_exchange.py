"""The simulated exchange as a process: RATE INSTRUMENTS OPENED_AT_MS GAP_EVERY_S.

Prints a line of JSON with its address and the names of its instruments, and then one for each
notification it swallows, with the time in epoch ms. Swallows none with 0 for GAP_EVERY_S.
"""

import json
import sys
import time

from typing_extensions import override

from sources.exchange.faults import Faults, NotificationFault
from sources.exchange.market import ExchangeMarket
from sources.exchange.server import ExchangeServer

__all__ = ["main"]


class _Noted(Faults):
    @override
    def of_notification(self) -> NotificationFault | None:
        fault = super().of_notification()
        if fault is not None:
            print(json.dumps({"swallowed_ms": time.time_ns() // 1_000_000}), flush=True)
        return fault


def main() -> None:
    """Never returns."""
    rate, instruments, opened_at_ms, gap_every_s = map(float, sys.argv[1:])
    market = ExchangeMarket(int(opened_at_ms), instruments=int(instruments), rate=rate)
    faults = _Noted()
    server = ExchangeServer(market, faults).start()
    names = [listed.name for listed in market.listed]
    print(json.dumps({"url": server.url, "names": names}), flush=True)
    while True:
        time.sleep(gap_every_s or 3_600)
        if gap_every_s:
            faults.request("gap")


if __name__ == "__main__":
    main()
