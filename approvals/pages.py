"""What the review pages show, gathered once, so that templates only lay it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db.models import Count
from django.utils import timezone

from approvals.domain import hooks
from approvals.domain.dossier import (
    asked_binding,
    current_statement,
    facts_for,
    grant_terms,
    is_nobody,
    still_missing,
    vote_reason,
)
from approvals.domain.facts import without_sizes
from approvals.domain.hooks import Reanalysis
from approvals.domain.refusal import Refusal
from approvals.domain.request import Allow, RequireApproval
from approvals.domain.review import MODIFIER_APPROVES_BELOW
from approvals.domain.reviewers import eligible_groups
from approvals.domain.scope import WORDS, Scope, may_be_wide
from approvals.models import Grant, Review, Vote
from approvals.shown import ShownDiffLine, ShownText, shown_diff, shown_parameters, shown_text

SOON_S = 300
MAX_ROW_TABLES = 3
HISTORY_LENGTH = 5


@dataclass(frozen=True, slots=True)
class ShownVote:
    reviewer: str
    decision: str
    reason: str
    cast_at: datetime
    current: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """A reviewer's text that is not stored yet: what it changes, and whether it may be approved."""

    text: ShownText
    diff: tuple[ShownDiffLine, ...]
    facts: dict[str, Any] | None = None
    verdict: str = ""
    risk: int = 0
    confirmed_by_another: bool = False  # above the threshold whoever changed a text is not its approver
    refused: str = ""


@dataclass(frozen=True, slots=True)
class InboxRow:
    review: Review
    status: str
    mine: bool
    remaining_s: int
    urgent: bool

    @property
    def facts(self) -> dict[str, Any]:
        """A list tells nobody how many rows answer a question about protected values; the page asks who looks."""
        return without_sizes(self.review.facts)

    @property
    def tables(self) -> str:
        """The tables it is about, written ones first; a few, the page has all."""
        facts = self.review.facts
        names = list(dict.fromkeys([*facts["tables_written"], *facts["tables_read"]]))
        more = f" and {len(names) - MAX_ROW_TABLES} more" if len(names) > MAX_ROW_TABLES else ""
        return ", ".join(names[:MAX_ROW_TABLES]) + more


@dataclass(frozen=True, slots=True)
class History:
    """What a requester asked before. `alike` counts the same shape on the same connection."""

    latest: tuple[Review, ...]
    total: int
    approved: int
    denied: int
    alike: int


@dataclass(frozen=True, slots=True)
class GrantRow:
    grant: Grant
    words: str
    remaining_s: int
    running: int
    used: int


def review_page(review: Review, user: AbstractUser) -> dict[str, Any]:
    """Everything the page of one review says to `user`, who may read it."""
    binding = asked_binding(review)
    text = current_statement(review)
    may_decide, why_not = _may_decide(review, user)
    return {
        "review": review,
        "status": Review.Status.EXPIRED.value if review.is_overdue else review.status,
        "facts": facts_for(review, user),
        "statement": shown_text(text, kind=review.connection_kind),
        "governed_as": shown_text(binding.governed_as, kind=review.connection_kind) if binding.governed_as else None,
        "diff": shown_diff(binding.statement, text) if review.sealed_modified is not None else (),
        "parameters": shown_parameters(binding.parameters, binding.parameter_formats),
        "role": binding.role,
        "search_path": binding.search_path,
        "settings": binding.settings,
        "votes": [_shown_vote(vote, review) for vote in review.votes.all()],
        "missing": still_missing(review) if review.status == Review.Status.PENDING else (),
        "may_decide": may_decide,
        "why_not": why_not,
        "ended": _ENDED.get(review.status if not review.is_overdue else Review.Status.EXPIRED.value, ""),
        "may_modify": may_decide and not binding.governed_as,
        "remaining_s": max(0, int((review.decide_by - timezone.now()).total_seconds())),
        "grant": review.grants.first(),
        "scopes": permitted_scopes(review) if may_decide else [],
        "longest_min": grant_terms(review).for_s // 60,
        "terms": grant_terms(review),
        "history": history(review),
        "purpose": hooks.purpose_of(review.subject, review.issuer),
        "authors": [author for author in review.authors if not is_nobody(author)],
        "binds_nobody": any(map(is_nobody, review.authors)),
    }


_ENDED = {
    "approved": "Approved: it may run, and has not yet. There is nothing left to decide.",
    "executed": "Approved, and it ran. There is nothing left to decide.",
    "denied": "Denied: it did not run, and the requester was told why.",
    "expired": "Nobody decided in time: it did not run. Whoever still needs it asks again, and you get a new request.",
    "withdrawn": "Withdrawn: whoever asked stopped waiting before anybody decided. It did not run.",
}


def permitted_scopes(review: Review) -> list[tuple[str, str]]:
    """What a reviewer may choose from, as (value, words); nothing to choose is no list."""
    terms = grant_terms(review)
    if len(terms.scopes) < 2 or not may_be_wide(review.facts, max_rows=terms.max_rows):
        return []
    return [(scope, WORDS[Scope(scope)]) for scope in terms.scopes]


def history(review: Review) -> History:
    """What the same requester asked before, newest first, with how each ended."""
    same = Review.objects.filter(subject=review.subject, issuer=review.issuer, actor=review.actor).exclude(pk=review.pk)
    before = same.filter(opened_at__lte=review.opened_at)
    counted = {row["status"]: row["n"] for row in before.order_by().values("status").annotate(n=Count("pk"))}
    alike = before.filter(connection=review.connection, facts__fingerprint=review.facts["fingerprint"])
    latest = before.defer("sealed_binding", "sealed_modified").order_by("-opened_at")[:HISTORY_LENGTH]
    return History(
        latest=tuple(latest),
        total=sum(counted.values()),
        approved=counted.get("approved", 0) + counted.get("executed", 0),
        denied=counted.get("denied", 0),
        alike=alike.count(),
    )


def grant_rows(grants: Iterable[Grant]) -> list[GrantRow]:
    now = timezone.now()
    return [
        GrantRow(
            grant=grant,
            words=WORDS[Scope(grant.scope)],
            remaining_s=max(0, int((grant.expires_at - now).total_seconds())),
            running=sum(1 for use in grant.uses.all() if use.state == use.State.CONFIRMED and use.ended_at is None),
            used=sum(1 for use in grant.uses.all() if use.state != use.State.RELEASED),
        )
        for grant in grants
    ]


def preview(review: Review, text: str, outcome: Reanalysis | Refusal) -> Preview:
    """The page's answer to an edited text."""
    before = asked_binding(review).statement
    shown, diff = shown_text(text, kind=review.connection_kind), shown_diff(before, text)
    if isinstance(outcome, Refusal):
        return Preview(shown, diff, refused=outcome.reason)
    return Preview(
        shown,
        diff,
        facts=outcome.facts,
        verdict=_verdict(outcome),
        risk=outcome.risk,
        confirmed_by_another=outcome.risk >= MODIFIER_APPROVES_BELOW,
    )


def inbox_rows(reviews: Iterable[Review], user: AbstractUser, groups: frozenset[str]) -> list[InboxRow]:
    """Rows without a query each: `groups` are the user's, read once."""
    now = timezone.now()
    names = {user.username.casefold(), (user.email or user.username).casefold()}
    rows = []
    for review in reviews:
        remaining_s = int((review.decide_by - now).total_seconds())
        open_now = review.status == Review.Status.PENDING and remaining_s > 0
        asked_by_me = bool(names & {name.casefold() for name in review.humans})
        rows.append(
            InboxRow(
                review=review,
                status=Review.Status.EXPIRED.value if review.is_overdue else review.status,
                mine=open_now and not asked_by_me and bool(groups & review.deciding_groups),
                remaining_s=max(0, remaining_s),
                urgent=open_now and remaining_s < SOON_S,
            )
        )
    return rows


def _shown_vote(vote: Vote, review: Review) -> ShownVote:
    current = vote.round == review.round
    return ShownVote(vote.reviewer, vote.decision, vote_reason(vote), vote.cast_at, current, vote.counts)


def _may_decide(review: Review, user: AbstractUser) -> tuple[bool, str]:
    if review.status != Review.Status.PENDING or review.is_overdue:
        return False, ""
    try:
        eligible_groups(review, user)
    except Refusal as refused:
        return False, refused.reason
    mine = review.votes.filter(round=review.round, reviewer=user.username).first()
    if mine is None:
        return True, ""
    if not mine.counts:
        return False, f"you changed the text; from a risk of {MODIFIER_APPROVES_BELOW} on somebody else confirms it"
    return False, "you have decided; another reviewer must too"


def _verdict(outcome: Reanalysis) -> str:
    match outcome.decision:
        case Allow(rule=rule):
            return f"would be allowed by {rule}"
        case RequireApproval(rule=rule):
            return f"needs approval under {rule}"
    return ""
