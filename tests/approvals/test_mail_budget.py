"""Reviewers are not flooded, and nothing that waits goes untold; others are told when nobody decides."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException

import pytest
from django.core import mail
from django.utils import timezone

from approvals import emails
from approvals.domain.request import RequireApproval
from approvals.domain.review import decide_review, open_review
from approvals.models import Review, ReviewMail
from approvals.tasks import notify_reviewers, remind_reviewers, send_digests, send_escalation, send_reminder
from tests.approvals.factories import OFFICERS, binding, held, person, write_request

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


# --- Escalation ------------------------------------------------------------------------------------------------------


def escalating(before_s: int = 600) -> Review:
    decision = RequireApproval(
        rule="phi-writes",
        reason="policy phi-writes requires a reviewer",
        reviewers=(OFFICERS,),
        decide_within_s=3600,
        escalate_to=("managers",),
        escalate_before_s=before_s,
    )
    return open_review(request=write_request(), binding=binding(), decision=decision, session_id="s", statement_id="t")


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(send_escalation, "delay", send_escalation)
    monkeypatch.setattr(send_reminder, "delay", send_reminder)


def passes(review: Review, seconds: int) -> None:
    moved = timedelta(seconds=seconds)
    review.refresh_from_db()
    Review.objects.filter(pk=review.pk).update(
        opened_at=review.opened_at - moved, decide_by=review.decide_by - moved, escalate_at=review.escalate_at - moved
    )


def test_policys_other_groups_are_told_once_before_it_expires(reviewer, at_once):
    person("manager", "managers")
    review = escalating()

    passes(review, 2_900)  # 700 s are left: the reminder's quarter, not yet the escalation's ten minutes
    remind_reviewers()
    assert [message.to for message in mail.outbox] == [["reviewer@example.test"]]
    passes(review, 200)
    remind_reviewers()
    remind_reviewers()

    assert [message.to for message in mail.outbox][1:] == [["manager@example.test"]]
    assert "the request's own reviewers decide" in mail.outbox[-1].body
    assert "555-0100" not in mail.outbox[-1].body


def test_whoever_was_told_decides_nothing(at_once):
    manager = person("manager", "managers")
    review = escalating()
    passes(review, 3_100)
    remind_reviewers()

    with pytest.raises(Exception, match="not a reviewer"):
        decide_review(review=review, reviewer=manager, decision="approve", reason="me")


def test_decided_reviews_escalate_to_nobody(reviewer, at_once):
    person("manager", "managers")
    review = escalating()
    decide_review(review=review, reviewer=reviewer, decision="deny", reason="no")
    Review.objects.update(escalate_at=timezone.now() - timedelta(seconds=1))

    remind_reviewers()

    assert mail.outbox == []
