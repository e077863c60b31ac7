"""Evidence in the console: read-only everywhere, for everyone. Reading texts and results leaves an entry of its own."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.debug import sensitive_post_parameters

from audit.delivery_admin import SinkAdmin  # noqa: F401  registers sinks and anchors
from audit.domain.box import SealProblem
from audit.domain.kinds import KINDS
from audit.domain.marks import escaped_json, visible
from audit.domain.reading import read_result, read_texts
from audit.domain.replay import ReplayProblem
from audit.domain.session_document import marked_columns
from audit.domain.statement_entries import entries_about
from audit.domain.words import kind_words
from audit.lists import DecisionFilter, IndexedNamesFilter, ProtocolFilter, UnderEmergencyFilter, names_in
from audit.models import Checkpoint, LogDamage, LogEntry, ReportRun, SessionRecord, StatementRecord
from audit.models_retention import LegalHold, RetentionPolicy
from audit.pages import PAGE_ROWS, ReadOnlyAdmin, context_of, found, offset_of, require
from audit.report_pages import ReportRunAdmin, reports_page
from audit.retention_admin import LegalHoldAdmin, RetentionPolicyAdmin
from audit.search_pages import entry_search, statement_search
from audit.session_pages import SessionRecordAdmin
from audit.subject_pages import accounting_page, seen_page

admin.site.register(SessionRecord, SessionRecordAdmin)
admin.site.register(RetentionPolicy, RetentionPolicyAdmin)
admin.site.register(LegalHold, LegalHoldAdmin)
admin.site.register(ReportRun, ReportRunAdmin)


@admin.register(StatementRecord)
class StatementRecordAdmin(ReadOnlyAdmin):
    list_display = ["at", "subject", "connection", "what", "state", "rule", "rows", "masked_fields"]
    list_filter = [
        "status",
        DecisionFilter,
        ("connection", IndexedNamesFilter),
        ("protocol", ProtocolFilter),
        UnderEmergencyFilter,
        "at",
    ]
    search_fields = ["id"]  # `get_search_results` says for what
    search_help_text = "the beginning of an agent's or a person's name; else a statement's or session's id, or a rule"
    change_list_template = "audit/statements.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[StatementRecord], search_term: str
    ) -> tuple[QuerySet[StatementRecord], bool]:
        """Each way to be found has an index, and is taken alone: beside others all statements would be gone through."""
        term = search_term.strip()
        if not term:
            return queryset, False
        names = names_in(StatementRecord, "subject", beginning=term)
        ways = [Q(subject=term)] if term in names else [Q(subject__in=names), Q(pk=term), Q(session_id=term)]
        by_rule = Q(touched__contains=[f"rule:{term}"])
        found = next((way for way in ways if StatementRecord.objects.filter(way).order_by().exists()), by_rule)
        return queryset.filter(found), False

    @admin.display(description="kind", ordering="kind")
    def what(self, statement: StatementRecord) -> str:
        return kind_words(statement.kind)

    @admin.display(description="status", ordering="status")
    def state(self, statement: StatementRecord) -> str:
        return f"{statement.status}, emergency" if statement.emergency else statement.status

    @admin.display(description="masked")
    def masked_fields(self, statement: StatementRecord) -> str:
        """What was changed; a column that was only searched, and had nothing to mask, is named as that."""
        return ", ".join(
            visible(str(mask.get("column"))) + ("" if mask.get("count") else " (searched, clear)")
            for mask in statement.masked
        )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("search/", view(self.search_view), name="audit_statement_search"),
            path("subjects/", view(self.accounting_view), name="audit_subjects"),
            path("subjects/seen/", view(self.seen_view), name="audit_subjects_seen"),
            path("<str:object_id>/text/", view(self.text_view), name="audit_statement_text"),
            path("<str:object_id>/result/", view(self.result_view), name="audit_statement_result"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return self._page(request, found(self, request, object_id))

    def search_view(self, request: HttpRequest) -> HttpResponse:
        require(request, "audit.view_statementrecord")
        return statement_search(self, request)

    @method_decorator(sensitive_post_parameters("number"))
    def accounting_view(self, request: HttpRequest) -> HttpResponseBase:
        """Who saw a patient, 45 CFR 164.528."""
        require(request, "audit.read_subjectsighting")
        return accounting_page(self, request)

    @method_decorator(sensitive_post_parameters("numbers"))
    def seen_view(self, request: HttpRequest) -> HttpResponseBase:
        """Whose records somebody saw, 164.402."""
        require(request, "audit.read_subjectsighting")
        return seen_page(self, request)

    def text_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The recorded text. POST: it is an act, with a trace, not something a link can do for somebody."""
        statement = found(self, request, object_id)
        require(request, "audit.read_sealedtext")
        if request.method != "POST":
            return self._page(request, statement)
        try:
            texts = read_texts(statement=statement, viewer=request.user.get_username())
        except SealProblem as problem:
            return self._page(request, statement, problem=f"the recorded text cannot be shown: {problem}")
        return self._page(request, statement, texts=texts)

    def result_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The masked result as the client saw it, a page at a time."""
        statement = found(self, request, object_id)
        require(request, "audit.view_recording")
        if request.method != "POST" or not statement.recording:
            return self._page(request, statement)
        offset = offset_of(request)
        viewer = request.user.get_username()
        try:
            page = read_result(statement=statement, viewer=viewer, offset=offset, limit=PAGE_ROWS)
        except (SealProblem, ReplayProblem) as problem:
            return self._page(request, statement, problem=f"the recording cannot be shown: {problem}")
        columns = marked_columns(statement, page.columns)
        rows = [list(zip(row, columns, strict=False)) for row in page.rows]
        result = {"columns": columns, "rows": rows, "first": offset + 1, "last": offset + len(rows)}
        before = max(0, offset - PAGE_ROWS) if offset else None
        after = offset + PAGE_ROWS if page.more else None
        return self._page(request, statement, result=result, before=before, after=after)

    def _page(self, request: HttpRequest, statement: StatementRecord, **shown: Any) -> HttpResponse:
        entries = [part.only("seq", "kind", "at", "subject") for part in entries_about([statement])]
        context = context_of(self, request, statement, title="Statement")
        context |= {
            "statement": statement,
            "entries": sorted((entry for part in entries for entry in part), key=lambda entry: int(entry.seq)),
            "may_read_text": request.user.has_perm("audit.read_sealedtext"),
            "may_read_result": request.user.has_perm("audit.view_recording"),
            **shown,
        }
        return TemplateResponse(request, "audit/statement.html", context)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    list_display = ["seq", "at", "kind", "subject", "connection", "session_link"]
    list_filter = ["at"]
    search_fields = ["seq"]  # `get_search_results` says for what
    search_help_text = "an entry's number, a session's id, or the beginning of a kind"
    change_list_template = "audit/entries.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("search/", view(self.search_view), name="audit_entry_search"),
            path("reports/", view(self.reports_view), name="audit_reports"),
            *super().get_urls(),
        ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LogEntry], search_term: str
    ) -> tuple[QuerySet[LogEntry], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if term.isascii() and term.isdecimal() and len(term) < 19:
            return queryset.filter(seq=int(term)), False
        kinds = [kind for kind in KINDS if kind.startswith(term)]
        return queryset.filter(kind__in=kinds) if kinds else queryset.filter(session_id=term), False

    def reports_view(self, request: HttpRequest) -> HttpResponseBase:
        for permission in ("audit.view_logentry", "audit.view_statementrecord"):
            require(request, permission)
        return reports_page(self, request)

    def search_view(self, request: HttpRequest) -> HttpResponse:
        require(request, "audit.view_logentry")
        return entry_search(self, request)

    @admin.display(description="session")
    def session_link(self, entry: LogEntry) -> str:
        if not entry.session_id:
            return ""
        url = reverse("admin:audit_sessionrecord_change", args=[entry.session_id])
        return format_html('<a href="{}">{}…</a>', url, entry.session_id[:13])

    def get_queryset(self, request: HttpRequest) -> QuerySet[LogEntry]:
        entries: QuerySet[LogEntry] = super().get_queryset(request)
        return entries.defer("canonical", "prev", "leaf")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        entry = found(self, request, object_id)
        context = context_of(self, request, entry, title="Log entry")
        context |= {
            "entry": entry,
            "leaf": bytes(entry.leaf).hex(),
            "prev": bytes(entry.prev).hex(),
            "content": _readable(bytes(entry.canonical)),
        }
        return TemplateResponse(request, "audit/entry.html", context)


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ["signed_at", "size"]
    fields = ["size", "signed_at", "shown_note"]
    readonly_fields = fields

    @admin.display(description="note")
    def shown_note(self, checkpoint: Checkpoint) -> str:
        """Line by line: who compares it with a note of theirs copies it from here."""
        return format_html("<pre>{}</pre>", checkpoint.note)


@admin.register(LogDamage)
class LogDamageAdmin(ReadOnlyAdmin):
    list_display = ["found_at", "seq", "kind", "detail", "found_by_check", "seen_at", "cleared_at"]
    list_filter = ["kind", "found_by_check"]
    empty_title = "No damage is known"


def _readable(canonical: bytes) -> str:
    try:
        return escaped_json(json.dumps(json.loads(canonical), indent=2, ensure_ascii=False))
    except ValueError:
        return canonical.decode("utf-8", "replace")
