"""Evidence in the console: read-only everywhere, for everyone. Reading texts and results leaves an entry of its own."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from audit.domain.box import SealProblem
from audit.domain.reading import read_result, read_texts
from audit.domain.replay import ReplayProblem
from audit.models import Checkpoint, LogEntry, SessionRecord, StatementRecord

PAGE_ROWS = 100


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Nothing here is added, changed or deleted by anybody: evidence is written by the log alone."""

    list_per_page = 50
    show_full_result_count = False  # counting millions of rows for a page of fifty
    actions = None
    list_disable_select_all = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(SessionRecord)
class SessionRecordAdmin(ReadOnlyAdmin):
    list_display = ["opened_at", "subject", "connection", "protocol", "statements", "denied", "rows", "closed_at"]
    list_filter = ["protocol", "connection", "opened_at"]
    search_fields = ["id__exact", "subject__startswith", "owner__exact", "client_address__startswith"]
    change_form_template = "audit/session.html"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        session: SessionRecord = _found(self, request, object_id)
        statements = StatementRecord.objects.filter(session_id=session.pk).order_by("at", "id")
        context = _context(self, request, session, title="Session")
        shown = list(statements[: PAGE_ROWS + 1])
        context |= {"session": session, "statements": shown[:PAGE_ROWS], "more": len(shown) > PAGE_ROWS}
        return TemplateResponse(request, "audit/session.html", context)


@admin.register(StatementRecord)
class StatementRecordAdmin(ReadOnlyAdmin):
    list_display = ["at", "subject", "connection", "kind", "state", "rule", "rows", "masked_fields"]
    list_filter = ["status", "decision", "connection", "protocol", "at"]
    search_fields = ["id__exact", "session_id__exact", "subject__startswith", "rule__startswith"]

    @admin.display(description="status", ordering="status")
    def state(self, statement: StatementRecord) -> str:
        return statement.status

    @admin.display(description="masked")
    def masked_fields(self, statement: StatementRecord) -> str:
        return ", ".join(str(mask.get("column")) for mask in statement.masked)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<str:object_id>/text/", view(self.text_view), name="audit_statement_text"),
            path("<str:object_id>/result/", view(self.result_view), name="audit_statement_result"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return self._page(request, _found(self, request, object_id))

    def text_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The recorded text. POST: it is an act, with a trace, not something a link can do for somebody."""
        statement = _found(self, request, object_id)
        _require(request, "audit.read_sealedtext")
        if request.method != "POST":
            return self._page(request, statement)
        try:
            texts = read_texts(statement=statement, viewer=request.user.get_username())
        except SealProblem as problem:
            return self._page(request, statement, problem=f"the recorded text cannot be shown: {problem}")
        return self._page(request, statement, texts=texts)

    def result_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The masked result as the client saw it, a page at a time."""
        statement = _found(self, request, object_id)
        _require(request, "audit.view_recording")
        if request.method != "POST" or not statement.recording:
            return self._page(request, statement)
        offset = _offset(request)
        viewer = request.user.get_username()
        try:
            page = read_result(statement=statement, viewer=viewer, offset=offset, limit=PAGE_ROWS)
        except (SealProblem, ReplayProblem) as problem:
            return self._page(request, statement, problem=f"the recording cannot be shown: {problem}")
        masks = {str(mask.get("column")): mask for mask in statement.masked}
        columns = [{"name": column.name, "mask": masks.get(column.name)} for column in page.columns]
        rows = [list(zip(row, columns, strict=False)) for row in page.rows]
        result = {"columns": columns, "rows": rows, "first": offset + 1, "last": offset + len(rows)}
        before = max(0, offset - PAGE_ROWS) if offset else None
        after = offset + PAGE_ROWS if page.more else None
        return self._page(request, statement, result=result, before=before, after=after)

    def _page(self, request: HttpRequest, statement: StatementRecord, **shown: Any) -> HttpResponse:
        entries = LogEntry.objects.filter(session_id=statement.session_id, statement_id=statement.pk)
        context = _context(self, request, statement, title="Statement")
        context |= {
            "statement": statement,
            "entries": entries.order_by("seq").only("seq", "kind", "at", "subject"),
            "may_read_text": request.user.has_perm("audit.read_sealedtext"),
            "may_read_result": request.user.has_perm("audit.view_recording"),
            **shown,
        }
        return TemplateResponse(request, "audit/statement.html", context)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    list_display = ["seq", "at", "kind", "subject", "connection", "session_link"]
    list_filter = ["at"]
    search_fields = ["seq__exact", "kind__startswith", "session_id__exact"]

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
        entry = _found(self, request, object_id)
        context = _context(self, request, entry, title="Log entry")
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
    fields = ["size", "signed_at", "note"]
    readonly_fields = fields


def _found(model_admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The object, or 403 for who may not see it, or 404."""
    found = model_admin.get_object(request, object_id)
    if not model_admin.has_view_permission(request, found):
        raise PermissionDenied
    if found is None:
        raise Http404("no such record")
    return found


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def _offset(request: HttpRequest) -> int:
    raw = request.POST.get("offset", "0")
    return int(raw) if raw.isascii() and raw.isdecimal() and len(raw) < 12 else 0


def _context(model_admin: ModelAdmin, request: HttpRequest, row: Model, *, title: str) -> dict[str, Any]:
    return {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": f"{title} {row.pk}",
        "original": row,
    }


def _readable(canonical: bytes) -> str:
    try:
        return json.dumps(json.loads(canonical), indent=2, ensure_ascii=False)
    except ValueError:
        return canonical.decode("utf-8", "replace")
