"""How an agent proves itself at the token endpoint: a key of its own (preferred), or one of at most two secrets.

Secrets overlap while one replaces the other: a new one gives the older one an end, and each knows when it was last
used.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from urllib.parse import unquote_plus

from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.client_assertion import ASSERTION_TYPE, claimed_client_id, verify_assertion
from gateway.domain.connections import agent_spec
from gateway.domain.identity import TokenVerifier
from gateway.models import Agent, ClientSecret
from gateway.session.services import AuthenticationFailed

MAX_SECRETS = 2


@cache
def _nobody() -> str:
    """Checked when the client is unknown, so that its absence does not answer faster than a wrong secret."""
    return make_password(secrets.token_urlsafe(16))


@dataclass(frozen=True)
class OAuthError(Exception):
    """An answer of RFC 6749 §5.2. `description` says nothing a prober could use."""

    code: str
    description: str
    status: int = 400
    retry_after_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """What HTTP wants beside the body: RFC 6749 §5.2, RFC 6585 §4."""
        if self.status == 401:
            return {"WWW-Authenticate": 'Basic realm="hoopweb"'}
        return {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}

    def as_json(self) -> dict[str, str]:
        return {"error": self.code, "error_description": self.description}


@dataclass(frozen=True, slots=True)
class Client:
    """An agent that proved itself; `evidence` says how, for the record."""

    agent: Agent
    evidence: dict[str, Json] = field(default_factory=dict)


def authenticated_client(form: Mapping[str, str], *, authorization: str, verifier: TokenVerifier) -> Client | None:
    """The client that authenticated; None when it did not try. Raises OAuthError when it tried and failed."""
    client_id, secret = _presented_secret(form, authorization)
    if "client_assertion" in form or "client_assertion_type" in form:
        if secret or authorization:
            raise OAuthError("invalid_request", "expected one way to authenticate (RFC 6749 §2.3)")
        return _by_assertion(form, verifier)
    return _by_secret(client_id, secret) if secret else None


def claimed_client(form: Mapping[str, str], authorization: str) -> str:
    """Who somebody says to be, before anything is checked; a text nobody can read is nobody."""
    try:
        if "client_assertion" in form:
            return claimed_client_id(form["client_assertion"])[:80]
        return _presented_secret(form, authorization)[0][:80]
    except (OAuthError, AuthenticationFailed):
        return ""


def is_live(agent: Agent) -> bool:
    return agent_spec(agent).enabled and (agent.expires_at is None or agent.expires_at > timezone.now())


@transaction.atomic
def set_client_secret(*, agent: Agent, secret: str = "", overlap_s: int = 0, lasts_s: int | None = None) -> str:
    """Give the agent a new secret and return it: the only time anybody sees it. Only a hash is stored.

    The one it had works for `overlap_s` more; older ones end now.
    """
    secret = secret or secrets.token_urlsafe(32)
    now = timezone.now()
    Agent.objects.select_for_update().get(pk=agent.pk)
    older = list(live_secrets(agent))
    kept = older[: MAX_SECRETS - 1] if overlap_s > 0 else []
    ClientSecret.objects.filter(agent=agent).exclude(pk__in=[row.pk for row in kept]).delete()
    for row in kept:
        end = now + timedelta(seconds=overlap_s)
        row.expires_at = min(row.expires_at or end, end)
        row.save(update_fields=["expires_at"])
    expires_at = None if lasts_s is None else now + timedelta(seconds=lasts_s)
    made = ClientSecret.objects.create(agent=agent, digest=make_password(secret), expires_at=expires_at)
    _record_rotation(agent, made, kept)
    return secret


@transaction.atomic
def end_older_secrets(*, agent: Agent) -> int:
    """End every secret but the newest now. Returns how many there were."""
    older = list(live_secrets(agent))[1:]
    if older:
        ClientSecret.objects.filter(pk__in=[row.pk for row in older]).delete()
        body: dict[str, Json] = {"agent": agent.name, "ended": [row.pk for row in older]}
        append_entries([Entry(kind="agent.secret_ended", body=body)])
    return len(older)


def live_secrets(agent: Agent) -> QuerySet[ClientSecret]:
    """Those that work now, newest first."""
    return agent.client_secrets.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


def holds_secret(agent: Agent, secret: str) -> bool:
    return any(check_password(secret, row.digest) for row in live_secrets(agent))


def _record_rotation(agent: Agent, made: ClientSecret, kept: list[ClientSecret]) -> None:
    until: datetime | None = max((row.expires_at for row in kept if row.expires_at), default=None)
    body: dict[str, Json] = {
        "agent": agent.name,
        "secret": made.pk,
        "expires_at": made.expires_at.isoformat() if made.expires_at else None,
        "older_until": until.isoformat() if until else None,
    }
    append_entries([Entry(kind="agent.secret_rotated", body=body)])


def _by_assertion(form: Mapping[str, str], verifier: TokenVerifier) -> Client:
    refused = OAuthError("invalid_client", "the client did not authenticate", 401)
    try:
        claimed = claimed_client_id(form.get("client_assertion", ""))
        agent = Agent.objects.select_related("owner").filter(client_id=claimed).first()
        right_form = form.get("client_assertion_type") == ASSERTION_TYPE and form.get("client_id", claimed) == claimed
        if agent is None or not right_form or not is_live(agent) or not (agent.jwks or agent.jwks_uri):
            raise refused
        kid = verify_assertion(form["client_assertion"], agent=agent, verifier=verifier)
    except AuthenticationFailed:
        raise refused from None
    return Client(agent, {"client_auth": "private_key_jwt", "client_key": kid})


def _by_secret(client_id: str, secret: str) -> Client:
    agent = Agent.objects.select_related("owner").filter(client_id=client_id).first()
    live = list(live_secrets(agent)) if agent is not None else []
    right = [row for row in live if check_password(secret, row.digest)]
    for _ in range(MAX_SECRETS - len(live)):
        check_password(secret, _nobody())  # how many secrets there are is nobody's to measure
    if agent is None or not right or not is_live(agent):
        raise OAuthError("invalid_client", "the client did not authenticate", 401)
    ClientSecret.objects.filter(pk=right[0].pk).update(last_used_at=timezone.now())
    return Client(agent, {"client_auth": "client_secret", "client_key": str(right[0].pk)})


def _presented_secret(form: Mapping[str, str], authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthError("invalid_client", "the client did not authenticate", 401) from None
    return unquote_plus(client_id), unquote_plus(secret)  # RFC 6749 §2.3.1: form-encoded first
