"""Mail to reviewers: who asks, where, what kind, which tables, which risk, and a link. No SQL, no value, no patient."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from approvals.domain.links import issue_link
from approvals.domain.refusal import Refusal
from approvals.domain.reminders import people_to_remind, take_reminder
from approvals.domain.reviewers import eligible_groups, people_in
from approvals.models import Review


def mail_reviewers(review: Review) -> int:
    """Send one mail to each person who may decide on the review's current text; return how many were sent."""
    return sum(mail_reviewer(review, person) for person in people_in(review.reviewer_groups) if person.email)


def mail_reviewer(review: Review, reviewer: AbstractUser) -> bool:
    """Send one mail; False when this person may not decide or was told about this text before.

    The link is stored first: a crash in between costs a mail, never sends two.
    """
    try:
        eligible_groups(review, reviewer)
    except Refusal:
        return False
    token = issue_link(review=review, reviewer=reviewer)
    if token is None:
        return False
    context = mail_context(review, f"{settings.HOOPWEB_WEB_URL}{reverse('approvals:link', args=[token])}")
    mail = EmailMultiAlternatives(
        subject=f"Review wanted: {review.facts['kind']} on {review.connection}",
        body=render_to_string("approvals/mail/review.txt", context),
        to=[reviewer.email],
        headers={"Auto-Submitted": "auto-generated"},  # RFC 3834 §5
    )
    mail.attach_alternative(render_to_string("approvals/mail/review.html", context), "text/html")
    try:
        mail.send()
    except Exception:
        review.links.filter(reviewer=reviewer.username, used_at=None).delete()  # so that the retry sends a fresh one
        raise
    return True


def remind(review_id: str) -> int:
    """Remind whoever has not decided, and tell the administrators that time runs out; return how many were told.

    These mails lead to the review's page: the single-use link each reviewer was sent before stays theirs.
    """
    review = take_reminder(review_id)
    if review is None:
        return 0
    told = 0
    for person in people_to_remind(review):
        if not person.email:
            continue
        context = mail_context(review, review.absolute_url) | {"escalated": not _may_decide(review, person)}
        EmailMultiAlternatives(
            subject=f"Running out of time: {review.facts['kind']} on {review.connection}",
            body=render_to_string("approvals/mail/reminder.txt", context),
            to=[person.email],
            headers={"Auto-Submitted": "auto-generated"},
        ).send()
        told += 1
    return told


def _may_decide(review: Review, person: AbstractUser) -> bool:
    try:
        eligible_groups(review, person)
    except Refusal:
        return False
    return True


def mail_context(review: Review, link: str) -> dict[str, Any]:
    """Everything a mail may say. Names of tables and classes, counts and sums; nothing the statement says itself."""
    facts = review.facts
    return {
        "subject": review.subject,
        "actor": review.actor,
        "owner": review.owner,
        "connection": review.connection,
        "kind": facts["kind"],
        "tables": sorted({*facts["tables_read"], *facts["tables_written"]}),
        "classes": facts["classes"],
        "rule": review.rule,
        "risk": review.risk,
        "decide_by": review.decide_by,
        "modified": review.sealed_modified is not None,
        "link": link,
    }
