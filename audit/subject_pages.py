"""Who saw a patient, and whose records somebody saw: pages, CSV, and an entry of every look-up.

The number typed arrives in a POST and becomes tokens at once. What goes on from there (the next page, the CSV) carries
the tokens sealed under the evidence key; no page, URL, log line or row of the database repeats the number.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from audit.domain.accounting import (
    Accounting,
    AccountingProblem,
    BlastRadius,
    Window,
    account,
    blast_radius,
    erased_keys,
    match_numbers,
    record_look_up,
    tokens_for,
)
from audit.domain.csvcells import csv_cell
from audit.domain.subject_kinds import subject_kinds
from audit.domain.subject_question import Question
from audit.pages import ReadOnlyAdmin, context_of
from audit.report_pages import make_report_page
from audit.reports.making import request_subject_report
from audit.reports.subjects import ACCOUNTING, BLAST_RADIUS, SEEN, access_rows, explained, gap_rows, seen_rows

_MAX_LIST_BYTES = 2_000_000  # what Django keeps in memory, and on no disk


def accounting_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponseBase:
    """GET asks; POST answers: a number first, then (`state`) its further pages and its CSV."""
    if request.method != "POST":
        return _accounting(model_admin, request)
    viewer = request.user.get_username()
    try:
        if request.POST.get("state"):
            asked = Question.opened(request.POST["state"])
        else:
            window, name = _window(request), request.POST.get("name", "")
            asked = Question(window, name, tuple(tokens_for(request.POST.get("number", ""), name=name)))
        if request.POST.get("csv"):
            _recorded(asked, viewer=viewer, what="accounting-csv", found=0)
            return _csv("accounting.csv", access_rows(asked))
        if request.POST.get("make"):
            _recorded(asked, viewer=viewer, what="accounting-report", found=0)
            return make_report_page(request_subject_report(ACCOUNTING, question=asked, viewer=viewer))
        found = account(tokens=asked.tokens, name=asked.name, window=asked.window, after=asked.after)
    except AccountingProblem as problem:
        return _accounting(model_admin, request, problem=str(problem))
    if not asked.after:
        _recorded(asked, viewer=viewer, what="accounting", found=len(found.accesses))
    return _accounting(model_admin, request, asked=asked, found=found)


def seen_page(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponseBase:
    """GET asks; POST answers whose records somebody saw, or which of a list of numbers are among them."""
    if request.method != "POST":
        return _seen(model_admin, request)
    viewer, name = request.user.get_username(), request.POST.get("name", "")
    try:
        window = _window(request)
        if not (window.subject or window.session or window.connection):
            raise AccountingProblem("expected an agent or person, a session, or a connection")
        numbers = _numbers(request)
        if numbers:
            matched = match_numbers(typed=numbers, name=name, window=window)
            _looked_up(viewer, "blast-radius-match", name, window, found=len(matched), given=len(numbers))
            return _csv("patients-seen.csv", _matched_rows(matched))
        if request.POST.get("csv"):
            _looked_up(viewer, "blast-radius-csv", name, window, found=0)
            return _csv("subjects-seen.csv", _seen_rows(window))
        if request.POST.get("make"):
            _looked_up(viewer, "blast-radius-report", name, window, found=0)
            return make_report_page(request_subject_report(BLAST_RADIUS, question=Question(window), viewer=viewer))
        found = blast_radius(window=window)
    except AccountingProblem as problem:
        return _seen(model_admin, request, problem=str(problem))
    _looked_up(viewer, "blast-radius", name, window, found=sum(found.subjects.values()))
    return _seen(model_admin, request, window=window, found=found)


def _looked_up(viewer: str, what: str, name: str, window: Window, *, found: int, given: int = 0) -> None:
    record_look_up(viewer=viewer, what=what, name=name, window=window, found=found, given=given)


def _recorded(asked: Question, *, viewer: str, what: str, found: int) -> None:
    record_look_up(viewer=viewer, what=what, name=asked.name, window=asked.window, found=found, tokens=asked.tokens)


def _accounting(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    *,
    asked: Question | None = None,
    found: Accounting | None = None,
    problem: str = "",
) -> HttpResponse:
    context = _context(model_admin, request, title="Who saw a patient?", problem=problem)
    if asked is not None and found is not None:
        context |= {
            "found": found,
            "gaps": explained(found.gaps),
            "window": asked.window,
            "state": asked.sealed(),
            "next": asked.sealed(found.after) if found.after else "",
        }
    return _page(request, "audit/accounting.html", context, problem)


def _seen(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    *,
    window: Window | None = None,
    found: BlastRadius | None = None,
    problem: str = "",
) -> HttpResponse:
    context = _context(model_admin, request, title="Whose records did somebody see?", problem=problem)
    context |= {"found": found, "window": window, "gaps": explained(found.gaps) if found is not None else ()}
    return _page(request, "audit/subjects_seen.html", context, problem)


def _page(request: HttpRequest, template: str, context: dict[str, Any], problem: str) -> HttpResponse:
    response = TemplateResponse(request, template, context, status=400 if problem else 200)
    response["Cache-Control"] = "no-store"
    return response


def _context(model_admin: ReadOnlyAdmin, request: HttpRequest, *, title: str, problem: str) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    kept = {field: request.POST.get(field, request.GET.get(field, "")) for field in _KEPT}
    kept["since"] = kept["since"] or (today - timedelta(days=30)).isoformat()
    kept["until"] = kept["until"] or (today + timedelta(days=1)).isoformat()
    return context_of(model_admin, request, None, title=title) | {
        "asked": kept,
        "kinds": subject_kinds(),
        "problem": problem,
        "erased_keys": erased_keys(),
    }


# What a form keeps after an answer. The number is not among it.
_KEPT = ("name", "since", "until", "subject", "connection", "session")


def _window(request: HttpRequest) -> Window:
    """Raises AccountingProblem."""
    return window_of({field: request.POST.get(field, "") for field in _KEPT})


def window_of(values: Mapping[str, Any]) -> Window:
    """A window from words; empty moments mean without end. Raises AccountingProblem."""
    words = {field: str(values.get(field) or "").strip()[:256] for field in _KEPT}
    window = Window(subject=words["subject"], connection=words["connection"], session=words["session"])
    if words["since"]:
        window = replace(window, since=_moment(words["since"]))
    if words["until"]:
        window = replace(window, until=_moment(words["until"]))
    if window.since >= window.until:
        raise AccountingProblem("the period is empty or backwards")
    return window


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise AccountingProblem("the period cannot be read, expected days such as 2026-11-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _numbers(request: HttpRequest) -> list[str]:
    upload = request.FILES.get("list")
    text = request.POST.get("numbers", "")
    if upload is not None:
        if (upload.size or 0) > _MAX_LIST_BYTES:
            raise AccountingProblem("the list is longer than 2 MB")
        text = upload.read().decode("utf-8", "replace")
    return [line.split(",")[0].strip().strip('"') for line in text.splitlines() if line.strip()]


def _seen_rows(window: Window) -> Iterator[Sequence[Any]]:
    yield SEEN
    yield from seen_rows(window)
    yield from (("not known", *row) for row in gap_rows(Question(window)))


def _matched_rows(matched: Iterable[tuple[str, Any]]) -> Iterator[Sequence[Any]]:
    yield ("number", "statements", "first", "last", "any column clear")
    for number, seen in matched:
        yield (number, seen.statements, seen.first.isoformat(), seen.last.isoformat(), seen.clear)


class _Echo:
    def write(self, text: str) -> str:
        return text


def _csv(name: str, rows: Iterator[Sequence[Any]]) -> StreamingHttpResponse:
    """Written as it is read: an accounting may be as long as the log."""
    writer = csv.writer(_Echo())
    lines = (writer.writerow([csv_cell(value) for value in row]) for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)
