"""Sessions over REST: records to read, live ones to end. Callers see their own; administrators and auditors see all."""

from __future__ import annotations

import logging
from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from redis.exceptions import RedisError
from rest_framework import generics, pagination, serializers
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from approvals.domain.announce import GATEWAYS_GROUP, tell_group
from approvals.idempotent import IDEMPOTENCY_KEY, idempotent
from audit.domain.append import append_entries
from audit.domain.emergencies import with_emergencies
from audit.domain.entry import Entry
from audit.domain.session_counts import count_sessions
from audit.models import SessionRecord, StatementRecord
from gateway.api.authentication import principal_of
from gateway.api.problems import Problem, without_effect
from gateway.api.serializers import ProblemSerializer
from gateway.domain.roles import AUDITORS, is_administrator, may_read_everything

logger = logging.getLogger(__name__)


class SessionSerializer(serializers.ModelSerializer[Any]):
    emergency = serializers.BooleanField(read_only=True, help_text="a statement of it ran under an emergency access")

    class Meta:
        model = SessionRecord
        fields = [
            "id",
            "opened_at",
            "closed_at",
            "close_reason",
            "subject",
            "actor",
            "owner",
            "issuer",
            "auth_method",
            "connection",
            "protocol",
            "application",
            "client_address",
            "client_tls",
            "upstream_tls",
            "statements",
            "denied",
            "rows",
            "emergency",
        ]


class SessionStatementSerializer(serializers.ModelSerializer[Any]):
    """A statement's record: facts and counts. Its text is sealed and read in the console."""

    class Meta:
        model = StatementRecord
        fields = [
            "id",
            "at",
            "finished_at",
            "kind",
            "operations",
            "tables_read",
            "tables_written",
            "classes",
            "decision",
            "rule",
            "review",
            "emergency",
            "status",
            "rows",
            "masked",
            "error",
        ]


class SessionDetailSerializer(SessionSerializer):
    statement_records = serializers.SerializerMethodField()

    class Meta(SessionSerializer.Meta):
        fields = [*SessionSerializer.Meta.fields, "statement_records"]

    def get_statement_records(self, session: SessionRecord) -> list[dict[str, Any]]:
        rows = StatementRecord.objects.filter(session_id=session.pk).order_by("at")[:MAX_STATEMENTS]
        return list(SessionStatementSerializer(rows, many=True).data)


MAX_STATEMENTS = 1000


class NewestFirst(pagination.CursorPagination):
    """Cursors, because sessions are added while somebody pages through them."""

    ordering = ("-opened_at", "-id")
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class SessionsView(generics.ListAPIView[SessionRecord]):
    serializer_class = SessionSerializer
    pagination_class = NewestFirst
    queryset = SessionRecord.objects.none()

    @extend_schema(
        operation_id="sessions_list",
        parameters=[
            OpenApiParameter("connection", str),
            OpenApiParameter("subject", str),
            OpenApiParameter("live", bool, description="only sessions that are open"),
        ],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[SessionRecord]:
        count_sessions()
        rows = visible_sessions(self.request)
        asked = self.request.query_params
        for name in ("connection", "subject"):
            if asked.get(name):
                rows = rows.filter(**{name: asked[name]})
        return rows.filter(closed_at=None) if asked.get("live") in {"1", "true"} else rows


class SessionView(generics.RetrieveAPIView[SessionRecord]):
    serializer_class = SessionDetailSerializer
    queryset = SessionRecord.objects.none()

    def get_object(self) -> SessionRecord:
        count_sessions()
        return _visible_session(self.request, self.kwargs["pk"])


class KillSessionView(APIView):
    """End a live session. Its own principal may, and an administrator."""

    @extend_schema(
        operation_id="sessions_kill",
        parameters=[IDEMPOTENCY_KEY],
        request=None,
        responses={202: SessionSerializer, 403: ProblemSerializer, 404: ProblemSerializer, 503: ProblemSerializer},
    )
    @idempotent
    def post(self, request: Request, pk: str) -> Response:
        session = _visible_session(request, pk)
        principal = principal_of(request)
        if not is_administrator(request.user, principal) and not _is_own(session, request):
            raise PermissionDenied("only an administrator may end another's session")
        append_entries(
            [Entry(kind="session.kill_requested", session_id=session.pk, body={"subject": principal.subject})]
        )
        kill_session(session.pk)
        return Response(SessionSerializer(session).data, status=202)

    def check_replay(self, request: Request, pk: str) -> None:
        _visible_session(request, pk)


def _visible_session(request: Request, session_id: str) -> SessionRecord:
    session = visible_sessions(request).filter(pk=session_id).first()
    if session is None:
        raise NotFound("there is no such session for you")
    return session


def visible_sessions(request: Request) -> QuerySet[SessionRecord]:
    principal = principal_of(request)
    rows = with_emergencies(SessionRecord.objects.all())
    if may_read_everything(request.user, principal):
        return rows
    own = Q(subject=principal.subject, issuer=principal.issuer)
    if principal.actor is not None:
        own &= Q(actor=principal.actor)  # an agent acting for a person sees what it did itself
    elif principal.kind == "person":
        own |= Q(owner=principal.subject)  # the human answerable for an agent sees what it does
    return rows.filter(own)


def kill_session(session_id: str) -> None:
    """Tell every data plane; the one that holds the session ends it. Raises `Problem` when nobody could be told."""
    try:
        tell_group(GATEWAYS_GROUP, {"type": "session.kill", "session_id": session_id})
    except (RedisError, OSError) as error:
        logger.warning("session not ended: session=%s error=%s", session_id, type(error).__name__)
        raise without_effect(
            Problem(status=503, code="not-told", detail="no gateway could be told; the session goes on")
        ) from None


def _is_own(session: SessionRecord, request: Request) -> bool:
    principal = principal_of(request)
    if AUDITORS in principal.groups:
        return False  # auditors change nothing, their own agents' sessions included
    own = (session.subject, session.issuer) == (principal.subject, principal.issuer)
    if principal.actor is not None:
        own = own and session.actor == principal.actor
    return own or (principal.kind == "person" and principal.actor is None and session.owner == principal.subject)
