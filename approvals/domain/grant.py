"""Grants: found by the exact request they were given for, consumed atomically, good for so many uses and so long."""

from __future__ import annotations

import logging
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from approvals.domain.announce import announce_change
from approvals.domain.binding import binding_digest, with_statement
from approvals.domain.clock import ClockTimestamp
from approvals.domain.dossier import asked_binding, counted_approvers, current_statement, spoken_reason
from approvals.domain.hooks import requester_enabled
from approvals.domain.record import record
from approvals.domain.request import Binding, GrantClaim
from approvals.domain.reviewers import is_disabled
from approvals.models import Grant, Review

__all__ = ["binding_digest", "claim_grant", "release_grant", "revoke_grant"]

logger = logging.getLogger(__name__)

# The inner row lock makes concurrent claims queue; each then reads the row anew, so the last use goes to one of them.
_TAKE = """
    UPDATE approvals_grant
       SET uses_left = uses_left - 1, claimed_at = clock_timestamp(), claimed_by_statement = %(statement_id)s
     WHERE uses_left > 0 AND NOT revoked AND expires_at > clock_timestamp()
       AND id = (SELECT id FROM approvals_grant
                  WHERE (digest = %(digest)s OR modified_digest = %(digest)s)
                    AND uses_left > 0 AND NOT revoked AND expires_at > clock_timestamp()
                  ORDER BY expires_at, id LIMIT 1
                    FOR UPDATE)
 RETURNING id, review_id, uses_left
"""


class ClaimVoid(Exception):
    """The grant that was found must not be used; rolls its consumption back."""


def claim_grant(*, binding: Binding, statement_id: str) -> GrantClaim | None:
    """Consume one use of a grant for exactly this binding; None when there is none.

    The grant of a modified review is found by the original request, and then carries the reviewer's text, and by the
    modified text itself. Whoever asked must still be enabled. The log entry is part of the same transaction.
    """
    try:
        with transaction.atomic():
            return _claim(binding, statement_id)
    except ClaimVoid as void:
        logger.warning("grant not usable: statement=%s why=%s", statement_id, void)
        return None


def release_grant(*, claim: GrantClaim, statement_id: str) -> None:
    """Give back a claim under which nothing was sent upstream (a prepared statement cannot take on a new text)."""
    with transaction.atomic():
        mine = Grant.objects.filter(pk=claim.grant_id, claimed_by_statement=statement_id, revoked=False)
        if mine.update(uses_left=F("uses_left") + 1, claimed_by_statement="") != 1:
            return
        review = Review.objects.get(pk=claim.review_id)
        Review.objects.filter(pk=review.pk, status=Review.Status.EXECUTED).update(status=Review.Status.APPROVED)
        record("grant.released", review, statement_id=statement_id, body={"grant": claim.grant_id})


def revoke_grant(*, grant: Grant, by: str) -> bool:
    """Make a grant unusable from now on; False when it was revoked before."""
    with transaction.atomic():
        if Grant.objects.filter(pk=grant.pk, revoked=False).update(revoked=True) != 1:
            return False
        announce_change(review_id=grant.review_id, status="revoked")
        record("grant.revoked", grant.review, body={"grant": str(grant.pk), "by": by})
    return True


def _claim(binding: Binding, statement_id: str) -> GrantClaim | None:
    taken = _take(binding_digest(binding), statement_id)
    if taken is None:
        return None
    grant_id, review_id, uses_left = taken
    review = Review.objects.get(pk=review_id)
    asked, text = asked_binding(review), current_statement(review)
    # The digest found it; the sealed copy must agree, so that a row edited in the database grants nothing.
    if binding not in (asked, with_statement(asked, text)):
        raise ClaimVoid("the sealed binding differs")
    if review.status != Review.Status.APPROVED:
        raise ClaimVoid(f"the review is {review.status}")
    if is_disabled([review.subject, review.actor, review.owner]) or not requester_enabled(binding):
        raise ClaimVoid("the requester is disabled")
    if uses_left == 0:
        Review.objects.filter(pk=review_id).update(status=Review.Status.EXECUTED, decided_at=ClockTimestamp())
    approvers = counted_approvers(review)
    record(
        "grant.claimed",
        review,
        statement_id=statement_id,
        body={
            "grant": str(grant_id),
            "approvers": list(approvers),
            "uses_left": uses_left,
            "modified": text != asked.statement,
        },
    )
    announce_change(review_id=review_id, status=Review.Status.EXECUTED.value)
    return GrantClaim(
        grant_id=str(grant_id),
        review_id=str(review_id),
        approvers=approvers,
        reason=spoken_reason(review),
        statement=text,
        modified_from=asked.statement if text != asked.statement else None,
    )


def _take(digest: str, statement_id: str) -> tuple[UUID, UUID, int] | None:
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"digest": digest, "statement_id": statement_id})
        row = cursor.fetchone()
    return None if row is None else (row[0], row[1], row[2])
