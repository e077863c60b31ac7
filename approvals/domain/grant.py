"""Grants: found by the exact request they were given for, or by a wider one that covers it; counted and time-boxed.

A use goes `claimed` → `confirmed` → ended. Between the first two nothing has been sent anywhere: whoever claimed may
give the use back (`release_grant`), and a claim that nobody confirms within `STALE_CLAIM_S`, because its gateway died,
is given back too. Both take the same conditional UPDATE away from the other, so a use is confirmed or given back, never
both; after confirming it is spent, whatever happens, and the log says so.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from approvals.domain.announce import announce_change, announce_kill
from approvals.domain.binding import binding_digest, open_reach, requester_digest
from approvals.domain.clock import AHEAD, ClockTimestamp, begun
from approvals.domain.dossier import asked_binding, counted_approvers, current_binding, spoken_reason
from approvals.domain.hooks import requester_enabled
from approvals.domain.record import record
from approvals.domain.request import Binding, GrantClaim
from approvals.domain.reviewers import is_disabled
from approvals.domain.scope import Asked, Scope, covers
from approvals.models import Grant, GrantUse, Review
from audit.domain.entry import Json

__all__ = [
    "binding_digest",
    "claim_grant",
    "confirm_grant",
    "end_use",
    "grant_stands",
    "is_revoked",
    "release_grant",
    "release_stale_claims",
    "revoke_grant",
]

logger = logging.getLogger(__name__)

STALE_CLAIM_S = 10

_LEFT = "max_rows - rows_used - rows_reserved"
_USABLE = (
    f"uses_left > 0 AND NOT revoked AND expires_at > clock_timestamp() AND (max_rows IS NULL OR {_LEFT} > 0)"
    f" AND created_at <= clock_timestamp() + make_interval(secs => {AHEAD.total_seconds()})"
    # An exact approval is for its rows, however many; a wider one must have room for what is expected.
    f" AND (max_rows IS NULL OR id IS DISTINCT FROM %(wider)s::uuid OR %(room)s::bigint <= {_LEFT})"
)
# The inner row lock makes concurrent claims queue; each then reads the row anew, so the last use, and the last rows, go
# to one of them. Rows that are expected are reserved until the execution ends; of a wider grant all that are left,
# where nobody knows how many it will be, and of any grant where nobody will know afterwards either.
# The first execution starts the grace period: until then the grant lives as long as the policy gives to execute.
_TAKE = f"""
    UPDATE approvals_grant AS taken
       SET uses_left = uses_left - 1, claimed_at = clock_timestamp(), claimed_by_statement = %(statement_id)s,
           rows_reserved = rows_reserved + picked.reserve,
           expires_at = CASE WHEN claimed_at IS NULL AND grace_s > 0
                             THEN clock_timestamp() + make_interval(secs => grace_s) ELSE expires_at END
      FROM (SELECT id AS picked_id,
                   CASE WHEN max_rows IS NULL THEN 0
                        WHEN %(uncounted)s THEN {_LEFT}
                        ELSE least(coalesce(%(rows)s::bigint, CASE scope WHEN 'once' THEN 0 ELSE {_LEFT} END), {_LEFT})
                   END AS reserve
              FROM approvals_grant
             WHERE (digest = %(digest)s OR modified_digest = %(digest)s OR id = %(wider)s::uuid) AND {_USABLE}
             ORDER BY scope <> 'once', expires_at, id LIMIT 1
               FOR UPDATE) AS picked
     WHERE id = picked_id AND {_USABLE}
 RETURNING id, review_id, uses_left, picked.reserve
"""  # noqa: S608  no value is formatted in


class ClaimVoid(Exception):
    """The grant that was found must not be used; rolls its consumption back."""


class ApproverDisabled(Exception):
    """One of those who gave the grant is disabled by now: it must never be used, nor hide a newer one."""

    def __init__(self, grant_id: UUID) -> None:
        super().__init__("one who approved is disabled")
        self.grant_id = grant_id


def claim_grant(
    *, binding: Binding, statement_id: str, session_id: str = "", asked: Asked | None = None
) -> GrantClaim | None:
    """Consume one use of a grant for exactly this binding, or of a wider one that covers `asked`; None without one.

    The grant of a modified review is found by the original request, and then carries the reviewer's text, and by the
    modified text itself. Whoever asked, and whoever approved, must still be enabled. The log entry is part of the same
    transaction.
    """
    release_stale_claims(binding_digest(binding))
    while True:
        try:
            with transaction.atomic():
                return _claim(binding, statement_id, session_id, asked)
        except ClaimVoid as void:
            logger.warning("grant not usable: statement=%s why=%s", statement_id, void)
            return None
        except ApproverDisabled as gone:
            revoke_grant(grant=Grant.objects.get(pk=gone.grant_id), by="hoopweb: one who approved is disabled")


def confirm_grant(*, claim: GrantClaim, statement_id: str) -> bool:
    """Spend a claimed use for good, right before its execution is recorded; False when it is no longer there."""
    mine = GrantUse.objects.filter(grant__id=claim.grant_id, statement_id=statement_id, state=GrantUse.State.CLAIMED)
    return mine.filter(grant__revoked=False).update(state=GrantUse.State.CONFIRMED) == 1


def grant_stands(*, claim: GrantClaim) -> bool:
    """Whether what was claimed was not revoked since; how much of it is spent is another matter."""
    return not is_revoked(grant_id=claim.grant_id)


def is_revoked(*, grant_id: str) -> bool:
    """Whether an approval was taken back, or is not there any more."""
    return not Grant.objects.filter(pk=grant_id, revoked=False).exists()


def end_use(*, claim: GrantClaim, statement_id: str, rows: int | None) -> None:
    """The execution under a confirmed use is over: count its rows. None: nobody can; then all that were reserved."""
    with transaction.atomic():
        running = GrantUse.objects.filter(grant__id=claim.grant_id, statement_id=statement_id, ended_at=None)
        reserved = running.values_list("reserved", flat=True).first() or 0
        rows = reserved if rows is None else rows
        if running.update(ended_at=Now(), rows=rows) == 1:
            counted = {"rows_used": F("rows_used") + rows, "rows_reserved": F("rows_reserved") - reserved}
            Grant.objects.filter(pk=claim.grant_id).update(**counted)


def release_grant(*, claim: GrantClaim, statement_id: str) -> None:
    """Give back a claim under which nothing was sent upstream (a prepared statement cannot take on a new text)."""
    for use in GrantUse.objects.filter(grant__id=claim.grant_id, statement_id=statement_id).select_related("grant"):
        _give_back(use, "not-run")


def release_stale_claims(digest: str = "") -> int:
    """Give back claims that nobody confirmed in time; of the grants found by `digest`, or of all. Returns how many."""
    stale = GrantUse.objects.filter(state=GrantUse.State.CLAIMED, at__lt=Now() - timedelta(seconds=STALE_CLAIM_S))
    if digest:
        stale = stale.filter(Q(grant__digest=digest) | Q(grant__modified_digest=digest))
    return sum(_give_back(use, "not-confirmed") for use in stale.select_related("grant"))


def revoke_grant(*, grant: Grant, by: str) -> bool:
    """Make a grant unusable from now on and end the sessions that stream under it; False when it was revoked before."""
    with transaction.atomic():
        if Grant.objects.filter(pk=grant.pk, revoked=False).update(revoked=True) != 1:
            return False
        live = grant.uses.filter(ended_at=None).exclude(state=GrantUse.State.RELEASED).exclude(session_id="")
        sessions = sorted(set(live.values_list("session_id", flat=True)))
        for session_id in sessions:
            announce_kill(session_id=session_id)
        announce_change(review_id=grant.review_id, status="revoked")
        body: dict[str, Json] = {"grant": str(grant.pk), "by": by, "ended_sessions": list(sessions)}
        record("grant.revoked", grant.review, body=body)
    return True


def _give_back(use: GrantUse, why: str) -> bool:
    with transaction.atomic():
        mine = GrantUse.objects.filter(pk=use.pk, state=GrantUse.State.CLAIMED)
        if mine.update(state=GrantUse.State.RELEASED, ended_at=Now()) != 1:
            return False
        given_back = {"uses_left": F("uses_left") + 1, "rows_reserved": F("rows_reserved") - use.reserved}
        Grant.objects.filter(pk=use.grant_id).update(claimed_by_statement="", **given_back)
        review = Review.objects.get(pk=use.grant.review_id)
        Review.objects.filter(pk=review.pk, status=Review.Status.EXECUTED).update(status=Review.Status.APPROVED)
        body: dict[str, Json] = {"grant": str(use.grant_id), "why": why}
        record("grant.released", review, statement_id=use.statement_id, body=body)
    return True


def _claim(binding: Binding, statement_id: str, session_id: str, asked: Asked | None) -> GrantClaim | None:
    wider = None if asked is None else _wider_grant(binding, asked)
    taken = _take(binding_digest(binding), statement_id, wider, asked)
    if taken is None:
        return None
    grant_id, review_id, uses_left, reserved = taken
    review = Review.objects.get(pk=review_id)
    kept, current = asked_binding(review), current_binding(review)
    exactly, text = binding in (kept, current), current.statement
    # The digest found it; the sealed copy must agree, so that a row edited in the database grants nothing.
    if not exactly and grant_id != wider:
        raise ClaimVoid("the sealed binding differs")
    if review.status != Review.Status.APPROVED:
        raise ClaimVoid(f"the review is {review.status}")
    if is_disabled([review.subject, review.actor, review.owner]) or not requester_enabled(binding):
        raise ClaimVoid("the requester is disabled")
    approvers = counted_approvers(review)
    if is_disabled(approvers):
        raise ApproverDisabled(grant_id)
    if uses_left == 0:
        Review.objects.filter(pk=review_id).update(status=Review.Status.EXECUTED, decided_at=ClockTimestamp())
    GrantUse.objects.create(grant_id=grant_id, statement_id=statement_id, session_id=session_id, reserved=reserved)
    record(
        "grant.claimed",
        review,
        statement_id=statement_id,
        body={
            "grant": str(grant_id),
            "approvers": list(approvers),
            "uses_left": uses_left,
            "modified": exactly and text != kept.statement,
            "wider": not exactly,
            "policies": list(review.policies),
        },
    )
    announce_change(review_id=review_id, status=Review.Status.EXECUTED.value)
    return GrantClaim(
        grant_id=str(grant_id),
        review_id=str(review_id),
        approvers=approvers,
        reason=spoken_reason(review),
        statement=text if exactly else binding.statement,
        modified_from=kept.statement if exactly and text != kept.statement else None,
        meaning=current.meaning if exactly and text != kept.statement else "",
    )


def _wider_grant(binding: Binding, asked: Asked) -> UUID | None:
    """The wider grant of this requester that covers what is asked and has room for its rows."""
    if binding.governed_as:
        return None
    requester = requester_digest(binding)
    unspent = Grant.objects.filter(begun("created_at"), requester=requester, revoked=False, uses_left__gt=0)
    known = unspent.filter(expires_at__gt=timezone.now())
    for grant in known.exclude(scope=Scope.ONCE.value).order_by("expires_at"):
        assert grant.sealed_reach is not None
        reach = open_reach(grant.sealed_reach, grant_id=grant.pk, requester=requester)
        left = None if grant.max_rows is None else grant.max_rows - grant.rows_used - grant.rows_reserved
        room = left is None or (left > 0 and asked.room <= left and not asked.uncounted)
        if room and covers(reach, asked):
            return grant.pk
    return None


def _take(
    digest: str, statement_id: str, wider: UUID | None, asked: Asked | None
) -> tuple[UUID, UUID, int, int] | None:
    """(grant, review, uses left, rows reserved)"""
    of_request = {
        "rows": None if asked is None else asked.rows,
        "room": 0 if asked is None else asked.room,
        "uncounted": asked is not None and asked.uncounted,
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"digest": digest, "statement_id": statement_id, "wider": wider, **of_request})
        row = cursor.fetchone()
    return None if row is None else (row[0], row[1], row[2], row[3])
