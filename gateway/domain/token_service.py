"""The token endpoint's grants, free of HTTP frameworks: the control plane and the data plane both serve it.

- `client_credentials` (RFC 6749 §4.4): a registered agent with its own key (RFC 7523) or a secret, by Basic or form.
- `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693): a trusted issuer's token for one of ours. A workload's
  token (federated to an agent) becomes the agent's; an agent's own token is renewed, never beyond its own end; a
  person's token, presented by an authenticated agent, becomes that person's with the agent as `act`.

Agents never get more than what they present: every token ends with the one it was exchanged for, by time and by
revocation. One of a trusted issuer that is older than a revocation of its agent's tokens is nobody's any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from approvals.domain.request import Principal
from audit.domain.append import append_entries
from audit.domain.entry import Entry
from gateway.domain import tokens
from gateway.domain.clients import Client, OAuthError, authenticated_client, claimed_client, is_live
from gateway.domain.connections import agent_spec, load_identity_rules
from gateway.domain.federation import matches
from gateway.domain.identity import ALLOWED_ALGORITHMS, TokenVerifier
from gateway.domain.throttle import count_failure, wait_s
from gateway.domain.tokens import IssuedToken, issuer_url, sign_agent_token, sign_delegated_token
from gateway.models import Agent
from gateway.session.services import AuthenticationFailed

__all__ = ["TOKEN_EXCHANGE", "OAuthError", "metadata", "token_response"]

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
SUBJECT_TOKEN_TYPES = frozenset(
    {ACCESS_TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}
)
TOKEN_TTL_S = 900
MAX_LINEAGE = 16  # a token is not renewed beyond its end: whoever renews more often gains nothing by it


def token_response(
    form: Mapping[str, str], *, authorization: str, verifier: TokenVerifier, client_address: str = ""
) -> dict[str, Any]:
    """Answer one token request. Raises OAuthError; both outcomes are recorded."""
    guess = {"door": "oauth", "name": claimed_client(form, authorization), "address": client_address}
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
        "token_endpoint_auth_methods_supported": [
            "private_key_jwt",
            "client_secret_basic",
            "client_secret_post",
            "none",
        ],
        "token_endpoint_auth_signing_alg_values_supported": sorted(ALLOWED_ALGORITHMS),
        "response_types_supported": [],
        "access_token_signing_alg_values_supported": [tokens.ALGORITHM],
    }


def _granted(
    form: Mapping[str, str], *, authorization: str, verifier: TokenVerifier
) -> tuple[IssuedToken, dict[str, Any]]:
    client = authenticated_client(form, authorization=authorization, verifier=verifier)
    audience = _audience_of(form)
    match form.get("grant_type"):
        case "client_credentials":
            if client is None:
                raise OAuthError("invalid_client", "the client did not authenticate", 401)
            issued = sign_agent_token(client.agent, TOKEN_TTL_S, audience=audience)
            body = {"grant": "client_credentials", "subject": client.agent.name, "audience": audience}
            return _used(client.agent, issued), {**body, **client.evidence}
        case grant if grant == TOKEN_EXCHANGE:
            issued, body = _exchanged(form, client=client, verifier=verifier, audience=audience)
            return issued, {**body, "audience": audience, **(client.evidence if client else {})}
    raise OAuthError("unsupported_grant_type", "expected client_credentials or token exchange")


def _used(agent: Agent, issued: IssuedToken) -> IssuedToken:
    Agent.objects.filter(pk=agent.pk).update(last_token_at=timezone.now())
    return issued


def _audience_of(form: Mapping[str, str]) -> str:
    """What the token is for (RFC 8707 §2): the whole product, or the MCP endpoint alone."""
    resource = form.get("resource", "").rstrip("/")
    if resource in {"", issuer_url()}:
        return tokens.AUDIENCE
    if resource == tokens.mcp_resource():
        return resource
    raise OAuthError("invalid_target", "expected the product's URL, or its MCP endpoint's")


def _exchanged(
    form: Mapping[str, str], *, client: Client | None, verifier: TokenVerifier, audience: str
) -> tuple[IssuedToken, dict[str, Any]]:
    if form.get("subject_token_type") not in SUBJECT_TOKEN_TYPES or form.get("actor_token"):
        raise OAuthError("invalid_request", "expected a JWT subject token and no actor token")
    try:
        subject, claims = verifier.present_blocking(form.get("subject_token", "").strip(), rules=load_identity_rules())
    except AuthenticationFailed:
        raise OAuthError("invalid_grant", "the subject token is not accepted") from None
    body = {"grant": "token-exchange", "presented_issuer": subject.issuer, "presented_token": subject.token_id}
    if subject.kind == "person" and client is not None:
        return _delegated(subject, client.agent, audience), {
            **body,
            "subject": subject.subject,
            "actor": client.agent.name,
        }
    agent = _agent_behind(subject, claims, named=form.get("client_id", ""))
    if client is not None and client.agent.pk != agent.pk:
        raise OAuthError("invalid_grant", "the subject token is another agent's")
    if (subject.issued_at or 0.0) < agent_spec(agent).revoked_before:
        raise OAuthError("invalid_grant", "the subject token is older than the revocation of the agent's tokens")
    issued = sign_agent_token(
        agent, TOKEN_TTL_S, not_after=subject.expires_at, audience=audience, derived_from=_lineage(subject)
    )
    return _used(agent, issued), {**body, "subject": agent.name, "presented_subject": subject.subject}


def _delegated(subject: Principal, agent: Agent, audience: str) -> IssuedToken:
    """A person's token with the agent as `act`, once: a chain would end with rights nobody gave."""
    if subject.actor is not None:
        raise OAuthError("invalid_grant", "a person's token is exchanged by an authenticated agent, once")
    issued = sign_delegated_token(
        subject=subject.subject,
        subject_issuer=subject.issuer,
        groups=subject.groups,
        agent=agent,
        ttl_s=TOKEN_TTL_S,
        not_after=subject.expires_at,
        audience=audience,
        known_as=subject.known_as,
        derived_from=_lineage(subject),
    )
    return _used(agent, issued)


def _lineage(presented: Principal) -> frozenset[str]:
    """The ids of the tokens that a new one goes back to."""
    ids = presented.derived_from | ({presented.token_id} if presented.token_id else set())
    if len(ids) > MAX_LINEAGE:
        raise OAuthError("invalid_grant", "the subject token was exchanged too often, ask for a new one")
    return ids


def _agent_behind(subject: Principal, claims: Mapping[str, Any], *, named: str) -> Agent:
    """The registered agent a workload's token stands for: its own, or the one whose rules it meets.

    `named` (the form's client id) chooses among several it meets; it proves nothing. Nobody's is nobody's: the answer
    does not say which claim was in the way, the log of the issuer does.
    """
    if subject.actor is not None:
        raise OAuthError("invalid_grant", "a delegated token is not exchanged again")
    if subject.issuer == issuer_url():
        own = subject.subject if subject.kind == "agent" else ""
        found = [agent for agent in Agent.objects.select_related("owner").filter(name=own) if is_live(agent)]
    else:
        found = [agent for agent in Agent.objects.select_related("owner") if _is_federated(agent, subject, claims)]
        if len(found) > 1:
            found = [agent for agent in found if agent.client_id == named]
    if len(found) != 1:
        raise OAuthError("invalid_grant", "the subject token stands for no agent")
    return found[0]


def _is_federated(agent: Agent, subject: Principal, claims: Mapping[str, Any]) -> bool:
    # A person's issuer may vouch for workloads too (Entra ID): there only a rule over claims can tell them apart.
    by_subject = subject.kind == "agent" and f"{subject.issuer}|{subject.subject}" in agent.federated_subjects
    return is_live(agent) and (by_subject or matches(agent.federation, issuer=subject.issuer, claims=claims))


def _record(kind: str, body: dict[str, Any]) -> None:
    append_entries([Entry(kind=kind, body=body)])
