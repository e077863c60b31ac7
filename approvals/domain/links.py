"""Links in reviewers' mail. A link locates and vouches for nothing: signing in and a POST with CSRF decide.

256 random bits, stored hashed; good for one reviewer, one review, one exact text, once, until the review's deadline.
Opening a link reads only: mail scanners follow links, run scripts, and post blindly.
"""

from __future__ import annotations

import hashlib
import secrets

from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from approvals.domain import refusal
from approvals.domain.binding import text_digest
from approvals.domain.clock import ClockTimestamp
from approvals.domain.dossier import current_statement
from approvals.domain.refusal import Refusal
from approvals.domain.reviewers import may_read
from approvals.models import Review, ReviewLink

TOKEN_BYTES = 32


def issue_link(*, review: Review, reviewer: AbstractUser) -> str | None:
    """Return a new token for the review's current text; None when this reviewer has been sent one already."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    _, created = ReviewLink.objects.get_or_create(
        review=review,
        reviewer=reviewer.username,
        text_digest=text_digest(current_statement(review)),
        defaults={"token_hash": _hashed(token), "expires_at": review.decide_by},
    )
    return token if created else None


def was_sent_link(*, review: Review, reviewer: AbstractUser) -> bool:
    """Whether this reviewer has been sent a link to the review's current text."""
    digest = text_digest(current_statement(review))
    return ReviewLink.objects.filter(review=review, reviewer=reviewer.username, text_digest=digest).exists()


def find_link(*, token: str, user: AbstractUser) -> ReviewLink:
    """Return the usable link of `token` for `user`, changing nothing. Raises Refusal, with one reason for all causes.

    A forwarded link fails like an unknown one: its finder learns nothing about the review.
    """
    link = (
        ReviewLink.objects.filter(token_hash=_hashed(token), reviewer=user.username, used_at=None)
        .filter(expires_at__gt=timezone.now())
        .select_related("review")
        .first()
    )
    # The mail outlives the right: who has left the reviewers since reads nothing through it.
    readable = link is not None and may_read(link.review, user)
    if link is None or not readable or link.text_digest != text_digest(current_statement(link.review)):
        raise Refusal(refusal.LINK_SPENT, "this link is spent, expired, or not yours; find the request in your inbox")
    return link


def review_of_own_link(*, token: str, user: AbstractUser) -> Review | None:
    """Return the review of a link that was sent to `user`, usable or not, if they may still read it."""
    link = ReviewLink.objects.filter(token_hash=_hashed(token), reviewer=user.username).select_related("review").first()
    return link.review if link is not None and may_read(link.review, user) else None


def spend_link(*, token: str, user: AbstractUser, review: Review) -> None:
    """Consume the token in the transaction that decides `review`. Raises Refusal, which takes the decision back."""
    unspent = ReviewLink.objects.filter(
        token_hash=_hashed(token),
        reviewer=user.username,
        review=review,
        used_at=None,
        expires_at__gt=ClockTimestamp(),
    )
    if unspent.update(used_at=ClockTimestamp()) != 1:
        raise Refusal(refusal.LINK_SPENT, "this link was used already")


def _hashed(token: str) -> str:
    # Plain SHA-256 suffices: 256 random bits cannot be searched for.
    return hashlib.sha256(token.encode()).hexdigest()
