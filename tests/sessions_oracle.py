"""The slow, obvious reference of the sessions flow, from the whole log at once.

The rules, read aloud over one device's events in order. `sessions(...)` is what one shard
emits: the events with their sessions, and a row per session that has ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.ewma_oracle import Accepted, accepted
from tests.oracle import FOREVER

TICK_MS = 1_000
WOKE, DATA, SENT = range(3)
KINDS = ("DeviceWokeUp", "DataReceived", "AllDataSent")


@dataclass(frozen=True)
class E:
    """A device's event in a log."""

    time: int
    key: str
    kind: int
    name: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Rule:
    timeout: int = 4_000
    lateness: int = 2_000


@dataclass
class Session:
    device: str
    events: list[Accepted] = field(default_factory=list)
    completed: int | None = None
    end: tuple[int, str] | None = None  # time and reason
    tick: int | None = None

    @property
    def id(self) -> str:
        first = self.events[0]
        return f"{first.trade.time}-{first.place[0]}-{first.place[1]}"

    def over_at(self, rule: Rule) -> int:
        """When nothing can join it any more, if nothing else happens."""
        last = self.events[-1].trade.time if self.completed is None else self.completed
        return last + rule.timeout

    def time_out(self, rule: Rule) -> None:
        over = self.over_at(rule)
        self.end = (over, "timeout") if self.completed is None else (self.completed, "completed")
        self.tick = -(-over // TICK_MS) * TICK_MS

    def give_way(self, time: int) -> None:
        self.end = (time, "superseded") if self.completed is None else (self.completed, "completed")
        self.tick = time // TICK_MS * TICK_MS + TICK_MS


def interpret(events: Sequence[Accepted], rule: Rule) -> list[Session]:
    """The sessions of one device; the last one may be open."""
    out: list[Session] = []
    for event in events:
        e = event.trade
        now = out[-1] if out and out[-1].end is None else None
        if now is not None and e.time >= now.over_at(rule):
            now.time_out(rule)
            now = None
        if now is not None and now.completed is not None and e.kind != SENT:
            now.give_way(e.time)
            now = None
        if now is not None and e.kind == WOKE:
            now.give_way(e.time)
            now = None
        if now is None:
            now = Session(e.key)
            out.append(now)
        now.events.append(event)
        if e.kind == SENT and now.completed is None:
            now.completed = e.time
    return out


def sensors(session: Session) -> dict[str, dict]:
    values: dict[str, list[float]] = {}
    for event in session.events:
        if event.trade.kind == DATA:
            values.setdefault(event.trade.name, []).append(event.trade.value)
    out = {}
    for name in sorted(values, key=str.encode):
        own = values[name]
        total = 0.0
        for value in own:
            total += value * 2.0**-40  # no sum overflows
        mean = min(max(total / len(own) * 2.0**40, min(own)), max(own))
        out[name] = {
            "count": len(own), "min": min(own), "max": max(own), "mean": mean, "last": own[-1],
        }  # fmt: skip
    return out


def row(session: Session) -> dict:
    assert session.end is not None
    return {
        "device": session.device,
        "session_id": session.id,
        "started_at": session.events[0].trade.time,
        "ended_at": session.end[0],
        "reason": session.end[1],
        "event_count": len(session.events),
        "sensors": sensors(session),
        "revision": 0,
        "tick": session.tick,
    }


def least_watermark(logs: Sequence[Sequence[E]], rule: Rule) -> int:
    if not all(logs):
        return -FOREVER
    return min(max(e.time for e in log) - rule.lateness for log in logs) // TICK_MS * TICK_MS


def sessions(
    logs: Sequence[Sequence[E]],
    rule: Rule,
    *,
    limit: int | None = None,
    keys: Callable[[str], bool] = lambda key: True,
) -> tuple[list[dict], list[dict]]:
    """Events and rows of the shard that holds `keys`, each in order.

    With `limit=FOREVER` the run is finite: what is left then leaves one tick after all.
    """
    watermark = least_watermark(logs, rule)
    everything = [a for p, log in enumerate(logs) for a in accepted(p, log, rule)]
    everything = [a for a in everything if keys(a.trade.key)]
    everything.sort(key=lambda a: (a.trade.time, a.place))
    flush = max(max((a.trade.time for a in everything), default=-FOREVER), watermark)
    flush = flush // TICK_MS * TICK_MS + TICK_MS
    folded = [a for a in everything if limit is not None or a.trade.time < watermark]
    owners: dict[tuple[int, int], Session] = {}
    found = []
    for device in {a.trade.key for a in folded}:
        for session in interpret([a for a in folded if a.trade.key == device], rule):
            owners |= {event.place: session for event in session.events}
            if session.end is None:
                session.time_out(rule)
            assert session.tick is not None
            if session.tick > watermark:
                if limit is None:
                    continue
                session.tick = flush
            found.append(session)
    events = []
    for a in folded:
        tick = a.trade.time // TICK_MS * TICK_MS + TICK_MS
        out = {"key": f"{a.trade.key}/{owners[a.place].id}", "event_time": a.trade.time}
        out |= {"place": a.place, "tick": tick if a.trade.time < watermark else flush}
        events.append(out)
    found.sort(key=lambda s: (s.tick, s.device.encode(), s.events[0].trade.time, s.events[0].place))
    return events, [row(session) for session in found]
