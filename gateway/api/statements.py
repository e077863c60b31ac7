"""Statements over REST: the data plane's frames, turned into the contract's answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from approvals.idempotent import IDEMPOTENCY_KEY, claim_of, idempotent
from gateway.api import dataplane
from gateway.api.authentication import client_address, principal_of, token_for_relay
from gateway.api.problems import Problem, denial_problem, without_effect
from gateway.api.serializers import ProblemSerializer, StatementAnswerSerializer, StatementRequestSerializer
from gateway.domain.connections import usable_connections
from gateway.domain.statements import collect, find_own
from gateway.letter_box import answer_now
from gateway.models import RestStatement

Frame = dict[str, Any]

_ERASED = {"code": "answer-erased", "reason": "its answer is kept no more"}
FAILURE_STATUS = {"upstream-unavailable": HTTPStatus.BAD_GATEWAY, "internal-error": HTTPStatus.INTERNAL_SERVER_ERROR}


class StatementsView(APIView):
    """Run one statement through the same pipeline as every native protocol."""

    @extend_schema(
        operation_id="statements_create",
        parameters=[IDEMPOTENCY_KEY],
        request=StatementRequestSerializer,
        responses={
            200: StatementAnswerSerializer,
            202: StatementAnswerSerializer,
            400: ProblemSerializer,
            403: ProblemSerializer,
            404: ProblemSerializer,
            409: ProblemSerializer,
            422: ProblemSerializer,
            429: ProblemSerializer,
            502: ProblemSerializer,
            503: ProblemSerializer,
        },
    )
    @idempotent
    def post(self, request: Request, name: str) -> Response | StreamingHttpResponse:
        asked = StatementRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        body = {"connection": name, "protocol": "rest", "client_address": client_address(request)}
        if traceparent := request.headers.get("traceparent"):
            body["traceparent"] = traceparent
        frames = dataplane.iter_frames(
            token=token_for_relay(request),
            body={**body, **asked.validated_data},
            client_address=client_address(request),
        )
        claim = claim_of(request)
        return answer(frames, began=claim.began if claim else lambda _: None)

    def check_replay(self, request: Request, name: str) -> None:
        """An answer is not read again by who may no longer use the connection."""
        if name not in usable_connections(principal_of(request).groups):
            raise NotFound("there is no such connection for you")

    def answer_again(self, request: Request, statement_id: str) -> Response:
        """What became of a statement that was sent with an idempotency key. It is not run again."""
        kept = kept_answer(request, statement_id)
        gone = kept["status"] == RestStatement.Status.COMPLETED and "rows" not in kept
        if gone:
            why = kept.get("problem") or _ERASED
            raise Problem(status=HTTPStatus.GONE, code=why["code"], detail=f"the statement ran; {why['reason']}")
        waits = kept["status"] == RestStatement.Status.PENDING
        return Response(kept, status=HTTPStatus.ACCEPTED if waits else HTTPStatus.OK)


class StatementView(APIView):
    """The same answer, later: pending, then completed, denied, expired or failed."""

    @extend_schema(
        operation_id="statements_retrieve", responses={200: StatementAnswerSerializer, 404: ProblemSerializer}
    )
    def get(self, request: Request, statement_id: str) -> Response:
        return Response(kept_answer(request, str(statement_id)))


def kept_answer(request: Request, statement_id: str) -> Frame:
    """The answer of a statement of the caller, as it stands now."""
    principal = principal_of(request)
    row = find_own(statement_id=statement_id, principal=principal)
    if row is None or row.connection not in usable_connections(principal.groups):
        raise NotFound("there is no such statement of yours")
    if row.status in {RestStatement.Status.PENDING, RestStatement.Status.RUNNING}:
        # Its holder may have ended with a restart; holding twice is prevented by the data plane.
        dataplane.resume(token=token_for_relay(request), statement_id=str(row.pk), connection=row.connection)
        row.refresh_from_db()
    # Whoever has read the answer has it: asking the same again is a new request, not a pick-up of this one.
    collect(statement_id=str(row.pk))
    return readable(answer_now(row))


def answer(frames: Iterator[Frame], began: Callable[[str], None] = lambda _: None) -> Response | StreamingHttpResponse:
    """Read frames up to the one that decides the answer; rows, where there are any, are streamed behind it.

    `began` hears the statement's id before anything else can happen to it.
    """
    head: Frame = {}
    try:
        for frame in frames:
            match frame["type"]:
                case "accepted":
                    head |= {"id": frame["id"], "session_id": frame["session_id"]}
                    began(str(frame["id"]))
                case "pending":
                    head["review"] = frame["review"]
                    head |= {name: frame[name] for name in ("permitted_statement",) if frame.get(name)}
                case "resumed":
                    head |= {"statement": frame.get("statement"), "modified_from": frame.get("modified_from")}
                case "columns":
                    _decided(head)
                    return streamed({**head, "columns": frame["columns"]}, frames)
                case "completed":
                    _decided(head)
                    done = {"status": "completed", "columns": [], "rows": []}
                    return Response({**head, **done, **_ending(frame)})
                case "explained":
                    return Response({**head, "status": "explained", **_without_type(frame)})
                case "denied":
                    raise denial_problem({**head, **(frame["problem"] or {})})
                case "failed":
                    raise _failure({**head, **(frame["problem"] or {})})
    except dataplane.DataPlaneRefused as refused:
        raise without_effect(Problem(status=refused.status, code=refused.code, detail=refused.reason)) from None
    except dataplane.DataPlaneUnavailable as unavailable:
        problem = Problem(status=503, code="gateway-unavailable", detail="no gateway answers; try again")
        raise (without_effect(problem) if unavailable.never_sent else problem) from None
    if "review" not in head:
        raise Problem(status=502, code="gateway-broke-off", detail="the gateway ended without an answer")
    return Response(readable({**head, "status": "pending"}), status=HTTPStatus.ACCEPTED)


def _decided(head: Frame) -> None:
    """It does not wait any more."""
    for name in ("review", "permitted_statement"):
        head.pop(name, None)


def streamed(head: Frame, frames: Iterator[Frame]) -> StreamingHttpResponse:
    """One JSON object, sent while the rows arrive; `status` and `row_count` come last, when they are known."""
    return StreamingHttpResponse(_json_pieces(head, frames), content_type="application/json")


async def _json_pieces(head: Frame, frames: Iterator[Frame]) -> AsyncIterator[bytes]:
    opening = _dumps(head)
    yield opening[:-1] + b',"rows":['
    separator, ending = b"", {"status": "failed", "problem": {"code": "gateway-broke-off"}}
    try:
        while (frame := await _next_frame(frames)) is not None:
            if frame["type"] == "rows" and frame["rows"]:
                yield separator + _dumps(frame["rows"])[1:-1]
                separator = b","
            elif frame["type"] == "completed":
                ending = {"status": "completed", **_ending(frame)}
            elif frame["type"] in {"failed", "denied"}:
                ending = {"status": "failed", "problem": frame["problem"]}
    finally:
        with suppress(ValueError):  # another thread is inside it; it ends with its statement
            frames.close()  # type: ignore[attr-defined]  # iter_frames is a generator
    yield b"]," + _dumps(ending)[1:]


@sync_to_async(thread_sensitive=False)
def _next_frame(frames: Iterator[Frame]) -> Frame | None:
    try:
        return next(frames, None)
    except dataplane.DataPlaneUnavailable:
        return None


def readable(reply: Frame) -> Frame:
    """Times of the review as RFC 3339 text, where an earlier version kept them as numbers."""
    review = reply.get("review")
    if review and isinstance(review.get("expires_at"), int | float):
        expires_at = datetime.fromtimestamp(review["expires_at"], tz=UTC).isoformat()
        return {**reply, "review": {**review, "expires_at": expires_at}}
    return reply


def _failure(problem: Frame) -> Problem:
    """The database, not a rule, ended the statement."""
    code = str(problem.get("code", "failed"))
    status = FAILURE_STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
    members = {name: value for name, value in problem.items() if name not in {"code", "reason"} and value}
    return Problem(status=status, code=code, detail=str(problem.get("reason", "")), **members)


def _ending(frame: Frame) -> Frame:
    return {"row_count": frame["row_count"], "command_tag": frame.get("command_tag", "")}


def _without_type(frame: Frame) -> Frame:
    return {name: value for name, value in frame.items() if name != "type"}


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), cls=DjangoJSONEncoder).encode()
