"""The token endpoint's grants, free of HTTP frameworks: the control plane and the data plane both serve it.

- `client_credentials` (RFC 6749 §4.4): a registered agent with its secret, by Basic or form.
- `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693): a trusted issuer's token for one of ours. A workload's
  token (federated to an agent) becomes the agent's; an agent's own token is renewed, never beyond its own end; a
  person's token, presented by an authenticated agent, becomes that person's with the agent as `act`.

Agents never get more than what they present: every token ends with the one it was exchanged for.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.utils import timezone

from approvals.domain.request import Principal
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from gateway.domain import tokens
from gateway.domain.connections import agent_spec, load_identity_rules
from gateway.domain.identity import TokenVerifier
from gateway.domain.throttle import count_failure, wait_s
from gateway.domain.tokens import IssuedToken, issuer_url, sign_agent_token, sign_delegated_token
from gateway.models import Agent
from gateway.session.services import AuthenticationFailed

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
SUBJECT_TOKEN_TYPES = frozenset(
    {ACCESS_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}
)
TOKEN_TTL_S = 900
# Checked when the client is unknown, so that its absence does not answer faster than a wrong secret.
_NOBODY = make_password(secrets.token_urlsafe(16))


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


def token_response(
    form: Mapping[str, str], *, authorization: str, verifier: TokenVerifier, client_address: str = ""
) -> dict[str, Any]:
    """Answer one token request. Raises OAuthError; both outcomes are recorded."""
    guess = {"door": "oauth", "name": _claimed_client(form, authorization), "address": client_address}
    left = wait_s(**guess)
    if left:
        # Not recorded one by one: the failures that led here are, and a flood must not fill the log.
        raise OAuthError("temporarily_unavailable", f"too many failures; try again in {left} seconds", 429, left)
    try:
        issued, body = _granted(form, authorization=authorization, verifier=verifier)
    except OAuthError as refused:
        if refused.code in {"invalid_client", "invalid_grant"}:
            count_failure(**guess)
        _record(
            "authentication.failed", {"protocol": "oauth", "client_address": client_address, "reason": refused.code}
        )
        raise
    _record("token.issued", {**body, "token_id": issued.token_id, "client_address": client_address})
    return {
        "access_token": issued.text,
        "issued_token_type": ACCESS_TOKEN_TYPE,
        "token_type": "Bearer",
        "expires_in": max(0, issued.expires_at - int(timezone.now().timestamp())),
    }


def metadata() -> dict[str, Any]:
    """RFC 8414 authorization server metadata.

    No grant of ours begins at an authorization endpoint; it is named because clients (the MCP SDK's) refuse metadata
    without one, and answers with that sentence.
    """
    return {
        "issuer": issuer_url(),
        "authorization_endpoint": f"{issuer_url()}/oauth/authorize",
        "token_endpoint": f"{issuer_url()}/oauth/token",
        "jwks_uri": f"{issuer_url()}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials", TOKEN_EXCHANGE],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "response_types_supported": [],
        "access_token_signing_alg_values_supported": [tokens.ALGORITHM],
    }


def set_client_secret(*, agent: Agent) -> str:
    """Give the agent a new secret and return it: the only time anybody sees it. Only its hash is stored."""
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        agent.client_secret_hash = make_password(secret)
        agent.save(update_fields=["client_secret_hash"])
        _record("agent.secret_rotated", {"agent": agent.name})
    return secret


def _granted(
    form: Mapping[str, str], *, authorization: str, verifier: TokenVerifier
) -> tuple[IssuedToken, dict[str, Any]]:
    client = _authenticated_client(form, authorization)
    audience = _audience_of(form)
    match form.get("grant_type"):
        case "client_credentials":
            if client is None:
                raise OAuthError("invalid_client", "the client did not authenticate", 401)
            issued = sign_agent_token(client, TOKEN_TTL_S, audience=audience)
            return issued, {"grant": "client_credentials", "subject": client.name, "audience": audience}
        case grant if grant == TOKEN_EXCHANGE:
            issued, body = _exchanged(form, client=client, verifier=verifier, audience=audience)
            return issued, {**body, "audience": audience}
    raise OAuthError("unsupported_grant_type", "expected client_credentials or token exchange")


def _audience_of(form: Mapping[str, str]) -> str:
    """What the token is for (RFC 8707 §2): the whole product, or the MCP endpoint alone."""
    resource = form.get("resource", "").rstrip("/")
    if resource in {"", issuer_url()}:
        return tokens.AUDIENCE
    if resource == tokens.mcp_resource():
        return resource
    raise OAuthError("invalid_target", "expected the product's URL, or its MCP endpoint's")


def _authenticated_client(form: Mapping[str, str], authorization: str) -> Agent | None:
    """The agent whose secret was presented; None when none was. Raises OAuthError on a wrong one."""
    client_id, secret = _presented_secret(form, authorization)
    if not secret:
        return None
    agent = Agent.objects.select_related("owner").filter(client_id=client_id).first()
    right = check_password(secret, agent.client_secret_hash if agent and agent.client_secret_hash else _NOBODY)
    if agent is None or not right or not _is_live(agent):
        raise OAuthError("invalid_client", "the client did not authenticate", 401)
    return agent


def _claimed_client(form: Mapping[str, str], authorization: str) -> str:
    """Who somebody says to be, before anything is checked; a text nobody can read is nobody."""
    try:
        return _presented_secret(form, authorization)[0][:80]
    except OAuthError:
        return ""


def _presented_secret(form: Mapping[str, str], authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthError("invalid_client", "the client did not authenticate", 401) from None
    return unquote_plus(client_id), unquote_plus(secret)  # RFC 6749 §2.3.1: form-encoded first


def _exchanged(
    form: Mapping[str, str], *, client: Agent | None, verifier: TokenVerifier, audience: str
) -> tuple[IssuedToken, dict[str, Any]]:
    if form.get("subject_token_type") not in SUBJECT_TOKEN_TYPES or form.get("actor_token"):
        raise OAuthError("invalid_request", "expected a JWT subject token and no actor token")
    try:
        subject = verifier.verify_blocking(form.get("subject_token", ""), rules=load_identity_rules())
    except AuthenticationFailed:
        raise OAuthError("invalid_grant", "the subject token is not accepted") from None
    body = {"grant": "token-exchange", "presented_issuer": subject.issuer, "presented_token": subject.token_id}
    if subject.kind == "person":
        if client is None or subject.actor is not None:
            raise OAuthError("invalid_grant", "a person's token is exchanged by an authenticated agent, once")
        issued = sign_delegated_token(
            subject=subject.subject,
            subject_issuer=subject.issuer,
            groups=subject.groups,
            agent=client,
            ttl_s=TOKEN_TTL_S,
            not_after=subject.expires_at,
            audience=audience,
        )
        return issued, {**body, "subject": subject.subject, "actor": client.name}
    agent = _agent_behind(subject)
    if client is not None and client.pk != agent.pk:
        raise OAuthError("invalid_grant", "the subject token is another agent's")
    issued = sign_agent_token(agent, TOKEN_TTL_S, not_after=subject.expires_at, audience=audience)
    return issued, {**body, "subject": agent.name, "presented_subject": subject.subject}


def _agent_behind(subject: Principal) -> Agent:
    """The registered agent a workload's token stands for: its own, or one it is federated to."""
    agents = Agent.objects.select_related("owner")
    if subject.issuer == issuer_url():
        agent = agents.filter(name=subject.subject).first()
    else:
        agent = agents.filter(federated_subjects__contains=[f"{subject.issuer}|{subject.subject}"]).first()
    if agent is None or not _is_live(agent):
        raise OAuthError("invalid_grant", "the subject token stands for no agent")
    return agent


def _is_live(agent: Agent) -> bool:
    return agent_spec(agent).enabled and (agent.expires_at is None or agent.expires_at > timezone.now())


def _record(kind: str, body: dict[str, Any]) -> None:
    append_entries([Entry(kind=kind, body=body)])
