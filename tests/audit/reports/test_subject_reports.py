"""Accounting of one person's disclosures, and whose records somebody saw, as PDF, CSV and proof."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from audit.domain.append import append_entries
from audit.domain.keys import log_signer
from audit.domain.subject_keys import ensure_subject_key
from audit.domain.subject_question import Question
from audit.domain.verify import Verdict, verify_bundle
from audit.models import LogEntry, ReportRun
from audit.reports.making import make_run
from tests.audit.factories import authorised, completed, opened
from tests.audit.reports.test_making import content, words
from tests.audit.test_accounting import met, shown_to, unknown

NUMBER = "mrn-4711"


@pytest.fixture(autouse=True)
def evidence(db) -> None:
    ensure_subject_key()
    # 1 makes the key, 2 opens; 3, 4 show two patients; 5, 6 do not say whom; 7, 8 are about nobody; 9, 10 another.
    append_entries([opened(), met("a"), shown_to("a", NUMBER, "2"), met("b"), unknown("b", "no-key")])
    append_entries([authorised("c"), completed("c"), met("d", agent="another"), shown_to("d", "3")])


@pytest.fixture
def auditor(client: Client) -> Client:
    user = User.objects.create_user("auditor", is_staff=True)
    user.groups.add(Group.objects.get(name="auditors"))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def made(client: Client, page: str, **fields: str) -> ReportRun:
    """Ask on the page, as a person does, and let the worker make it."""
    answer = client.post(reverse(page), {"name": "patient", **fields})
    hidden = re.search(r'name="state" value="([^"]+)"', answer.content.decode())
    again = {"state": hidden[1]} if hidden else fields
    watched = client.post(reverse(page), {"name": "patient", "make": "1", **again})
    run = ReportRun.objects.get()
    assert watched.url == reverse("admin:audit_reportrun_change", args=[run.pk])
    assert client.get(watched.url).status_code == 200
    make_run(str(run.pk))
    run.refresh_from_db()
    assert (run.state, run.problem) == ("ready", "")
    return run


def unpacked(run: ReportRun, tmp_path: Path) -> Path:
    zipfile.ZipFile(io.BytesIO(content(run, f"{run.report}.zip"))).extractall(tmp_path / "archive")
    return tmp_path / "archive"


def proved(directory: Path) -> list[int]:
    bundle = directory / "proof.bundle"
    assert verify_bundle(bundle, keys=[log_signer().verifier]).verdict is Verdict.INTACT
    records = [json.loads(line) for line in bundle.read_text().splitlines()]
    return [record["seq"] for record in records if record["type"] == "entry"]


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_an_accounting_names_every_access_and_proves_its_entries_alone(auditor: Client, tmp_path: Path):
    run = made(auditor, "admin:audit_subjects", number=NUMBER)
    directory = unpacked(run, tmp_path)

    ((at, *rest),) = table(directory / "accounting.csv")[1:]
    assert at.startswith("20")
    assert rest == ["demo-agent", "", "admin", "clinic", "id", "ssn (redact)", "2", "", "4"]
    assert table(directory / "not-known.csv")[1:] == [["the result did not carry the number", "1", "2"]]
    assert proved(directory) == [3, 4]
    said = words(content(run, "accounting.pdf"))
    for expected in ("Accounting of disclosures", "164.528", "demo-agent", "ssn (redact)", "did not carry the number",
                     "Number of the person, written in by hand", "Signature"):  # fmt: skip
        assert expected in said


def test_whose_records_somebody_saw_is_a_report_too(auditor: Client, tmp_path: Path):
    run = made(auditor, "admin:audit_subjects_seen", subject="demo-agent")
    directory = unpacked(run, tmp_path)

    assert table(directory / "in-numbers.csv")[1:] == [
        ["different patients whose records were shown", "2"],
        ["statements that met such records", "2"],
        ["rows they returned", "4"],
        ["statements that do not say whose", "1"],
    ]
    assert {row[0] for row in table(directory / "columns.csv")[1:]} == {"public.patients.id", "public.patients.ssn"}
    assert len(table(directory / "subjects.csv")[1:]) == 2
    assert proved(directory) == [3, 4, 5, 6]
    assert "by demo-agent" in words(content(run, "blast-radius.pdf"))


def test_neither_number_nor_token_is_in_an_accounting_or_stays_behind(auditor: Client, tmp_path: Path):
    run = made(auditor, "admin:audit_subjects", number=NUMBER)
    seen = made_tokens(NUMBER)

    for file in unpacked(run, tmp_path).iterdir():
        assert NUMBER.encode() not in file.read_bytes()
        assert not any(token in file.read_bytes() for token in seen)
    assert run.question == ""
    assert NUMBER.encode() not in b"".join(bytes(entry.canonical) for entry in LogEntry.objects.all())


def made_tokens(number: str) -> list[bytes]:
    from audit.domain.accounting import tokens_for

    return [token.hex().encode() for token in tokens_for(number, name="patient")]


def test_asking_leaves_an_entry_of_the_look_up_and_of_the_report(auditor: Client):
    made(auditor, "admin:audit_subjects", number=NUMBER)

    kinds = list(LogEntry.objects.filter(seq__gt=11).order_by("seq").values_list("kind", flat=True))
    assert kinds == ["subjects.looked_up"] * 2 + ["report.requested", "evidence.exported", "evidence.exported"]


def test_a_forged_line_of_a_selection_is_located(auditor: Client, tmp_path: Path):
    directory = unpacked(made(auditor, "admin:audit_subjects", number=NUMBER), tmp_path)
    bundle = directory / "proof.bundle"
    bundle.write_text(bundle.read_text().replace('\\"rows\\":2', '\\"rows\\":3', 1))

    report = verify_bundle(bundle, keys=[log_signer().verifier])

    assert (report.verdict, report.findings[0].seq, report.findings[0].kind) == (Verdict.TAMPERED, 4, "edited")


def test_the_report_is_for_whoever_may_ask_after_subjects(auditor: Client, client: Client):
    run = made(auditor, "admin:audit_subjects", number=NUMBER)
    other = User.objects.create_user("reader", is_staff=True)
    wanted = ("view_logentry", "view_statementrecord", "view_reportrun")
    other.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    client.force_login(other, backend="django.contrib.auth.backends.ModelBackend")
    file = run.files.first()
    assert file is not None

    assert client.get(reverse("admin:audit_reportrun_change", args=[run.pk])).status_code == 403
    assert client.post(reverse("admin:audit_report_file", args=[run.pk, file.pk])).status_code == 403


def test_an_altered_question_is_not_answered(auditor: Client):
    sealed = Question.opened(Question(window=_window()).sealed())
    assert sealed == Question(window=_window())

    answer = auditor.post(reverse("admin:audit_subjects"), {"state": "A" * 80, "make": "1"})

    assert answer.status_code == 400
    assert ReportRun.objects.count() == 0


def _window():  # type: ignore[no-untyped-def]
    from audit.domain.accounting import Window

    return Window(subject="demo-agent")
