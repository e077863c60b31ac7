"""The life of a review: opened by a held statement, ended exactly once by people, by time, or by whoever asked.

    pending ─ approve (quorum met) ─▶ approved ─ grant claimed ─▶ executed
       ├───── deny (anyone) ────────▶ denied
       ├───── decide_by passed ─────▶ expired
       └───── last client left ─────▶ withdrawn

It is opened in `opening` and left in `leaving`; what people decide is here, where others import all of it from.
Every arrow is one conditional UPDATE out of the state on its left, under the review's row lock, together with its entry
in the log; announcements follow the commit. Locks are always taken in the order review, then log.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db import transaction

from approvals.domain import hooks, refusal
from approvals.domain.announce import announce_change, announce_review
from approvals.domain.binding import seal_text, with_statement
from approvals.domain.decide import merge_reviewers, merge_terms, stand_ins_of
from approvals.domain.display import hidden_characters
from approvals.domain.dossier import (
    asked_binding,
    current_statement,
    grant_terms,
    requester,
    spoken_reason,
    still_missing,
)
from approvals.domain.hooks import Reanalysis
from approvals.domain.leaving import expire_due_reviews, expire_if_due, must_leave, withdraw_review
from approvals.domain.opening import open_review
from approvals.domain.reach import ONLY_ONCE, Reach, leave_grant, must_permit
from approvals.domain.record import record
from approvals.domain.refusal import Refusal
from approvals.domain.reminders import escalation_moment
from approvals.domain.request import Deny, RequireApproval, ReviewerGroup
from approvals.domain.reviewers import accounts_of, eligible_groups, group_names
from approvals.domain.step_up import limit_of, must_be_fresh
from approvals.models import Review, Vote
from audit.domain.entry import Json

__all__ = [
    "MAX_REASON_CHARS",
    "MAX_STATEMENT_CHARS",
    "MODIFIER_APPROVES_BELOW",
    "decide_review",
    "expire_due_reviews",
    "open_review",
    "reanalyse",
    "review_status",
    "withdraw_review",
]

# From this risk on, whoever modified a statement does not count as its approver: someone else confirms.
MODIFIER_APPROVES_BELOW = 60
MAX_STATEMENT_CHARS = 1_000_000
MAX_REASON_CHARS = 2_000

Status = Review.Status


@dataclass(frozen=True, slots=True)
class Ballot:
    """One person's vote on one text, checked as far as it can be without the review's lock."""

    reviewer: AbstractUser
    decision: str
    reason: str
    seen_round: int
    statement: str | None = None  # with `analysed`: the reviewer's own text; else the one they believe they approve
    analysed: Reanalysis | None = None
    reach: Reach = ONLY_ONCE
    through: str = ""


def decide_review(
    *,
    review: Review,
    reviewer: AbstractUser,
    decision: str,
    reason: str,
    statement: str | None = None,
    seen_round: int | None = None,
    reach: Reach = ONLY_ONCE,
    through: str = "",
    authenticated_at: float | None = None,
) -> Review:
    """Cast one person's vote and return the review as it then is. Raises Refusal, and then nothing changed.

    `decision` is approve, deny or modify; modify needs `statement`, which is analysed before anything is stored. An
    approval that comes with a `statement` is of that text, and refused where another one is at stake.
    `seen_round` says which text the person looked at; without it only an unmodified review can be approved.
    `reach` is how far this person lets the approval go; the narrowest of all votes counts. `through` names whoever
    vouched for the person, where that was not a sign-in here: the record says so. `authenticated_at` is when the person
    last proved who they are, Unix seconds; while step-up is on, a decision without a recent one is refused.
    """
    must_be_fresh(authenticated_at, what="a decision", limit_s=limit_of(review))
    reason = _checked_reason(reason)
    eligible_groups(review, reviewer)
    must_permit(review, reach)
    if expire_if_due(review.pk):
        raise Refusal(refusal.EXPIRED, "nobody decided in time; the request has expired")
    if decision == Vote.Decision.MODIFY:
        analysed = reanalyse(review=review, statement=statement or "")
        seen = seen_round or review.round
        return _cast(review.pk, Ballot(reviewer, decision, reason, seen, statement, analysed, reach, through))
    if decision not in (Vote.Decision.APPROVE, Vote.Decision.DENY):
        raise Refusal(refusal.UNKNOWN_DECISION, f"{decision[:20]!r} is unknown, expected approve, deny or modify")
    named = statement if decision == Vote.Decision.APPROVE else None
    return _cast(review.pk, Ballot(reviewer, decision, reason, seen_round or 1, named, reach=reach, through=through))


def reanalyse(*, review: Review, statement: str) -> Reanalysis:
    """Analyse and decide a reviewer's text as the requester would run it. Raises Refusal when it may never run."""
    binding = asked_binding(review)
    if binding.governed_as:
        reason = "this statement runs another one that was prepared before, so its text cannot be replaced"
        raise Refusal(refusal.MODIFIED_UNREADABLE, reason)
    if not statement.strip() or len(statement) > MAX_STATEMENT_CHARS:
        raise Refusal(refusal.NOT_MODIFIED, f"expected a statement of at most {MAX_STATEMENT_CHARS} characters")
    if statement == current_statement(review):
        raise Refusal(refusal.NOT_MODIFIED, "the statement is unchanged; approve it, or edit it first")
    _must_hide_nothing_new(review, statement)
    analysed = hooks.reanalyse(binding=with_statement(binding, statement), principal=requester(review))
    if analysed.problem or analysed.decision is None:
        why = analysed.problem or "no answer from the data plane"
        raise Refusal(refusal.MODIFIED_UNREADABLE, f"the modified statement could not be analysed: {why}")
    if isinstance(analysed.decision, Deny):
        raise Refusal(refusal.MODIFIED_DENIED, f"the modified statement would be denied: {analysed.decision.reason}")
    return analysed


def _must_hide_nothing_new(review: Review, statement: str) -> None:
    """A pasted text may carry characters its reviewer never saw; those the request had are shown as marks anyway."""
    new = hidden_characters(statement) - hidden_characters(current_statement(review))
    if new:
        named = ", ".join(f"U+{ord(character):04X}" for character in sorted(new))
        raise Refusal(refusal.HIDDEN_CHARACTERS, f"the changed text holds characters nobody can see ({named})")


def review_status(*, review_id: str) -> tuple[str, str]:
    """Return (status, the reviewer's words). Past `decide_by` a pending review is expired, whoever notices first."""
    review = Review.objects.filter(pk=review_id).first()
    if review is None:
        return Status.WITHDRAWN.value, ""
    if review.is_overdue and expire_if_due(review.pk):
        return Status.EXPIRED.value, ""
    status = Status.APPROVED if review.status == Status.EXECUTED else Status(review.status)
    return status.value, spoken_reason(review) if status in (Status.APPROVED, Status.DENIED) else ""


# --- Votes and transitions -------------------------------------------------------------------------------------------


def _cast(review_id: UUID, ballot: Ballot) -> Review:
    with transaction.atomic():
        review = Review.objects.select_for_update().get(pk=review_id)
        groups = eligible_groups(review, ballot.reviewer)  # once more, now that nothing can move
        _must_be_open(review)
        _must_be_first_word(review, ballot)
        if ballot.analysed is not None and ballot.statement is not None:
            _adopt(review, ballot.reviewer, ballot.statement, ballot.analysed)
        _vote(review, ballot, groups)
        ended = _end_by_votes(review, ballot.decision)
        announce_change(review_id=review.pk, status=review.status)
        if not ended and ballot.analysed is not None:
            announce_review(review_id=review.pk)  # a new text waits for the others
        _record_vote(review, ballot, groups, ended)
    return review


def _must_be_first_word(review: Review, ballot: Ballot) -> None:
    """The person saw the text that is now at stake, and has not voted on it."""
    if ballot.seen_round != review.round:
        raise Refusal(refusal.TEXT_CHANGED, "another reviewer changed the statement; look at it again")
    if ballot.analysed is None and ballot.statement is not None and ballot.statement != current_statement(review):
        raise Refusal(
            refusal.TEXT_CHANGED, "the statement you sent is not the one that is asked for; modify it, or send none"
        )
    if review.votes.filter(round=review.round, reviewer__in=accounts_of(ballot.reviewer)).exists():
        raise Refusal(refusal.ALREADY_VOTED, "you have decided on this text already; another reviewer must too")


def _vote(review: Review, ballot: Ballot, groups: frozenset[str]) -> None:
    part = f"vote:{review.round}:{ballot.reviewer.username}"
    Vote.objects.create(
        review=review,
        round=review.round,
        reviewer=ballot.reviewer.username,
        groups=sorted(groups),
        decision=ballot.decision,
        counts=ballot.decision != Vote.Decision.MODIFY or review.risk < MODIFIER_APPROVES_BELOW,
        sealed_reason=seal_text(ballot.reason, review_id=review.pk, part=part),
        scope=ballot.reach.scope.value,
        for_s=ballot.reach.for_s,
    )


def _adopt(review: Review, reviewer: AbstractUser, statement: str, analysed: Reanalysis) -> None:
    """Make the analysed text the one to be approved. Votes for the former text stay with their round."""
    review.round += 1
    review.sealed_modified = seal_text(statement, review_id=review.pk, part=f"modified:{review.round}")
    review.modified_by = reviewer.username
    review.facts = analysed.facts
    review.risk = analysed.risk
    if isinstance(analysed.decision, RequireApproval):
        # Whoever the new text needs is asked on top of whoever the old one needed.
        before = map(ReviewerGroup.of, review.reviewers)
        merged = merge_reviewers([*before, *analysed.decision.reviewers])
        review.reviewers = [asdict(group) for group in merged]
        review.reviewer_groups = group_names(merged)
        review.escalate_to = list(stand_ins_of(merged))
        review.escalate_at = review.escalate_at or escalation_moment(analysed.decision, review.opened_at)
        review.policies = sorted({*review.policies, *analysed.decision.policies})
        review.authors = sorted({*review.authors, *analysed.decision.authors})
        review.terms = asdict(merge_terms([grant_terms(review), analysed.decision.terms]))
    review.save(update_fields=[*_MODIFIED_FIELDS])


_MODIFIED_FIELDS = (
    "round", "sealed_modified", "modified_by", "facts", "risk", "reviewers", "reviewer_groups", "policies", "authors",
    "terms", "escalate_to", "escalate_at",
)  # fmt: skip


def _end_by_votes(review: Review, decision: str) -> bool:
    """Deny at once, approve when every group is met; otherwise leave the review pending."""
    if decision == Vote.Decision.DENY:
        must_leave(review, Status.DENIED)
        return True
    if still_missing(review):
        return False
    must_leave(review, Status.APPROVED)
    leave_grant(review)
    return True


def _must_be_open(review: Review) -> None:
    if review.status == Status.PENDING:
        return
    if review.status == Status.EXPIRED:
        raise Refusal(refusal.EXPIRED, "nobody decided in time; the request has expired")
    raise Refusal(refusal.ALREADY_DECIDED, f"this request is {review.get_status_display().lower()} already")


def _record_vote(review: Review, ballot: Ballot, groups: frozenset[str], ended: bool) -> None:
    sensitive: dict[str, Json] = {"justification": ballot.reason}
    if ballot.analysed is not None and ballot.statement is not None:
        sensitive["statement"] = ballot.statement
    body: dict[str, Json] = {
        "decision": ballot.decision,
        "reviewer": ballot.reviewer.username,
        "groups": sorted(groups),
        "round": review.round,
        "scope": ballot.reach.scope.value,
        "policies": list(review.policies),
        "outcome": review.status,
        "final": ended,
        "risk": review.risk,
        "escalated": review.is_escalated,
        "through": ballot.through,
    }
    record("review.decided", review, sensitive=sensitive, body=body)


def _checked_reason(reason: str) -> str:
    words = reason.strip()
    if not words:
        raise Refusal(refusal.REASON_MISSING, "a decision needs a reason")
    return words[:MAX_REASON_CHARS]
