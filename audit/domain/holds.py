"""Legal holds: placed and released, never changed or deleted, each with an entry of its own."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import transaction

from audit.domain.append import append_entries
from audit.domain.certificates import Hold
from audit.domain.entry import Entry, Json
from audit.domain.logged_retention import logged_holds
from audit.models_retention import LegalHold


def place_hold(*, hold: LegalHold, by: str) -> None:
    """Keep what `hold` covers from every purge from now on. The reason is sealed: it may name a patient."""
    hold.placed_by = by
    with transaction.atomic():
        hold.save()
        reason: dict[str, Json] = {"justification": hold.reason}
        append_entries([Entry(kind="hold.placed", body=_said(hold, by=by), sensitive=reason)])


def release_hold(*, hold: LegalHold, by: str) -> None:
    """Let what `hold` covers go with the next purge that is due, unless another hold covers it."""
    with transaction.atomic():
        released = LegalHold.objects.filter(pk=hold.pk, released_at=None).update(
            released_by=by, released_at=datetime.now(UTC)
        )
        if released:
            append_entries([Entry(kind="hold.released", body=_said(hold, by=by))])


def holds_in_force() -> list[Hold]:
    """By the table or by the log: a row that was changed or removed beside them lifts nothing."""
    rows = [criteria(row) for row in LegalHold.objects.filter(released_at=None).order_by("pk")]
    return [*rows, *(hold for hold in logged_holds() if hold not in rows)]


def criteria(row: LegalHold) -> Hold:
    """What a hold goes by, as certificates repeat it."""
    return Hold(
        subject=row.subject,
        connection=row.connection,
        session=row.session,
        since=row.since.isoformat() if row.since else "",
        until=row.until.isoformat() if row.until else "",
    )


def _said(hold: LegalHold, *, by: str) -> dict[str, Json]:
    covered = criteria(hold)
    return {
        "subject": by,
        "hold": hold.name,
        "covers": {
            "subject": covered.subject,
            "connection": covered.connection,
            "session": covered.session,
            "since": covered.since,
            "until": covered.until,
        },
    }
