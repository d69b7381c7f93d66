"""Simulated devices: each record is an event of a random device.

Of the events a quarter are `DeviceWokeUp`, half `DataReceived`, a quarter `AllDataSent`, each
chosen by itself, so that sessions are superseded, completed and timed out, begin without a
`DeviceWokeUp`, and are completed twice.
"""

import numpy as np
import pyarrow as pa

from schemas.device_wire import ALL_DATA_SENT, DATA_RECEIVED, DEVICE_WOKE_UP, write_device_events
from schemas.stream import Int64s
from sources.simulated import Made, shuffled

__all__ = ["SENSORS", "Devices"]

SENSORS = (b"pressure", b"temperature", b"wind", b"humidity")
_QUARTERS = np.array([DEVICE_WOKE_UP, DATA_RECEIVED, DATA_RECEIVED, ALL_DATA_SENT], np.uint8)


class Devices:
    """A `sources.simulated.Maker`: device-1 to device-N, each in one partition.

    Args:
        count: of devices; at least as many as there are partitions.
        partitions: of the log.
        seed: of who tells what.
        prefix: before each value, such as the schema registry's header.
    """

    def __init__(self, count: int, partitions: int, seed: int, prefix: bytes = b"") -> None:
        self._partitions = partitions
        self._seed = seed
        self._prefix = prefix
        self._names = pa.array([f"device-{1 + i}" for i in range(count)], pa.string())

    def __call__(self, partition: int, numbers: Int64s, event_ms: Int64s) -> Made:
        """Events under their devices as keys."""
        chance = shuffled(self._seed, numbers)
        own = (len(self._names) - partition - 1) // self._partitions + 1
        devices = partition + (chance >> 32) % own * self._partitions
        values = write_device_events(
            _QUARTERS[chance % len(_QUARTERS)],
            chance // len(_QUARTERS) % len(SENSORS),
            shuffled(self._seed + 1, numbers) / 2.0**63,
            event_ms,
            SENSORS,
            self._prefix,
        )
        return Made(values, self._names.take(pa.array(devices)).cast(pa.binary()))
