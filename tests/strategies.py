"""Hypothesis strategies that every feature shares."""

from hypothesis import strategies as st

from tests.oracle import Rule, T
from tests.rolling_oracle import Rolling

BASE_MS = 1_700_000_040_000  # the start of a minute

_STEPS = [0, 0, 0, 1, 10, 300, 1_000, 1_500, 7_000, 30_000, 61_000, 200_000]
_DELAYS = [0, 0, 0, 0, 5, 900, 1_999, 2_000, 2_001, 4_000, 61_000, 250_000, 299_999, 305_000]
_DELAYS += [900_000]


@st.composite
def logs(draw: st.DrawFn, *, partitions: int = 3, records: int = 40) -> list[list[T]]:
    """Partitions of trades: out of order, tied, duplicated, late, with holes in sequences."""
    seqs: dict[str, int] = {}
    out = []
    for _ in range(draw(st.integers(1, partitions))):
        log: list[T] = []
        time = BASE_MS + draw(st.sampled_from([0, 0, 1_000, 59_999, 180_000]))
        for _ in range(draw(st.integers(0, records))):
            time += draw(st.sampled_from(_STEPS))
            key = draw(st.sampled_from(["a", "b", "é"]))
            seqs[key] = seqs.get(key, 0) + draw(st.sampled_from([1, 1, 1, 1, 1, 0, 2]))
            log.append(
                T(
                    max(1, time - draw(st.sampled_from(_DELAYS))),
                    key,
                    draw(st.sampled_from([1, 525_000_000, 525_000_000, 2**62, 10**9, 3])),
                    draw(st.sampled_from([1, 10**8, 7, 2**33])),
                    draw(st.integers(0, 1)),
                    seqs[key] if draw(st.integers(0, 9)) else 0,
                )
            )
        out.append(log)
    return out


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Parameters of the candles flow."""
    intervals = draw(
        st.sampled_from(
            [(60_000,), (1_000,), (60_000, 300_000), (1_000, 60_000, 300_000, 3_600_000)]
        )
    )
    return Rule(
        intervals,
        lateness=draw(st.sampled_from([0, 2_000, 5_000])),
        horizon=draw(st.sampled_from([0, 10_000, 300_000])),
        fill=draw(st.booleans()) if intervals[0] > 1_000 else False,
        silence=draw(st.sampled_from([60_000, 200_000, 3_600_000])),
    )


@st.composite
def rolling_rules(draw: st.DrawFn) -> Rolling:
    """Parameters of rolling windows, from one pane to far more than a log is long."""
    pane, tick, quiet, window = draw(
        st.sampled_from(
            [
                (1_000, 1_000, 60_000, 5_000),
                (1_000, 1_000, 60_000, 61_000),
                (1_000, 1_000, 5_000, 600_000),
                (1_000, 5_000, 60_000, 8_000),
                (500, 1_500, 60_000, 1_500),
                (60_000, 60_000, 60_000, 60_000),
                (60_000, 60_000, 120_000, 300_000),
                (1_000, 1_000, 60_000, 86_400_000),
            ]
        )
    )
    return Rolling(
        window,
        pane,
        tick,
        quiet,
        lateness=draw(st.sampled_from([0, 2_000, 5_000])),
        horizon=draw(st.sampled_from([0, 10_000, 300_000])),
    )
