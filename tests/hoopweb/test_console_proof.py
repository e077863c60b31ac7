"""The page on which an agent's platform, keys and secrets are set: what it writes, and who may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from joserfc.jwk import ECKey

from audit.models import LogEntry
from gateway.domain.clients import holds_secret
from gateway.models import Agent, Issuer
from hoopweb.console.proof import KeysForm

KEY = ECKey.generate_key("P-256", parameters={"kid": "k1"})


@pytest.fixture
def agent(db: None) -> Agent:
    return Agent.objects.create(name="cohorts", client_id="cohorts", owner=User.objects.create_user("owner"))


def client_of(group: str) -> Client:
    user = User.objects.create_user("somebody", is_staff=True)
    user.groups.set([Group.objects.get_or_create(name=group)[0]])
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def administrator(db: None) -> Client:
    return client_of("administrators")


def page(agent: Agent, platform: str = "") -> str:
    return reverse("console:proof", args=[agent.name]) + (f"?platform={platform}" if platform else "")


def post(client: Client, agent: Agent, do: str, platform: str = "", **fields: str) -> Any:
    return client.post(page(agent, platform), {"do": do, **fields})


def test_platform_becomes_an_issuer_and_a_rule(administrator: Client, agent: Agent) -> None:
    response = post(
        administrator, agent, "federate", "github-actions", claim_0="example/reports", claim_1="refs/heads/*"
    )

    assert response.status_code == 302
    issuer = Issuer.objects.get()
    assert (issuer.name, issuer.issuer) == ("github-actions", "https://token.actions.githubusercontent.com")
    agent.refresh_from_db()
    claims = {"repository": "example/reports", "ref": "refs/heads/*"}
    assert agent.federation == [{"issuer": issuer.issuer, "claims": claims}]
    entry = bytes(LogEntry.objects.filter(kind="config.changed").latest("seq").canonical)
    assert b"example/reports" in entry
    assert b"refs/heads/*" in administrator.get(page(agent)).content


def test_same_platform_again_adds_a_rule_and_no_issuer(administrator: Client, agent: Agent) -> None:
    for repository in ("example/a", "example/b", "example/b"):
        post(administrator, agent, "federate", "github-actions", claim_0=repository)

    agent.refresh_from_db()
    assert [rule["claims"]["repository"] for rule in agent.federation] == ["example/a", "example/b"]
    assert Issuer.objects.count() == 1


def test_rule_of_globs_alone_is_refused_in_words_and_nothing_stays(administrator: Client, agent: Agent) -> None:
    response = post(administrator, agent, "federate", "github-actions", claim_0="**")

    assert b"at least one claim without" in response.content
    agent.refresh_from_db()
    assert (agent.federation, Issuer.objects.count()) == ([], 0)


def test_issuer_in_plaintext_is_refused_in_words(administrator: Client, agent: Agent) -> None:
    sub = "system:serviceaccount:a:b"
    response = post(administrator, agent, "federate", "kubernetes", place="http://10.0.0.1", claim_0=sub)

    assert b"keys over plain HTTP are for loopback hosts only" in response.content
    assert Issuer.objects.count() == 0


def test_rule_is_removed(administrator: Client, agent: Agent) -> None:
    post(administrator, agent, "federate", "github-actions", claim_0="example/a")
    key = administrator.get(page(agent)).context["rules"][0][1]

    post(administrator, agent, "unfederate", rule=key)

    agent.refresh_from_db()
    assert agent.federation == []


def test_keys_are_registered_and_private_ones_refused(administrator: Client, agent: Agent) -> None:
    private = json.dumps({"keys": [KEY.as_dict(private=True)]})
    assert b"holds a private key" in post(administrator, agent, "keys", jwks=private).content

    post(administrator, agent, "keys", jwks=json.dumps({"keys": [KEY.as_dict(private=False)]}))

    agent.refresh_from_db()
    assert [key["kid"] for key in agent.jwks["keys"]] == ["k1"]


def test_secret_is_shown_once_and_the_older_one_lives_on(administrator: Client, agent: Agent) -> None:
    first = post(administrator, agent, "secret", overlap_s="0").context["secret"]
    response = post(administrator, agent, "secret", overlap_s="86400", lasts_s="2592000")

    second = response.context["secret"]
    assert second.encode() in response.content
    assert "no-store" in response["Cache-Control"]
    assert second.encode() not in administrator.get(page(agent)).content
    assert holds_secret(agent, first)
    assert holds_secret(agent, second)
    post(administrator, agent, "end-secrets")
    assert not holds_secret(agent, first)


@pytest.mark.parametrize("group", ["auditors", "policy-authors"])
@pytest.mark.parametrize("do", ["secret", "end-secrets", "keys", "federate", "unfederate", "nothing"])
def test_who_may_only_look_changes_nothing(group: str, do: str, agent: Agent) -> None:
    client = client_of(group)
    shown = client.get(page(agent, "github-actions"))
    assert shown.status_code == 200
    assert b"Make a new secret" not in shown.content

    response = post(client, agent, do, "github-actions", overlap_s="0", claim_0="example/a", jwks="{}")

    assert response.status_code == 403
    assert (Issuer.objects.count(), agent.client_secrets.count()) == (0, 0)


def test_platform_nobody_knows_is_not_there(administrator: Client, agent: Agent) -> None:
    assert post(administrator, agent, "federate", "nobody").status_code == 404
    assert administrator.get(reverse("console:proof", args=["nobody"])).status_code == 404


def test_keys_that_are_not_there_are_shown_as_nothing():
    assert 'name="jwks"' in str(KeysForm(initial={})["jwks"])
    assert "null" not in str(KeysForm(initial={})["jwks"])
    assert "&quot;keys&quot;" in str(KeysForm(initial={"jwks": {"keys": []}})["jwks"])
