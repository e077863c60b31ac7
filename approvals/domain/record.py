"""What reviews write into the log, in the transaction that makes it so: no entry, no transition."""

from __future__ import annotations

from collections.abc import Mapping

from approvals.models import Review
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json


def record_view(review: Review, *, viewer: str, through: str) -> None:
    """Somebody read the statement of a review: on its page, or over REST (`through`)."""
    body: dict[str, Json] = {"what": "review", "round": review.round, "through": through, "requester": review.subject}
    # The viewer is the subject here, and acts for nobody.
    record("evidence.viewed", review, body={**body, "subject": viewer, "actor": None, "owner": None})


def record(
    kind: str,
    review: Review,
    *,
    statement_id: str = "",
    sensitive: Mapping[str, Json] | None = None,
    body: Mapping[str, Json] | None = None,
) -> None:
    """Append one entry about `review`. What people typed belongs into `sensitive`: it may quote a patient."""
    entry = Entry(
        kind=kind,
        session_id=review.session_id,
        statement_id=statement_id or review.statement_id,
        body={
            "review": str(review.pk),
            "subject": review.subject,
            "actor": review.actor,
            "owner": review.owner,
            "connection": review.connection,
            "rule": review.rule,
            **(body or {}),
        },
        sensitive=sensitive,
    )
    append_entries([entry])
