"""Coverage of the classification: what was read, looks protected and has no mask; and a person who says it is none."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from audit.models import LogEntry
from gateway.models import Connection
from hoopweb.cards import coverage_card
from hoopweb.console.coverage import coverage_since
from hoopweb.recent import recent_statements
from masking.models import ColumnTag, DataClass, MaskingRule
from tests.hoopweb.test_dashboard import member, signed_in, statement

DAY = timedelta(days=1)


@pytest.fixture
def clinic() -> Connection:
    MaskingRule.objects.create(name="ssn", connections=["*"], columns=["public.patients.ssn"], technique="redact")
    return Connection.objects.create(
        name="clinic", kind="postgres", host="127.0.0.1", port=5432, database="c", phi=True
    )


def reads(number: int, *columns: str, **fields: Any) -> None:
    statement(number, columns_read=list(columns), **fields)


def bare_columns() -> list[str]:
    return [found.column for found in coverage_since(timezone.now() - DAY).bare]


@pytest.mark.django_db
def test_columns_that_look_protected_and_have_no_rule_are_bare(clinic: Connection) -> None:
    reads(1, "public.patients.ssn", "public.patients.state", "public.visits.patient_email")
    reads(2, "public.visits.patient_email")

    coverage = coverage_since(timezone.now() - DAY)

    assert (coverage.covered, coverage.telling) == (1, 2)
    (bare,) = coverage.bare
    assert (bare.connection, bare.column, bare.data_class) == ("clinic", "public.visits.patient_email", "email")
    assert bare.statements == 2


@pytest.mark.django_db
@pytest.mark.parametrize("column", ["information_schema.columns.email", "email", "public.email"])
def test_catalogues_and_what_is_no_stored_column_do_not_count(clinic: Connection, column: str) -> None:
    reads(1, column)

    assert bare_columns() == []


@pytest.mark.django_db
def test_other_connections_and_older_statements_do_not_count(clinic: Connection) -> None:
    Connection.objects.create(name="open", kind="postgres", host="127.0.0.1", port=5432, database="o", phi=False)
    reads(1, "public.visits.email", connection="open")
    reads(2, "public.visits.email", at=timezone.now() - 2 * DAY)
    assert bare_columns() == []

    reads(3, "public.visits.email")  # the control

    assert bare_columns() == ["public.visits.email"]


@pytest.mark.django_db
def test_a_confirmed_tag_of_a_rules_class_covers_a_column(clinic: Connection) -> None:
    MaskingRule.objects.create(name="mail", connections=["clinic"], technique="redact", data_class="email")
    reads(1, "public.visits.email")
    tag = ColumnTag.objects.create(
        connection="clinic", column="public.visits.email", data_class=DataClass.objects.get(name="email")
    )
    assert bare_columns() == ["public.visits.email"]  # proposed tags mask nothing

    ColumnTag.objects.filter(pk=tag.pk).update(source=ColumnTag.Source.CONFIRMED)

    assert bare_columns() == []


@pytest.mark.django_db
def test_an_author_dismisses_a_column_and_it_is_recorded(clinic: Connection) -> None:
    reads(1, "public.visits.email", "public.visits.phone")
    author = signed_in(member("author", "policy-authors"))
    page = author.get(reverse("console:coverage"))
    assert b"public.visits.email" in page.content

    author.post(reverse("console:coverage-dismiss", args=["clinic"]), {"column": "public.visits.email"})

    assert bare_columns() == ["public.visits.phone"]
    assert ColumnTag.objects.get().source == ColumnTag.Source.DISMISSED
    (entry,) = LogEntry.objects.filter(kind="config.changed")
    assert b"public.visits.email" in bytes(entry.canonical)


@pytest.mark.django_db
def test_only_what_is_asked_about_can_be_dismissed(clinic: Connection) -> None:
    reads(1, "public.visits.email")
    path, email = reverse("console:coverage-dismiss", args=["clinic"]), {"column": "public.visits.email"}

    assert signed_in(member("auditor", "auditors")).post(path, email).status_code == 403
    signed_in(member("author", "policy-authors")).post(path, {"column": "public.patients.ssn"})

    assert not ColumnTag.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("action", "source"), [("confirm", "confirmed"), ("dismiss", "dismissed")])
def test_tags_confirmed_or_dismissed_in_the_list_are_recorded_one_by_one(action: str, source: str) -> None:
    email = DataClass.objects.get(name="email")
    tags = [ColumnTag.objects.create(connection="c", column=f"a.b.{n}", data_class=email) for n in range(2)]

    signed_in(member("author", "policy-authors")).post(
        reverse("admin:masking_columntag_changelist"),
        {"action": action, "_selected_action": [tag.pk for tag in tags]},
    )

    assert set(ColumnTag.objects.values_list("source", flat=True)) == {source}
    bodies = [json.loads(bytes(entry.canonical))["body"] for entry in LogEntry.objects.filter(kind="config.changed")]
    assert [
        (body["subject"], change["before"]["source"], change["after"]["source"])
        for body in bodies
        for change in body["changes"]
    ] == [("author", "proposed", source)] * 2


@pytest.mark.django_db
def test_what_inherited_a_class_waits_for_a_person(clinic: Connection) -> None:
    reads(1, "public.patients.ssn")
    browser = signed_in(User.objects.create_superuser("administrator"))
    address = reverse("console:coverage")
    assert "waiting for a person" not in browser.get(address).content.decode()
    assert coverage_card(recent_statements(timezone.now())).tone == "good"

    tag = ColumnTag.objects.create(
        connection="clinic",
        column="public.cohort.tag",
        data_class=DataClass.objects.get(name="ssn"),
        source=ColumnTag.Source.INHERITED,
        evidence="statement 1",
    )
    page, card = browser.get(address).content.decode(), coverage_card(recent_statements(timezone.now()))
    ColumnTag.objects.filter(pk=tag.pk).update(source=ColumnTag.Source.CONFIRMED)

    assert "public.cohort.tag" in page
    assert (card.tone, "1 inherited a class and waits for a person" in card.detail) == ("warn", True)
    assert "public.cohort.tag" not in browser.get(address).content.decode()
