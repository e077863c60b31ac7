"""Reviewers are not flooded, and nothing that waits goes untold."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException

import pytest
from django.core import mail
from django.utils import timezone

from approvals import emails
from approvals.domain.review import decide_review
from approvals.models import Review, ReviewMail
from approvals.tasks import notify_reviewers, send_digests
from tests.approvals.factories import held

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]


@pytest.fixture(autouse=True)
def limit(settings):
    settings.HOOPWEB_MAX_MAILS_PER_MINUTE = 3


def asked(number: int) -> Review:
    review = held(parameters=(str(number).encode(), None))
    notify_reviewers(str(review.pk))
    return review


def a_minute_later() -> None:
    ReviewMail.objects.update(at=timezone.now() - timedelta(minutes=2))


def test_flood_becomes_a_few_mails_and_one_digest(reviewer):
    reviews = [asked(number) for number in range(10)]
    assert len(mail.outbox) == 3

    send_digests()  # the minute is not over
    assert len(mail.outbox) == 3
    a_minute_later()
    send_digests()
    send_digests()

    digest = mail.outbox[-1]
    assert len(mail.outbox) == 4
    assert digest.subject == "7 requests wait for you"
    assert [review.absolute_url in digest.body for review in reviews] == [False] * 3 + [True] * 7


def test_mails_of_a_clock_that_was_ahead_hold_nobody_elses(reviewer):
    """It was set right since: what it counted lies in a minute that comes next year."""
    for number in range(4):
        asked(number)
    ReviewMail.objects.update(at=timezone.now() + timedelta(days=365))
    sent = len(mail.outbox)

    send_digests()
    asked(5)

    assert (sent, len(mail.outbox)) == (3, 5)
    assert ReviewMail.objects.filter(held=True).count() == 0


def test_what_is_held_waits_in_order_and_ended_reviews_are_left_out(reviewer):
    reviews = [asked(number) for number in range(5)]
    decide_review(review=reviews[3], reviewer=reviewer, decision="deny", reason="no")
    a_minute_later()
    late = asked(6)  # there is room again, but the older ones come first
    send_digests()

    assert len(mail.outbox) == 4
    assert [review.absolute_url in mail.outbox[-1].body for review in [*reviews, late]] == [False] * 4 + [True, True]


def test_budget_is_each_reviewers_own_and_digests_carry_no_token(reviewer, reviewer2):
    for number in range(5):
        asked(number)
    a_minute_later()
    send_digests()

    digests = [message for message in mail.outbox if "requests wait" in message.subject]
    assert sorted(message.to[0] for message in digests) == ["reviewer2@example.test", "reviewer@example.test"]
    assert all(
        "/mail/" not in message.body and "UPDATE" not in message.body.replace("UPDATE on", "") for message in digests
    )


def test_digest_that_fails_is_sent_later(reviewer, monkeypatch):
    for number in range(5):
        asked(number)
    a_minute_later()
    send = emails._send

    def broken(**_):
        raise SMTPException("452 try later")

    monkeypatch.setattr(emails, "_send", broken)
    send_digests()
    monkeypatch.setattr(emails, "_send", send)
    a_minute_later()
    send_digests()

    assert mail.outbox[-1].subject == "2 requests wait for you"
