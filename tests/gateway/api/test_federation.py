"""Workloads' tokens, shaped as their platforms shape them and signed by an issuer that runs, at the token endpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from audit.models import LogEntry
from gateway.domain.clients import set_client_secret
from gateway.models import Agent, Issuer
from tests.gateway.api.conftest import Cast
from tests.gateway.api.test_oauth import JWT_TYPE, TOKEN_EXCHANGE, ask, basic, exchange, principal_of
from tests.gateway.domain.issuer import TestIssuer, running_issuer

NOW = int(time.time())
TENANT = "11111111-2222-3333-4444-555555555555"
# Claims of each vendor's documentation; issuer, audience and times are the running issuer's.
TOKENS: dict[str, dict[str, Any]] = {
    "github-actions": {
        "sub": "repo:example/reports:ref:refs/heads/main",
        "repository": "example/reports",
        "repository_owner": "example",
        "repository_id": "74",
        "ref": "refs/heads/main",
        "ref_type": "branch",
        "ref_protected": "true",
        "workflow": "nightly",
        "event_name": "schedule",
        "runner_environment": "github-hosted",
        "nbf": NOW - 300,
    },
    "gitlab-ci": {
        "sub": "project_path:clinic/cohorts:ref_type:branch:ref:main",
        "project_path": "clinic/cohorts",
        "project_id": "22",
        "namespace_path": "clinic",
        "ref": "main",
        "ref_type": "branch",
        "ref_protected": "true",
        "user_login": "someone",
        "nbf": NOW - 5,
    },
    "kubernetes": {
        "sub": "system:serviceaccount:research:cohorts",
        "aud": ["hoopweb"],
        "nbf": NOW,
        "kubernetes.io": {
            "namespace": "research",
            "node": {"name": "n1", "uid": "1"},
            "pod": {"name": "p", "uid": "2"},
            "serviceaccount": {"name": "cohorts", "uid": "3"},
        },
    },
    "google": {
        "azp": "112233445566778899001",
        "sub": "112233445566778899001",
        "email": "cohorts@example.iam.gserviceaccount.com",
        "email_verified": True,
        "jti": None,
    },
    "entra": {
        "sub": "aaaaaaaa-0000-0000-0000-000000000001",
        "oid": "aaaaaaaa-0000-0000-0000-000000000001",
        "tid": TENANT,
        "azp": "bbbbbbbb-0000-0000-0000-000000000001",
        "azpacr": "2",
        "idtyp": "app",
        "ver": "2.0",
        "jti": None,
        "nbf": NOW,
    },
    "spiffe": {"sub": "spiffe://hospital.example/ns/research/sa/cohorts", "jti": None, "aud": ["hoopweb"]},
}
RULES: dict[str, dict[str, str]] = {
    "github-actions": {"repository": "example/reports", "ref": "refs/heads/*"},
    "gitlab-ci": {"project_path": "clinic/cohorts", "ref": "main", "ref_protected": "true"},
    "kubernetes": {"sub": "system:serviceaccount:research:cohorts", "kubernetes.io/namespace": "research"},
    "google": {"sub": "112233445566778899001", "email_verified": "true"},
    "entra": {"oid": "aaaaaaaa-0000-0000-0000-000000000001", "tid": TENANT, "idtyp": "app"},
    "spiffe": {"sub": "spiffe://hospital.example/ns/research/sa/cohorts"},
}


@pytest.fixture
def issuer(cast: Cast) -> Iterator[TestIssuer]:
    with running_issuer() as running:
        Issuer.objects.create(name="ci", issuer=running.url, jwks_uri=f"{running.url}/jwks", algorithms=["RS256"])
        yield running


def federate(issuer: TestIssuer, claims: dict[str, str], agent: str = "demo-agent") -> None:
    Agent.objects.filter(name=agent).update(federation=[{"issuer": issuer.url, "claims": claims}])


def refused(response: Any) -> bool:
    return bool(response.status_code == 400 and response.json()["error"] == "invalid_grant")


@pytest.mark.parametrize("platform", TOKENS)
def test_platforms_token_becomes_its_agents(platform: str, cast: Cast, issuer: TestIssuer) -> None:
    token = issuer.token(**{"groups": None, **TOKENS[platform]})
    assert refused(exchange(token))  # the control: trusted, and nobody's
    federate(issuer, RULES[platform])

    principal = principal_of(exchange(token))

    assert (principal.subject, principal.owner, principal.groups) == ("demo-agent", "admin", frozenset({"ai-agents"}))
    entry = bytes(LogEntry.objects.filter(kind="token.issued").latest("seq").canonical)
    assert TOKENS[platform]["sub"].encode() in entry
    assert Agent.objects.get(name="demo-agent").last_token_at is not None


@pytest.mark.parametrize("platform", TOKENS)
def test_each_claim_of_the_rule_matters(platform: str, cast: Cast, issuer: TestIssuer) -> None:
    federate(issuer, RULES[platform])
    for name in RULES[platform]:
        changed = dict(TOKENS[platform])
        if name in changed:
            changed[name] = "true-but-other" if not isinstance(changed[name], bool) else False
        else:
            changed["kubernetes.io"] = {"namespace": "other"}
        if name == "sub" and platform == "google":
            changed["azp"] = changed["sub"]
        assert refused(exchange(issuer.token(**{"groups": None, **changed}))), name


def test_spiffe_keys_of_a_bundle_verify(cast: Cast, issuer: TestIssuer) -> None:
    """A SPIFFE bundle marks its keys `jwt-svid`, and SPIRE signs with ES256."""
    key = ECKey.generate_key("P-256", parameters={"kid": "svid"})
    bundle = {"keys": [{"use": "x509-svid", "kty": "EC"}, {**key.as_dict(private=False), "use": "jwt-svid"}]}
    issuer.body = lambda: json.dumps(bundle).encode()  # type: ignore[method-assign]
    Issuer.objects.update(algorithms=["ES256"])
    federate(issuer, RULES["spiffe"])
    now = int(time.time())  # the module may have been read long ago
    claims = {**TOKENS["spiffe"], "iss": issuer.url, "iat": now, "exp": now + 300}
    claims.pop("jti")

    token = jwt.encode({"alg": "ES256", "kid": "svid", "typ": "JWT"}, claims, key, algorithms=["ES256"])

    assert principal_of(exchange(token)).subject == "demo-agent"


def test_the_same_subject_of_another_issuer_is_somebody_else(cast: Cast, issuer: TestIssuer) -> None:
    federate(issuer, {"sub": "workload-1"})
    assert principal_of(exchange(issuer.token())).subject == "demo-agent"

    with running_issuer() as other:
        Issuer.objects.create(name="other", issuer=other.url, jwks_uri=f"{other.url}/jwks", algorithms=["RS256"])

        assert refused(exchange(other.token()))


def test_token_that_meets_two_agents_rules_needs_a_name(cast: Cast, issuer: TestIssuer) -> None:
    Agent.objects.create(name="second", client_id="second", owner=cast.admin)
    federate(issuer, {"sub": "workload-1"})
    federate(issuer, {"sub": "workload-1"}, agent="second")

    assert refused(exchange(issuer.token()))
    assert principal_of(exchange_as("second", issuer.token())).subject == "second"
    assert refused(exchange_as("third", issuer.token()))


def test_name_in_the_form_opens_nothing_by_itself(cast: Cast, issuer: TestIssuer) -> None:
    Agent.objects.create(name="second", client_id="second", owner=cast.admin)
    federate(issuer, {"sub": "workload-1"})

    assert principal_of(exchange_as("second", issuer.token())).subject == "demo-agent"


def test_switched_off_agents_rules_are_nobodys(cast: Cast, issuer: TestIssuer) -> None:
    federate(issuer, {"sub": "workload-1"})
    Agent.objects.update(enabled=False)

    assert refused(exchange(issuer.token()))


def test_workload_of_a_peoples_issuer_is_an_agent_by_rule_only(cast: Cast, issuer: TestIssuer) -> None:
    """Entra ID signs people's and applications' tokens alike: a person must not become an agent by their subject."""
    Issuer.objects.update(kind="person")
    Agent.objects.update(federated_subjects=[f"{issuer.url}|{TOKENS['entra']['sub']}"])
    token = issuer.token(**{"groups": None, **TOKENS["entra"]})
    assert refused(exchange(token))

    federate(issuer, RULES["entra"])

    assert principal_of(exchange(token)).subject == "demo-agent"
    person = {**TOKENS["entra"], "idtyp": None}
    assert refused(exchange(issuer.token(**{"groups": None, **person})))


def test_delegated_token_has_the_narrower_of_both_and_no_successor(cast: Cast, issuer: TestIssuer) -> None:
    Issuer.objects.update(kind="person")
    secret = set_client_secret(agent=cast.agent)
    token = issuer.token(sub="dr-ada", groups=["ai-agents", "unmasked"])

    response = exchange(token, basic("demo-agent", secret))

    principal = principal_of(response)
    assert (principal.subject, principal.issuer, principal.actor) == ("dr-ada", issuer.url, "demo-agent")
    assert principal.groups == frozenset({"ai-agents"})
    assert principal.either_groups == frozenset({"ai-agents", "unmasked"})
    again = response.json()["access_token"]
    other = Agent.objects.create(name="wide", client_id="wide", owner=cast.admin, groups=["ai-agents", "unmasked"])
    assert refused(exchange(again, basic("demo-agent", secret)))
    assert refused(exchange(again, basic("wide", set_client_secret(agent=other))))
    assert refused(exchange(again))


def test_overage_of_groups_is_not_taken_for_no_groups(cast: Cast, issuer: TestIssuer) -> None:
    """Entra names an address instead of the groups when they are too many."""
    Issuer.objects.update(kind="person")
    secret = set_client_secret(agent=cast.agent)
    assert exchange(issuer.token(sub="ada"), basic("demo-agent", secret)).status_code == 200

    for overage in ({"_claim_names": {"groups": "src1"}}, {"hasgroups": True}, {"hasgroups": "true"}):
        token = issuer.token(sub="ada", groups=None, **overage)
        assert refused(exchange(token, basic("demo-agent", secret)))


def exchange_as(client_id: str, token: str) -> Any:
    return ask(grant_type=TOKEN_EXCHANGE, subject_token=token, subject_token_type=JWT_TYPE, client_id=client_id)
