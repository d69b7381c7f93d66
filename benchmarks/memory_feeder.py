"""Produces simulated trades until it is killed: BOOTSTRAP TOPIC PARTITIONS INSTRUMENTS RATE.

As fast as one process can, all partitions at the same event time within a block. RATE is
trades per second of event time.
"""

import sys

import numpy as np
from confluent_kafka import Producer

from schemas.trades import TradeCodec
from sources.market import SimulatedMarket

__all__ = ["feed"]

_OPENED_AT_MS = 1_750_000_020_000
_STEP_MS = 1_000


def feed(bootstrap: str, topic: str, partitions: int, instruments: int, rate: float) -> None:
    """Never returns."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "queue.buffering.max.messages": 500_000,
        }
    )
    market = SimulatedMarket(
        _OPENED_AT_MS, partitions=partitions, instruments=instruments, rate=rate, pace="fast"
    )
    codec = TradeCodec()
    fetchers = [market.open(partition, None) for partition in range(partitions)]
    reached = [_OPENED_AT_MS] * partitions
    until = _OPENED_AT_MS
    while True:
        until += _STEP_MS
        for partition, fetcher in enumerate(fetchers):
            while reached[partition] < until:
                fetched = fetcher.poll(int(rate / partitions) + 1)
                if fetched is None:
                    raise RuntimeError("An endless market has ended")
                reached[partition] = int(fetched.timestamps_ms[-1])
                decoded = codec.decode(fetched.values)
                names = np.array([name.encode() for name in decoded.key_names], object)
                for key, value, stamp in zip(
                    names[decoded.key_codes],
                    fetched.values.to_pylist(),
                    fetched.timestamps_ms.tolist(),
                    strict=True,
                ):
                    while True:
                        try:
                            producer.produce(topic, value, key, partition, timestamp=stamp)
                        except BufferError:
                            producer.poll(0.02)
                        else:
                            break
                producer.poll(0)


if __name__ == "__main__":
    feed(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
