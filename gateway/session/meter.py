"""What one data-plane process counts about its statements, for metrics: numbers and names, never a value or a person.

Counting is a few dictionary additions under the event loop, without a lock, because every statement pays for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from analysis.making import quickly_made
from gateway.session.context import SessionContext
from gateway.session.permit import FieldCount, Outcome
from gateway.session.state import MeterState, TallyState

# Seconds. The shortest stages take tens of microseconds, a held statement hours.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

now = perf_counter


@dataclass(slots=True)
class Histogram:
    """Cumulative only when it is shown: one addition an observation."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


@quickly_made
@dataclass(slots=True)
class Stages:
    """When the stages of one statement began and ended, by `perf_counter`; for histograms and for traces."""

    began: float = field(default_factory=now)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    _open: tuple[str, float] | None = None

    def enter(self, stage: str) -> None:
        """Begin `stage`; the one before ends here."""
        moment = now()
        if self._open is not None:
            self.spans.append((self._open[0], self._open[1], moment))
        self._open = (stage, moment)

    def close(self) -> None:
        if self._open is not None:
            self.spans.append((self._open[0], self._open[1], now()))
            self._open = None


class Tally(TallyState):
    """The remembered statements of one connection and protocol that ended well, since they were last added up."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.statements = self.rows = self.bytes = 0
        self.seconds = 0.0

    def ended(self, rows: int, size: int, seconds: float) -> None:
        self.statements += 1
        self.rows += rows
        self.bytes += size
        self.seconds += seconds
        self.counts[bisect_left(BUCKETS, seconds)] += 1


@dataclass
class Meter(MeterState):
    """Counters by label values. `statements`: connection, protocol, outcome; `stages`: connection, stage.

    What `tally` counts is in them after `settle`.
    """

    statements: defaultdict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    stages: defaultdict[tuple[str, str], Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    rows: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    bytes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    masked: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))  # connection, technique
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)  # connection, protocol
    remembered: int = field(default_factory=int)  # statements that were decided from memory
    assessed: int = 0  # statements that were analysed and decided
    holding: int = 0  # statements that wait for people now
    # Told of every statement that ended: session, statement, stages, outcome. None: nobody traces.
    trace: Callable[[SessionContext, str, Sequence[tuple[str, float, float]], str], None] | None = field(
        default_factory=lambda: None
    )

    def completed(self, session: SessionContext, outcome: Outcome, seconds: float, *, remembered: bool) -> None:
        """A statement that was let through has ended."""
        connection = session.connection.name
        self.statements[connection, session.protocol, outcome.status] += 1
        self.stages[connection, "remembered" if remembered else "execute"].observe(seconds)
        self.rows[connection] += outcome.rows
        self.bytes[connection] += outcome.bytes
        self.masked_values(session, outcome.masked)

    def tally(self, session: SessionContext) -> Tally:
        """Where `completed` of a remembered statement that ended well is counted, but for its masked values."""
        return self.tallies.setdefault((session.connection.name, session.protocol), Tally())

    def settle(self) -> None:
        """Add up what was tallied."""
        for (connection, protocol), tally in self.tallies.items():
            if not tally.statements:
                continue
            self.statements[connection, protocol, "completed"] += tally.statements
            self.rows[connection] += tally.rows
            self.bytes[connection] += tally.bytes
            histogram = self.stages[connection, "remembered"]
            histogram.seconds += tally.seconds
            histogram.counts = [sum(both) for both in zip(histogram.counts, tally.counts, strict=True)]
            tally.clear()

    def masked_values(self, session: SessionContext, masked: Sequence[FieldCount]) -> None:
        for count in masked:
            self.masked[session.connection.name, count.technique] += count.count

    def denied(self, session: SessionContext, code: str) -> None:
        outcome = "rejected" if code == "rejected-by-database" else "limited" if code in LIMITED else "denied"
        self.statements[session.connection.name, session.protocol, outcome] += 1

    def held(self, session: SessionContext) -> None:
        self.statements[session.connection.name, session.protocol, "held"] += 1

    def took(self, session: SessionContext, stages: Stages) -> None:
        """The stages before the execution."""
        for stage, began, ended in stages.spans:
            self.stages[session.connection.name, stage].observe(ended - began)


LIMITED = frozenset({"quota-exceeded", "quota-unavailable"})


@dataclass(frozen=True, slots=True)
class Figures:
    """One process' counters as plain JSON, so that another can add them up."""

    values: dict[str, dict[str, float]]

    @classmethod
    def of(cls, meter: Meter) -> Figures:
        meter.settle()
        return cls(
            {
                "statements": {_key(*labels): count for labels, count in meter.statements.items()},
                "stages": dict(_histograms(meter)),
                "rows": {_key(name): count for name, count in meter.rows.items()},
                "bytes": {_key(name): count for name, count in meter.bytes.items()},
                "masked": {_key(*labels): count for labels, count in meter.masked.items()},
                "decisions": {"remembered": meter.remembered, "assessed": meter.assessed},
            }
        )


def _histograms(meter: Meter) -> Iterator[tuple[str, float]]:
    for labels, histogram in meter.stages.items():
        for place, count in enumerate(histogram.counts):
            if count:
                yield _key(*labels, str(place)), count
        yield _key(*labels, "seconds"), histogram.seconds


def _key(*labels: str) -> str:
    return "\x1f".join(labels)
