"""The queue of weeks that wait for a review: what is due, what a sign-off takes out of it, what it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.domain.activity_review import WEEK, due_weeks, waiting_weeks
from audit.domain.append import append_entries
from audit.domain.reports import Period, sign_off
from audit.models import StatementRecord
from tests.audit.factories import authorised, denied, opened

NOW = datetime.now(UTC)
LAST = datetime.combine(NOW.date() - timedelta(days=NOW.weekday() + 7), datetime.min.time(), UTC)  # last week's Monday
BEFORE = LAST - WEEK


@pytest.fixture
def activity(db: None) -> None:
    """Statements in the last two weeks that are over, and in the one that is not."""
    append_entries([opened(), authorised("a1"), denied("d1"), authorised("b1"), authorised("now")])
    for name, at in (("a1", LAST), ("d1", LAST + WEEK - timedelta(seconds=1)), ("b1", BEFORE), ("now", LAST + WEEK)):
        StatementRecord.objects.filter(pk=name).update(at=at)


def signed(since: datetime, until: datetime) -> None:
    sign_off(period=Period(since, until), reviewer="auditor", note="nothing found")


def waiting() -> list[datetime]:
    return waiting_weeks(now=NOW)


def test_weeks_that_are_over_and_had_activity_wait(activity):
    before, last = due_weeks(now=NOW)

    assert (before.since, before.statements, before.denied, before.overdue) == (BEFORE, 1, 0, True)
    assert (last.since, last.until, last.statements, last.denied, last.overdue) == (LAST, LAST + WEEK, 2, 1, False)


def test_the_week_that_goes_on_is_not_due(activity):
    assert LAST + WEEK not in waiting()
    assert waiting_weeks(now=NOW + WEEK)[-1] == LAST + WEEK


def test_a_sign_off_takes_out_what_it_covers_and_nothing_else(activity):
    signed(LAST, LAST + WEEK)

    assert waiting() == [BEFORE]


def test_sign_offs_that_follow_one_another_cover_a_week_together(activity):
    middle = LAST + timedelta(days=3)
    signed(middle, LAST + WEEK)
    signed(BEFORE - WEEK, middle)

    assert waiting() == []


def test_a_gap_of_a_second_is_a_gap(activity):
    middle = LAST + timedelta(days=3)
    signed(LAST, middle)
    signed(middle + timedelta(seconds=1), LAST + WEEK)

    (_, last) = due_weeks(now=NOW)

    assert (last.since, last.partly) == (LAST, True)


def test_nothing_waits_in_a_log_without_statements(db):
    assert due_weeks(now=NOW) == []


def test_the_reports_page_offers_each_week_and_fills_the_form(activity, client, monkeypatch):
    monkeypatch.setattr("audit.report_pages.due_weeks", lambda *, now: due_weeks(now=NOW))  # a week may end meanwhile
    client.force_login(User.objects.create_superuser("auditor"))
    week = {"since": f"{LAST:%Y-%m-%d}", "until": f"{LAST + WEEK:%Y-%m-%d}"}

    page = client.get(reverse("admin:audit_reports")).content.decode()
    chosen = client.get(reverse("admin:audit_reports"), week).content.decode()

    assert page.count("Sign off this week") == 2
    assert f'name="since" value="{week["since"]}"' in chosen
    assert f'name="until" value="{week["until"]}"' in chosen
    assert "<script>" not in client.get(reverse("admin:audit_reports"), {"since": '"><script>'}).content.decode()


def test_what_the_first_page_asks_does_not_grow_with_the_log(activity):
    with CaptureQueriesContext(connection) as few:
        waiting()
    append_entries([authorised(f"more-{number}") for number in range(200)])
    with CaptureQueriesContext(connection) as many:
        waiting()

    assert len(few) == len(many) == 2
