"""What every operation of the API has in common: errors are problem documents (RFC 9457), and the OpenAPI says so."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import defaults

from gateway.api.problems import problem_json

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_MEDIA_TYPE = "application/problem+json"


def problems_everywhere(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """SPECTACULAR_SETTINGS["POSTPROCESSING_HOOKS"]: declare the media type of errors, and that any 4XX is one."""
    for path in result["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            for response in responses.values():
                content = response.get("content", {})
                if content.get("application/json", {}).get("schema") == _PROBLEM:
                    response["content"] = {_MEDIA_TYPE: {"schema": _PROBLEM}}
            responses.setdefault(
                "4XX", {"description": "nothing was done", "content": {_MEDIA_TYPE: {"schema": _PROBLEM}}}
            )
    return result


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """`handler404`: an address no view serves, for machines in their words."""
    if request.path.startswith("/api/"):
        return problem_json(status=404, code="not-found", detail="there is nothing at this address")
    return defaults.page_not_found(request, exception)


def server_fault(request: HttpRequest) -> HttpResponseBase:
    """`handler500`: whatever happened is in the application's log, and not in the answer."""
    if request.path.startswith("/api/"):
        return problem_json(status=500, code="internal-error", detail="internal error")
    return defaults.server_error(request)
