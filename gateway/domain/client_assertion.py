"""`private_key_jwt`: an agent that authenticates at the token endpoint with a key of its own (RFC 7523 §2.2, §3).

The agent signs a short assertion; the public half is registered with it, or published at its pinned `jwks_uri`. An
assertion works once in the whole installation: its `jti` is kept in the control database until it has expired. The
audience is one value and names this product or one of its token endpoints (an assertion that lists several servers can
be presented by each of them to the others).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from joserfc.jwk import KeySet

from gateway.domain.identity import (
    ALLOWED_ALGORITHMS,
    LEEWAY_S,
    TokenVerifier,
    number,
    unverified_parts,
    verified_claims,
)
from gateway.domain.public_keys import KeysUnavailable, public_keys_of
from gateway.domain.snapshot import IssuerSpec
from gateway.domain.tokens import issuer_url
from gateway.models import Agent, UsedAssertion
from gateway.session.services import AuthenticationFailed

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_LIFE_S = 600  # what is remembered for longer than it could be useful is only a way to fill a table
_TYPES = frozenset({"JWT", "CLIENT-AUTHENTICATION+JWT"})


def claimed_client_id(assertion: str) -> str:
    """Who the assertion says signed it, before any check. Raises AuthenticationFailed."""
    subject = unverified_parts(assertion)[1].get("sub")
    if not isinstance(subject, str) or not subject:
        raise AuthenticationFailed("the assertion names no client")
    return subject


def verify_assertion(assertion: str, *, agent: Agent, verifier: TokenVerifier) -> str:
    """Verify the agent's assertion and use it up; the id of the key that signed it. Raises AuthenticationFailed."""
    header, _ = unverified_parts(assertion)
    if str(header.get("typ", "JWT")).upper() not in _TYPES:
        raise AuthenticationFailed("the token is no client assertion")
    keys = _keys_of(agent, kid=header.get("kid"), verifier=verifier)
    claims = verified_claims(assertion, header, key_set=keys, algorithms=tuple(sorted(ALLOWED_ALGORITHMS)))
    expires_at = _checked(claims, client_id=agent.client_id, now=time.time())
    _use_up(agent, jti=claims["jti"], expires_at=expires_at)
    return str(header.get("kid", ""))[:80]


def own_audiences() -> frozenset[str]:
    """What an assertion may be for: the issuer, or a token endpoint (RFC 7523 §3 point 3)."""
    base = issuer_url()
    return frozenset({base, f"{base}/oauth/token", f"{settings.HOOPWEB_HTTP_URL}/v1/token"})


def forget_used_assertions() -> int:
    """Delete what has expired: it is refused for its age now."""
    return UsedAssertion.objects.filter(expires_at__lt=timezone.now()).delete()[0]


def _keys_of(agent: Agent, *, kid: str | None, verifier: TokenVerifier) -> KeySet:
    try:
        if agent.jwks_uri:
            return verifier.keys_at(_as_issuer(agent), kid)
        return public_keys_of(agent.jwks.get("keys", []))
    except KeysUnavailable:
        raise AuthenticationFailed("the client's keys are not available") from None


def _as_issuer(agent: Agent) -> IssuerSpec:
    return IssuerSpec(issuer=f"client {agent.client_id}", jwks_uri=agent.jwks_uri, audience="", algorithms=())


def _checked(claims: Mapping[str, Any], *, client_id: str, now: float) -> float:
    if not claims.get("iss") == claims.get("sub") == client_id:
        raise AuthenticationFailed("the assertion is another client's")
    named = claims.get("aud")
    audience = named[0] if isinstance(named, list) and len(named) == 1 else named
    if not isinstance(audience, str) or audience not in own_audiences():
        raise AuthenticationFailed("the assertion is for another audience")
    expires_at = number(claims, "exp")
    if not now - LEEWAY_S < expires_at <= now + MAX_LIFE_S + LEEWAY_S:
        raise AuthenticationFailed("the assertion has expired, or lives too long")
    if any(name in claims and number(claims, name) > now + LEEWAY_S for name in ("iat", "nbf")):
        raise AuthenticationFailed("the assertion is not valid yet")
    if not isinstance(claims.get("jti"), str) or not 0 < len(claims["jti"]) <= 255:
        raise AuthenticationFailed("the assertion has no id")
    return expires_at


def _use_up(agent: Agent, *, jti: str, expires_at: float) -> None:
    """The database decides who was first, whatever processes and machines ask."""
    digest = hashlib.sha256(f"{agent.client_id}\0{jti}".encode()).hexdigest()
    until = datetime.fromtimestamp(expires_at + LEEWAY_S, tz=UTC)
    try:
        with transaction.atomic():
            UsedAssertion.objects.create(digest=digest, expires_at=until)
    except IntegrityError:
        raise AuthenticationFailed("the assertion was used before") from None
