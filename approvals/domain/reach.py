"""From approving votes to the grant they leave: as far as every one of them, and every policy, lets it go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from approvals.domain import refusal
from approvals.domain.binding import binding_digest, requester_digest, seal_reach
from approvals.domain.dossier import asked_binding, current_binding, grant_terms
from approvals.domain.refusal import Refusal
from approvals.domain.scope import Scope, may_be_wide, narrowest, reach_of
from approvals.models import Grant, Review, Vote


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one reviewer lets an approval go. `for_s` 0: as long as the policy permits."""

    scope: Scope = Scope.ONCE
    for_s: int = 0


ONLY_ONCE = Reach()


def must_permit(review: Review, reach: Reach) -> None:
    """Raise Refusal unless the policies let an approval of this review reach so far."""
    terms = grant_terms(review)
    if reach.scope.value not in terms.scopes:
        permitted = ", ".join(terms.scopes)
        raise Refusal(refusal.REACH_TOO_WIDE, f"the policy does not permit that reach, expected one of {permitted}")
    if reach.for_s > terms.for_s:
        raise Refusal(refusal.REACH_TOO_WIDE, f"the policy permits at most {terms.for_s} s")
    if reach.scope is not Scope.ONCE and not may_be_wide(review.facts, max_rows=terms.max_rows):
        if may_be_wide(review.facts):
            reason = "the policy caps rows and nobody can count those this statement changes, so it can only run once"
            raise Refusal(refusal.REACH_TOO_WIDE, reason)
        raise Refusal(refusal.REACH_TOO_WIDE, "what this statement does is not fully known, so it can only run once")


def leave_grant(review: Review) -> None:
    """The narrowest reach of all who approved, within the policies' terms; what cannot be read is for once."""
    modified = ""
    if review.sealed_modified is not None:
        modified = binding_digest(current_binding(review))
    terms, scope, for_s = grant_terms(review), *_agreed_reach(review)
    counted = scope is not Scope.ONCE or terms.grace_s > 0
    grant = Grant(
        review=review,
        digest=review.binding_digest,
        modified_digest=modified,
        uses_left=terms.max_uses if counted else 1,
        expires_at=timezone.now() + timedelta(seconds=review.execute_within_s if scope is Scope.ONCE else for_s),
        scope=scope.value,
        grace_s=terms.grace_s if scope is Scope.ONCE else 0,
        max_rows=terms.max_rows,
    )
    if scope is not Scope.ONCE:
        grant.requester = requester_digest(asked_binding(review))
        grant.reach = reach_of(scope, facts=review.facts, rule=review.rule, reviewers=review.reviewers)
        grant.sealed_reach = seal_reach(grant.reach, grant_id=grant.pk, requester=grant.requester)
    grant.save(force_insert=True)


def _agreed_reach(review: Review) -> tuple[Scope, int]:
    votes = list(review.votes.filter(round=review.round).exclude(decision=Vote.Decision.DENY))
    scope = narrowest(vote.scope for vote in votes)
    terms = grant_terms(review)
    permitted = scope.value in terms.scopes and may_be_wide(review.facts, max_rows=terms.max_rows)
    return scope if permitted else Scope.ONCE, min((vote.for_s or terms.for_s for vote in votes), default=terms.for_s)
