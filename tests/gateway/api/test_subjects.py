"""Accounting by subject over REST: for auditors and administrators alone, and recorded."""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command

from audit.domain.append import append_entries
from audit.domain.subject_keys import ensure_subject_key
from audit.models import LogEntry
from tests.audit.factories import opened
from tests.audit.test_accounting import met, shown_to, unknown
from tests.gateway.api.conftest import Cast

NUMBER = "47114711"
ACCOUNTING, SEEN = "/api/v1/subjects/accounting", "/api/v1/subjects/seen"


@pytest.fixture(autouse=True)
def evidence(cast: Cast) -> None:
    ensure_subject_key()
    append_entries([opened(), met("a"), shown_to("a", NUMBER), met("b"), unknown("b", "no-key")])


def test_keys_of_tokens_are_listed_unless_asked_otherwise(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("subject_keys")

    assert re.fullmatch(r"\d+  made [-\d]+ [:\d]+  in use\n", capsys.readouterr().out)


def test_an_auditor_asks_who_saw_a_patient(cast: Cast) -> None:
    response = cast.client("auditor").post(ACCOUNTING, {"number": NUMBER}, format="json")

    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    (access,) = response.json()["accesses"]
    assert (access["subject"], access["statement"], access["clear"]) == ("demo-agent", "a", ["id"])
    assert response.json()["gaps"] == [{"why": "no-key", "statements": 1, "rows": 2}]
    entry = LogEntry.objects.get(kind="subjects.looked_up")
    assert entry.subject == "auditor"
    assert NUMBER.encode() not in bytes(entry.canonical)


def test_an_auditor_asks_whose_records_an_agent_saw(cast: Cast) -> None:
    response = cast.client("auditor").post(SEEN, {"subject": "demo-agent"}, format="json")

    assert response.json()["subjects"] == {"patient": 1}
    assert response.json()["columns"] == [["public.patients.id", 1, 0], ["public.patients.ssn", 0, 1]]
    assert len(response.json()["seen"]) == 1


@pytest.mark.parametrize("who", ["agent", "reviewer"])
@pytest.mark.parametrize(("path", "asked"), [(ACCOUNTING, {"number": NUMBER}), (SEEN, {"subject": "demo-agent"})])
def test_nobody_else_may_ask(cast: Cast, who: str, path: str, asked: dict[str, str]) -> None:
    assert cast.client(who).post(path, asked, format="json").status_code == 403


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (ACCOUNTING, {"number": " "}),
        (ACCOUNTING, {"number": NUMBER, "since": "soon"}),
        (ACCOUNTING, {"number": NUMBER, "since": "2026-11-02", "until": "2026-11-01"}),
        (SEEN, {}),
    ],
)
def test_what_cannot_be_answered_is_a_problem_document(cast: Cast, path: str, asked: dict[str, str]) -> None:
    response = cast.client("auditor").post(path, asked, format="json")

    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert NUMBER not in response.content.decode()
