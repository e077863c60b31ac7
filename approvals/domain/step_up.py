"""Step-up: a decision needs somebody who proved who they are a short while ago, not merely an open browser.

The moment comes with the request, from whatever door it uses; a door that knows none (Slack vouches for a member, not
for when they signed in) decides nothing while step-up is on. RFC 9470 is the same for OAuth resources.
"""

from __future__ import annotations

import time

from django.conf import settings

from approvals.domain import refusal
from approvals.domain.refusal import Refusal

SESSION_KEY = "hoopweb_authenticated_at"
_AHEAD_S = 60.0  # a provider's clock may be ahead of ours


def is_fresh(authenticated_at: float | None) -> bool:
    """Whether somebody who last proved themselves at this Unix time may decide now."""
    limit_s = settings.HOOPWEB_STEP_UP_S
    if not limit_s:
        return True
    return authenticated_at is not None and -_AHEAD_S <= time.time() - authenticated_at <= limit_s


def must_be_fresh(authenticated_at: float | None) -> None:
    """Raise Refusal, with the way forward, for anybody else."""
    if not is_fresh(authenticated_at):
        page = f"{settings.HOOPWEB_WEB_URL}/step-up/"
        raise Refusal(
            refusal.STEP_UP, f"a decision needs a fresh sign-in; confirm that it is you at {page}, then decide"
        )
