"""Rows of reports that are more than one query: what was covered, and how rights came and went."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Min, Sum

from audit.models import LogEntry, SessionRecord, StatementRecord

Row = Sequence[Any]
# What says who may do what, by the names `apply` and the console give these.
_RIGHTS = frozenset(
    {"access", "agents", "groups", "issuers", "gateway.accessrule", "gateway.agent", "gateway.issuer", "auth.group",
     "auth.user"}
)  # fmt: skip


def coverage(since: datetime, until: datetime) -> Iterator[Row]:
    """What was recorded without a gap, by which processes, for which connections (164.312(b))."""
    yield _sequence(since, until)
    yield from _gateways(since, until)
    yield from _connections(since, until)
    lost = LogEntry.objects.filter(kind="recording.lost", at__gte=since, at__lt=until).count()
    yield ["recordings", "lost in a crash", "", "", lost, "each is an entry of the log"]
    found = LogEntry.objects.filter(kind="log.damage_found", at__gte=since, at__lt=until).count()
    yield ["damage", "found by a check", "", "", found, "see the integrity report"]


def _sequence(since: datetime, until: datetime) -> Row:
    entries = LogEntry.objects.filter(at__gte=since, at__lt=until)
    found = entries.aggregate(first=Min("seq"), last=Max("seq"))
    if found["first"] is None:
        return ["log", "no entry in the period", "", "", 0, ""]
    first, last = found["first"], found["last"]
    # Clocks of several processes may step over each other, so the places are counted, not the times.
    missing = last - first + 1 - LogEntry.objects.filter(seq__gte=first, seq__lte=last).count()
    said = "no place is missing" if not missing else f"{missing} places are missing"
    return ["log", f"entries {first} to {last}", "", "", last - first + 1, said]


def _gateways(since: datetime, until: datetime) -> Iterator[Row]:
    entries = LogEntry.objects.filter(kind__in=("gateway.started", "gateway.stopped"), at__lt=until).order_by("seq")
    ends: dict[str, datetime] = {}
    starts: list[tuple[str, datetime, str]] = []
    for at, kind, canonical in entries.values_list("at", "kind", "canonical").iterator(2_000):
        entry = json.loads(bytes(canonical))
        if kind == "gateway.stopped":
            ends[str(entry["gateway"])] = at
        else:
            starts.append((str(entry["gateway"]), at, str(entry["body"].get("host", ""))))
    for gateway, at, host in starts:
        end = ends.get(gateway)
        if end is None or end >= since:
            said = "ended in order" if end else "serving, or ended otherwise"
            yield ["gateway", gateway, at.isoformat(), end.isoformat() if end else "", "", f"{said}; host {host}"]


def _connections(since: datetime, until: datetime) -> Iterator[Row]:
    sessions = SessionRecord.objects.filter(opened_at__gte=since, opened_at__lt=until)
    opened = {row["connection"]: row["n"] for row in sessions.values("connection").annotate(n=Count("id"))}
    statements = StatementRecord.objects.filter(at__gte=since, at__lt=until).values("connection")
    found = {
        row["connection"]: row
        for row in statements.annotate(n=Count("id"), first=Min("at"), last=Max("at"), rows=Sum("rows"))
    }
    for name in sorted({*opened, *found}):
        row: Mapping[str, Any] = found.get(name, {})
        first, last = (row[key].isoformat() if row.get(key) else "" for key in ("first", "last"))
        said = f"{opened.get(name, 0)} sessions, {row.get('rows') or 0} rows"
        yield ["connection", name, first, last, row.get("n", 0), said]


def rights(since: datetime, until: datetime) -> Iterator[Row]:
    """Every change of who may do what, one row a changed item (164.308(a)(3)(ii)(C), (a)(4)(ii)(C))."""
    entries = LogEntry.objects.filter(kind="config.changed", at__gte=since, at__lt=until).order_by("seq")
    for seq, at, canonical in entries.values_list("seq", "at", "canonical").iterator(2_000):
        body = json.loads(bytes(canonical))["body"]
        for change in body.get("changes") or ():
            if change.get("section") in _RIGHTS:
                yield [
                    seq,
                    at.isoformat(),
                    body.get("subject"),
                    change["section"],
                    change["name"],
                    *_difference(change),
                ]


def _difference(change: dict[str, Any]) -> tuple[str, str, str]:
    before, after = change.get("before"), change.get("after")
    if before is None:
        return "granted", "", _shown(after)
    if after is None:
        return "removed", _shown(before), ""
    fields = [name for name in after if before.get(name) != after[name]]
    return "changed", _shown({n: before.get(n) for n in fields}), _shown({n: after[n] for n in fields})


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    return "; ".join(f"{name}: {json.dumps(item, ensure_ascii=False)}" for name, item in value.items() if item)
