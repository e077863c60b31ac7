"""private_key_jwt at the token endpoint. Each attack begins from an assertion that works."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from audit.models import LogEntry
from gateway.domain.client_assertion import ASSERTION_TYPE, forget_used_assertions
from gateway.domain.clients import end_older_secrets, live_secrets, set_client_secret
from gateway.domain.tokens import issue_agent_token, issuer_url
from gateway.models import Agent, UsedAssertion
from tests.gateway.api.conftest import Cast
from tests.gateway.api.test_oauth import ask, basic, principal_of
from tests.gateway.domain.issuer import TestIssuer, running_issuer

KEY = ECKey.generate_key("P-256", parameters={"kid": "k1", "use": "sig"})
SECOND = ECKey.generate_key("P-256", parameters={"kid": "k2", "use": "sig"})
OTHER = ECKey.generate_key("P-256", parameters={"kid": "k1", "use": "sig"})


@pytest.fixture
def agent(cast: Cast) -> Agent:
    cast.agent.jwks = {"keys": [KEY.as_dict(private=False)]}
    cast.agent.full_clean()
    cast.agent.save()
    return cast.agent


def assertion(*, key: Any = KEY, header: dict[str, Any] | None = None, alg: str = "ES256", **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "demo-agent",
        "sub": "demo-agent",
        "aud": f"{issuer_url()}/oauth/token",
        "iat": now,
        "exp": now + 60,
        "jti": uuid.uuid4().hex,
        **changes,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    full = {"alg": alg, "kid": getattr(key, "kid", "k1"), **(header or {})}
    return jwt.encode(full, kept, key, algorithms=[alg])


def present(text: str, **form: str) -> Any:
    return ask(
        **{
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": text,
            **form,
        }
    )


def test_key_gives_a_token_and_the_record_names_the_key(agent: Agent) -> None:
    response = present(assertion())

    assert principal_of(response).subject == "demo-agent"
    entry = json.loads(bytes(LogEntry.objects.filter(kind="token.issued").latest("seq").canonical))
    assert (entry["body"]["client_auth"], entry["body"]["client_key"]) == ("private_key_jwt", "k1")


def test_assertion_works_once(agent: Agent) -> None:
    text = assertion()

    assert present(text).status_code == 200
    assert present(text).json()["error"] == "invalid_client"
    assert present(assertion(jti="same")).status_code == 200
    assert present(assertion(jti="same", exp=int(time.time()) + 120)).status_code == 401


@pytest.mark.django_db(transaction=True)
def test_of_many_that_present_the_same_at_once_one_wins(agent: Agent) -> None:
    """Each thread has a connection of its own, as each process would: the database decides."""
    text, answers = assertion(), []

    def race() -> None:
        answers.append(present(text).status_code)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [200, *[401] * 7]


MOMENTS = ("exp", "iat", "nbf")


@pytest.mark.parametrize(
    "changes",  # those that are moments in seconds from when the test runs, which may be long after it was collected
    [
        {"iss": "other"},
        {"sub": "other"},
        {"aud": "https://elsewhere.example.org"},
        {"aud": None},
        {"aud": []},
        {"aud": [f"{issuer_url()}/oauth/token", "https://elsewhere.example.org"]},
        {"aud": f"{issuer_url()}/oauth/token/"},
        {"aud": issuer_url().upper()},
        {"exp": -60},
        {"exp": 86_400},
        {"exp": None},
        {"exp": True},
        {"iat": 600},
        {"nbf": 600},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 256},
        {"jti": 7},
        {"key": OTHER},
        {"header": {"typ": "at+jwt"}},
        {"header": {"jwk": OTHER.as_dict(private=False)}, "key": OTHER},
        {"header": {"jku": "https://elsewhere.example.org/jwks"}, "key": OTHER},
        {"header": {"x5u": "https://elsewhere.example.org/x"}, "key": OTHER},
        {"header": {"kid": "../../k1"}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_changed_assertion_is_refused(agent: Agent, changes: dict[str, Any]) -> None:
    assert present(assertion()).status_code == 200  # the control
    now = int(time.time())
    moments = {name: now + changes[name] for name in MOMENTS if type(changes.get(name)) is int}

    response = present(assertion(**{**changes, **moments}))

    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")


def test_shared_secret_algorithms_are_refused(agent: Agent) -> None:
    """HS256 with the public key's own text, which everybody knows, as the secret."""
    head, body, _ = assertion(header={"alg": "ES256"}).split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').rstrip(b"=").decode()
    digest = hmac.digest(KEY.as_pem(private=False), f"{head}.{body}".encode(), "sha256")

    assert present(f"{head}.{body}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}").status_code == 401


def test_audience_may_be_the_issuer_and_one_entry_of_a_list(agent: Agent) -> None:
    assert present(assertion(aud=issuer_url())).status_code == 200
    assert present(assertion(aud=[issuer_url()])).status_code == 200


def test_two_ways_at_once_are_refused(agent: Agent) -> None:
    secret = set_client_secret(agent=agent)

    assert present(assertion(), client_secret=secret, client_id="demo-agent").json()["error"] == "invalid_request"
    assert present(assertion(), client_id="other").json()["error"] == "invalid_client"
    assert ask(grant_type="client_credentials", client_assertion=assertion()).json()["error"] == "invalid_client"


def test_agent_without_keys_or_switched_off_is_refused(agent: Agent) -> None:
    Agent.objects.update(enabled=False)
    assert present(assertion()).status_code == 401
    Agent.objects.update(enabled=True, jwks={})
    assert present(assertion()).status_code == 401
    agent.delete()
    assert present(assertion()).status_code == 401


def test_own_access_token_is_no_assertion(agent: Agent) -> None:
    assert present(issue_agent_token(agent)).status_code == 401


def test_keys_replace_each_other_with_an_overlap(agent: Agent) -> None:
    agent.jwks = {"keys": [KEY.as_dict(private=False), SECOND.as_dict(private=False)]}
    agent.save()
    assert present(assertion()).status_code == present(assertion(key=SECOND)).status_code == 200

    agent.jwks = {"keys": [SECOND.as_dict(private=False)]}
    agent.save()

    assert (present(assertion()).status_code, present(assertion(key=SECOND)).status_code) == (401, 200)


@pytest.fixture
def publisher() -> Iterator[TestIssuer]:
    with running_issuer() as running:
        running.keys = [KEY]  # type: ignore[list-item]
        yield running


def test_keys_are_fetched_from_the_agents_pinned_address(agent: Agent, publisher: TestIssuer) -> None:
    Agent.objects.update(jwks={}, jwks_uri=f"{publisher.url}/keys")

    assert present(assertion()).status_code == 200
    assert present(assertion(key=OTHER)).status_code == 401


@pytest.mark.parametrize("status", [302, 404, 500])
def test_address_that_redirects_or_fails_is_not_believed(agent: Agent, publisher: TestIssuer, status: int) -> None:
    publisher.status = status
    Agent.objects.update(jwks={}, jwks_uri=f"{publisher.url}/keys")

    assert present(assertion()).status_code == 401
    assert publisher.requests == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "1 to 5"),
        ([KEY.as_dict(private=True)], "private key"),
        ([{**KEY.as_dict(private=False), "kid": ""}], "kid"),
        ([KEY.as_dict(private=False)] * 2, "same kid"),
        ([{"kty": "oct", "k": "AAAA", "kid": "x"}], "kind RSA, EC or OKP"),
        ([{"kty": "EC", "kid": "x"}], "malformed"),
        ([RSAKey.generate_key(1024, parameters={"kid": "small"}).as_dict(private=False)], "2048"),
    ],
)
def test_registered_keys_are_checked_in_words(agent: Agent, keys: list[Any], words: str) -> None:
    agent.jwks = {"keys": keys}

    with pytest.raises(ValidationError, match=words):
        agent.full_clean()


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/keys", "https://user:pw@keys.example.org/", "http://localhost.evil/k"]
)
def test_address_of_keys_is_checked_in_words(agent: Agent, url: str) -> None:
    agent.jwks, agent.jwks_uri = {}, url

    with pytest.raises(ValidationError):
        agent.full_clean()


def test_used_assertions_are_forgotten_when_they_have_expired(agent: Agent) -> None:
    present(assertion())
    assert forget_used_assertions() == 0
    UsedAssertion.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert forget_used_assertions() == 1


# --- secrets, the fallback -------------------------------------------------------------------------------------------


def with_secret(secret: str) -> int:
    return int(ask(basic("demo-agent", secret), grant_type="client_credentials").status_code)


def test_secrets_overlap_and_each_knows_when_it_was_used(agent: Agent) -> None:
    first = set_client_secret(agent=agent)
    second = set_client_secret(agent=agent, overlap_s=3600)
    assert (with_secret(first), with_secret(second)) == (200, 200)
    newest, oldest = live_secrets(agent)
    assert (newest.expires_at is None, oldest.expires_at is None) == (True, False)
    assert None not in {newest.last_used_at, oldest.last_used_at}

    oldest.expires_at = timezone.now()
    oldest.save()

    assert (with_secret(first), with_secret(second)) == (401, 200)


def test_third_secret_ends_the_first(agent: Agent) -> None:
    secrets = [set_client_secret(agent=agent, overlap_s=3600) for _ in range(3)]

    assert [with_secret(secret) for secret in secrets] == [401, 200, 200]
    assert end_older_secrets(agent=agent) == 1
    assert [with_secret(secret) for secret in secrets] == [401, 401, 200]
    assert LogEntry.objects.filter(kind="agent.secret_ended").count() == 1


def test_overlap_never_prolongs_a_secret(agent: Agent) -> None:
    set_client_secret(agent=agent, lasts_s=60)
    set_client_secret(agent=agent, overlap_s=3600)

    oldest = live_secrets(agent)[1]
    assert oldest.expires_at is not None
    assert oldest.expires_at < timezone.now() + timedelta(seconds=61)


def test_secret_ends_at_its_expiry(agent: Agent) -> None:
    secret = set_client_secret(agent=agent, lasts_s=60)
    assert with_secret(secret) == 200
    agent.client_secrets.update(expires_at=timezone.now())

    assert with_secret(secret) == 401
