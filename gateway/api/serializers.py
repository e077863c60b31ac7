"""Shapes of the REST API, for validation and for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

MAX_STATEMENT_CHARS = 1_000_000


class StatementRequestSerializer(serializers.Serializer[Any]):
    statement = serializers.CharField(max_length=MAX_STATEMENT_CHARS, trim_whitespace=False)
    parameters = serializers.ListField(child=serializers.JSONField(allow_null=True), required=False, max_length=65535)
    wait_s = serializers.FloatField(default=0, min_value=0, max_value=3600, help_text="how long to hold the call")
    dry_run = serializers.BooleanField(default=False, help_text="answer facts, decision and masks; run nothing")


class ReviewReferenceSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    url = serializers.URLField()
    expires_at = serializers.DateTimeField()


class ResultColumnSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    type = serializers.CharField()
    masked = serializers.BooleanField()
    rule = serializers.CharField(allow_null=True)


class StatementAnswerSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    session_id = serializers.CharField()
    status = serializers.ChoiceField(choices=["pending", "completed", "denied", "expired", "failed", "explained"])
    statement = serializers.CharField(required=False, help_text="the text that ran, or waits")
    modified_from = serializers.CharField(required=False, allow_null=True, help_text="the asked text after a modify")
    review = ReviewReferenceSerializer(required=False)
    permitted_statement = serializers.CharField(required=False, help_text="of a held one: allowed without anybody")
    columns = ResultColumnSerializer(many=True, required=False)
    rows = serializers.ListField(child=serializers.ListField(child=serializers.JSONField()), required=False)
    row_count = serializers.IntegerField(required=False)
    problem = serializers.DictField(required=False)
    decision = serializers.DictField(required=False)
    facts = serializers.DictField(required=False)
    masks = serializers.ListField(child=serializers.DictField(), required=False)


class ProblemSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    reason = serializers.CharField(required=False)
    rule = serializers.CharField(required=False)
    permitted_alternative = serializers.CharField(required=False)
    permitted_statement = serializers.CharField(required=False, help_text="a text that would be allowed now")
    retry_after_s = serializers.IntegerField(required=False)


class TicketRequestSerializer(serializers.Serializer[Any]):
    connection = serializers.CharField(max_length=63)
    ttl_s = serializers.IntegerField(default=60, min_value=1, max_value=300)


class TicketSerializer(serializers.Serializer[Any]):
    ticket = serializers.CharField(help_text="the one-time password; shown once")
    username = serializers.CharField()
    connection = serializers.CharField()
    expires_at = serializers.DateTimeField()


class ConnectionSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    kind = serializers.CharField()
    phi = serializers.BooleanField()
    operations = serializers.ListField(child=serializers.CharField())


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField()
    expires_in = serializers.IntegerField()
