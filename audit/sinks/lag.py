"""How far behind each sink is: for the console, for metrics, for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from audit.domain.head import stated_size
from audit.models import LogEntry, Sink


@dataclass(frozen=True, slots=True)
class Lag:
    """`seconds`: the age of the oldest entry the receiver does not have; 0 when it has all."""

    sink: str
    entries: int
    seconds: float
    failing: bool
    enabled: bool


def lags() -> list[Lag]:
    """One for each sink, by name."""
    size = stated_size()
    return [lag_of(sink, size=size) for sink in Sink.objects.order_by("name")]


def lag_of(sink: Sink, *, size: int) -> Lag:
    entries = max(0, size - sink.cursor)
    oldest = LogEntry.objects.filter(seq=sink.cursor + 1).values_list("at", flat=True).first() if entries else None
    seconds = max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0
    return Lag(sink.name, entries, seconds, sink.failing_since is not None, sink.enabled)
