"""`manage.py check --deploy` warns, in a sentence each, of what works and is probably not meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from gateway.models import ScimToken
from hoopweb.advice import ADVICE, OIDC_ADDRESSES

pytestmark = pytest.mark.django_db


@pytest.fixture
def production(settings: Any, tmp_path: Path) -> Any:
    settings.HOOPWEB_OIDC_EMBEDDED = False
    settings.HOOPWEB_STEP_UP_S = 900
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.HOOPWEB_CHANNEL_NETWORKS = []
    for name in OIDC_ADDRESSES.values():
        setattr(settings, name, "https://sso.example.org/x")
    for name in ("HOOPWEB_TLS_CERT_FILE", "HOOPWEB_TLS_KEY_FILE"):
        path = tmp_path / name
        path.write_text("pem")
        setattr(settings, name, str(path))
    return settings


def found() -> list[str]:
    return [str(message.msg) for check in ADVICE for message in check(None)]


def test_production_as_it_ought_to_be_is_not_warned_of(production: Any) -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOOPWEB_STEP_UP_S", 0, "HOOPWEB_STEP_UP_S is 0: decisions need no recent sign-in"),
        ("HOOPWEB_STEP_UP_S", 99_999, "HOOPWEB_STEP_UP_S is 99999 seconds"),
        ("HOOPWEB_ROLE_CONFLICTS", (), "HOOPWEB_ROLE_CONFLICTS is empty: nothing keeps roles apart"),
        ("HOOPWEB_ROLE_CONFLICTS_ENFORCED", False, "HOOPWEB_ROLE_CONFLICTS_ENFORCED is off"),
        ("OIDC_OP_JWKS_ENDPOINT", "http://sso.example.org/", "HOOPWEB_OIDC_JWKS_URI is not an https:// address"),
        ("HOOPWEB_TLS_KEY_FILE", "/no/key", "HOOPWEB_TLS_KEY_FILE names /no/key, which cannot be read"),
        ("HOOPWEB_TLS_KEY_FILE", "", "a certificate and its key come together"),
        ("HOOPWEB_CHANNEL_CA_FILE", "/no/ca", "HOOPWEB_CHANNEL_CA_FILE names /no/ca, which cannot be read"),
        ("HOOPWEB_CHANNEL_NETWORKS", ["0.0.0.0/0"], "HOOPWEB_CHANNEL_NETWORKS holds 0.0.0.0/0"),
        ("HOOPWEB_OTLP_ENDPOINT", "http://otel.example.org", "HOOPWEB_OTLP_ENDPOINT is not an https:// address"),
        (
            "EMAIL_BACKEND",
            "django.core.mail.backends.filebased.EmailBackend",
            "HOOPWEB_SMTP_HOST is not set: nobody gets a mail",
        ),
        (
            "HOOPWEB_RECORDING_STORE_ENDPOINT",
            "http://minio.example.org",
            "HOOPWEB_RECORDING_STORE_ENDPOINT is not an https:// address",
        ),
    ],
)
def test_each_is_told(production: Any, name: str, value: object, message: str) -> None:
    setattr(production, name, value)

    assert found() == [message]


def test_people_of_two_roles_and_tokens_without_end_are_named(production: Any) -> None:
    production.HOOPWEB_ROLE_CONFLICTS_ENFORCED = False
    ann = User.objects.create_user("ann")
    ann.groups.set([Group.objects.get(name=name) for name in ("administrators", "auditors")])
    ScimToken.objects.create(name="okta", digest="d")
    ScimToken.objects.create(name="old", digest="e", enabled=False)

    assert found() == [
        "HOOPWEB_ROLE_CONFLICTS_ENFORCED is off",
        "ann has the roles administrators and auditors",
        "the provisioning token okta never ends",
    ]
