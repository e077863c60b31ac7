"""HTTP of the token service: `/oauth/token`, its metadata and its keys."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from gateway.api.authentication import verifier
from gateway.domain import token_service, tokens


@csrf_exempt  # no cookie is read here: clients authenticate in the request itself
@never_cache
@require_POST
def token(request: HttpRequest) -> JsonResponse:
    try:
        answer = token_service.token_response(
            request.POST.dict(),
            authorization=request.headers.get("Authorization", ""),
            verifier=verifier,
            client_address=request.META.get("REMOTE_ADDR", ""),
        )
    except token_service.OAuthError as refused:
        return JsonResponse(refused.as_json(), status=refused.status, headers=refused.headers)
    return JsonResponse(answer, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


@require_GET
def authorize(request: HttpRequest) -> JsonResponse:
    """RFC 6749 §3.1, of which nothing is offered: nobody is redirected, so nothing can be redirected elsewhere."""
    refused = token_service.OAuthError(
        "unsupported_response_type",
        "agents authenticate at the token endpoint: client credentials or token exchange",
    )
    return JsonResponse(refused.as_json(), status=refused.status)


@require_GET
@cache_control(public=True, max_age=300)
def jwks(request: HttpRequest) -> JsonResponse:
    return JsonResponse(tokens.jwks())


@require_GET
@cache_control(public=True, max_age=300)
def metadata(request: HttpRequest) -> JsonResponse:
    return JsonResponse(token_service.metadata())
