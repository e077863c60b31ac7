"""What a damaged log means: it is told everywhere at once, and, where configured, nothing is served over it.

Findings of every check are kept as `LogDamage` rows until the same check no longer finds them; the first sighting is an
entry of the log itself. `HOOPWEB_ON_LOG_DAMAGE` decides about serving (docs/decisions/0010): `alert` goes on and shows
it on every evidence page, `stop` refuses every statement on every gateway until the damage is dealt with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.domain.findings import Finding
from audit.domain.state import ServingState
from audit.models import LogDamage

logger = logging.getLogger(__name__)

ALERT, STOP = "alert", "stop"


class Serving(ServingState):
    """This process's knowledge, refreshed every second by the checkpoint loop."""

    def __init__(self) -> None:
        self.stopped = False


SERVING = Serving()


def note_findings(findings: Sequence[Finding], *, check: str, found_by: str) -> list[LogDamage]:
    """Make `findings` the current damage as `check` sees it. Returns what is new. Repairs and signs nothing."""
    now = datetime.now(UTC)
    new: list[LogDamage] = []
    with transaction.atomic():
        known = {(row.seq, row.kind): row for row in current_damage().filter(found_by_check=check)}
        for finding in findings:
            row = known.pop((finding.seq, finding.kind), None)
            if row is None:
                new.append(
                    LogDamage(
                        seq=finding.seq,
                        kind=finding.kind,
                        detail=finding.detail,
                        found_by_check=check,
                        found_at=now,
                        seen_at=now,
                    )
                )
            else:
                LogDamage.objects.filter(pk=row.pk).update(seen_at=now)
        LogDamage.objects.filter(pk__in=[row.pk for row in known.values()]).update(cleared_at=now)
        LogDamage.objects.bulk_create(new)
    _tell(new, check=check, found_by=found_by)
    return new


def current_damage() -> QuerySet[LogDamage]:
    """What is wrong with the stored evidence as far as anybody looked, oldest first."""
    return LogDamage.objects.filter(cleared_at=None).order_by("pk")


def refresh() -> bool:
    """Learn whether this process may serve. Called where the database may be asked."""
    SERVING.stopped = settings.HOOPWEB_ON_LOG_DAMAGE == STOP and current_damage().exists()
    return SERVING.stopped


def stops_serving() -> bool:
    """Whether statements are refused because of damage. Reads no database: asked before every entry."""
    return SERVING.stopped


def _tell(new: Sequence[LogDamage], *, check: str, found_by: str) -> None:
    for row in new:
        logger.critical("log damaged: entry=%s kind=%s check=%s", row.seq, row.kind, check)
    if not new:
        return
    places: list[Json] = [{"entry": row.seq, "kind": row.kind, "detail": row.detail} for row in new[:100]]
    body: dict[str, Json] = {
        "subject": found_by,
        "check": check,
        "findings": places,
        "serving": settings.HOOPWEB_ON_LOG_DAMAGE,
    }
    try:
        append_entries([Entry(kind="log.damage_found", body=body)])
    except Exception as error:  # the rows and the log file have it; a log this broken takes no entry
        logger.error("damage not recorded in the log: error=%s", type(error).__name__)
