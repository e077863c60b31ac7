"""Reviews over REST, for the people who decide. Agents may hold a token; they never decide, and see nothing here."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.domain import refusal
from approvals.domain.dossier import asked_binding, current_statement, facts_for, vote_reason
from approvals.domain.drafts import BAD_DRAFT
from approvals.domain.grants import readable_grants, revoke_as, usable_grants
from approvals.domain.reach import Reach
from approvals.domain.record import record_view
from approvals.domain.refusal import Refusal
from approvals.domain.request import RequireApproval
from approvals.domain.review import MAX_STATEMENT_CHARS, MODIFIER_APPROVES_BELOW, decide_review, reanalyse
from approvals.domain.reviewers import eligible_groups, may_read, readable_reviews
from approvals.domain.scope import WORDS, Scope
from approvals.domain.step_up import SESSION_KEY
from approvals.idempotent import IDEMPOTENCY_KEY, idempotent
from approvals.models import Grant, Review, Vote
from approvals.paging import Pages, page_of

# Whoever asked for something impossible is told 400; whoever may not, or came too late, 403.
_BAD_REQUESTS = frozenset(
    {
        refusal.REASON_MISSING,
        refusal.UNKNOWN_DECISION,
        refusal.NOT_MODIFIED,
        refusal.REACH_TOO_WIDE,
        refusal.HIDDEN_CHARACTERS,
    }
    | {BAD_DRAFT}
)


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"


class VoteSerializer(serializers.ModelSerializer[Vote]):
    reason = serializers.SerializerMethodField()

    class Meta:
        model = Vote
        fields = ["reviewer", "groups", "decision", "scope", "round", "reason", "cast_at"]

    def get_reason(self, vote: Vote) -> str:
        return vote_reason(vote)


class ReviewSummarySerializer(serializers.ModelSerializer[Review]):
    """What a list says: names and counts."""

    url = serializers.CharField(source="absolute_url", read_only=True)
    expires_at = serializers.DateTimeField(source="decide_by", read_only=True)
    kind = serializers.CharField(source="facts.kind", read_only=True)
    status = serializers.SerializerMethodField()

    class Meta:
        model = Review
        fields: ClassVar[list[str]] = [
            "id", "url", "status", "connection", "subject", "actor", "owner", "kind", "rule", "reason", "risk",
            "session_id", "statement_id", "opened_at", "expires_at", "decided_at", "reviewers", "round",
            "escalate_to", "escalate_at",
        ]  # fmt: skip

    def get_status(self, review: Review) -> str:
        return Review.Status.EXPIRED.value if review.is_overdue else review.status


class ReviewSerializer(ReviewSummarySerializer):
    """One review with the statement, for those who may read it: `statement` is what an approval would run."""

    facts = serializers.SerializerMethodField()
    statement = serializers.SerializerMethodField()
    modified_from = serializers.SerializerMethodField()
    parameters = serializers.SerializerMethodField()
    votes = VoteSerializer(many=True, read_only=True)

    class Meta(ReviewSummarySerializer.Meta):
        fields: ClassVar[list[str]] = [
            *ReviewSummarySerializer.Meta.fields,
            "facts",
            "policies",
            "terms",
            "statement",
            "modified_from",
            "modified_by",
            "parameters",
            "votes",
        ]

    def get_facts(self, review: Review) -> dict[str, Any]:
        """Names and counts; `estimated_rows` (returned) and `estimated_changes` are the planner's, null: not known."""
        return facts_for(review, self.context.get("reader"))

    def get_statement(self, review: Review) -> str:
        return current_statement(review)

    def get_modified_from(self, review: Review) -> str | None:
        return None if review.sealed_modified is None else asked_binding(review).statement

    def get_parameters(self, review: Review) -> list[str | None]:
        """Bound values in wire form, as hexadecimal digits; null is NULL."""
        return [None if value is None else value.hex() for value in asked_binding(review).parameters]


class DecisionSerializer(serializers.Serializer[Any]):
    decision = serializers.ChoiceField(choices=Vote.Decision.choices)
    reason = serializers.CharField(max_length=2000)
    statement = serializers.CharField(required=False, trim_whitespace=False)
    round = serializers.IntegerField(
        required=False, min_value=1, help_text="`round` of the review that was looked at; needed once it was modified"
    )

    scope = serializers.ChoiceField(
        choices=[(scope.value, WORDS[scope]) for scope in Scope],
        required=False,
        help_text="how far an approval reaches, where the policy permits more than once",
    )
    for_s = serializers.IntegerField(required=False, min_value=1, help_text="life of an approval wider than once")


class ChangedTextSerializer(serializers.Serializer[Any]):
    statement = serializers.CharField(trim_whitespace=False, max_length=MAX_STATEMENT_CHARS)


class GrantSerializer(serializers.ModelSerializer[Grant]):
    """An approval in force. `reach` names what a wider one covers; it holds no literal."""

    review = serializers.UUIDField(source="review_id", read_only=True)
    connection = serializers.CharField(source="review.connection", read_only=True)
    subject = serializers.CharField(source="review.subject", read_only=True)

    class Meta:
        model = Grant
        fields: ClassVar[list[str]] = [
            "id", "review", "connection", "subject", "scope", "reach", "uses_left", "rows_used", "max_rows",
            "created_at", "expires_at", "revoked",
        ]  # fmt: skip


class ForPeople(GenericAPIView[Any]):
    permission_classes = (IsAuthenticated,)

    def person(self) -> AbstractUser:
        """The account that asks. Raises Refusal for agents and for software acting in a person's name."""
        principal, user = self.request.auth, self.request.user
        by_software = getattr(principal, "kind", "person") != "person" or getattr(principal, "actor", None)
        if by_software or not isinstance(user, get_user_model()):
            raise Refusal(refusal.AGENT_REVIEWER, "reviews are for people; agents neither read nor decide them")
        return user

    def authenticated_at(self) -> float | None:
        """When the person last proved who they are: by their token, or by their browser's session."""
        if self.request.auth is not None:
            at: float | None = getattr(self.request.auth, "authenticated_at", None)
            return at
        session = getattr(self.request._request, "session", None)
        return session.get(SESSION_KEY) if session is not None else None

    def review(self, review_id: UUID) -> Review:
        review = Review.objects.filter(pk=review_id).first()
        if review is None or not may_read(review, self.person()):
            raise Http404
        return review

    def handle_exception(self, exc: Exception) -> Response:
        return problem(exc) if isinstance(exc, Refusal) else super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        if getattr(response, "is_problem", False):
            request.accepted_renderer = ProblemRenderer()
            request.accepted_media_type = ProblemRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)


class ReviewsView(ForPeople):
    serializer_class = ReviewSummarySerializer
    pagination_class = Pages

    @extend_schema(
        operation_id="reviews_list",
        parameters=[
            OpenApiParameter("status", str, enum=Review.Status.values),
            OpenApiParameter("connection", str),
        ],
        responses={200: ReviewSummarySerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """The reviews of your groups, newest first; filtered by `status` and `connection`."""
        wanted = {name: request.query_params[name] for name in ("status", "connection") if name in request.query_params}
        rows = readable_reviews(self.person()).filter(**wanted)
        return page_of(rows, self, request, ReviewSummarySerializer)


class ReviewView(ForPeople):
    serializer_class = ReviewSerializer

    @extend_schema(operation_id="reviews_retrieve")
    def get(self, request: Request, review_id: UUID) -> Response:
        """One review with its statement and votes. 404 for everyone who may not read it."""
        found = self.review(review_id)
        record_view(found, viewer=self.person().get_username(), through="rest")
        return Response(ReviewSerializer(found, context={"reader": self.person()}).data)


class DecisionView(ForPeople):
    serializer_class = DecisionSerializer

    @extend_schema(operation_id="reviews_decide", parameters=[IDEMPOTENCY_KEY], responses={200: ReviewSerializer})
    @idempotent
    def post(self, request: Request, review_id: UUID) -> Response:
        """Approve, deny, or modify (which needs `statement`). 403 says why a decision was not taken."""
        person = self.person()
        review = self.review(review_id)
        given = DecisionSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        decided = decide_review(
            review=review,
            reviewer=person,
            decision=given.validated_data["decision"],
            reason=given.validated_data["reason"],
            statement=given.validated_data.get("statement"),
            seen_round=given.validated_data.get("round"),
            reach=Reach(
                scope=Scope(given.validated_data.get("scope", Scope.ONCE)), for_s=given.validated_data.get("for_s", 0)
            ),
            authenticated_at=self.authenticated_at(),
        )
        return Response(ReviewSerializer(decided, context={"reader": person}).data)

    def check_replay(self, _request: Request, review_id: UUID) -> None:
        self.review(review_id)


class AnalysisSerializer(serializers.Serializer[Any]):
    """What a changed text would do. `decision`: allow or require_approval; a text that may not run is a problem."""

    facts = serializers.DictField()
    risk = serializers.IntegerField()
    decision = serializers.CharField()
    rule = serializers.CharField()
    confirmed_by_another = serializers.BooleanField(help_text="too risky for whoever changes it to approve it alone")


class ReviewAnalysisView(ForPeople):
    serializer_class = AnalysisSerializer

    @extend_schema(operation_id="reviews_analyse", request=ChangedTextSerializer, responses={200: AnalysisSerializer})
    def post(self, request: Request, review_id: UUID) -> Response:
        """Analyse a text in the place of the held one, as *modify* will. Stores nothing; for its reviewers only."""
        found, person = self.review(review_id), self.person()
        given = ChangedTextSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        eligible_groups(found, person)
        analysed = reanalyse(review=found, statement=given.validated_data["statement"])
        asks = isinstance(analysed.decision, RequireApproval)
        answer = {
            "facts": analysed.facts,
            "risk": analysed.risk,
            "decision": "require_approval" if asks else "allow",
            "rule": getattr(analysed.decision, "rule", ""),
            "confirmed_by_another": analysed.risk >= MODIFIER_APPROVES_BELOW,
        }
        return Response(AnalysisSerializer(answer).data)


class GrantsView(ForPeople):
    serializer_class = GrantSerializer
    pagination_class = Pages

    @extend_schema(
        operation_id="grants_list",
        parameters=[OpenApiParameter("usable", bool)],
        responses={200: GrantSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """Approvals of your groups, newest first; `usable=true`: those under which something may still run."""
        person = self.person()
        usable = request.query_params.get("usable") in {"1", "true"}
        rows = (usable_grants if usable else readable_grants)(person).order_by("-created_at")
        return page_of(rows, self, request, GrantSerializer)


class RevokeView(ForPeople):
    serializer_class = GrantSerializer

    @extend_schema(
        operation_id="grants_revoke", parameters=[IDEMPOTENCY_KEY], request=None, responses={200: GrantSerializer}
    )
    @idempotent
    def post(self, request: Request, grant_id: UUID) -> Response:
        """Take an approval back; sessions that still run under it end within a second."""
        grant = self.grant(grant_id)
        revoke_as(grant=grant, user=self.person(), authenticated_at=self.authenticated_at())
        grant.refresh_from_db()
        return Response(GrantSerializer(grant).data)

    def check_replay(self, _request: Request, grant_id: UUID) -> None:
        self.grant(grant_id)

    def grant(self, grant_id: UUID) -> Grant:
        grant = readable_grants(self.person()).filter(pk=grant_id).first()
        if grant is None:
            raise Http404
        return grant


def problem(refused: Refusal) -> Response:
    """A problem document (RFC 9457) for a decision that was not taken."""
    status = HTTPStatus.BAD_REQUEST if refused.code in _BAD_REQUESTS else HTTPStatus.FORBIDDEN
    document = {
        "type": f"urn:hoopweb:problem:{refused.code}",
        "title": status.phrase,
        "status": status.value,
        "code": refused.code,
        "detail": refused.reason,
        "reason": refused.reason,
    }
    response = Response(document, status=status)
    if refused.code == refusal.STEP_UP:  # RFC 9470 §3
        response["WWW-Authenticate"] = 'Bearer error="insufficient_user_authentication"'
        response.nothing_done = True  # type: ignore[attr-defined]  # the same request may succeed once they confirmed
    response.is_problem = True  # type: ignore[attr-defined]
    return response
