"""Policies over REST, for their authors and auditors: what holds, what held, and what a draft would change."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.api import ForPeople
from approvals.domain.drafts import draft_rules, try_drafts
from approvals.domain.load import latest_versions
from approvals.domain.policies import FIELDS
from approvals.models import Policy, PolicyVersion


class PolicySerializer(serializers.ModelSerializer[Policy]):
    """A policy as `apply` takes it, with the version that decisions name it by (0: none was kept)."""

    version = serializers.SerializerMethodField()
    author = serializers.SerializerMethodField()

    class Meta:
        model = Policy
        fields: ClassVar[list[str]] = [*FIELDS, "version", "author"]

    def get_version(self, policy: Policy) -> int:
        known = self.context["versions"].get(policy.name)
        return known.number if known else 0

    def get_author(self, policy: Policy) -> str:
        known = self.context["versions"].get(policy.name)
        return known.author if known else ""


class PolicyVersionSerializer(serializers.ModelSerializer[PolicyVersion]):
    class Meta:
        model = PolicyVersion
        fields: ClassVar[list[str]] = ["policy", "number", "author", "at", "document"]


class PoliciesView(ForPeople):
    serializer_class = PolicySerializer

    @extend_schema(operation_id="policies_list", responses={200: PolicySerializer(many=True)})
    def get(self, request: Request) -> Response:
        """Every policy, switched-off ones too, by name. Changing them is `apply`'s, and the console's."""
        if not self.person().has_perm("approvals.view_policy"):
            raise Http404
        context = {"versions": latest_versions()}
        return Response(PolicySerializer(Policy.objects.all(), many=True, context=context).data)


class SimulationSerializer(serializers.Serializer[Any]):
    policies = serializers.ListField(child=serializers.DictField(), required=False, default=list)
    without = serializers.ListField(child=serializers.CharField(), required=False, default=list)
    days = serializers.IntegerField(required=False, default=7, min_value=1, max_value=366)
    connection = serializers.CharField(required=False, default="", allow_blank=True)


class SimulationView(ForPeople):
    serializer_class = SimulationSerializer

    @extend_schema(operation_id="policies_simulate", responses={200: OpenApiTypes.OBJECT})
    def post(self, request: Request) -> Response:
        """Which recorded decisions of the last days would have been others under draft policies. Changes nothing."""
        person = self.person()
        if not person.has_perm("approvals.view_policy"):
            raise Http404
        given = SimulationSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        result = try_drafts(
            drafts=draft_rules(asked["policies"]),
            without=asked["without"],
            days=asked["days"],
            on_connection=asked["connection"],
            by=person.get_username(),
        )
        return Response(asdict(result))


class PolicyVersionsView(ForPeople):
    serializer_class = PolicyVersionSerializer

    @extend_schema(operation_id="policies_versions", responses={200: PolicyVersionSerializer(many=True)})
    def get(self, request: Request, name: str) -> Response:
        """Every version of a policy, newest first, for its authors and auditors; `document` null: it was removed."""
        if not self.person().has_perm("approvals.view_policyversion"):
            raise Http404
        rows = PolicyVersion.objects.filter(policy=name)
        return Response(PolicyVersionSerializer(rows, many=True).data)
