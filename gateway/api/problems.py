"""Every error of the API as a problem document (RFC 9457): stable `type`, plain `detail`, no value, no traceback."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.http import Http404, JsonResponse
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
# Members of a Denial a client needs; wire details (position, SQLSTATE) included, because they are not values.
DENIAL_MEMBERS = (
    "reason",
    "rule",
    "permitted_alternative",
    "permitted_statement",
    "review_url",
    "session_id",
    "statement_id",
    "sqlstate",
    "retry_after_s",
)
_STATUS = {
    "rejected-by-database": HTTPStatus.BAD_REQUEST,
    "quota-exceeded": HTTPStatus.TOO_MANY_REQUESTS,
    "quota-unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}


class ProblemRenderer(JSONRenderer):
    media_type = PROBLEM_TYPE


class Problem(APIException):
    """An error with its own status and code; `members` are added to the document as they are."""

    wait: int
    nothing_done = False  # set where the request certainly had no effect, so that its idempotency key is free again

    def __init__(self, *, status: int, code: str, detail: str, **members: Any) -> None:
        super().__init__(detail=detail, code=code)
        self.status_code = status
        self.code = code
        self.members = members


def denial_problem(denial: dict[str, Any]) -> Problem:
    """The 403 of a statement that did not run. A text the database itself refused is the caller's mistake: 400.

    A used-up quota is 429 with `Retry-After`.
    """
    members = {name: denial[name] for name in DENIAL_MEMBERS if denial.get(name)}
    code = str(denial.get("code", "denied"))
    status = _STATUS.get(code, HTTPStatus.FORBIDDEN)
    members.setdefault("reason", code)
    for required in ("rule", "permitted_alternative"):
        members.setdefault(required, "")
    if denial.get("position"):
        members["position"] = denial["position"]
    problem = Problem(status=status, code=code, detail=str(members["reason"]), **members)
    if denial.get("retry_after_s"):
        problem.wait = denial["retry_after_s"]  # becomes Retry-After
        problem.nothing_done = True
    return problem


def without_effect(problem: Problem) -> Problem:
    problem.nothing_done = True
    return problem


def problem_document(*, status: int, code: str, detail: str, **members: Any) -> dict[str, Any]:
    return {
        "type": f"urn:hoopweb:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }


def problem_json(*, status: int, code: str, detail: str, **members: Any) -> JsonResponse:
    """For views outside the REST framework."""
    document = problem_document(status=status, code=code, detail=detail, **members)
    return JsonResponse(document, status=status, content_type=PROBLEM_TYPE)


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST_FRAMEWORK["EXCEPTION_HANDLER"]. An unforeseen error stays Django's 500, without a document of ours."""
    if isinstance(error, Http404):  # its own words name classes of ours, or say nothing
        error = NotFound("there is nothing of this name or id for you")
    response = exception_handler(error, context)
    if response is None:
        return None
    response.data = _document_of(error, response)
    response.content_type = PROBLEM_TYPE
    return response


def _document_of(error: Exception, response: Response) -> dict[str, Any]:
    if isinstance(error, Problem):
        return problem_document(status=error.status_code, code=error.code, detail=str(error.detail), **error.members)
    if isinstance(error, ValidationError):
        return problem_document(
            status=response.status_code,
            code="invalid",
            detail="the request is not valid; see errors",
            errors=response.data,
        )
    code = getattr(getattr(error, "detail", None), "code", None) or getattr(error, "default_code", "not_found")
    detail = response.data.get("detail", "") if isinstance(response.data, dict) else ""
    return problem_document(status=response.status_code, code=str(code).replace("_", "-"), detail=str(detail))
