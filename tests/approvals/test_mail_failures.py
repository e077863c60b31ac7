"""A mail that is refused, or a server that says nothing: who can be told is told once, the others later."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from celery import Task
from django.utils import timezone

from approvals.domain.events import Event
from approvals.domain.reminders import people_to_remind
from approvals.domain.review import withdraw_review
from approvals.models import EmergencyAccess, Review, ReviewLink, ReviewMail
from approvals.tasks import notify_emergency, notify_reviewers, send_digests, send_reminder
from hoopweb import settings as shipped
from tests.approvals.factories import held
from tests.mail_server import MailServer, mail_server

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.approvals.urls")]

FIRST, SECOND = "reviewer@example.test", "reviewer2@example.test"


@pytest.fixture
def server(settings):
    with mail_server(settings) as running:
        yield running


class PutOff(Exception):
    """What a task asked its broker for: to be called again with these, after a pause."""

    def __init__(self, kwargs: dict[str, Any], countdown: float) -> None:
        self.kwargs, self.countdown = kwargs, countdown


@pytest.fixture(autouse=True)
def broker(monkeypatch):
    """Celery forgets what a task that is called directly would have sent."""

    def retry(task: Task, *, args: Any, kwargs: dict[str, Any], countdown: float) -> None:
        raise PutOff(kwargs, countdown)

    monkeypatch.setattr(Task, "retry", retry)


def again(task: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Run a task that puts off some of it; what it asks to be called with next."""
    with pytest.raises(PutOff) as put_off:
        task(*args, **kwargs)
    return put_off.value.kwargs


def later(task: Any, *args: Any, retries: int, **kwargs: Any) -> None:
    """Run it as its broker does for the so many-th time."""
    task.apply(args=args, kwargs=kwargs, retries=retries, throw=True)


def ending_soon() -> Review:
    review = held()
    opened = timezone.now() - timedelta(seconds=3_000)
    Review.objects.filter(pk=review.pk).update(opened_at=opened, decide_by=opened + timedelta(seconds=3_600))
    return review


def test_address_that_is_refused_keeps_nobody_else_from_theirs(reviewer, reviewer2, server: MailServer):
    review = held()
    server.refuses = {FIRST}

    again(notify_reviewers, str(review.pk))
    assert server.told == [SECOND]

    again(notify_reviewers, str(review.pk))
    server.refuses = set()
    notify_reviewers(str(review.pk))
    notify_reviewers(str(review.pk))

    assert server.told == [SECOND, FIRST]
    assert server.asked == [FIRST, SECOND, FIRST, FIRST]
    assert ReviewLink.objects.count() == 2


def test_address_that_is_none_keeps_nobody_else_from_theirs(reviewer, reviewer2, server: MailServer):
    """Provisioning may have put anything there."""
    type(reviewer).objects.filter(pk=reviewer.pk).update(email="not an\r\naddress")

    again(notify_reviewers, str(held().pk))

    assert server.told == [SECOND]


def test_mail_is_tried_again_for_as_long_as_the_review_waits(reviewer, reviewer2, server: MailServer):
    review = held()
    server.refuses = {FIRST}

    with pytest.raises(PutOff) as late:
        later(notify_reviewers, str(review.pk), retries=200)
    withdraw_review(review_id=str(review.pk))
    later(notify_reviewers, str(review.pk), retries=201)

    assert late.value.countdown == 300
    assert server.asked == [FIRST, SECOND]


def test_server_that_says_nothing_is_left_for_later(reviewer, reviewer2, server: MailServer, settings):
    settings.EMAIL_TIMEOUT = 0.3
    review = held()
    server.silent.set()

    began = time.monotonic()
    again(notify_reviewers, str(review.pk))
    waited_s = time.monotonic() - began

    assert server.asked == [FIRST]  # one waits for it, and not each in turn
    assert waited_s < 5
    server.silent.clear()
    notify_reviewers(str(review.pk))
    assert server.told == [FIRST, SECOND]


def test_no_worker_waits_for_a_mail_server_for_ever():
    assert 1 <= shipped.EMAIL_TIMEOUT <= 60


def test_reminder_that_is_refused_is_not_sent_twice_to_others(reviewer, reviewer2, server: MailServer):
    review = ending_soon()
    server.refuses = {FIRST}

    unsent = again(send_reminder, str(review.pk))
    assert server.told == [SECOND]
    with pytest.raises(PutOff):
        later(send_reminder, str(review.pk), retries=1, **unsent)
    server.refuses = set()
    later(send_reminder, str(review.pk), retries=2, **unsent)
    send_reminder(str(review.pk))  # the next round finds it told

    assert server.told == [SECOND, FIRST]
    assert {person.email for person in people_to_remind(review)} == {FIRST, SECOND}


def test_emergency_is_told_to_everybody_once(reviewer, reviewer2, server: MailServer):
    now = timezone.now()
    access = EmergencyAccess.objects.create(
        roster="on-call", person="dr-night", connection="clinic", reviewer_groups=["privacy-officers"],
        sealed_reason=b"", lifts_masks=False, max_statements=1, ends_at=now, review_by=now,
    )  # fmt: skip
    server.refuses = {FIRST}

    unsent = again(notify_emergency, str(access.pk), Event.EMERGENCY_OPENED)
    server.refuses = set()
    notify_emergency(str(access.pk), Event.EMERGENCY_OPENED, **unsent)

    assert unsent == {"only": [reviewer.pk]}
    assert server.told == [SECOND, FIRST]


def test_digest_to_an_address_that_is_none_keeps_nobody_elses(settings, reviewer, reviewer2, server: MailServer):
    review = held()
    for name in ("reviewer", "reviewer2"):
        ReviewMail.objects.create(reviewer=name, review=review, held=True)
    type(reviewer).objects.filter(pk=reviewer.pk).update(email="not an\r\naddress")

    send_digests()

    assert server.told == [SECOND]
    assert [*ReviewMail.objects.filter(held=True).values_list("reviewer", flat=True)] == ["reviewer"]


def test_refused_addresses_are_in_no_log(reviewer, reviewer2, server: MailServer, caplog):
    server.refuses = {FIRST}

    again(notify_reviewers, str(held().pk))

    assert "SMTPRecipientsRefused unsent=1" in caplog.text
    assert "example.test" not in caplog.text
