"""Reports and the sign-off of reviewed activity, in the console."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from audit.domain.csvcells import csv_cell
from audit.domain.reports import REPORTS, Period, Report, ReportProblem, make_report, sign_off, sign_offs
from audit.pages import ReadOnlyAdmin, context_of


def reports_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """GET shows the list; POST makes a report (`report`) or signs a period off (`sign_off`)."""
    if request.method != "POST":
        return _page(model_admin, request)
    viewer = request.user.get_username()
    try:
        period = Period.parse(request.POST.get("since", ""), request.POST.get("until", ""))
        if request.POST.get("sign_off"):
            place = sign_off(period=period, reviewer=viewer, note=request.POST.get("note", ""))
            messages.success(request, f"Signed off; log entry {place}.")
            return HttpResponseRedirect(reverse("admin:audit_reports"))
        report = make_report(request.POST.get("report", ""), period=period, viewer=viewer)
    except ReportProblem as problem:
        return _page(model_admin, request, problem=str(problem))
    name = f"{report.name}-{period.since:%Y%m%d}-{period.until:%Y%m%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(_csv(report), content_type="text/csv; charset=utf-8", headers=headers)


def _csv(report: Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(report.columns)
    writer.writerows([csv_cell(value) for value in row] for row in report.rows)
    return out.getvalue()


def _page(model_admin: ReadOnlyAdmin, request: HttpRequest, *, problem: str = "") -> HttpResponse:
    today = datetime.now(UTC).date()
    context: dict[str, Any] = context_of(model_admin, request, None, title="Reports") | {
        "reports": REPORTS.items(),
        "problem": problem,
        "since": request.POST.get("since") or (today - timedelta(days=30)).isoformat(),
        "until": request.POST.get("until") or today.isoformat(),
        "tomorrow": (today + timedelta(days=1)).isoformat(),
        "signed": sign_offs(),
    }
    return TemplateResponse(request, "audit/reports.html", context, status=400 if problem else 200)
