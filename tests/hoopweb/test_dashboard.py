"""The console's first page: what it counts, whom it shows what, and how much it asks of the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.models import Checkpoint, LogDamage, SessionRecord, StatementRecord
from hoopweb.dashboard import Touched, log_card, touched_since
from tests.approvals.factories import held

MAX_QUERIES = 30


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def member(name: str, group: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get_or_create(name=group)[0])
    return user


def statement(number: int, **fields: Any) -> StatementRecord:
    values: dict[str, Any] = {
        "id": f"statement-{number}",
        "session_id": "session-1",
        "at": timezone.now(),
        "subject": "demo-agent",
        "connection": "clinic",
        "status": "completed",
        "classes": ["ssn"],
        "rows": 5,
        "masked": [{"column": "ssn", "rule": "ssn", "technique": "redact", "count": 5}],
        "first_seq": number,
        "last_seq": number,
    }
    return StatementRecord.objects.create(**values | fields)


def session(number: int, **fields: Any) -> SessionRecord:
    values = {"id": f"session-{number}", "opened_at": timezone.now(), "first_seq": number, "last_seq": number}
    return SessionRecord.objects.create(**values | fields)


def checkpoint(signed_at: datetime) -> Checkpoint:
    return Checkpoint.objects.create(size=12, root=b"r", frontier=b"", head=b"h", note="", signed_at=signed_at)


@pytest.mark.django_db
def test_touched_adds_up_protected_statements_of_the_window() -> None:
    statement(1)
    statement(2, classes=["mrn", "ssn"], rows=2, masked=[{"column": "mrn", "count": 1}, {"column": "ssn", "count": 2}])
    statement(3, status="denied", rows=0, masked=[])
    statement(4, classes=[])
    statement(5, at=timezone.now() - timedelta(days=2))

    touched = touched_since(timezone.now() - timedelta(hours=24))

    assert touched == [Touched("demo-agent", "clinic", 3, 1, 7, 8, ("mrn", "ssn"))]


@pytest.mark.django_db
def test_overview_shows_an_auditor_everything() -> None:
    session(1)
    session(2, closed_at=timezone.now())
    statement(1, status="denied")

    page = signed_in(member("auditor", "auditors")).get(reverse("admin:index"))

    shown = {card.title: card.value for card in page.context["cards"]}
    assert shown["Live sessions"] == "1"
    assert shown["Denied in 24 hours"] == "1"
    assert set(shown) == {
        *("Held statements", "Live sessions", "Denied in 24 hours", "Who saw a patient?"),
        *("Failed sign-ins in 24 hours", "Log", "Health"),
    }


@pytest.mark.django_db
def test_overview_shows_a_reviewer_only_what_waits_for_them() -> None:
    review = held()
    statement(1, subject="somebody-else")

    page = signed_in(member("reviewer", review.reviewer_groups[0])).get(reverse("admin:index"))

    assert [card.title for card in page.context["cards"]] == ["Held statements"]
    assert page.context["held"] == [review]
    assert page.context["touched"] is None
    assert b"somebody-else" not in page.content


@pytest.mark.django_db
def test_log_card_puts_damage_before_everything() -> None:
    now = timezone.now()
    assert log_card(now).tone == "warn"
    checkpoint(now - timedelta(seconds=30))
    assert (log_card(now).value, log_card(now).tone) == ("Intact", "good")
    assert log_card(now + timedelta(minutes=10)).value == "Signature overdue"

    LogDamage.objects.create(seq=3, kind="edited", detail="", found_by_check="tail", found_at=now, seen_at=now)

    assert (log_card(now).value, log_card(now).tone) == ("Damaged", "bad")


@pytest.mark.django_db
def test_overview_asks_a_bounded_number_of_queries() -> None:
    client = signed_in(User.objects.create_superuser("admin"))
    for number in range(40):
        statement(number, subject=f"agent-{number % 7}")
        session(number)

    with CaptureQueriesContext(connection) as queries:
        assert client.get(reverse("admin:index")).status_code == 200

    assert len(queries) <= MAX_QUERIES
