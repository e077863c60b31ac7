"""Sessions in the console: the list, what is live, and one session played again as it happened."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.decorators import display

from audit.domain.box import SealProblem
from audit.domain.emergencies import with_emergencies
from audit.domain.kinds import KINDS
from audit.domain.marks import visible, visible_text
from audit.domain.reading import read_result, read_session_texts
from audit.domain.replay import ReplayProblem
from audit.domain.session_counts import count_sessions
from audit.domain.session_document import (
    FORMATS,
    as_csv,
    marked_columns,
    session_document,
    statements_of,
)
from audit.lists import IndexedNamesFilter, ProtocolFilter
from audit.models import LogEntry, SessionRecord, StatementRecord
from audit.pages import PAGE_ROWS, ReadOnlyAdmin, context_of, found, offset_of, require

MAX_LIVE = 200
# Read by name: the gateway's roles are above this app.
_ADMINISTRATORS, _AUDITORS = "administrators", "auditors"
_BESIDE_STATEMENTS = tuple(kind for kind in KINDS if not kind.startswith("statement."))


class EmergencyFilter(SimpleListFilter):
    """Sessions with a statement under an emergency access, or without one."""

    title, parameter_name = "emergency access", "emergency"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "yes"), ("no", "no")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[SessionRecord]) -> QuerySet[SessionRecord]:
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(emergency=self.value() == "yes")  # type: ignore[misc]  # the list's annotation


class SessionRecordAdmin(ReadOnlyAdmin):
    list_display = [
        "opened_at", "subject", "connection", "protocol", "marks", "statements", "denied", "rows", "closed_at",
    ]  # fmt: skip
    list_filter = [
        ("protocol", ProtocolFilter),
        ("connection", IndexedNamesFilter),
        EmergencyFilter,
        "opened_at",
    ]
    search_fields = ["id__exact", "subject__startswith", "owner__exact", "client_address__startswith"]
    change_list_template = "audit/sessions.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[SessionRecord]:
        return with_emergencies(super().get_queryset(request))

    @display(description="marks", label={"emergency": "danger"})  # type: ignore[untyped-decorator]
    def marks(self, session: SessionRecord) -> str:
        return "emergency" if vars(session)["emergency"] else ""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("live/", view(self.live_view), name="audit_live"),
            path("<str:object_id>/texts/", view(self.texts_view), name="audit_session_texts"),
            path("<str:object_id>/rows/<str:statement_id>/", view(self.rows_view), name="audit_session_rows"),
            path("<str:object_id>/download/", view(self.download_view), name="audit_session_download"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        count_sessions()
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> SessionRecord | None:
        count_sessions()
        session: SessionRecord | None = super().get_object(request, object_id, from_field)
        return session

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        session: SessionRecord = found(self, request, object_id)
        page = statements_of(session, after=_after(request, session))
        context = context_of(self, request, session, title="Session") | {
            "session": session,
            "statements": page.statements,
            "after": page.after,
            "first_page": not (request.GET.get("after") or request.GET.get("statement")),
            "reviews": _reviews(session),
            "emergencies": StatementRecord.objects.filter(session_id=session.pk, emergency__gt="").count(),
            "timeline": [_moments(session, statement) for statement in page.statements],
            "length_ms": _ms(session, session.closed_at or timezone.now()),
            "may_read_text": request.user.has_perm("audit.read_sealedtext"),
            "may_read_result": request.user.has_perm("audit.view_recording"),
            "may_kill": session.closed_at is None and _may_kill(request),
            "formats": FORMATS,
        }
        return TemplateResponse(request, "audit/session.html", context)

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Sessions that are open, kept up to date over ws/v1/events/."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        count_sessions()
        sessions = list(with_emergencies(SessionRecord.objects.filter(closed_at=None))[: MAX_LIVE + 1])
        context = context_of(self, request, None, title="Live sessions") | {
            "sessions": sessions[:MAX_LIVE],
            "more": len(sessions) > MAX_LIVE,
            "may_kill": _may_kill(request),
        }
        return TemplateResponse(request, "audit/live.html", context)

    def texts_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The recorded texts of a page of the replay. POST: looking is an act with a trace."""
        session: SessionRecord = found(self, request, object_id)
        require(request, "audit.read_sealedtext")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            page = statements_of(session, after=_after(request, session))
            viewer = request.user.get_username()
            texts = read_session_texts(session=session, statements=page.statements, viewer=viewer)
        except SealProblem as problem:
            return JsonResponse({"problem": f"a recorded text cannot be shown: {problem}"}, status=409)
        return JsonResponse(
            {
                name: [
                    {
                        "kind": text.kind,
                        "entry": text.seq,
                        "statement": visible_text(text.statement),
                        "parameters": [value if value is None else visible_text(value) for value in text.parameters],
                        "justification": text.justification,
                    }
                    for text in found_texts
                ]
                for name, found_texts in texts.items()
            }
        )

    def rows_view(self, request: HttpRequest, object_id: str, statement_id: str) -> HttpResponse:
        """A page of a masked result as the client saw it. POST, recorded."""
        session: SessionRecord = found(self, request, object_id)
        require(request, "audit.view_recording")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        statement = StatementRecord.objects.filter(pk=statement_id, session_id=session.pk).first()
        if statement is None:
            raise Http404("no such statement")
        offset = offset_of(request)
        try:
            page = read_result(statement=statement, viewer=request.user.get_username(), offset=offset, limit=PAGE_ROWS)
        except (SealProblem, ReplayProblem) as problem:
            return JsonResponse({"problem": f"the recording cannot be shown: {problem}"}, status=409)
        columns = [{**column, "name": visible(column["name"])} for column in marked_columns(statement, page.columns)]
        return JsonResponse(
            {"columns": columns, "rows": page.rows, "offset": offset, "more": page.more, "page": PAGE_ROWS}
        )

    def download_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The session as a file. Texts and results go along only for who may read them, and it is recorded."""
        session: SessionRecord = found(self, request, object_id)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        chosen = request.POST.get("format", "json")
        if chosen not in FORMATS:
            raise Http404("no such format")
        try:
            document = session_document(
                session,
                viewer=request.user.get_username(),
                format=chosen,
                with_text=bool(request.POST.get("with_text")) and request.user.has_perm("audit.read_sealedtext"),
                with_results=bool(request.POST.get("with_results")) and request.user.has_perm("audit.view_recording"),
            )
        except SealProblem as problem:
            return HttpResponse(f"a recorded text cannot be shown: {problem}", status=409, content_type="text/plain")
        return _attachment(_rendered(document, chosen), name=f"session-{session.pk}.{chosen}", format=chosen)


def _rendered(document: dict[str, Any], format: str) -> str:
    if format == "csv":
        return as_csv(document)
    if format == "html":
        return render_to_string("audit/session_download.html", document)
    return json.dumps(document, ensure_ascii=False, indent=1)


def _attachment(content: str, *, name: str, format: str) -> HttpResponse:
    types = {"json": "application/json", "csv": "text/csv; charset=utf-8", "html": "text/html; charset=utf-8"}
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return HttpResponse(content, content_type=types[format], headers=headers)


def _after(request: HttpRequest, session: SessionRecord) -> str:
    """Where the page begins: after a place, or at the statement a permalink names."""
    wanted = request.GET.get("statement")
    if not wanted:
        return request.GET.get("after", "")
    statement = StatementRecord.objects.filter(pk=wanted, session_id=session.pk).only("at", "id").first()
    if statement is None:
        return ""
    earlier = StatementRecord.objects.filter(session_id=session.pk).filter(
        Q(at__lt=statement.at) | Q(at=statement.at, id__lt=statement.pk)
    )
    before = earlier.order_by("-at", "-id").only("at", "id").first()
    return f"{before.at.isoformat()},{before.pk}" if before is not None else ""


def _reviews(session: SessionRecord) -> list[LogEntry]:
    """The session's own moments and its reviews', beside its statements: found by their kinds, which are few."""
    kinds = LogEntry.objects.filter(session_id=session.pk, kind__in=_BESIDE_STATEMENTS)
    return list(kinds.order_by("seq").only("seq", "kind", "at", "subject", "statement_id")[:200])


def _moments(session: SessionRecord, statement: StatementRecord) -> dict[str, Any]:
    """What the player needs of a statement: when it came and ended, since the session's opening."""
    return {
        "id": statement.pk,
        "at": _ms(session, statement.at),
        "end": _ms(session, statement.finished_at or statement.at),
        "recorded": bool(statement.recording),
    }


def _ms(session: SessionRecord, moment: Any) -> int:
    return max(0, int((moment - session.opened_at).total_seconds() * 1000))


def _may_kill(request: HttpRequest) -> bool:
    """Whether the button is worth showing. The API decides again."""
    names = set(request.user.groups.values_list("name", flat=True))
    return _AUDITORS not in names and (request.user.is_superuser or _ADMINISTRATORS in names)
