"""Around a person's session: attempts are slowed down after failures, and idle sessions end.

45 CFR 164.308(a)(5)(ii)(C), log-in monitoring; 164.312(a)(2)(iii), automatic log-off.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from jwt import PyJWTError
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.throttle import wait_s
from hoopweb.step_up import auth_time_of, note_authentication

logger = logging.getLogger(__name__)

LOGIN_PATH = "/admin/login/"
DOOR = "sign-in"
_SIGNED_IN_AT, _SEEN_AT = "hoopweb_signed_in_at", "hoopweb_seen_at"
_AHEAD_S = 60.0  # clocks of several web hosts differ
_NOTED_EVERY_S = 30.0  # a write of the session for every request would be a write for every image

BY_ITSELF = "X-Refreshed-By-Page"
GetResponse = Callable[[HttpRequest], HttpResponseBase]


class SlowGuessing:
    """429 for whoever failed too often lately (RFC 6585 §4). The password is not even looked at."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method == "POST" and request.path == LOGIN_PATH:
            left = wait_s(door=DOOR, name=claimed_name(request), address=request.META.get("REMOTE_ADDR", ""))
            if left:
                text = f"too many failed sign-ins; try again in {left} seconds"
                return HttpResponse(text, status=429, content_type="text/plain", headers={"Retry-After": str(left)})
        return self._get_response(request)


class AutomaticLogOff:
    """Ends a person's session after idleness and, whatever they do, some hours after they signed in.

    What a page asks for by itself (`BY_ITSELF`) is no sign of a person: a live page left open would never be idle.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.user.is_authenticated:
            reason = self._overdue(request)
            if reason:
                request.log_off_reason = reason  # type: ignore[attr-defined]  # hoopweb.auth.record_logout reads it
                logout(request)
        return self._get_response(request)

    def _overdue(self, request: HttpRequest) -> str:
        """Why the session is over. One of the future, from before the clock was set back, would never be idle."""
        now, session = time.time(), request.session
        signed_in_at, seen_at = session.setdefault(_SIGNED_IN_AT, now), session.get(_SEEN_AT, now)
        if max(signed_in_at, seen_at) > now + _AHEAD_S:
            return "clock"
        if now - seen_at > settings.HOOPWEB_SESSION_IDLE_S:
            return "idle"
        if now - signed_in_at > settings.SESSION_COOKIE_AGE:
            return "absolute"
        by_itself = BY_ITSELF in request.headers and _SEEN_AT in session
        if not by_itself and (now - seen_at > _NOTED_EVERY_S or _SEEN_AT not in session):
            session[_SEEN_AT] = now
        return ""


class SignInRefused(Exception):
    """A sign-in that the provider let pass and we do not; the sentence is shown to the person.

    No SuspiciousOperation: the package turns those into a silent return to the sign-in page.
    """


class Callback(OIDCAuthenticationCallbackView):  # type: ignore[misc]
    """Back from the provider. Who is refused is told why, in a sentence; so is the log."""

    def login_success(self) -> HttpResponse:
        """The package does not sign in again whoever is signed in; that they proved themselves anew must be noted."""
        answer: HttpResponse = super().login_success()
        note_authentication(self.request, auth_time_of(self.user))
        return answer

    def get(self, request: HttpRequest) -> HttpResponseBase:
        try:
            answer: HttpResponseBase = super().get(request)
        except (SignInRefused, SuspiciousOperation, PyJWTError) as refused:
            reason = str(refused) if isinstance(refused, SignInRefused) else ""
            record_refused_sign_in(request, reason or "the answer of the provider was not accepted")
            shown = reason or "The answer of your provider was not accepted. Begin again."
            response = render(request, "hoopweb/sign_in_refused.html", {"reason": shown}, status=403)
            response["Cache-Control"] = "no-store"
            return response
        return answer


def record_refused_sign_in(request: HttpRequest, reason: str) -> None:
    body: dict[str, Json] = {
        "protocol": "web",
        "claimed_subject": "",
        "client_address": request.META.get("REMOTE_ADDR", ""),
        "reason": reason,
    }
    try:
        append_entries([Entry(kind="authentication.failed", body=body)])
    except Exception as error:  # the sign-in is refused either way
        logger.error("refused sign-in not recorded: error=%s", type(error).__name__)


def claimed_name(request: HttpRequest) -> str:
    return request.POST.get("username", "")[:150]
