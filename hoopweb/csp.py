"""What a page may load and run: our own files, nothing written into the page (Content Security Policy Level 3).

An injected `<script>`, `onclick` or `style` does nothing on any page. The admin theme's own script library evaluates
expressions in its attributes, so below /admin/ `unsafe-eval` is given, and nowhere else (docs/decisions/0030).
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

HEADER = "Content-Security-Policy"
_COMMON = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
STRICT = f"{_COMMON}; script-src 'self'"
THEMED = f"{_COMMON}; script-src 'self' 'unsafe-eval'"


class ContentSecurityPolicy:
    """Every answer of Django's carries a policy; a page that brings a stricter one of its own keeps it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if HEADER not in response.headers:
            response.headers[HEADER] = THEMED if request.path.startswith("/admin/") else STRICT
        return response
