"""The search of the evidence in the console. Every search is recorded; a further page of the same search is not."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from audit.domain.kinds import KINDS
from audit.domain.search import (
    EntrySearch,
    Found,
    SearchProblem,
    StatementSearch,
    find_entries,
    find_statements,
    record_search,
    search_from,
)
from audit.domain.words import DECISIONS
from audit.models import StatementRecord
from audit.pages import ReadOnlyAdmin, context_of

_NOTHING = Found((), "")


def statement_search(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    search: StatementSearch = search_from(StatementSearch, request.GET.dict())
    found, problem = _NOTHING, ""
    if "go" in request.GET:
        try:
            found = find_statements(search, after=request.GET.get("after", ""))
            _record_once(request, search)
        except SearchProblem as error:
            problem = str(error)
    choices = {"statuses": StatementRecord.Status.choices, "decisions": DECISIONS.items()}
    return _page(
        model_admin,
        request,
        template="audit/search_statements.html",
        search=search,
        found=found,
        problem=problem,
        choices=choices,
    )


def entry_search(model_admin: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    search: EntrySearch = search_from(EntrySearch, request.GET.dict())
    found, problem = _NOTHING, ""
    if "go" in request.GET:
        try:
            found = find_entries(search, after=request.GET.get("after", ""))
            _record_once(request, search)
        except SearchProblem as error:
            problem = str(error)
    return _page(
        model_admin,
        request,
        template="audit/search_entries.html",
        search=search,
        found=found,
        problem=problem,
        choices={"kinds": KINDS.items()},
    )


def _record_once(request: HttpRequest, search: StatementSearch | EntrySearch) -> None:
    if not request.GET.get("after"):
        record_search(search, viewer=request.user.get_username())


def _page(
    model_admin: ReadOnlyAdmin,
    request: HttpRequest,
    *,
    template: str,
    search: StatementSearch | EntrySearch,
    found: Found,
    problem: str,
    choices: dict[str, Any],
) -> HttpResponse:
    asked = {name: value for name, value in request.GET.items() if value and name != "after"}
    context = (
        context_of(model_admin, request, None, title="Search")
        | choices
        | {
            "search": search,
            "found": found,
            "asked": "go" in request.GET,
            "problem": problem,
            "next": urlencode({**asked, "after": found.after}) if found.after else "",
        }
    )
    return TemplateResponse(request, template, context, status=400 if problem else 200)
