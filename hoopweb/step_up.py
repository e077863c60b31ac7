"""Confirming that it is still you: the password again for a local account, a new sign-in for a provider's.

What counts is when the person proved themselves: for a provider its own `auth_time` (OpenID Connect Core §2), asked for
with `max_age=0`; a provider that does not say is not believed to have asked.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import SuspiciousOperation
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods
from mozilla_django_oidc.views import OIDCAuthenticationRequestView

from approvals.domain.step_up import SESSION_KEY, is_fresh
from approvals.page import page
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.throttle import count_failure, wait_s

DOOR = "sign-in"
ASKED = "step_up"


class PasswordForm(forms.Form):
    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True})
    )


class RequestView(OIDCAuthenticationRequestView):  # type: ignore[misc]
    """To the provider; on step-up with the demand to ask again, whoever is signed in there."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, Any]:
        extra: dict[str, Any] = super().get_extra_params(request)
        return {**extra, "max_age": "0", "prompt": "login"} if ASKED in request.GET else extra


@page
@require_http_methods(["GET", "HEAD", "POST"])
def step_up(request: HttpRequest) -> HttpResponse:
    onward = _onward(request)
    if "PeopleBackend" in request.session.get("_auth_user_backend", ""):
        return HttpResponseRedirect(f"{reverse('oidc_authentication_init')}?{urlencode({ASKED: '1', 'next': onward})}")
    form = PasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        refused = _refused(request, form.cleaned_data["password"])
        if not refused:
            request.session.cycle_key()
            note_authentication(request, time.time())
            _record(request, "person.stepped_up", {"auth_method": "password"})
            return HttpResponseRedirect(onward)
        form.add_error("password", refused)
    return render(request, "hoopweb/step_up.html", {"form": form, "next": onward, "title": "Confirm that it is you"})


def note_authentication(request: HttpRequest, at: float | None) -> None:
    """Remember when the person of this session proved themselves; None: nobody knows."""
    request.session[SESSION_KEY] = at


def auth_time_of(user: Any) -> float | None:
    """When the provider says it asked; `hoopweb.auth` keeps it on the account of this request."""
    said = getattr(user, "hoopweb_auth_time", None)
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) else None


@receiver(user_logged_in)
def note_login(request: Any, user: User, **_: Any) -> None:
    if request is None:
        return
    from_provider = "PeopleBackend" in str(getattr(user, "backend", ""))
    note_authentication(request, auth_time_of(user) if from_provider else time.time())


def _refused(request: HttpRequest, password: str) -> str:
    guess = {"door": DOOR, "name": request.user.get_username(), "address": request.META.get("REMOTE_ADDR", "")}
    left = wait_s(**guess)
    if left:
        return f"too many failures; try again in {left} seconds"
    if request.user.check_password(password):
        return ""
    count_failure(**guess)
    _record(request, "authentication.failed", {"protocol": "web", "reason": "wrong password at step-up"})
    return "this is not your password"


def _record(request: HttpRequest, kind: str, more: dict[str, Json]) -> None:
    address = str(request.META.get("REMOTE_ADDR", ""))
    subject = request.user.get_username()
    append_entries([Entry(kind=kind, body={"subject": subject, "client_address": address, **more})])


def _onward(request: HttpRequest) -> str:
    """Where the person came from, on this site alone."""
    asked = request.POST.get("next") or request.GET.get("next") or reverse("approvals:inbox")
    if not url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure()):
        raise SuspiciousOperation("the next address is not on this site")
    return asked


def step_up_context(request: HttpRequest) -> dict[str, Any]:
    """Context processor: whether the person must confirm before they may decide."""
    session = getattr(request, "session", {})
    return {"needs_step_up": bool(settings.HOOPWEB_STEP_UP_S) and not is_fresh(session.get(SESSION_KEY))}
