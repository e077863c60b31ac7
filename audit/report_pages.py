"""Reports in the console: asked for, watched while they are made, downloaded; and the sign-off of reviewed activity.

Asking and downloading are acts (POST) and each leaves an entry. A report belongs to whoever may see evidence.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from audit.domain.activity_review import due_weeks
from audit.domain.append import append_entries
from audit.domain.csvcells import csv_cell
from audit.domain.entry import Entry, Json
from audit.domain.reports import REPORTS, Period, Report, ReportProblem, make_report, sign_off, sign_offs
from audit.models import ReportFile, ReportRun
from audit.pages import ReadOnlyAdmin, context_of, found, require
from audit.reports.files import read_file
from audit.reports.making import PACK, PACK_TITLE, report_title, request_report
from audit.reports.subjects import SUBJECT_REPORTS
from audit.sinks.schedule import QUEUE
from audit.tasks import make_report_run

REFRESH_S = 2
NEEDED = ("audit.view_logentry", "audit.view_statementrecord")
_TYPES = {"pdf": "application/pdf", "csv": "text/csv; charset=utf-8", "zip": "application/zip"}


def reports_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponseBase:
    """GET shows the list; POST asks for a report (`make`), gives its CSV at once, or signs a period off."""
    if request.method != "POST":
        return _page(model_admin, request)
    viewer = request.user.get_username()
    try:
        period = Period.parse(request.POST.get("since", ""), request.POST.get("until", ""))
        if request.POST.get("sign_off"):
            place = sign_off(period=period, reviewer=viewer, note=request.POST.get("note", ""))
            messages.success(request, f"Signed off; log entry {place}.")
            return HttpResponseRedirect(reverse("admin:audit_reports"))
        if request.POST.get("make"):
            return _ask(request.POST.get("report", ""), period=period, viewer=viewer)
        if request.POST.get("report") == PACK:
            raise ReportProblem("the evidence pack is many tables: make it, and take the archive")
        report = make_report(request.POST.get("report", ""), period=period, viewer=viewer)
    except ReportProblem as problem:
        return _page(model_admin, request, problem=str(problem))
    return _attachment(_csv(report), f"{report.name}-{period.since:%Y%m%d}-{period.until:%Y%m%d}.csv")


class ReportRunAdmin(ReadOnlyAdmin):
    """Reports that were asked for. A page that shows one being made looks again by itself."""

    list_display = ["report_title", "period", "requested_by", "requested_at", "state", "progress"]
    list_filter = ["state"]
    change_list_template = "audit/report_runs.html"

    @admin.display(description="report")
    def report_title(self, run: ReportRun) -> str:
        return report_title(run.report)

    @admin.display(description="period (UTC)")
    def period(self, run: ReportRun) -> str:
        return f"{run.since:%Y-%m-%d} up to {run.until:%Y-%m-%d}"

    @admin.display(description="progress")
    def progress(self, run: ReportRun) -> str:
        return f"{min(run.done, run.steps)} of {run.steps}"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return all(request.user.has_perm(permission) for permission in NEEDED)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        download = path("<uuid:object_id>/files/<int:file>/", view(self.download_view), name="audit_report_file")
        return [download, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = found(self, request, object_id)
        _require_subjects(request, run.pk)
        context = context_of(self, request, run, title="Report") | {
            "title": report_title(run.report),
            "run": run,
            "files": run.files.all(),
        }
        response = TemplateResponse(request, "audit/report_run.html", context)
        if run.state in (ReportRun.State.WAITING, ReportRun.State.RUNNING):
            response["Refresh"] = str(REFRESH_S)
        return response

    def download_view(self, request: HttpRequest, object_id: UUID, file: int) -> HttpResponseBase:
        for permission in NEEDED:
            require(request, permission)
        _require_subjects(request, object_id)
        row = ReportFile.objects.select_related("run").filter(pk=file, run_id=object_id).first()
        if request.method != "POST" or row is None:
            raise Http404("no such file")
        _record_download(row, viewer=request.user.get_username())
        return _attachment(read_file(row), row.name)


def _ask(name: str, *, period: Period, viewer: str) -> HttpResponse:
    return make_report_page(request_report(name, period=period, viewer=viewer))


def make_report_page(run: ReportRun) -> HttpResponse:
    """Have the report made, and go to where it can be watched."""
    transaction.on_commit(lambda: make_report_run.apply_async((str(run.pk),), queue=QUEUE))
    return HttpResponseRedirect(reverse("admin:audit_reportrun_change", args=[run.pk]))


def _require_subjects(request: HttpRequest, run_id: UUID) -> None:
    """A report about subjects is for whoever may ask after them."""
    if ReportRun.objects.filter(pk=run_id, report__in=SUBJECT_REPORTS).exists():
        require(request, "audit.read_subjectsighting")


def _record_download(row: ReportFile, *, viewer: str) -> None:
    body: dict[str, Json] = {
        "subject": viewer,
        "report": row.run.report,
        "run": str(row.run_id),
        "file": row.name,
        "sha256": row.sha256,
    }
    append_entries([Entry(kind="report.downloaded", body=body)])


def _csv(report: Report) -> Iterator[bytes]:
    """Written as it is read: a report may be as long as the log."""
    writer = csv.writer(_Echo())
    yield writer.writerow(report.columns)
    for row in report.rows:
        yield writer.writerow([csv_cell(value) for value in row])


class _Echo:
    """What `csv` writes to: gives each line back instead of keeping it."""

    def write(self, line: str) -> bytes:
        return line.encode()


def _attachment(content: Iterator[bytes], name: str) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    return StreamingHttpResponse(content, content_type=kind, headers=headers)


def _page(model_admin: ReadOnlyAdmin, request: HttpRequest, *, problem: str = "") -> HttpResponse:
    now = datetime.now(UTC)
    today = now.date()
    asked = request.POST if request.method == "POST" else request.GET  # a week of the queue is a link
    context: dict[str, Any] = (
        context_of(model_admin, request, None, title="Reports")
        | {
            "reports": REPORTS.items(),
            "pack": PACK,
            "pack_title": PACK_TITLE,
            "problem": problem,
            "since": _day(asked.get("since")) or (today - timedelta(days=30)).isoformat(),
            "until": _day(asked.get("until")) or today.isoformat(),
            "due": due_weeks(now=now),
            "report_until": _day(request.POST.get("until")) or (today + timedelta(days=1)).isoformat(),
            "chosen": request.POST.get("report", ""),
            "note": request.POST.get("note", ""),
            "opts": ReportRun._meta,  # the page is headed as what it is about
            "signed": sign_offs(),
            "runs": [(run, report_title(run.report)) for run in ReportRun.objects.all()[:10]],
        }
    )
    return TemplateResponse(request, "audit/reports.html", context, status=400 if problem else 200)


def _day(text: str | None) -> str:
    try:
        return date.fromisoformat(text or "").isoformat()
    except ValueError:
        return ""
