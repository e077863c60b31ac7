"""`Idempotency-Key` on REST calls that do something: decorate `post` with `@idempotent`.

The key belongs to the caller (subject, issuer, kind and, for software acting for a person, that software) and to one
request: method, path and body. An answer is only read again by who may still read its subject: a view with a method
`check_replay` decides that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from approvals.domain.idempotency import KEY, Claim, KeptAnswer, KeyInUse, KeyReused, claim_key
from approvals.domain.request import Principal

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
    OpenApiParameter.HEADER,
    description="a random text of yours; the same key and request get the first answer again, for a day",
)
REPLAYED = "Idempotency-Replayed"
RETRY_AFTER_S = 1
Post = TypeVar("Post", bound=Callable[..., Any])

# Answers to requests that changed nothing and may be sent again, corrected or later, with the same key.
_NOTHING_DONE = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}
)
_BAD_KEY = (HTTPStatus.BAD_REQUEST, "bad-idempotency-key", "expected 1 to 255 visible ASCII characters")
_REUSED = (
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "idempotency-key-reused",
    "this key was used for another request; take a new one for each",
)
_IN_USE = (
    HTTPStatus.CONFLICT,
    "idempotency-key-in-use",
    "a request with this key is not answered yet; ask again, and if it stays so, look whether it was done before you "
    "send it with a new key",
)


class IdempotencyProblem(APIException):
    """Nothing was done, because of the key."""

    def __init__(self, status: HTTPStatus, code: str, reason: str) -> None:
        super().__init__(detail=reason, code=code)
        self.status_code = status.value
        self.code = code
        self.members: dict[str, Any] = {"reason": reason}
        if status is HTTPStatus.CONFLICT:
            self.wait = RETRY_AFTER_S  # becomes Retry-After


def idempotent(post: Post) -> Post:
    """Do the work of `post` once for each key. Without the header nothing changes."""

    @wraps(post)
    def once(view: Any, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        key = request.headers.get("Idempotency-Key")
        if key is None:
            return post(view, request, *args, **kwargs)  # type: ignore[no-any-return]
        claim = _claim(request, key)
        if isinstance(claim, KeptAnswer):
            return _replayed(view, request, claim, kwargs)
        request.idempotency_claim = claim  # type: ignore[attr-defined]
        return _answered(claim, lambda: post(view, request, *args, **kwargs), view)

    return once  # type: ignore[return-value]


def claim_of(request: Request) -> Claim | None:
    """The key this request was sent with, for a view that starts a statement."""
    return getattr(request, "idempotency_claim", None)


def _claim(request: Request, key: str) -> Claim | KeptAnswer:
    if not KEY.fullmatch(key):
        raise IdempotencyProblem(*_BAD_KEY)
    try:
        return claim_key(holder=_holder(request), key=key, request=_spelled(request))
    except KeyReused:
        raise IdempotencyProblem(*_REUSED) from None
    except KeyInUse:
        raise IdempotencyProblem(*_IN_USE) from None


def _holder(request: Request) -> tuple[str, ...]:
    principal = request.auth
    if isinstance(principal, Principal):
        return ("token", principal.kind, principal.issuer, principal.subject, principal.actor or "")
    return ("session", request.user.get_username())


def _spelled(request: Request) -> bytes:
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"), default=str)
    return f"{request.method} {request.get_full_path()}\n{body}".encode()


def _answered(claim: Claim, work: Callable[[], HttpResponseBase], view: Any) -> HttpResponseBase:
    """Keep what was answered. A mistake in the request did nothing: whoever corrects it may keep the key."""
    try:
        response: HttpResponseBase = work()
    except Exception as error:
        response = view.handle_exception(error)  # raises what is nobody's answer: the key then stays claimed
        if getattr(error, "nothing_done", False):
            claim.release()
            return response
    if response.status_code in _NOTHING_DONE or getattr(response, "nothing_done", False):
        claim.release()
    elif isinstance(response, Response) and response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        content_type = response.content_type or "application/json"
        if getattr(response, "is_problem", False):
            content_type = "application/problem+json"
        claim.answered(
            status=response.status_code, content_type=content_type, body=JSONRenderer().render(response.data)
        )
    return response


def _replayed(view: Any, request: Request, kept: KeptAnswer, kwargs: dict[str, Any]) -> HttpResponseBase:
    check = getattr(view, "check_replay", None)
    if check is not None:
        check(request, **kwargs)
    if kept.statement_id and kept.status in {0, HTTPStatus.ACCEPTED}:
        response: HttpResponseBase = view.answer_again(request, kept.statement_id)
    else:
        response = HttpResponse(kept.body, status=kept.status, content_type=kept.content_type)
    response.headers[REPLAYED] = "true"
    return response
