"""What happens in the simulated market: every trade computed from its own number.

A trade is named by (instrument, block, rank): the rank-th trade of an instrument in a block
of event time. Time, price, quantity and side are hashes of that name and of the seed, so any
trade can be computed without those before it.

* Time: a block's trades of one instrument spread over the block by rank, then bent by three
  waves (two market-wide, one its own) into lulls and bursts, a quarter to twenty times the
  mean rate. One group of four in eight is a sweep: one time, one side, prices a tick apart.
* Price: value noise over octaves of 250 ms to 194 days whose amplitudes grow with the square
  root of the period, as a random walk's do; its bound keeps a price between a quarter and
  four times the base price. Buyers pay above it, sellers get less, in whole ticks.
* Quantity: log-normal, sigma 1.2, from a bounded sum of four uniforms (at most 64 times, at
  least 1/64 of the median).

Only +, -, *, / and rounding touch the floats, in fixed order: the same bits on every machine.
Cost: about 28 hashes a trade, 0.2 us.
"""

from hashlib import blake2b

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.stream import Int64s

__all__ = ["event_times", "prices", "stream_seed"]

# splitmix64 (Steele, Lea, Flood 2014): the finalizer, and odd strides for several arguments.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STRIDE_1 = np.uint64(0xD1342543DE82EF95)
_STRIDE_2 = np.uint64(0xC2B2AE3D27D4EB4F)
# One seed gives several independent streams.
_TRADE = np.uint64(0x8BB84B93962EACC9)
_SWEEP = np.uint64(0x2D358DCCAA6C78A5)
_SWEEP_TIME = np.uint64(0x589965CC75374CC3)
_SWEEP_SIDE = np.uint64(0x1D8E4E27C47D124F)
_WARP = np.uint64(0x4B33A62ED433D4A3)
_OFFSET = np.uint64(0xEB44ACCAB455D165)
_11, _27, _30, _31 = (np.uint64(k) for k in (11, 27, 30, 31))
_1, _7, _16, _LOW_16 = (np.uint64(k) for k in (1, 7, 16, 0xFFFF))
_UNIT = 2.0**-53
_UNIT_16 = 2.0**-16

_WAVES = np.array([1, 5, 24], dtype=np.int64)
_DEPTH = 0.65  # below 1: time never runs backwards
_OWN_WAVE = 2
_GROUP = 4
_JITTER = 0.999  # leaves room between neighbours for rounding

_OCTAVES = 14
_FINEST_MS = 250
_FINEST_AMPLITUDE = 5e-5  # of log price; times 2 per octave, whose period is times 4
_SIGMA = 1.2
_HALF = 0.5
_SQRT_3 = 1.7320508075688772  # four uniforms have a standard deviation of 1 / sqrt(3)


def stream_seed(*parts: object) -> np.uint64:
    """64 bits that depend on all `parts` (by their text)."""
    text = "\0".join(str(part) for part in parts).encode()
    return np.uint64(int.from_bytes(blake2b(text, digest_size=8).digest(), "little"))


@njit(cache=True)
def _mix(value: np.uint64) -> np.uint64:
    mixed = value + _GOLDEN
    mixed = (mixed ^ (mixed >> _30)) * _MIX_1
    mixed = (mixed ^ (mixed >> _27)) * _MIX_2
    return mixed ^ (mixed >> _31)


@njit(cache=True)
def _hash(seed: np.uint64, first: int, second: int) -> np.uint64:
    return _mix(seed + np.uint64(first) * _STRIDE_1 + np.uint64(second) * _STRIDE_2)


@njit(cache=True)
def _uniform(bits: np.uint64) -> float:
    return np.float64(bits >> _11) * _UNIT


@njit(cache=True)
def _wave(turns: float) -> float:
    """Two parabolas in place of a sine: period 1, height 1, slopes within 8."""
    x = turns - np.floor(turns)
    height = 16.0 * x * (_HALF - x) if x < _HALF else 16.0 * (x - _HALF) * (x - 1.0)
    return float(height)


@njit(cache=True)
def _exp(x: float) -> float:
    """The exponential for |x| <= 4.2 to eight digits, the same on every machine."""
    y = x / 256.0
    power = 1.0 + y * (1.0 + y * (0.5 + y * (1.0 / 6.0 + y / 24.0)))
    for _ in range(8):
        power *= power
    return power


@njit(cache=True)
def _is_sweep(seed: np.uint64, block: int, group: int) -> bool:
    return bool(_hash(seed ^ _SWEEP, block, group) & _7 == np.uint64(0))


@njit(cache=True)
def event_times(
    market_seed: np.uint64,
    seeds: NDArray[np.uint64],
    span_ms: int,
    instrument: NDArray[np.int32],
    block: Int64s,
    rank: Int64s,
    count: Int64s,
    time_ms: Int64s,
) -> None:
    """Event time of each trade in ms after the market's opening, into `time_ms`.

    A trade of block b lies in [b * span_ms, (b + 1) * span_ms), and times never fall with
    the rank.

    Args:
        market_seed: of the waves all instruments share.
        seeds: (k,) uint64, one per instrument.
        span_ms: event time of a block.
        instrument: (n,) int32, index into `seeds`.
        block: (n,) int64, from 0.
        rank: (n,) int64 within the block, below `count`.
        count: (n,) int64, the instrument's trades in a block.
        time_ms: (n,) int64, written.
    """
    for i in range(len(block)):
        seed = seeds[instrument[i]]
        group = rank[i] // _GROUP
        if _is_sweep(seed, block[i], group):
            place = group * _GROUP + _JITTER * _uniform(_hash(seed ^ _SWEEP_TIME, block[i], group))
        else:
            place = rank[i] + _JITTER * _uniform(_hash(seed ^ _TRADE, block[i], rank[i]))
        bent = place / count[i]
        for wave in range(len(_WAVES)):
            of = seed if wave == _OWN_WAVE else market_seed
            start = _uniform(_hash(of ^ _WARP, block[i], wave))
            height = _DEPTH / (8.0 * _WAVES[wave])
            bent += height * (_wave(_WAVES[wave] * bent + start) - _wave(start))
        within = np.int64(bent * span_ms)
        time_ms[i] = block[i] * span_ms + min(max(within, 0), span_ms - 1)


@njit(cache=True)
def _log_price(seed: np.uint64, time_ms: int) -> float:
    """Value noise at `time_ms`: the logarithm of price / base price, within +-1.32."""
    total = 0.0
    period_ms = _FINEST_MS
    amplitude = _FINEST_AMPLITUDE * (0.8 + 0.8 * _uniform(_mix(seed)))
    for octave in range(_OCTAVES):
        # Each octave is shifted by its own offset, else all would be flat at the same time.
        shifted = time_ms + int(_hash(seed ^ _OFFSET, octave, 0) >> _30) % period_ms
        knot = shifted // period_ms
        x = (shifted - knot * period_ms) / period_ms
        left = _uniform(_hash(seed, octave, knot))
        right = _uniform(_hash(seed, octave, knot + 1))
        total += amplitude * (2.0 * (left + (right - left) * x * x * (3.0 - 2.0 * x)) - 1.0)
        period_ms *= 4
        amplitude *= 2.0
    return total


@njit(cache=True)
def prices(
    seeds: NDArray[np.uint64],
    base_price: Int64s,
    median_quantity: Int64s,
    opened_at_ms: int,
    instrument: NDArray[np.int32],
    block: Int64s,
    rank: Int64s,
    time_ms: Int64s,
    price: Int64s,
    quantity: Int64s,
    side: NDArray[np.int32],
) -> None:
    """Price, quantity and taker side of each trade, into the last three arrays.

    Args:
        seeds: (k,) uint64, one per instrument.
        base_price: (k,) int64 ticks.
        median_quantity: (k,) int64 units.
        opened_at_ms: added to `time_ms` for the epoch time that prices depend on.
        instrument: (n,) int32, index into the (k,) arrays.
        block: (n,) int64.
        rank: (n,) int64.
        time_ms: (n,) int64, of `event_times`.
        price: (n,) int64 ticks, written, positive.
        quantity: (n,) int64 units, written, positive.
        side: (n,) int32, written: 0 the taker buys, 1 the taker sells.
    """
    for i in range(len(block)):
        k = instrument[i]
        seed = seeds[k]
        bits = _mix(_hash(seed ^ _TRADE, block[i], rank[i]))
        group = rank[i] // _GROUP
        depth = int(bits & _1)
        taker = np.int32((bits >> _1) & _1)
        if _is_sweep(seed, block[i], group):
            depth = int(rank[i]) % _GROUP
            taker = np.int32(_hash(seed ^ _SWEEP_SIDE, block[i], group) & _1)
        middle = np.rint(base_price[k] * _exp(_log_price(seed, opened_at_ms + time_ms[i])))
        away = 1 + depth
        side[i] = taker
        price[i] = max(int(middle) + (away if taker == 0 else -away), 1)
        bits = _mix(bits)
        uniforms = 0.0
        for _ in range(4):
            uniforms += np.float64(bits & _LOW_16) * _UNIT_16
            bits >>= _16
        factor = _exp(_SIGMA * _SQRT_3 * (uniforms - 2.0))
        quantity[i] = max(int(np.rint(median_quantity[k] * factor)), 1)
