"""Mail to reviewers: who asks, where, what kind, which tables, which risk, and a link. No SQL, no value, no patient."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from smtplib import SMTPDataError, SMTPException, SMTPNotSupportedError, SMTPRecipientsRefused
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from approvals.domain.events import EVENTS, Event
from approvals.domain.facts import size_words, without_sizes
from approvals.domain.links import issue_link, was_sent_link
from approvals.domain.mail_budget import hold_again, take_digest, take_mail
from approvals.domain.notices import emergency_notice, moment_words, review_notice
from approvals.domain.refusal import Refusal
from approvals.domain.reminders import people_to_remind
from approvals.domain.reviewers import administrators, eligible_groups, people_in, people_named
from approvals.models import EmergencyAccess, Review
from audit.domain.words import kind_words

# What is said of one address or mail, and not of the server: nobody else's mail waits for that.
OF_ONE_MAIL = (SMTPRecipientsRefused, SMTPDataError, SMTPNotSupportedError, ValueError)
# The server's, the network's, or that the task's time is over.
OF_THE_SERVER = (SMTPException, OSError, SoftTimeLimitExceeded)


class MailFailed(Exception):
    """Some mails were not taken. `unsent` are the accounts, by key, to try again: the others have theirs."""

    def __init__(self, error: Exception, unsent: list[Any]) -> None:
        super().__init__(type(error).__name__)  # not its words: they quote addresses and the server's answer
        self.unsent = unsent


def mail_reviewers(review: Review) -> int:
    """Send one mail to each person who may decide on the review's current text; return how many were sent.

    Raises MailFailed; called again it sends to whoever has none yet.
    """
    return _mail_each(people_in(review.deciding_groups), lambda person: mail_reviewer(review, person))


def mail_reviewer(review: Review, reviewer: AbstractUser) -> bool:
    """Send one mail; False when this person may not decide, was told of this text before, or gets it in a digest.

    The link is stored first: a crash in between costs a mail, never sends two.
    """
    if not _may_decide(review, reviewer) or was_sent_link(review=review, reviewer=reviewer):
        return False
    if not take_mail(review=review, reviewer=reviewer.username):
        return False
    token = issue_link(review=review, reviewer=reviewer)
    if token is None:
        return False
    context = mail_context(review, f"{settings.HOOPWEB_WEB_URL}{reverse('approvals:link', args=[token])}")
    subject = _subject("Review wanted", context)
    try:
        _send(to=reviewer.email, subject=subject, template="review", context=context, html=True)
    except Exception:
        review.links.filter(reviewer=reviewer.username, used_at=None).delete()  # so that the retry sends a fresh one
        raise
    return True


def mail_digest(username: str) -> bool:
    """Send one mail about everything that is held back for a reviewer; False when nothing of it waits any more.

    Its links lead to the reviews' pages: a digest carries no token.
    """
    person = get_user_model()._default_manager.filter(username=username, is_active=True).first()
    reviews = take_digest(username)
    mine = [review for review in reviews if person is not None and _may_decide(review, person)]
    if person is None or not person.email or not mine:
        return False
    context = {"reviews": [mail_context(review, review.absolute_url) for review in mine], "inbox": inbox_url()}
    try:
        _send(to=person.email, subject=f"{len(mine)} requests wait for you", template="digest", context=context)
    except Exception:
        hold_again(reviews=mine, reviewer=username)
        raise
    return True


def mail_reminders(review: Review, *, only: Container[Any] | None = None) -> int:
    """Remind whoever has not decided, and tell the administrators that time runs out; return how many were told.

    These mails lead to the review's page: the single-use link each reviewer was sent before stays theirs. Here and
    below: raises MailFailed, whose `unsent` is what `only` takes when it is tried again.
    """

    def remind(person: AbstractUser) -> bool:
        context = mail_context(review, review.absolute_url) | {"escalated": not _may_decide(review, person)}
        subject = _subject("Running out of time", context)
        return _send(to=person.email, subject=subject, template="reminder", context=context)

    return _mail_each(_chosen(people_to_remind(review), only), remind)


def mail_escalation(review: Review, *, only: Container[Any] | None = None) -> int:
    """Tell the groups the policy names that nobody has decided yet, and that they may; not whoever asked."""
    context = mail_context(review, review.absolute_url)
    subject = _subject("Nobody decided", context)
    people = [person for person in people_in(review.escalate_to) if _may_decide(review, person)]
    return mail_people(_chosen(people, only), subject=subject, template="escalation", context=context)


def mail_emergency(access: EmergencyAccess, event: Event, *, only: Container[Any] | None = None) -> int:
    """Tell its reviewers and the administrators at once; whoever broke the glass is told when it was reviewed."""
    people = {person.pk: person for person in [*people_in(access.reviewer_groups), *administrators()]}
    if event in (Event.EMERGENCY_ENDED, Event.EMERGENCY_REVIEWED):
        people |= {person.pk: person for person in people_named([access.person])}
    told = emergency_notice(access)
    moments = {name: moment_words(told[name]) for name in ("opened_at", "ends_at", "review_by")}
    found = {"finding": access.get_finding_display()} if access.finding else {}
    context = {"event": event, "words": EVENTS[event], **told, **moments, **found}
    subject = f"{_EMERGENCY_SUBJECTS[event]}: {context['person']} on {context['connection']}"
    return mail_people(_chosen(people.values(), only), subject=subject, template="emergency", context=context)


_EMERGENCY_SUBJECTS = {
    Event.EMERGENCY_OPENED: "BREAK GLASS",
    Event.EMERGENCY_ENDED: "Emergency access to review",
    Event.EMERGENCY_OVERDUE: "OVERDUE: emergency access not reviewed",
    Event.EMERGENCY_REVIEWED: "Emergency access reviewed",
}


def mail_people(people: Iterable[AbstractUser], *, subject: str, template: str, context: dict[str, Any]) -> int:
    """The same mail to everyone, one for each address; return how many were sent. Raises MailFailed."""
    by_address = {person.email: person for person in people}
    return _mail_each(
        by_address.values(),
        lambda person: _send(to=person.email, subject=subject, template=template, context=context),
    )


def mail_context(review: Review, link: str) -> dict[str, Any]:
    """Everything a mail may say: what channels are told, and where to look."""
    rows = size_words(without_sizes(review.facts))
    told = review_notice(review)
    return told | {"kind": kind_words(told["kind"]), "rows": rows, "decide_by": review.decide_by, "link": link}


def inbox_url() -> str:
    return f"{settings.HOOPWEB_WEB_URL}{reverse('approvals:inbox')}"


def _subject(words: str, context: dict[str, Any]) -> str:
    return f"{words}: {context['kind']} on {context['connection']}"


def _chosen(people: Iterable[AbstractUser], only: Container[Any] | None) -> list[AbstractUser]:
    return [person for person in people if only is None or person.pk in only]


def _mail_each(people: Iterable[AbstractUser], send: Callable[[AbstractUser], bool]) -> int:
    """Send to each who has an address; return how many were sent. An address that is refused delays nobody else's.

    Raises MailFailed once all were tried, or with all that are left when the server fails.
    """
    addressed = [person for person in people if person.email]
    sent, unsent = 0, {}
    for place, person in enumerate(addressed):
        try:
            sent += send(person)
        except OF_ONE_MAIL as error:
            unsent[person.pk] = error
        except OF_THE_SERVER as error:
            raise MailFailed(error, [*unsent, *(person.pk for person in addressed[place:])]) from None
    if unsent:
        raise MailFailed(next(iter(unsent.values())), [*unsent])
    return sent


def _send(*, to: str, subject: str, template: str, context: dict[str, Any], html: bool = False) -> bool:
    mail = EmailMultiAlternatives(
        subject=subject,
        body=render_to_string(f"approvals/mail/{template}.txt", context),
        to=[to],
        headers={"Auto-Submitted": "auto-generated"},  # RFC 3834 §5
    )
    if html:
        mail.attach_alternative(render_to_string(f"approvals/mail/{template}.html", context), "text/html")
    return mail.send() == 1


def _may_decide(review: Review, person: AbstractUser) -> bool:
    try:
        eligible_groups(review, person)
    except Refusal:
        return False
    return True
