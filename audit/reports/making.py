"""Making a report that somebody asked for: its rows once, as CSV and PDF, with a bundle that proves them.

Runs in the evidence worker. Rows are streamed to the CSV; a PDF keeps the first of them. Everything is written below a
private temporary directory and then stored, sealed, in the control database.
"""

from __future__ import annotations

import csv
import logging
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Count, F
from reportlab.platypus import Flowable, Spacer

from audit.domain.accounting import Window
from audit.domain.append import append_entries
from audit.domain.bundle import Bundled, Scope, write_bundle
from audit.domain.csvcells import csv_cell
from audit.domain.entry import Entry, Json
from audit.domain.keys import audit_vkey, log_origin
from audit.domain.reports import REPORTS, Kind, Period, ReportProblem, record_export
from audit.domain.subject_question import Question
from audit.models import AnchorProof, Checkpoint, LogEntry, ReportRun
from audit.reports import pdf
from audit.reports.extras import EXTRAS
from audit.reports.files import store_file
from audit.reports.sections import SECTIONS, Section
from audit.reports.subjects import ACCOUNTING, SUBJECT_REPORTS, limits_of, subject_scope, subject_tables

logger = logging.getLogger(__name__)

PACK = "evidence-pack"
PACK_TITLE = "HIPAA evidence pack"
PACK_ROWS = 60  # of each table in the pack's PDF
KEPT_FOR = timedelta(days=30)
ABANDONED_AFTER = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Made:
    """What a report came to: the rows its PDF shows, and all of them in `csv`."""

    name: str
    kind: Kind
    listing: pdf.Listing
    csv: Path


def request_report(name: str, *, period: Period, viewer: str) -> ReportRun:
    """Queue a report. The asking is an entry of its own. Raises ReportProblem."""
    if name != PACK and name not in REPORTS:
        raise ReportProblem("there is no such report")
    steps = (len(REPORTS) if name == PACK else 1) + 3
    with transaction.atomic():
        run = ReportRun.objects.create(
            report=name, since=period.since, until=period.until, requested_by=viewer, steps=steps
        )
        append_entries([Entry(kind="report.requested", body=_asked(run))])
    return run


def request_subject_report(name: str, *, question: Question, viewer: str) -> ReportRun:
    """Queue a report about subjects. What was asked waits for the worker sealed; that it was asked is an entry."""
    first = LogEntry.objects.order_by("seq").values_list("at", flat=True).first()
    question = question.bounded(beginning=first or datetime.now(UTC))
    window = question.window
    with transaction.atomic():
        run = ReportRun.objects.create(
            report=name,
            since=window.since,
            until=window.until,
            requested_by=viewer,
            steps=len(subject_tables(name, question)) + 3,
            question=question.sealed(),
        )
        append_entries([Entry(kind="report.requested", body={**_asked(run), **_limits(window)})])
    return run


def _asked(run: ReportRun) -> dict[str, Json]:
    return {
        "subject": run.requested_by,
        "report": run.report,
        "run": str(run.pk),
        "since": run.since.isoformat(),
        "until": run.until.isoformat(),
    }


def _limits(window: Window) -> dict[str, Json]:
    return {"window": window.said()}


def make_run(run_id: str) -> None:
    """Make the report if it is still waiting. A failure is kept by its type: its words may quote a value."""
    taken = ReportRun.objects.filter(pk=run_id, state=ReportRun.State.WAITING).update(state=ReportRun.State.RUNNING)
    run = ReportRun.objects.filter(pk=run_id).first()
    if not taken or run is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="hoopweb-report-") as directory:
            _make(run, Path(directory))
    except Exception as error:
        logger.error("report not made: run=%s error=%s", run_id, type(error).__name__)
        _finish(run, ReportRun.State.FAILED, problem=f"it could not be made: {type(error).__name__}")


def forget_old_runs() -> int:
    """Delete what was made more than a month ago (it can be made again), and fail what a dead worker left."""
    now = datetime.now(UTC)
    stale = ReportRun.objects.filter(state=ReportRun.State.RUNNING, requested_at__lt=now - ABANDONED_AFTER)
    stale.update(state=ReportRun.State.FAILED, problem="the worker ended while it was made", finished_at=now)
    return ReportRun.objects.filter(requested_at__lt=now - KEPT_FOR).delete()[0]


def _make(run: ReportRun, directory: Path) -> None:
    period = Period(run.since, run.until)
    step = _progress(run)
    question = Question.opened(run.question) if run.question else None
    kinds = _kinds(run.report, question)
    made = []
    record_export(run.report, period=period, viewer=run.requested_by, format="pdf")
    for name, kind in kinds.items():
        step(f"rows: {kind.title}")
        made.append(_make_csv(name, kind, period, directory, keep=PACK_ROWS if run.report == PACK else None))
    step("checking the log and writing the proof bundle")
    bundle = directory / "proof.bundle"
    with bundle.open("wb") as out:
        scope = subject_scope(run.report, question) if question else Scope(since=run.since, until=run.until)
        bundled = write_bundle(out, scope=scope, with_text=False, requested_by=run.requested_by)
    step("laying out the PDF")
    document = directory / f"{run.report}.pdf"
    cover, integrity = _cover(run, limits_of(question) if question else ""), _integrity(bundled)
    pdf.write_pdf(document, cover, _story(run.report)(cover, integrity, made, period))
    extra = [path for item in made for path in _extras(item.name, period, directory)]
    step("storing")
    whole = _zip(directory / f"{run.report}.zip", [document, bundle, *(item.csv for item in made), *extra])
    for path in (document, whole, *([made[0].csv] if len(made) == 1 else [])):
        store_file(run, path)
    run.size = bundled.size
    ReportRun.objects.filter(pk=run.pk).update(question="")  # answered: nothing that finds anybody stays behind
    _finish(run, ReportRun.State.READY, problem="the stored log is damaged" if bundled.findings else "")


def _kinds(report: str, question: Question | None) -> dict[str, Kind]:
    """The tables a report has, by the name of their CSV."""
    if question is not None:
        return subject_tables(report, question)
    return dict(REPORTS) if report == PACK else {report: REPORTS[report]}


def report_title(name: str) -> str:
    if name == PACK:
        return PACK_TITLE
    kind = REPORTS.get(name) or SUBJECT_REPORTS.get(name)
    return kind.title if kind is not None else name


def _make_csv(name: str, kind: Kind, period: Period, directory: Path, *, keep: int | None) -> Made:
    """Stream the rows into a CSV and keep the first for the PDF."""
    path, kept, total = directory / f"{name}.csv", [], 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(kind.columns)
        for row in kind.make(period):
            writer.writerow([csv_cell(value) for value in row])
            total += 1
            if total <= (keep or pdf.MAX_ROWS):
                kept.append(row)
    return Made(name, kind, pdf.Listing(kind.columns, kept, total, path.name), path)


def _extras(name: str, period: Period, directory: Path) -> list[Path]:
    found = []
    for file_name, write in EXTRAS.get(name, {}).items():
        path = directory / file_name
        path.write_text(write(period), encoding="utf-8")
        found.append(path)
    return found


def _zip(path: Path, files: Sequence[Path]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("VERIFY.txt", _VERIFY.format(vkey=audit_vkey()))
        for file in files:
            archive.write(file, file.name)
    return path


_VERIFY = """How to check this without trusting whoever made it

1. Take the log's public key from your own records, not from here. For comparison, this log's key now:
   {vkey}
2. Take the verifier from somebody you trust, or build it from the product's source (make verifier): a wheel, or the one
   file audit_verify.pyz. It needs Python 3.11 and the package cryptography (for time stamps also rfc3161-client).
3. audit_verify proof.bundle --key VKEY [--anchor NOTES] [--tsa ROOTS.pem] [--witness VKEY]
   NOTES: the checkpoints you hold yourself, such as the mails you got, one after the other in a file.
   0 intact, 1 tampered (the place is named), 2 intact but unanchored, 3 unusable.
4. proof.bundle holds every entry of the period with its proof of inclusion (of a report about persons: the entries
   behind its lines). The tables count these entries: each row that names an entry can be looked up by its number.
"""


def _cover(run: ReportRun, limits: str) -> pdf.Cover:
    kind = REPORTS.get(run.report) or SUBJECT_REPORTS.get(run.report)
    section = kind.section if kind is not None else "164.308, 164.312, 164.316, 164.402-408, 164.502, 164.514, 164.528"
    now, title = datetime.now(UTC), report_title(run.report)
    return pdf.Cover(title, section, run.since, run.until, run.requested_by, now, log_origin(), limits)


def _integrity(bundled: Bundled) -> pdf.Integrity:
    newest = Checkpoint.objects.filter(size__lte=bundled.size).order_by("-id").first()
    anchors = AnchorProof.objects.filter(size__lte=bundled.size).order_by("anchor", "-id").distinct("anchor")
    return pdf.Integrity(
        size=bundled.size,
        root=bytes(newest.root).hex() if newest else "",
        signed_at=newest.signed_at if newest and not bundled.findings else None,
        vkey=audit_vkey(),
        findings=len(bundled.findings),
        anchors=tuple(f"{row.anchor} ({row.kind}) at {row.size} entries, {row.at:%Y-%m-%d %H:%M} UTC"
                      for row in anchors.defer("note", "proof")),
    )  # fmt: skip


def _story(report: str) -> Callable[[pdf.Cover, pdf.Integrity, Sequence[Made], Period], list[Flowable]]:
    if report == PACK:
        return _pack_story
    return _subject_story(report) if report in SUBJECT_REPORTS else _report_story


def _subject_story(report: str) -> Callable[[pdf.Cover, pdf.Integrity, Sequence[Made], Period], list[Flowable]]:
    def story(cover: pdf.Cover, integrity: pdf.Integrity, made: Sequence[Made], period: Period) -> list[Flowable]:
        opening = pdf.opening(cover, integrity, SUBJECT_REPORTS[report].said)
        written = [pdf.blank("Number of the person, written in by hand"), Spacer(1, 8)] if report == ACCOUNTING else []
        tables = [flowable for item in made for flowable in (*pdf.heading(item.kind.title), *pdf.listing(item.listing))]
        certify = "This is what the log of this installation says of these records."
        return [*opening, *written, *tables, pdf.signature_lines(certify)]

    return story


def _report_story(cover: pdf.Cover, integrity: pdf.Integrity, made: Sequence[Made], period: Period) -> list[Flowable]:
    (item,) = made
    certify = f"I have reviewed this report for {period.since:%Y-%m-%d} up to {period.until:%Y-%m-%d}."
    return [
        *pdf.opening(cover, integrity, item.kind.said),
        *pdf.listing(item.listing),
        pdf.signature_lines(certify),
    ]


def _pack_story(cover: pdf.Cover, integrity: pdf.Integrity, made: Sequence[Made], period: Period) -> list[Flowable]:
    by_name, counts = {item.name: item for item in made}, _kind_counts(period)
    story = pdf.opening(cover, integrity, _PACK_SAID)
    rows = [
        (
            section.cfr,
            section.title,
            ", ".join(section.reports) or "console",
            sum(counts.get(k, 0) for k in section.kinds),
        )
        for section in SECTIONS
    ]
    contents = pdf.Listing(
        ("45 CFR", "asked for", "answered by", "entries in the period"), rows, len(rows), counted=False
    )
    story += [pdf.text("Contents by section", pdf.HEADING), Spacer(1, 4), *pdf.listing(contents)]
    shown: set[str] = set()
    for section in SECTIONS:
        story += [*pdf.new_section(), *_section_story(section, by_name, counts, shown)]
    others = [item for item in made if item.name not in shown]
    for item in others:
        story += [*pdf.new_section(), *_table_story(item)]
    return [*story, pdf.signature_lines(f"I have reviewed this evidence for {period.since:%Y-%m-%d} up to "
                                        f"{period.until:%Y-%m-%d}.")]  # fmt: skip


_PACK_SAID = (
    "This pack answers the questions an auditor asks by section of 45 CFR Part 164 out of one evidence log. Each "
    "section says what is asked, what answers it, and how many entries of the log prove it. Tables show their first "
    "rows; the CSV files beside this document have all of them. proof.bundle holds every entry of the period with its "
    "proof; VERIFY.txt says how to check it without the system it came from."
)


def _section_story(section: Section, made: dict[str, Made], counts: dict[str, int], shown: set[str]) -> list[Flowable]:
    kinds = ", ".join(f"{kind} ({counts.get(kind, 0)})" for kind in section.kinds)
    story: list[Flowable] = [
        pdf.text(f"{section.cfr}  {section.title}", pdf.HEADING),
        Spacer(1, 3),
        pdf.text(f"Asked: {section.asked}", pdf.BODY),
        pdf.text(f"Answer: {section.answer}", pdf.BODY),
        *([pdf.text(f"Entries in the period: {kinds}", pdf.SMALL)] if kinds else []),
    ]
    for name in section.reports:
        item = made.get(name)
        if item is not None and name in shown:
            story += [Spacer(1, 6), pdf.text(f"{item.kind.title}: shown above, {item.csv.name}.", pdf.BODY)]
        elif item is not None:
            shown.add(name)
            story += _table_story(item)
    return story


def _table_story(item: Made) -> list[Flowable]:
    return [
        Spacer(1, 8),
        *pdf.heading(item.kind.title),
        pdf.text(item.kind.said, pdf.SMALL),
        Spacer(1, 5),
        *pdf.listing(item.listing),
    ]


def _kind_counts(period: Period) -> dict[str, int]:
    entries = LogEntry.objects.filter(at__gte=period.since, at__lt=period.until)
    return dict(entries.order_by().values_list("kind").annotate(n=Count("seq")))


def _progress(run: ReportRun) -> Callable[[str], None]:
    def step(said: str) -> None:
        ReportRun.objects.filter(pk=run.pk).update(step=said[:128], done=F("done") + 1)

    return step


def _finish(run: ReportRun, state: str, *, problem: str = "") -> None:
    fields: dict[str, Any] = {"state": state, "problem": problem[:256], "finished_at": datetime.now(UTC), "step": ""}
    if state == ReportRun.State.READY:
        fields |= {"done": run.steps, "size": run.size}
    ReportRun.objects.filter(pk=run.pk).update(**fields)
