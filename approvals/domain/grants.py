"""Which approvals are still good, who sees them, and who may take one back."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from approvals.domain import refusal
from approvals.domain.clock import begun
from approvals.domain.grant import revoke_grant
from approvals.domain.refusal import Refusal
from approvals.domain.reviewers import groups_of, readable_reviews
from approvals.domain.step_up import limit_of, must_be_fresh
from approvals.models import Grant


def readable_grants(user: AbstractUser) -> QuerySet[Grant]:
    """The grants of every review the user may read."""
    return Grant.objects.filter(review__in=readable_reviews(user)).select_related("review")


def usable_grants(user: AbstractUser) -> QuerySet[Grant]:
    """Those under which something may still run."""
    room = Q(max_rows=None) | Q(rows_used__lt=F("max_rows"))
    usable = readable_grants(user).filter(room, begun("created_at"), revoked=False, expires_at__gt=timezone.now())
    # A spent grant whose last execution still runs can be revoked to end it.
    running = Q(uses__state="confirmed", uses__ended_at=None)
    return usable.filter(Q(uses_left__gt=0) | running).distinct()


def revoke_as(*, grant: Grant, user: AbstractUser, authenticated_at: float | None = None) -> bool:
    """Revoke in the user's name: administrators and the grant's reviewers may. Raises Refusal for everyone else.

    As a decision is, it is for somebody who proved themselves a short while ago (Unix seconds), where step-up is on.
    """
    mine = groups_of(user) & grant.review.deciding_groups
    if not user.is_active or not (mine or user.is_superuser):
        wanted = ", ".join(sorted(grant.review.deciding_groups))
        raise Refusal(refusal.NOT_REVIEWER, f"only a member of {wanted} or an administrator may revoke this")
    must_be_fresh(authenticated_at, what="a revocation", limit_s=limit_of(grant.review))
    return revoke_grant(grant=grant, by=user.get_username())
