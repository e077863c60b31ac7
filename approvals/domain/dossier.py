"""What a stored review says: the texts it is about, who asked, what people wrote, and who is still missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import AbstractUser

from approvals.domain.binding import open_binding, open_text, with_statement
from approvals.domain.facts import meaning_of, without_sizes
from approvals.domain.quorum import missing_approvals
from approvals.domain.request import Binding, GrantTerms, Principal, ReviewerGroup
from approvals.domain.reviewers import active_groups, asked_for, people_behind
from approvals.models import Review, Vote

NOT_AN_AUTHOR = "the reviewers who did not write the policy"


def asked_binding(review: Review) -> Binding:
    return open_binding(review.sealed_binding, review.pk)


def current_statement(review: Review) -> str:
    """The text an approval would now be for: the reviewer's when one modified it, else the asked one."""
    if review.sealed_modified is not None:
        return open_text(review.sealed_modified, review_id=review.pk, part=f"modified:{review.round}")
    return asked_binding(review).statement


def current_binding(review: Review) -> Binding:
    """The request an approval would now be for."""
    asked, text = asked_binding(review), current_statement(review)
    return asked if text == asked.statement else with_statement(asked, text, meaning=meaning_of(review.facts))


def facts_for(review: Review, reader: AbstractUser | None) -> dict[str, Any]:
    """The facts, without the planner's numbers where whoever asked would learn from them about protected values."""
    return without_sizes(review.facts) if reader is None or asked_for(review, reader) else dict(review.facts)


def requester(review: Review) -> Principal:
    """Who asked, as they stood when they asked; the data plane applies today's rights on top."""
    known = review.principal
    return Principal(
        subject=review.subject,
        issuer=review.issuer,
        actor=review.actor,
        owner=review.owner,
        groups=frozenset(known.get("groups", ())),
        kind=known.get("kind", "agent"),
        auth_method=known.get("auth_method", ""),
        either_groups=frozenset(known.get("either_groups", ())),
    )


def vote_reason(vote: Vote) -> str:
    return open_text(vote.sealed_reason, review_id=vote.review_id, part=f"vote:{vote.round}:{vote.reviewer}")


def spoken_reason(review: Review) -> str:
    """What the deciders of the last round wrote, for the requester."""
    votes = review.votes.filter(round=review.round)
    wanted = votes.filter(decision=Vote.Decision.DENY) if review.status == Review.Status.DENIED else votes
    return "; ".join(vote_reason(vote) for vote in wanted)


def counted_approvers(review: Review) -> tuple[str, ...]:
    """Everyone whose vote of this round counts towards the quorum, in order of voting."""
    votes = review.votes.filter(round=review.round, counts=True).exclude(decision=Vote.Decision.DENY)
    return tuple(votes.values_list("reviewer", flat=True))


def grant_terms(review: Review) -> GrantTerms:
    """How far an approval of this review may reach; reviews from before there were terms: once."""
    known = dict(review.terms)
    return GrantTerms(scopes=tuple(known.pop("scopes", ("once",))), **known)


def is_nobody(author: str) -> bool:
    """Whether a policy's author is a command line: nobody who could vote, so separation of duties binds nobody."""
    return author.startswith("command:")


def _wrote_it_all(approvers: Iterable[str], review: Review) -> bool:
    """Whether everybody who approved is an author, under whichever of their names."""
    authors = people_behind(review.authors)
    return all(people_behind([name]) & authors for name in approvers)


def wanted_groups(review: Review) -> tuple[ReviewerGroup, ...]:
    """Whose approval it takes. Others stand in for them only once the request escalated."""
    groups = tuple(map(ReviewerGroup.of, review.reviewers))
    return groups if review.is_escalated else tuple(replace(group, stand_ins=()) for group in groups)


def still_missing(review: Review) -> tuple[ReviewerGroup, ...]:
    """Which groups still have to approve; people who were disabled or left a group since no longer count.

    With separation of duties, people who wrote the policy do not make a quorum by themselves.
    """
    wanted = wanted_groups(review)
    if not wanted:  # an empty quorum is met by nobody, never by everybody
        return (ReviewerGroup("nobody", 1),)
    approvers = active_groups(counted_approvers(review))
    missing = missing_approvals(wanted, approvers)
    if not missing and review.authors and _wrote_it_all(approvers, review):
        return (ReviewerGroup(NOT_AN_AUTHOR, 1),)
    return missing
