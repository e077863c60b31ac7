"""Retention and holds as the log says them. A purge goes by both, the tables and the log, and keeps what either keeps.

Whoever can write to the tables could otherwise shorten a retention, or drop a hold, and have the product itself destroy
the evidence, certified. A change that is to count is in the log, where everybody sees it.
"""

from __future__ import annotations

import json

from django.db import connection

from audit.domain.certificates import Hold
from audit.models import LogEntry

_SECTION = "audit.retentionpolicy"


def logged_days() -> dict[str, int]:
    """Days per class of record, as the newest recorded change of each says."""
    found: dict[str, int] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT canonical FROM audit_logentry WHERE kind = 'config.changed'"
            " AND position(%s::bytea IN canonical) > 0 ORDER BY seq",
            [f'"{_SECTION}"'.encode()],
        )
        for (canonical,) in cursor.fetchall():
            for change in json.loads(bytes(canonical))["body"].get("changes") or ():
                after = change.get("after") if change.get("section") == _SECTION else None
                if after:
                    found[str(after["record_class"])] = int(after["days"])
    return found


def logged_holds() -> list[Hold]:
    """What holds cover that were placed and not released."""
    found: dict[str, Hold] = {}
    rows = LogEntry.objects.filter(kind__in=("hold.placed", "hold.released")).order_by("seq")
    for kind, canonical in rows.values_list("kind", "canonical"):
        body = json.loads(bytes(canonical))["body"]
        if kind == "hold.placed":
            found[body["hold"]] = Hold(**{name: str(value) for name, value in body["covers"].items()})
        else:
            found.pop(body["hold"], None)
    return list(found.values())
