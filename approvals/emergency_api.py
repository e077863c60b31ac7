"""Break-glass over REST, for the people on the rosters and those who review it. Agents take none of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api import ForPeople
from approvals.domain import refusal
from approvals.domain.emergency import (
    break_glass,
    end_as,
    readable_emergencies,
    review_emergency,
    rosters_of,
    spoken_emergency,
)
from approvals.domain.refusal import Refusal
from approvals.idempotent import IDEMPOTENCY_KEY, idempotent
from approvals.models import EmergencyAccess, EmergencyUse
from approvals.paging import Pages, page_of


class EmergencyUseSerializer(serializers.ModelSerializer[EmergencyUse]):
    class Meta:
        model = EmergencyUse
        fields: ClassVar[list[str]] = [
            "statement_id", "session_id", "kind", "tables", "classes", "rule", "state", "at", "ended_at", "rows",
        ]  # fmt: skip


class EmergencySummarySerializer(serializers.ModelSerializer[EmergencyAccess]):
    """What a list says: names, times and counts."""

    state = serializers.CharField(read_only=True)

    class Meta:
        model = EmergencyAccess
        fields: ClassVar[list[str]] = [
            "id", "state", "roster", "person", "agent", "connection", "lifts_masks", "max_statements", "statements",
            "rows", "opened_at", "ends_at", "ended_at", "ended_by", "review_by", "reviewer_groups", "reviewed_at",
            "reviewed_by", "finding",
        ]  # fmt: skip


class EmergencySerializer(EmergencySummarySerializer):
    """One access with its reason and every statement under it."""

    reason = serializers.SerializerMethodField()
    notes = serializers.SerializerMethodField()
    uses = EmergencyUseSerializer(many=True, read_only=True)

    class Meta(EmergencySummarySerializer.Meta):
        fields: ClassVar[list[str]] = [*EmergencySummarySerializer.Meta.fields, "reason", "notes", "uses"]

    def get_reason(self, access: EmergencyAccess) -> str:
        return spoken_emergency(access)[0]

    def get_notes(self, access: EmergencyAccess) -> str:
        return spoken_emergency(access)[1]


class BreakGlassSerializer(serializers.Serializer[Any]):
    connection = serializers.CharField(max_length=120)
    reason = serializers.CharField(max_length=4_000)
    roster = serializers.CharField(max_length=120, required=False, help_text="needed when several reach the connection")
    lasts_s = serializers.IntegerField(required=False, min_value=60)
    agent = serializers.CharField(max_length=120, required=False, help_text="your agent, instead of yourself")


class FindingSerializer(serializers.Serializer[Any]):
    finding = serializers.ChoiceField(choices=EmergencyAccess.Finding.choices)
    notes = serializers.CharField(max_length=4_000)


class _Emergencies(ForPeople):
    def access(self, access_id: UUID) -> EmergencyAccess:
        found = readable_emergencies(self.person()).filter(pk=access_id).first()
        if found is None:
            raise Http404
        return found

    def check_replay(self, _request: Request, access_id: UUID | None = None) -> None:
        self.person()
        if access_id is not None:
            self.access(access_id)


class EmergenciesView(_Emergencies):
    serializer_class = EmergencySummarySerializer
    pagination_class = Pages

    @extend_schema(operation_id="emergencies_list", responses={200: EmergencySummarySerializer(many=True)})
    def get(self, request: Request) -> Response:
        """Emergency accesses you took, review or audit, newest first."""
        return page_of(readable_emergencies(self.person()), self, request, EmergencySummarySerializer)

    @extend_schema(
        operation_id="emergencies_open",
        parameters=[IDEMPOTENCY_KEY],
        request=BreakGlassSerializer,
        responses={201: EmergencySummarySerializer},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Break the glass: then connect, natively or over REST, while it lasts. Everybody is told at once."""
        person = self.person()
        given = BreakGlassSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        rosters = rosters_of(person).filter(connections__contains=[asked["connection"]])
        if "roster" in asked:
            rosters = rosters.filter(name=asked["roster"])
        roster = rosters.first()
        if roster is None:
            raise Refusal(refusal.NOT_ON_ROSTER, "no roster that names you reaches this connection")
        access = break_glass(
            person=person,
            roster=roster,
            connection=asked["connection"],
            reason=asked["reason"],
            lasts_s=asked.get("lasts_s"),
            agent=asked.get("agent", ""),
            issuer=getattr(request.auth, "issuer", ""),
            authenticated_at=self.authenticated_at(),
        )
        return Response(EmergencySummarySerializer(access).data, status=HTTPStatus.CREATED)


class EmergencyView(_Emergencies):
    serializer_class = EmergencySerializer

    @extend_schema(operation_id="emergencies_retrieve")
    def get(self, request: Request, access_id: UUID) -> Response:
        """One emergency access with its reason and statements."""
        return Response(EmergencySerializer(self.access(access_id)).data)


class EmergencyEndView(_Emergencies):
    serializer_class = EmergencySummarySerializer

    @extend_schema(operation_id="emergencies_end", parameters=[IDEMPOTENCY_KEY], request=None)
    @idempotent
    def post(self, request: Request, access_id: UUID) -> Response:
        """Return to normal now; what still streams under it ends within a second."""
        access = self.access(access_id)
        end_as(access=access, user=self.person())
        access.refresh_from_db()
        return Response(EmergencySummarySerializer(access).data)


class EmergencyFindingView(_Emergencies):
    serializer_class = EmergencySerializer

    @extend_schema(operation_id="emergencies_review", parameters=[IDEMPOTENCY_KEY], request=FindingSerializer)
    @idempotent
    def post(self, request: Request, access_id: UUID) -> Response:
        """Say what it was: justified, follow-up or misuse. Never by whoever took it."""
        given = FindingSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        access = self.access(access_id)
        review_emergency(access=access, reviewer=self.person(), **given.validated_data)
        return Response(EmergencySerializer(access).data)
