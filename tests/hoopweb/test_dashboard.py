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

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.models import AnchorProof, Checkpoint, LogDamage, SessionRecord, Sink, StatementRecord
from hoopweb.cards import log_card, sinks_card
from hoopweb.recent import failures_since
from hoopweb.touched import Touched, touched_since
from masking.models import MaskingRule
from tests.approvals.factories import held
from tests.rows import reading

MAX_QUERIES = 38


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

    assert touched == [Touched("demo-agent", "clinic", 3, 1, 7, 8, 0, ("mrn", "ssn"))]


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
        *("Failed sign-ins in 24 hours", "Classification", "Log", "Health"),
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


@pytest.mark.django_db
def test_touched_counts_values_shown_clear_though_a_rule_covers_them() -> None:
    MaskingRule.objects.create(name="ssn", connections=["clinic"], columns=["public.patients.ssn"], technique="redact")
    ssn, state = ({"column": c, "of": [f"public.patients.{c}"], "as": "clear"} for c in ("ssn", "state"))
    statement(1, shown=[{**ssn, "as": "redact"}, state])
    statement(2, subject="exempt-agent", shown=[ssn, state], rows=7, masked=[])
    statement(3, subject="exempt-agent", shown=[ssn], rows=0, status="denied", masked=[])

    touched = touched_since(timezone.now() - timedelta(hours=24))

    assert {row.subject: (row.masked, row.clear) for row in touched} == {"demo-agent": (5, 0), "exempt-agent": (0, 7)}


@pytest.mark.django_db
def test_log_card_says_who_else_holds_its_head() -> None:
    now = timezone.now()
    checkpoint(now)
    assert log_card(now).detail.endswith("not anchored outside")

    AnchorProof.objects.create(anchor="city-witness", kind="witness", size=12, note="", at=now - timedelta(hours=2))

    assert log_card(now).detail.endswith("anchored by city-witness 2\xa0hours ago")


@pytest.mark.django_db
def test_sinks_card_says_how_far_behind_they_are() -> None:
    assert list(sinks_card()) == []
    Sink.objects.create(name="siem", format="ocsf", url="https://siem.example/ingest")
    append_entries([Entry(kind="test.one", body={}), Entry(kind="test.two", body={})])

    (card,) = sinks_card()

    assert (card.value, card.detail, card.tone) == ("1", "2 entries on their way", "good")
    Sink.objects.update(failing_since=timezone.now())
    assert [card.tone for card in sinks_card()] == ["bad"]


@pytest.mark.django_db
def test_overview_of_a_busy_day_reads_its_newest_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    for number in range(400):
        statement(number, at=now - timedelta(seconds=number), subject=f"agent-{number // 50}")
    monkeypatch.setattr("hoopweb.recent.MOST_STATEMENTS", 50)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audit_statementrecord")
        # Four hundred rows are so few that reading them all may seem as cheap: what counts is how far an index is read.
        cursor.execute("SET LOCAL enable_seqscan TO off")
    client = signed_in(User.objects.create_superuser("admin"))

    with reading("audit_statementrecord", most=600):
        page = client.get(reverse("admin:index"))

    detail = {card.title: card.detail for card in page.context["cards"]}
    assert detail["Denied in 24 hours"] == "of more than 50 statements"
    assert [(row.subject, row.statements) for row in page.context["touched"]] == [("agent-0", 50), ("agent-1", 1)]
    assert "Protected data touched in the newest 50 statements" in page.content.decode()


@pytest.mark.django_db
def test_refusals_from_before_are_not_read_to_count_those_of_a_day() -> None:
    old_us = int((timezone.now() - timedelta(days=60)).timestamp() * 1e6)
    failed = {"subject": "", "reason": "token"}
    append_entries([Entry(kind="authentication.failed", body=failed, at_us=old_us) for _ in range(600)])
    append_entries([Entry(kind="authentication.failed", body=failed) for _ in range(3)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE audit_logentry")

    with reading("audit_logentry", most=60):
        assert failures_since(timezone.now() - timedelta(hours=24)) == 3
