"""The identity provider's own tokens: random, stored as digests, good at `/scim/v2/` and nowhere else."""

from __future__ import annotations

import hashlib
import secrets

from django.db.models import Q
from django.utils import timezone

from gateway.models import ScimToken

PREFIX = "hws_"
MIN_TOKEN_CHARS = 40


def new_scim_token() -> tuple[str, str]:
    """A token and what is stored of it."""
    text = PREFIX + secrets.token_urlsafe(32)
    return text, scim_digest(text)


def scim_digest(text: str) -> str:
    """256 random bits need no slow hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def live_scim_token(text: str) -> ScimToken | None:
    """The token that works now, noted as used; None for any other text."""
    now = timezone.now()
    live = ScimToken.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), enabled=True)
    token = live.filter(digest=scim_digest(text)).first() if text.startswith(PREFIX) else None
    if token is not None:
        ScimToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token
