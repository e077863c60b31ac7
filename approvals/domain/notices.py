"""What may be said about a review outside this product: names, counts and sums. No statement, no value, no patient."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from approvals.domain.deliveries import tell
from approvals.domain.facts import sizes, without_sizes
from approvals.models import EmergencyAccess, Review
from audit.domain.marks import visible


def review_notice(review: Review) -> dict[str, Any]:
    """JSON for channels, and the words of mails. Everything in it is a name, a count, a time or a link."""
    facts = without_sizes(review.facts)
    told = {
        "review": str(review.pk),
        "url": review.absolute_url,
        "status": review.status,
        "round": review.round,
        "modified": review.sealed_modified is not None,
        "subject": review.subject,
        "actor": review.actor,
        "owner": review.owner,
        "connection": review.connection,
        "kind": facts["kind"],
        "tables": sorted({*facts["tables_read"], *facts["tables_written"]}),
        "classes": facts["classes"],
        **sizes(facts),
        "rule": review.rule,
        "risk": review.risk,
        "reviewers": review.reviewer_groups,
        "opened_at": review.opened_at.isoformat(timespec="seconds"),
        "decide_by": review.decide_by.isoformat(timespec="seconds"),
    }
    return {name: _visible(value) for name, value in told.items()}


def tell_channels(review: Review, event: str) -> int:
    """Tell every channel that asked; once per event and text of the review."""
    return tell(
        event=event,
        about=f"review:{review.pk}:{review.round}",
        payload=review_notice(review),
        connection=review.connection,
        groups=[*review.reviewer_groups, *review.escalate_to],
    )


def emergency_notice(access: EmergencyAccess) -> dict[str, Any]:
    """JSON for channels, and the words of mails: who, where, until when. The reason may name a patient: not here."""
    told = {
        "emergency": str(access.pk),
        "url": f"{settings.HOOPWEB_WEB_URL}{access.get_absolute_url()}",
        "person": access.person,
        "agent": access.agent,
        "connection": access.connection,
        "roster": access.roster,
        "lifts_masks": access.lifts_masks,
        "statements": access.statements,
        "reviewers": access.reviewer_groups,
        "opened_at": access.opened_at.isoformat(timespec="seconds"),
        "ends_at": (access.ended_at or access.ends_at).isoformat(timespec="seconds"),
        "review_by": access.review_by.isoformat(timespec="seconds"),
        "finding": access.finding,
        "reviewed_by": access.reviewed_by,
    }
    return {name: _visible(value) for name, value in told.items()}


def moment_words(moment: str) -> str:
    """A notice's time of day as people read it: `2026-11-30 16:14 UTC`."""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _visible(value: Any) -> Any:
    """Names are chosen by whoever made the table, the agent or the token: none reorders a mail or a message."""
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return visible(value) if isinstance(value, str) else value


def tell_of_emergency(access: EmergencyAccess, event: str) -> int:
    """Tell every channel that asked; once per event of an access."""
    return tell(
        event=event,
        about=f"emergency:{access.pk}",
        payload=emergency_notice(access),
        connection=access.connection,
        groups=access.reviewer_groups,
    )
