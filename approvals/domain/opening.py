"""How a review begins: a held statement opens one, or joins the one that waits for the same already."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from analysis.estimate import UNKNOWN, RowsExpected
from approvals.domain import refusal
from approvals.domain.announce import announce_change, announce_review
from approvals.domain.binding import binding_digest, seal_binding
from approvals.domain.decide import merge_reviewers
from approvals.domain.facts import review_facts
from approvals.domain.leaving import expire
from approvals.domain.record import record
from approvals.domain.refusal import Refusal
from approvals.domain.reminders import escalation_moment
from approvals.domain.request import AccessRequest, Binding, Principal, RequireApproval
from approvals.domain.reviewers import group_names
from approvals.models import Review
from audit.domain.entry import Json

Status = Review.Status
Masks = tuple[tuple[str, str, str], ...]  # (column, technique, rule) of the result


def open_review(
    *,
    request: AccessRequest,
    binding: Binding,
    decision: RequireApproval,
    session_id: str,
    statement_id: str,
    masks: Masks = (),
    snapshot_version: int = 0,
    expected: RowsExpected = UNKNOWN,
) -> Review:
    """Return a pending review of exactly this binding: the one that waits already, or a new one.

    A tool that asks ten times over ten connections makes one review with ten holders. Raises Refusal when the requester
    has as many different ones waiting as HOOPWEB_MAX_PENDING_REVIEWS allows: each calls people, and waits in memory.
    """
    digest = binding_digest(binding)
    while True:
        review = _joined(digest)
        if review is None:
            _must_have_room(request.principal)
            review = _new_review(
                request,
                binding,
                decision,
                binding_digest=digest,
                session_id=session_id,
                statement_id=statement_id,
                facts=review_facts(request, masks, expected),
                snapshot_version=snapshot_version,
            )
            if not _opened(review):
                continue  # another session opened it meanwhile: the unique index decides, we join
        return review


def _joined(digest: str) -> Review | None:
    """Add a holder to the pending review of this binding, if there is one that can still be decided."""
    with transaction.atomic():
        waiting = Review.objects.select_for_update().filter(binding_digest=digest, status=Status.PENDING).first()
        if waiting is None:
            return None
        if waiting.is_overdue:
            expire(waiting)
            return None
        Review.objects.filter(pk=waiting.pk).update(holders=F("holders") + 1)
        return waiting


def _must_have_room(principal: Principal) -> None:
    waiting = Review.objects.filter(subject=principal.subject, issuer=principal.issuer, status=Status.PENDING)
    if waiting.count() >= settings.HOOPWEB_MAX_PENDING_REVIEWS:
        reason = f"{settings.HOOPWEB_MAX_PENDING_REVIEWS} of your requests wait for reviewers; expected fewer"
        raise Refusal(refusal.TOO_MANY_PENDING, reason)


def _opened(review: Review) -> bool:
    """Store, announce and record a new review; False when one of the same binding is pending by now."""
    with transaction.atomic():
        try:
            with transaction.atomic():
                review.save(force_insert=True)
        except IntegrityError:
            return False
        announce_change(review_id=review.pk, status=review.status)
        announce_review(review_id=review.pk)
        body: dict[str, Json] = {
            "reviewers": review.reviewers,
            "kind": review.facts["kind"],
            "risk": review.risk,
            "decide_by": int(review.decide_by.timestamp()),
        }
        record("review.opened", review, body=body)
    return True


def _new_review(request: AccessRequest, binding: Binding, decision: RequireApproval, **known: Any) -> Review:
    """An unsaved review; `known` are the columns the caller has at hand."""
    now = timezone.now()
    principal = request.principal
    groups = merge_reviewers(decision.reviewers)
    review = Review(
        **known,
        subject=principal.subject,
        issuer=principal.issuer,
        actor=principal.actor,
        owner=principal.owner,
        principal=_kept_principal(principal),
        connection=request.resource.connection,
        connection_kind=request.resource.kind,
        rule=decision.rule,
        reason=decision.reason,
        risk=request.analysis.risk_score,
        rules_digest=binding.rules,
        reviewers=[asdict(group) for group in groups],
        reviewer_groups=group_names(groups),
        policies=list(decision.policies),
        authors=list(decision.authors),
        terms=asdict(decision.terms),
        opened_at=now,
        decide_by=now + timedelta(seconds=decision.decide_within_s),
        escalate_to=list(decision.escalate_to),
        escalate_at=escalation_moment(decision, now),
        execute_within_s=decision.execute_within_s,
    )
    review.sealed_binding = seal_binding(binding, review.pk)
    return review


def _kept_principal(principal: Principal) -> dict[str, Any]:
    kept = {"kind": principal.kind, "groups": sorted(principal.groups), "auth_method": principal.auth_method}
    rest = {"either_groups": sorted(principal.either_groups), "known_as": sorted(principal.known_as)}
    return kept | {name: listed for name, listed in rest.items() if listed}
