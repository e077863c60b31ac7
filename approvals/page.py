"""What every reviewers' page has: somebody signed in, no cache, and a policy that runs our own files only."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """For people who are signed in; never cached, no script or style but our own files."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response

    return cast(View, never_cache(login_required(wrapped)))


def signed_in(request: HttpRequest) -> AbstractUser:
    """The account of a request that `page` let through."""
    return cast(AbstractUser, request.user)
