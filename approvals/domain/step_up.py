"""Step-up: a decision needs somebody who proved who they are a short while ago, not merely an open browser.

The moment comes with the request, from whatever door it uses; a door that knows none (Slack vouches for a member, not
for when they signed in) decides nothing while step-up is on. RFC 9470 is the same for OAuth resources.
"""

from __future__ import annotations

import time

from django.conf import settings

from approvals.domain import refusal
from approvals.domain.refusal import Refusal
from approvals.models import PolicyVersion, Review

SESSION_KEY = "hoopweb_authenticated_at"
_AHEAD_S = 60.0  # a provider's clock may be ahead of ours


def limit_of(review: Review) -> int:
    """How many seconds ago the proof may be for this review: the shortest of the installation's and its policies'.

    Read from the versions it is held under. A policy can ask for more than the installation does, not for less. 0: a
    sign-in, however old.
    """
    asked = [settings.HOOPWEB_STEP_UP_S]
    for spoken in review.policies:
        name, _, number = spoken.rpartition("@")
        if number.isdecimal():
            version = PolicyVersion.objects.filter(policy=name, number=int(number)).first()
            asked.append(((version.document or {}) if version else {}).get("step_up_s") or 0)
    return min((limit_s for limit_s in asked if limit_s), default=0)


def is_fresh(authenticated_at: float | None, limit_s: int | None = None) -> bool:
    """Whether somebody who last proved themselves at this Unix time may decide now."""
    if limit_s is None:
        limit_s = settings.HOOPWEB_STEP_UP_S
    if not limit_s:
        return True
    return authenticated_at is not None and -_AHEAD_S <= time.time() - authenticated_at <= limit_s


def must_be_fresh(authenticated_at: float | None, *, what: str, limit_s: int | None = None) -> None:
    """Raise Refusal, with the way forward, for anybody else. `what` is what they want to do: `a decision`."""
    if not is_fresh(authenticated_at, limit_s):
        page = f"{settings.HOOPWEB_WEB_URL}/step-up/"
        reason = f"{what} needs a fresh sign-in; confirm that it is you at {page}, then do it again"
        raise Refusal(refusal.STEP_UP, reason)
