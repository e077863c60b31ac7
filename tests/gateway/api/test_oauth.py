"""The token service over HTTP: what each grant gives, and what it refuses."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from approvals.domain.request import Principal
from audit.models import LogEntry
from gateway.api.authentication import verifier
from gateway.domain.clients import set_client_secret
from gateway.domain.connections import load_identity_rules
from gateway.domain.identity import unverified_parts
from gateway.domain.revocation import revoke_agent
from gateway.domain.token_service import MAX_LINEAGE, TOKEN_EXCHANGE
from gateway.domain.tokens import issue_agent_token, issue_person_token
from gateway.models import Agent, ClientSecret, Issuer, RevokedToken
from gateway.session.services import AuthenticationFailed
from tests.gateway.api.conftest import Cast
from tests.gateway.domain.issuer import TestIssuer, running_issuer

JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture
def issuer(cast: Cast) -> Iterator[TestIssuer]:
    with running_issuer() as running:
        Issuer.objects.create(
            name="corp", issuer=running.url, jwks_uri=f"{running.url}/jwks", algorithms=["RS256"], kind="agent"
        )
        yield running


def ask(authorization: str = "", **form: str) -> Any:
    headers = {"Authorization": authorization} if authorization else {}
    return Client().post("/oauth/token", form, headers=headers)


def exchange(token: str, authorization: str = "") -> Any:
    return ask(authorization, grant_type=TOKEN_EXCHANGE, subject_token=token, subject_token_type=JWT_TYPE)


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def principal_of(response: Any) -> Principal:
    return verifier.verify_blocking(response.json()["access_token"], rules=load_identity_rules())


def test_client_credentials_by_basic_and_by_form(cast: Cast) -> None:
    secret = set_client_secret(agent=cast.agent)

    by_basic = ask(basic("demo-agent", secret), grant_type="client_credentials")
    by_form = ask(grant_type="client_credentials", client_id="demo-agent", client_secret=secret)

    assert principal_of(by_basic).subject == principal_of(by_form).subject == "demo-agent"
    assert "no-store" in by_basic["Cache-Control"]
    assert by_basic.json()["expires_in"] in {899, 900}


@pytest.mark.parametrize("case", ["wrong", "none", "unknown", "disabled"])
def test_client_that_does_not_authenticate_is_refused_and_recorded(cast: Cast, case: str) -> None:
    secret = set_client_secret(agent=cast.agent)
    if case == "disabled":
        Agent.objects.update(enabled=False)
    authorization = {
        "wrong": basic("demo-agent", "wrong"),
        "none": "",
        "unknown": basic("other", secret),
        "disabled": basic("demo-agent", secret),
    }[case]

    response = ask(authorization, grant_type="client_credentials")

    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
    entry = LogEntry.objects.get(kind="authentication.failed")
    assert secret.encode() not in bytes(entry.canonical)


def test_agent_without_a_secret_cannot_authenticate_with_an_empty_one(cast: Cast) -> None:
    assert ask(basic("demo-agent", ""), grant_type="client_credentials").status_code == 401


def test_secret_is_stored_hashed(cast: Cast) -> None:
    secret = set_client_secret(agent=cast.agent)

    assert secret not in str(list(ClientSecret.objects.values()))


def test_workloads_token_becomes_its_agents(cast: Cast, issuer: TestIssuer) -> None:
    Agent.objects.update(federated_subjects=[f"{issuer.url}|workload-1"])

    principal = principal_of(exchange(issuer.token()))

    assert (principal.subject, principal.actor, principal.owner) == ("demo-agent", None, "admin")


def test_workload_nobody_federated_gets_nothing(cast: Cast, issuer: TestIssuer) -> None:
    Agent.objects.update(federated_subjects=[f"{issuer.url}|workload-1"])

    assert exchange(issuer.token(sub="workload-2")).json()["error"] == "invalid_grant"


def test_exchanged_token_ends_with_the_one_presented(cast: Cast) -> None:
    response = exchange(issue_agent_token(cast.agent, 100))

    assert response.json()["expires_in"] <= 100


def test_exchanged_tokens_end_with_the_one_that_is_revoked(cast: Cast) -> None:
    """Whoever stole a token and renewed it in time would outlive its revocation else."""
    first = issue_agent_token(cast.agent)
    second = exchange(first).json()["access_token"]
    third = exchange(second)
    assert principal_of(third).subject == "demo-agent"

    RevokedToken.objects.create(jti=jti_of(first), expires_at=timezone.now() + timedelta(hours=1))

    with pytest.raises(AuthenticationFailed, match="revoked"):
        principal_of(third)
    assert exchange(second).json()["error"] == "invalid_grant"


def test_persons_token_that_is_revoked_ends_what_agents_made_of_it(cast: Cast) -> None:
    cast.reviewer.groups.create(name="ai-agents")
    person = issue_person_token(cast.reviewer)
    delegated = exchange(person, basic("demo-agent", set_client_secret(agent=cast.agent)))
    assert principal_of(delegated).actor == "demo-agent"

    RevokedToken.objects.create(jti=jti_of(person), expires_at=timezone.now() + timedelta(hours=1))

    with pytest.raises(AuthenticationFailed, match="revoked"):
        principal_of(delegated)


def test_workloads_token_from_before_a_revocation_is_no_agents(cast: Cast, issuer: TestIssuer) -> None:
    Agent.objects.update(federated_subjects=[f"{issuer.url}|workload-1"])
    token = issuer.token(sub="workload-1")
    assert principal_of(exchange(token)).subject == "demo-agent"

    revoke_agent(agent=cast.agent)

    assert exchange(token).json()["error"] == "invalid_grant"
    Agent.objects.update(revoked_before=timezone.now() - timedelta(minutes=5))
    assert principal_of(exchange(token)).subject == "demo-agent"


def test_token_is_not_exchanged_without_end(cast: Cast) -> None:
    token = issue_agent_token(cast.agent)
    for _ in range(MAX_LINEAGE):
        token = exchange(token).json()["access_token"]

    assert exchange(token).json()["error"] == "invalid_grant"


def jti_of(token: str) -> str:
    return str(unverified_parts(token)[1]["jti"])


def test_persons_token_needs_an_authenticated_agent_and_records_the_actor(cast: Cast) -> None:
    cast.reviewer.groups.create(name="ai-agents")
    person = issue_person_token(cast.reviewer)
    assert exchange(person).json()["error"] == "invalid_grant"
    secret = set_client_secret(agent=cast.agent)

    response = exchange(person, basic("demo-agent", secret))

    principal = principal_of(response)
    assert (principal.subject, principal.actor, principal.groups) == (
        "reviewer",
        "demo-agent",
        frozenset({"ai-agents"}),
    )
    assert b'"actor":"demo-agent"' in bytes(LogEntry.objects.filter(kind="token.issued").latest("seq").canonical)
    assert exchange(response.json()["access_token"], basic("demo-agent", secret)).json()["error"] == "invalid_grant"


def test_agent_cannot_exchange_anothers_token(cast: Cast) -> None:
    other = Agent.objects.create(name="other", client_id="other", owner=cast.admin)

    response = exchange(issue_agent_token(cast.agent), basic("other", set_client_secret(agent=other)))

    assert response.json()["error"] == "invalid_grant"


@pytest.mark.parametrize("grant", ["password", "authorization_code", "refresh_token", ""])
def test_other_grants_are_refused(cast: Cast, grant: str) -> None:
    assert ask(grant_type=grant).json()["error"] == "unsupported_grant_type"


def test_metadata_and_keys_are_public_and_hold_no_private_part(db: None) -> None:
    metadata = Client().get("/.well-known/oauth-authorization-server").json()
    keys = Client().get("/.well-known/jwks.json").json()["keys"]

    assert metadata["jwks_uri"].endswith("/.well-known/jwks.json")
    assert all("d" not in key and key["crv"] == "P-256" for key in keys)
