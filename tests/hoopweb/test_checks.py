"""`manage.py check --deploy` refuses what must not go into production, each with one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from gateway.models import Connection
from hoopweb.checks import CHECKS, KEYS

pytestmark = pytest.mark.django_db


@pytest.fixture
def production(settings: Any) -> Any:
    settings.SECRET_KEY = "k" * 60 + "abcdefgh"
    settings.HOOPWEB_OIDC_EMBEDDED = False
    settings.HOOPWEB_WEB_URL = "https://hoopweb.example.org"
    settings.HOOPWEB_LISTEN = "0.0.0.0"
    settings.HOOPWEB_TLS_CERT_FILE = "/run/secrets/tls_cert"
    settings.DEBUG = False
    return settings


def found() -> list[str]:
    return [str(message.msg) for check in CHECKS for message in check(None)]


def test_production_has_nothing_to_refuse(production: Any) -> None:
    assert found() == []


@pytest.mark.parametrize("name", KEYS)
def test_missing_key_is_refused_by_name(production: Any, name: str) -> None:
    setattr(production, name, "")

    (message,) = found()

    assert message.startswith(f"{name} is not set; ")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOOPWEB_OIDC_EMBEDDED", True, "HOOPWEB_OIDC_ISSUER is not set"),
        ("HOOPWEB_WEB_URL", "http://hoopweb.example.org", "HOOPWEB_WEB_URL is not an https:// address"),
        ("HOOPWEB_TLS_CERT_FILE", "", "HOOPWEB_TLS_CERT_FILE is not set"),
    ],
)
def test_weak_setting_is_refused(production: Any, name: str, value: object, message: str) -> None:
    setattr(production, name, value)

    assert found() == [message]


def test_plaintext_upstream_is_refused(production: Any) -> None:
    row = {"kind": "postgres", "host": "127.0.0.1", "database": "d", "username": "u"}
    Connection.objects.create(name="clinic", tls="disable", **row)
    Connection.objects.create(name="off", tls="disable", enabled=False, **row)
    Connection.objects.create(name="sealed", tls="verify-full", **row)

    assert found() == ["connection clinic reaches its upstream in plaintext"]


def test_socket_that_anybody_may_serve_is_warned_of(production: Any) -> None:
    row = {"kind": "postgres", "host": "/run/postgresql", "database": "d", "username": "u", "tls": "disable"}
    Connection.objects.create(name="clinic", **row)
    Connection.objects.create(name="named", settings={"requirepeer": "postgres"}, **row)

    assert found() == ["connection clinic takes whoever serves its Unix socket for its upstream"]
    assert not any(message.is_serious() for check in CHECKS for message in check(None))


def test_command_fails_on_a_demo(settings: Any) -> None:
    settings.HOOPWEB_OIDC_EMBEDDED = True

    with pytest.raises(SystemCheckError, match="HOOPWEB_OIDC_ISSUER is not set"):
        call_command("check", deploy=True)
