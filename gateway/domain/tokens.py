"""The product's token service: short ES256 access tokens (RFC 9068) for agents and, over REST, for people.

Its keys are `HOOPWEB_ISSUER_KEYS`, a private JWK set whose first key signs; later ones only verify, which is how keys
are rotated. `iss` is the control plane's URL, `aud` is `hoopweb`, `kind` says agent or person, and `act` (RFC 8693
§4.1) names the agent when one acts for a person.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from gateway.models import Agent

AUDIENCE = "hoopweb"  # good at every door
MCP_PATH = "/mcp"
ALGORITHM = "ES256"
TOKEN_TYPE = "at+jwt"  # noqa: S105  RFC 9068 §2.1: an ID token must never pass for an access token
DEFAULT_TTL_S = 900
MAX_TTL_S = 12 * 3600


class TokenServiceProblem(RuntimeError):
    """The service has no usable signing key."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """`text` is the secret; the rest may be recorded."""

    text: str
    token_id: str
    expires_at: int  # Unix seconds

    def __repr__(self) -> str:  # a traceback or a log line must not carry the token
        return f"IssuedToken(token_id={self.token_id!r}, expires_at={self.expires_at})"


def issue_agent_token(agent: Agent, ttl_s: int = DEFAULT_TTL_S, *, not_after: float | None = None) -> str:
    """Sign a token for a registered agent, ending at `not_after` (Unix seconds) at the latest."""
    return sign_agent_token(agent, ttl_s, not_after=not_after).text


def mcp_resource() -> str:
    """The MCP endpoint as an OAuth resource (RFC 8707): a token for it alone opens no other door."""
    return f"{issuer_url()}{MCP_PATH}"


def issue_person_token(
    user: AbstractBaseUser | AnonymousUser, ttl_s: int = DEFAULT_TTL_S, *, authenticated_at: float | None = None
) -> str:
    """Sign a REST token for a local account. Raises ValueError for nobody's.

    `authenticated_at` is when the person last proved who they are; decisions with the token may depend on it.
    """
    if not user.is_authenticated:
        raise ValueError("a token was asked for nobody, expected an account")
    proof = {} if authenticated_at is None else {"auth_time": int(authenticated_at)}
    return _sign({"sub": user.get_username(), "kind": "person", **proof}, ttl_s=ttl_s).text


def sign_agent_token(
    agent: Agent,
    ttl_s: int = DEFAULT_TTL_S,
    *,
    not_after: float | None = None,
    audience: str = AUDIENCE,
    derived_from: frozenset[str] = frozenset(),
) -> IssuedToken:
    """Sign an agent's token. `derived_from`: the ids of the tokens it was exchanged for, which it ends with."""
    limits = [limit for limit in (not_after, agent.expires_at.timestamp() if agent.expires_at else None) if limit]
    claims = {"sub": agent.name, "kind": "agent", "groups": sorted(agent.groups), "client_id": agent.client_id}
    claims |= _lineage(derived_from)
    return _sign(claims, ttl_s=ttl_s, not_after=min(limits, default=None), audience=audience)


def sign_delegated_token(
    *,
    subject: str,
    subject_issuer: str,
    groups: frozenset[str],
    agent: Agent,
    ttl_s: int,
    not_after: float | None,
    audience: str = AUDIENCE,
    known_as: frozenset[str] = frozenset(),
    derived_from: frozenset[str] = frozenset(),
) -> IssuedToken:
    """Sign a token of a person for whom `agent` acts. `subject_issuer` is who vouched for the person."""
    claims = {
        "sub": subject,
        "sub_iss": subject_issuer,
        "kind": "person",
        "groups": sorted(groups),
        "act": {"sub": agent.name},
        "client_id": agent.client_id,
        **({"known_as": sorted(known_as)} if known_as else {}),
        **_lineage(derived_from),
    }
    return _sign(claims, ttl_s=ttl_s, not_after=not_after, audience=audience)


def _lineage(derived_from: frozenset[str]) -> dict[str, Any]:
    return {"derived_from": sorted(derived_from)} if derived_from else {}


def issuer_url() -> str:
    return str(settings.HOOPWEB_WEB_URL)


def jwks() -> dict[str, Any]:
    """The public halves, for `/.well-known/jwks.json`."""
    return {"keys": [key.as_dict(private=False) for key in verification_keys().keys]}


def verification_keys() -> KeySet:
    return _key_set(settings.HOOPWEB_ISSUER_KEYS)


def _sign(
    claims: dict[str, Any], *, ttl_s: int, not_after: float | None = None, audience: str = AUDIENCE
) -> IssuedToken:
    if not 1 <= ttl_s <= MAX_TTL_S:
        raise ValueError(f"a token of {ttl_s} seconds was asked for, expected 1 to {MAX_TTL_S}")
    now = int(time.time())
    expires_at = now + ttl_s if not_after is None else min(now + ttl_s, int(not_after))
    token_id = uuid.uuid4().hex
    key = verification_keys().keys[0]
    payload = {
        **claims,
        "iss": issuer_url(),
        "aud": audience,
        "iat": now,
        "nbf": now,
        "exp": expires_at,
        "jti": token_id,
    }
    text = jwt.encode({"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": key.kid}, payload, key, algorithms=[ALGORITHM])
    return IssuedToken(text=text, token_id=token_id, expires_at=expires_at)


@lru_cache(maxsize=4)
def _key_set(text: str) -> KeySet:
    if not text:
        raise TokenServiceProblem("HOOPWEB_ISSUER_KEYS is empty, expected a private JWK set")
    try:
        keys = KeySet.import_key_set(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise TokenServiceProblem("HOOPWEB_ISSUER_KEYS is malformed, expected a private JWK set") from error
    if not all(isinstance(key, ECKey) and key.curve_name == "P-256" and key.kid for key in keys.keys):
        raise TokenServiceProblem("HOOPWEB_ISSUER_KEYS holds another kind of key, expected P-256 with a kid")
    return keys
