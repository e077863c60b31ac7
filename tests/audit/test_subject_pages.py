"""The console's answers about patients: right, without the number anywhere, recorded, and only for who may ask."""

from __future__ import annotations

import logging
import re

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.subject_keys import ensure_subject_key
from audit.models import LogEntry
from tests.audit.factories import opened
from tests.audit.test_accounting import met, shown_to, unknown

NUMBER = "47114711"


@pytest.fixture(autouse=True)
def evidence(db) -> None:
    ensure_subject_key()
    append_entries([opened(), met("a"), shown_to("a", NUMBER, "2"), met("b"), unknown("b", "no-key")])


@pytest.fixture
def auditor(client: Client) -> Client:
    user = User.objects.create_user("auditor", is_staff=True)
    user.groups.add(Group.objects.get(name="auditors"))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def asked(client: Client, page: str = "admin:audit_subjects", **fields: str) -> tuple[int, str]:
    response = client.post(reverse(page), {"name": "patient", **fields})
    streamed = b"".join(response.streaming_content) if response.streaming else response.content  # type: ignore[attr-defined]
    return response.status_code, streamed.decode()


def test_the_page_says_who_saw_the_patient_and_what_is_not_known(auditor: Client):
    status, page = asked(auditor, number=NUMBER)

    assert status == 200
    assert "1 statement showed this patient" in page
    assert "demo-agent" in page
    assert "ssn (redact)" in page
    assert "the result did not carry the number" in page


def test_the_number_comes_back_nowhere_and_is_logged_nowhere(auditor: Client, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    _, page = asked(auditor, number=NUMBER)

    assert "demo-agent" in page  # it was found
    assert NUMBER not in page
    assert NUMBER not in caplog.text
    assert NUMBER.encode() not in b"".join(bytes(entry.canonical) for entry in LogEntry.objects.all())


def test_further_pages_and_the_csv_go_by_the_sealed_question(auditor: Client):
    for n in range(60):
        append_entries([met(f"m{n}"), shown_to(f"m{n}", NUMBER)])
    _, page = asked(auditor, number=NUMBER)
    states = re.findall(r'name="state" value="([^"]+)"', page)
    assert len(states) == 2

    _, later = asked(auditor, state=states[0])
    _, csv = asked(auditor, state=states[1], csv="1")

    assert "11 statements showed" in later
    lines = csv.splitlines()
    assert lines[0].startswith("at,subject,actor,owner")
    assert len(lines) == 1 + 61 + 1  # the header, every access, the gap
    assert lines[-1].startswith("not known")
    assert NUMBER not in csv


def test_an_altered_question_gets_no_answer(auditor: Client):
    _, page = asked(auditor, number=NUMBER)
    (state, *_) = re.findall(r'name="state" value="([^"]+)"', page)
    middle = len(state) // 2

    status, answer = asked(auditor, state=state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :])

    assert status == 400
    assert "cannot be continued" in answer


def test_whose_records_an_agent_saw(auditor: Client):
    status, page = asked(auditor, "admin:audit_subjects_seen", subject="demo-agent")

    assert status == 200
    assert "2 patients" in page
    assert "public.patients.ssn" in page
    assert "the result did not carry the number" in page


def test_a_list_of_numbers_is_answered_with_those_seen(auditor: Client):
    _, csv = asked(auditor, "admin:audit_subjects_seen", subject="demo-agent", numbers=f"{NUMBER}\n999\n2,Jane\n")

    assert sorted(line.split(",")[0] for line in csv.splitlines()[1:]) == ["2", NUMBER]
    entry = LogEntry.objects.filter(kind="subjects.looked_up").latest("seq")
    assert NUMBER.encode() not in bytes(entry.canonical)
    assert b'"given":3' in bytes(entry.canonical)


@pytest.mark.parametrize("page", ["admin:audit_subjects", "admin:audit_subjects_seen"])
def test_a_question_that_cannot_be_answered_says_why(auditor: Client, page: str):
    status, answer = asked(auditor, page, number="", since="2026-11-02", until="2026-11-01", subject="x")

    assert status == 400
    assert "the period is empty or backwards" in answer


def test_every_question_leaves_an_entry(auditor: Client):
    asked(auditor, number=NUMBER)
    asked(auditor, "admin:audit_subjects_seen", subject="demo-agent")
    asked(auditor, "admin:audit_subjects_seen", subject="demo-agent", csv="1")

    entries = LogEntry.objects.filter(kind="subjects.looked_up").order_by("seq")
    assert [entry.subject for entry in entries] == ["auditor"] * 3


@pytest.mark.parametrize("page", ["admin:audit_subjects", "admin:audit_subjects_seen"])
def test_only_who_may_ask_is_answered(client: Client, page: str):
    user = User.objects.create_user("reviewer", is_staff=True)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    assert client.get(reverse(page)).status_code == 403
    assert client.post(reverse(page), {"number": NUMBER, "name": "patient"}).status_code == 403


def test_the_first_page_of_the_console_leads_there(auditor: Client):
    assert reverse("admin:audit_subjects") in auditor.get(reverse("admin:index")).content.decode()
