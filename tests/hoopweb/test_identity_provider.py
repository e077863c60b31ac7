"""Signing in through the embedded provider, and everything it refuses to do."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from oidc_provider.models import Client as OidcClient
from oidc_provider.models import Token

from hoopweb.auth import PeopleBackend
from hoopweb.identity_provider import CALLBACK, ensure_embedded_provider, secret_digest

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = f"{settings.HOOPWEB_WEB_URL}/oidc/callback/"


@pytest.fixture
def person(db: None) -> Client:
    ensure_embedded_provider()
    client = Client()
    client.force_login(User.objects.create_user("reviewer"), backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_codes_go_to_the_console() -> None:
    assert reverse("oidc_authentication_callback") == CALLBACK


def authorize(person: Client, **changes: str) -> dict[str, list[str]]:
    """The parameters the provider sends back to the client."""
    asked = {
        "client_id": settings.OIDC_RP_CLIENT_ID,
        "redirect_uri": REDIRECT,
        "response_type": "code",
        "scope": "openid",
        "state": "s",
        "nonce": "n",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    response = person.get("/openid/authorize", {name: value for name, value in asked.items() if value})
    location = urlsplit(response.get("Location", ""))
    return parse_qs(location.query) | parse_qs(location.fragment)


def redeem(code: str, **changes: str) -> Any:
    asked = {
        "grant_type": "authorization_code",
        "client_id": settings.OIDC_RP_CLIENT_ID,
        "client_secret": settings.OIDC_RP_CLIENT_SECRET,
        "redirect_uri": REDIRECT,
        "code": code,
        "code_verifier": VERIFIER,
        **changes,
    }
    return Client().post("/openid/token", {name: value for name, value in asked.items() if value})


def test_code_with_pkce_gives_an_id_token_and_leaves_no_token_behind(person: Client) -> None:
    response = redeem(authorize(person)["code"][0])

    assert response.status_code == 200
    assert response.json()["id_token"].count(".") == 2
    assert "refresh_token" not in response.json()
    assert not Token.objects.exists()


def test_code_is_good_once(person: Client) -> None:
    code = authorize(person)["code"][0]
    assert redeem(code).status_code == 200

    assert redeem(code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge_method": "plain"},
        {"code_challenge": "", "code_challenge_method": ""},
        {"response_type": "id_token"},
        {"response_type": "id_token token"},
        {"response_type": "code token"},
    ],
)
def test_other_flows_get_no_code(person: Client, changes: dict[str, str]) -> None:
    assert "code" in authorize(person)

    answer = authorize(person, **changes)

    assert not {"code", "access_token", "id_token"} & set(answer)


def test_public_client_gets_nothing(person: Client) -> None:
    code = authorize(person)["code"][0]
    OidcClient.objects.update(client_type="public")

    assert redeem(code).json()["error"] == "invalid_client"
    assert redeem(code, client_secret="").json()["error"] == "invalid_client"
    assert redeem("", grant_type="client_credentials", client_secret="").json()["error"] == "invalid_client"
    assert "code" not in authorize(person)


@pytest.mark.parametrize("grant", ["client_credentials", "password", "refresh_token"])
def test_other_grants_are_refused(person: Client, grant: str) -> None:
    response = redeem("", grant_type=grant, username="reviewer", password="x", refresh_token="x")

    assert response.json()["error"] == "unsupported_grant_type"


@pytest.mark.parametrize("secret", ["wrong", "", "stored"])
def test_wrong_secret_is_refused_the_stored_digest_included(person: Client, secret: str) -> None:
    stored = OidcClient.objects.get().client_secret
    assert stored == secret_digest(settings.OIDC_RP_CLIENT_SECRET) != settings.OIDC_RP_CLIENT_SECRET
    presented = stored if secret == "stored" else secret

    assert redeem(authorize(person)["code"][0], client_secret=presented).json()["error"] == "invalid_client"


@pytest.mark.parametrize("verifier", ["w" * 64, ""])
def test_wrong_verifier_is_refused(person: Client, verifier: str) -> None:
    assert redeem(authorize(person)["code"][0], code_verifier=verifier).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("path", ["userinfo", "introspect", "end-session", "check-session-iframe"])
def test_what_is_not_needed_is_not_there(db: None, path: str) -> None:
    assert Client().get(f"/openid/{path}").status_code == 404


def test_redirect_elsewhere_is_refused(person: Client) -> None:
    assert authorize(person, redirect_uri="https://elsewhere.example/") == {}


def test_person_is_found_by_subject_never_by_email(person: Client) -> None:
    User.objects.create_user("other", email="reviewer@example.org")
    backend = PeopleBackend()

    found = backend.filter_users_by_claims({"sub": "reviewer", "email": "reviewer@example.org"})

    assert [user.username for user in found] == ["reviewer"]
    assert list(backend.filter_users_by_claims({"sub": "other2", "email": "reviewer@example.org"})) == []


def test_sign_in_starts_with_pkce(db: None) -> None:
    response = Client().get(reverse("oidc_authentication_init"))

    asked = parse_qs(urlsplit(response["Location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"][0].endswith("/oidc/callback/")
