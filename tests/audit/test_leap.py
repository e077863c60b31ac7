"""A clock that leapt ahead: nothing is destroyed for its age, and nothing forgotten that would be good again."""

from __future__ import annotations

import time
from datetime import timedelta
from io import StringIO
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.utils import timezone

from approvals.models import SlackRequest
from approvals.tasks import forget_old_messages
from audit import tasks
from audit.domain.checkpoints import sign_checkpoint
from audit.domain.leap import may_have_leapt
from gateway.models import RevokedToken, UsedAssertion
from gateway.tasks import forget_old_tickets

pytestmark = pytest.mark.django_db


def signed(*days_ago: float) -> None:
    """Checkpoints of these moments; the log refuses to have theirs changed."""
    for days in days_ago:
        moment = time.time() - timedelta(days=days).total_seconds()
        with patch("audit.domain.checkpoints.time.time", return_value=moment):
            sign_checkpoint()


@pytest.mark.parametrize(
    ("days_ago", "leapt"),
    [([], True), ([0.1], True), ([40, 0], True), ([1.1, 0], False), ([7.9], False), ([8.1], True), ([40, 1.1], False)],
)
def test_a_clock_is_believed_that_stood_by_for_a_day(days_ago, leapt):
    signed(*days_ago)

    assert may_have_leapt() is leapt


def test_a_purge_waits_for_the_clock(monkeypatch, caplog):
    purged: list[str] = []
    monkeypatch.setattr(tasks, "purge", lambda *, by: purged.append(by))
    monkeypatch.setattr("audit.management.commands.audit_purge.purge", lambda *, by: purged.append(by) or [])
    signed(2_500, 0)

    tasks.purge_evidence()
    said = StringIO()
    with pytest.raises(SystemExit):
        call_command("audit_purge", stderr=said)
    assert purged == []
    assert "the clock may have leapt ahead" in caplog.text
    assert "--the-clock-is-right" in said.getvalue()

    call_command("audit_purge", "--the-clock-is-right", stdout=StringIO())
    signed(1.1)
    tasks.purge_evidence()
    assert len(purged) == 2


def test_what_was_used_or_withdrawn_is_not_forgotten_by_a_clock_that_leapt():
    over = timezone.now() - timedelta(days=2)
    RevokedToken.objects.create(jti="t1", expires_at=over)
    UsedAssertion.objects.create(digest="d1", expires_at=over)
    SlackRequest.objects.create(signature="s1")
    SlackRequest.objects.update(at=over)
    signed(40, 0)

    forget_old_tickets()
    forget_old_messages()
    assert [table.objects.count() for table in (RevokedToken, UsedAssertion, SlackRequest)] == [1, 1, 1]

    signed(1.1)
    forget_old_tickets()
    forget_old_messages()
    assert [table.objects.count() for table in (RevokedToken, UsedAssertion, SlackRequest)] == [0, 0, 0]
