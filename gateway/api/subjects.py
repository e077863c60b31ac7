"""Accounting by subject over REST, for auditors and administrators. POST: the number must be in no URL."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from approvals.domain.request import Principal
from audit.domain.accounting import AccountingProblem, Window, account, blast_radius, record_look_up, tokens_for
from audit.subject_pages import window_of
from gateway.api.authentication import principal_of
from gateway.api.problems import Problem
from gateway.api.serializers import ProblemSerializer
from gateway.domain.roles import may_read_everything


class WindowSerializer(serializers.Serializer[Any]):
    since = serializers.CharField(required=False, allow_blank=True, help_text="ISO 8601, UTC; absent: the beginning")
    until = serializers.CharField(required=False, allow_blank=True, help_text="not included; absent: now")
    subject = serializers.CharField(required=False, allow_blank=True, help_text="an agent or person")
    connection = serializers.CharField(required=False, allow_blank=True)
    session = serializers.CharField(required=False, allow_blank=True)


class AccountingRequestSerializer(WindowSerializer):
    number = serializers.CharField(max_length=256, help_text="becomes tokens at once; stored and logged nowhere")
    name = serializers.CharField(max_length=63, default="patient", help_text="the kind of subject")
    after = serializers.CharField(required=False, allow_blank=True, help_text="of the page before")


class GapSerializer(serializers.Serializer[Any]):
    why = serializers.CharField()
    statements = serializers.IntegerField()
    rows = serializers.IntegerField()


class AccessSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    subject = serializers.CharField()
    actor = serializers.CharField()
    owner = serializers.CharField()
    connection = serializers.CharField()
    session = serializers.CharField()
    statement = serializers.CharField()
    entry = serializers.IntegerField()
    kind = serializers.CharField()
    status = serializers.CharField()
    rows = serializers.IntegerField()
    review = serializers.CharField()
    clear = serializers.ListField(child=serializers.CharField())
    masked = serializers.ListField(child=serializers.CharField())


class AccountingSerializer(serializers.Serializer[Any]):
    accesses = AccessSerializer(many=True)
    gaps = GapSerializer(many=True)
    after = serializers.CharField(help_text="ask again with it for the next page; empty on the last")


class SeenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField()
    name = serializers.CharField()
    statements = serializers.IntegerField()
    first = serializers.DateTimeField()
    last = serializers.DateTimeField()
    clear = serializers.BooleanField()


class BlastRadiusSerializer(serializers.Serializer[Any]):
    subjects = serializers.DictField(child=serializers.IntegerField())
    statements = serializers.IntegerField()
    rows = serializers.IntegerField()
    columns = serializers.ListField(child=serializers.ListField())
    gaps = GapSerializer(many=True)
    seen = SeenSerializer(many=True)
    more = serializers.BooleanField()


class AccountingView(APIView):
    """Who saw a subject's records (45 CFR 164.528)."""

    @extend_schema(
        operation_id="subjects_accounting",
        request=AccountingRequestSerializer,
        responses={200: AccountingSerializer, 400: ProblemSerializer, 403: ProblemSerializer},
    )
    def post(self, request: Request) -> Response:
        viewer = _auditor(request)
        asked = AccountingRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        values = asked.validated_data
        try:
            window, name = window_of(values), values["name"]
            tokens = tokens_for(values["number"], name=name)
        except AccountingProblem as problem:
            raise _refused(problem) from None
        found = account(tokens=tokens, name=name, window=window, after=values.get("after", ""))
        record_look_up(
            viewer=viewer.subject,
            what="accounting-rest",
            name=name,
            window=window,
            found=len(found.accesses),
            tokens=tokens,
        )
        return Response(asdict(found), headers={"Cache-Control": "no-store"})


class SubjectsSeenView(APIView):
    """Whose records an agent, a session or a connection showed (45 CFR 164.402 to 408), by token."""

    @extend_schema(
        operation_id="subjects_seen",
        request=WindowSerializer,
        responses={200: BlastRadiusSerializer, 400: ProblemSerializer, 403: ProblemSerializer},
    )
    def post(self, request: Request) -> Response:
        viewer = _auditor(request)
        asked = WindowSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        window = _named(asked.validated_data)
        found = blast_radius(window=window, limit=1_000)
        record_look_up(
            viewer=viewer.subject,
            what="blast-radius-rest",
            name="",
            window=window,
            found=sum(found.subjects.values()),
        )
        return Response(asdict(found), headers={"Cache-Control": "no-store"})


def _named(values: dict[str, Any]) -> Window:
    try:
        window = window_of(values)
    except AccountingProblem as problem:
        raise _refused(problem) from None
    if not (window.subject or window.session or window.connection):
        raise _refused(AccountingProblem("expected a subject, a session or a connection"))
    return window


def _auditor(request: Request) -> Principal:
    principal = principal_of(request)
    if not may_read_everything(request.user, principal):
        raise PermissionDenied("only auditors and administrators may ask whose records were seen")
    return principal


def _refused(problem: AccountingProblem) -> Problem:
    return Problem(status=HTTPStatus.BAD_REQUEST, code="not-answerable", detail=str(problem))
