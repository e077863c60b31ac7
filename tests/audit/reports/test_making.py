"""Reports as files: asked for, made, looked into, downloaded; every step is an entry."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse
from pypdf import PdfReader
from reportlab.pdfbase.pdfmetrics import stringWidth

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.keys import audit_vkey, log_signer
from audit.domain.reports import REPORTS, Period, ReportProblem
from audit.domain.sealing import SealProblem
from audit.domain.verify import Verdict, verify_bundle
from audit.models import LogEntry, ReportChunk, ReportFile, ReportRun, StatementRecord
from audit.reports import making
from audit.reports.files import read_file
from audit.reports.making import PACK, forget_old_runs, make_run, request_report
from audit.reports.pdf import Listing, _widths, worded
from audit.reports.sections import SECTIONS
from tests.audit.factories import authorised, completed, denied, opened

NOW = datetime.now(UTC)
TODAY = Period(NOW - timedelta(hours=1), NOW + timedelta(days=1))  # a run may go on for hours
CANARY = "412-55-6789"


@pytest.fixture
def activity(db) -> None:
    text = f"select '{CANARY}' from patients"
    append_entries([opened(), authorised("a1", text=text), completed("a1"), denied("d1")])
    failure = {"claimed_subject": "=cmd 中", "client_address": "10.0.0.9", "protocol": "postgres", "reason": "expired"}
    append_entries([Entry(kind="authentication.failed", body=failure)])


def made(name: str, period: Period = TODAY) -> ReportRun:
    run = request_report(name, period=period, viewer="auditor")
    make_run(str(run.pk))
    run.refresh_from_db()
    assert (run.state, run.problem) == ("ready", "")
    return run


def content(run: ReportRun, name: str) -> bytes:
    return b"".join(read_file(run.files.get(name=name)))


def words(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(document)).pages)


def test_a_long_column_breaks_no_short_name_beside_it():
    long = "members: reviewer, reviewer2; operations: read, write; " * 4
    table = Listing(("by", "before", "after"), [["command:root", long, long]], 1)

    by, before, after = _widths(table)

    assert by >= stringWidth("command:root", "Helvetica", 8) + 12
    assert before == after > 2 * by


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ('{"kind": "report", "since": "2026-11-01", "until": ""}', "kind: report, since: 2026-11-01"),
        (
            '[{"name": "ssn", "before": null, "after": {"technique": "redact"}}]',
            "name: ssn, after: (technique: redact)",
        ),
        ("[not json", "[not json"),
        ("{}", ""),
        ("plain", "plain"),
    ],
)
def test_a_cell_says_in_words_what_the_entry_holds_as_json(stored, shown):
    assert worded(stored) == shown


@pytest.mark.parametrize("name", list(REPORTS))
def test_every_report_becomes_a_pdf_a_csv_and_a_proof_that_verifies(activity, tmp_path, name):
    run = made(name)

    said = words(content(run, f"{name}.pdf"))
    assert REPORTS[name].title in said
    assert "page 1 of" in said
    assert "found as it was written" in said
    assert audit_vkey()[:20] in said.replace("\n", "")
    archive = zipfile.ZipFile(io.BytesIO(content(run, f"{name}.zip")))
    assert {"VERIFY.txt", f"{name}.pdf", f"{name}.csv", "proof.bundle"} <= set(archive.namelist())
    archive.extract("proof.bundle", tmp_path)
    assert verify_bundle(tmp_path / "proof.bundle", keys=[log_signer().verifier]).verdict is Verdict.INTACT


def test_csv_has_all_rows_and_the_pdf_the_first_and_says_so(activity, monkeypatch):
    append_entries(
        [
            Entry(kind="authentication.failed", body={"claimed_subject": f"n{at}", "reason": "expired"})
            for at in range(40)
        ]
    )
    monkeypatch.setattr(making.pdf, "MAX_ROWS", 10)

    run = made("failed-authentication")

    rows = list(csv.reader(io.StringIO(content(run, "failed-authentication.csv").decode())))
    said = words(content(run, "failed-authentication.pdf"))
    assert len(rows) == 42
    assert "The first 10 of 41 rows" in said
    assert "U+4E2D" in said  # what the font cannot show is named, not dropped


def test_pack_answers_every_section_and_holds_every_table(activity):
    run = made(PACK)

    said = " ".join(words(content(run, f"{PACK}.pdf")).split())
    archive = zipfile.ZipFile(io.BytesIO(content(run, f"{PACK}.zip")))
    for section in SECTIONS:
        assert section.cfr in said
    for kind in REPORTS.values():
        assert kind.title in said
    assert {f"{name}.csv" for name in REPORTS} <= set(archive.namelist())
    assert "proposed-tightening.yaml" in archive.namelist()


def test_sections_name_reports_and_kinds_that_exist():
    from audit.domain.kinds import KINDS

    assert {name for section in SECTIONS for name in section.reports} <= set(REPORTS)
    assert {kind for section in SECTIONS for kind in section.kinds} <= set(KINDS)


def test_every_report_says_what_it_counts():
    assert [name for name, kind in REPORTS.items() if not kind.said] == []


def test_no_statement_text_is_in_any_file(activity):
    """The control: it is in the log, sealed."""
    from audit.domain.reading import open_texts

    assert CANARY in open_texts(StatementRecord.objects.filter(pk="a1"))["a1"][0].statement

    run = made(PACK)
    archive = zipfile.ZipFile(io.BytesIO(content(run, f"{PACK}.zip")))
    everything = words(content(run, f"{PACK}.pdf")) + "".join(
        archive.read(n).decode("latin-1") for n in archive.namelist()
    )
    assert CANARY not in everything


def test_a_report_over_a_damaged_log_says_so_and_signs_nothing(activity):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "UPDATE audit_logentry SET canonical = replace(convert_from(canonical, 'UTF8'), 'clinic', 'clinik')::bytea"
            " WHERE seq = 2"
        )
        cursor.execute("SET LOCAL session_replication_role = origin")
    run = request_report("activity", period=TODAY, viewer="auditor")

    make_run(str(run.pk))

    run.refresh_from_db()
    assert (run.state, run.problem) == ("ready", "the stored log is damaged")
    assert "THE STORED LOG IS DAMAGED" in words(content(run, "activity.pdf"))


def test_pieces_at_rest_are_sealed_and_bound_to_their_place(activity):
    run = made("activity")
    row = run.files.get(name="activity.csv")
    piece = ReportChunk.objects.get(file=row)
    assert b"demo-agent" not in bytes(piece.box)
    assert b"demo-agent" in b"".join(read_file(row))

    other = ReportFile.objects.create(run=run, name="other")
    ReportChunk.objects.create(file=other, index=0, box=piece.box)
    with pytest.raises(SealProblem):
        b"".join(read_file(other))


def test_a_run_is_made_once_and_old_ones_are_forgotten(activity):
    run = made("activity")
    make_run(str(run.pk))
    assert run.files.count() == 3

    ReportRun.objects.update(requested_at=NOW - timedelta(days=31))
    forget_old_runs()
    assert (ReportRun.objects.count(), ReportChunk.objects.count()) == (0, 0)


def test_what_a_dead_worker_left_is_called_failed(activity):
    run = request_report("activity", period=TODAY, viewer="auditor")
    ReportRun.objects.update(state="running", requested_at=NOW - timedelta(hours=3))

    forget_old_runs()

    run.refresh_from_db()
    assert (run.state, run.problem) == ("failed", "the worker ended while it was made")


def test_an_unknown_report_is_refused(db):
    with pytest.raises(ReportProblem):
        request_report("nothing", period=TODAY, viewer="auditor")


def body_of(kind: str) -> dict:
    return json.loads(bytes(LogEntry.objects.get(kind=kind).canonical))["body"]


def test_page_asks_watches_and_downloads_and_each_is_recorded(client, activity):
    client.force_login(User.objects.create_superuser("root", "root@example.org", "x"))
    asked = {
        "since": f"{NOW:%Y-%m-%d}",
        "until": f"{NOW + timedelta(days=2):%Y-%m-%d}",
        "report": "activity",
        "make": "1",
    }

    answer = client.post(reverse("admin:audit_reports"), asked)
    run = ReportRun.objects.get()
    assert answer.url == reverse("admin:audit_reportrun_change", args=[run.pk])
    assert body_of("report.requested")["subject"] == "root"
    assert client.get(answer.url)["Refresh"] == "2"

    make_run(str(run.pk))
    page = client.get(answer.url)
    assert "Refresh" not in page
    file = run.files.get(name="activity.pdf")
    url = reverse("admin:audit_report_file", args=[run.pk, file.pk])
    assert url in page.content.decode()
    assert client.get(url).status_code == 404  # a link does not download
    document = b"".join(client.post(url).streaming_content)
    assert document.startswith(b"%PDF")
    assert (body_of("report.downloaded")["file"], body_of("report.downloaded")["sha256"]) == (
        "activity.pdf",
        file.sha256,
    )


def test_files_need_the_permission(client, activity):
    run = made("activity")
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    file = run.files.first()

    for url in (
        reverse("admin:audit_reportrun_change", args=[run.pk]),
        reverse("admin:audit_report_file", args=[run.pk, file.pk]),
    ):
        assert client.post(url).status_code == 403


def test_memory_does_not_grow_with_the_rows(activity, tmp_path: Path, monkeypatch):
    """Rows are read in portions and written as they come: no list of them is ever as long as the report."""
    import tracemalloc

    def rows(period):
        return ([at, "x" * 200] for at in range(40_000))

    kind = REPORTS["activity"]
    monkeypatch.setitem(REPORTS, "activity", type(kind)(kind.title, kind.section, ("n", "text"), rows))
    tracemalloc.start()
    made_report = making._make_csv("activity", REPORTS["activity"], TODAY, tmp_path, keep=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (made_report.listing.total, len(made_report.listing.rows)) == (40_000, 10)
    assert made_report.csv.stat().st_size > 8_000_000
    assert peak < 2_000_000  # a list of them takes more than twice that
