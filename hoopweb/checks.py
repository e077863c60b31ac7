"""`manage.py check --deploy`: what must not go into production. Errors, so that a deployment's start fails on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from audit.domain.chunk_store import StoreProblem, outside_store
from gateway.domain.addresses import is_loopback
from gateway.domain.sockets import is_socket
from gateway.models import Connection

# Whose absence only shows when it is too late. (Without SECRET_KEY, Django itself starts nothing.)
KEYS = {
    "HOOPWEB_CREDENTIAL_PUBLIC_KEY": "seals upstream credentials",
    "HOOPWEB_EVIDENCE_KEYS": "seal recorded texts and results",
    "HOOPWEB_LOG_SIGNING_KEY": "signs the log's checkpoints",
    "HOOPWEB_TOKEN_KEY": "keys the tokens of technique hash",
    "HOOPWEB_ISSUER_KEYS": "sign agents' tokens",
    "HOOPWEB_RELAY_KEY": "stands between the web and the data plane",
    "HOOPWEB_DATABASE_URL": "names the control database",
    "HOOPWEB_REDIS_URL": "names Redis",
}

AT_EVERY_START = "hoopweb-start"  # the tag of what is looked at outside `--deploy` too


@register(Tags.security, deploy=True)
def keys_check(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [
        Error(f"{name} is not set; it {purpose}", hint="see docs/configuration.md", id="hoopweb.E001")
        for name, purpose in KEYS.items()
        if not getattr(settings, name)
    ]


@register(Tags.security, deploy=True)
def sign_in_check(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.HOOPWEB_OIDC_EMBEDDED:
        hint = "set it to your identity provider; the embedded one is for trying (docs/decisions/0002)"
        found.append(Error("HOOPWEB_OIDC_ISSUER is not set", hint=hint, id="hoopweb.E002"))
    if not settings.HOOPWEB_WEB_URL.startswith("https://"):
        hint = "people and reviewers would sign in over plain HTTP"
        found.append(Error("HOOPWEB_WEB_URL is not an https:// address", hint=hint, id="hoopweb.E003"))
    if not is_loopback(settings.HOOPWEB_LISTEN) and not settings.HOOPWEB_TLS_CERT_FILE:
        hint = "off loopback a token is accepted as a password only inside TLS"
        found.append(Error("HOOPWEB_TLS_CERT_FILE is not set", hint=hint, id="hoopweb.E004"))
    return found


@register(Tags.security, Tags.database, deploy=True)
def upstreams_check(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Connections in clear, or to a server whose certificate nobody looks at."""
    try:
        return list(_upstream_problems())
    except DatabaseError:
        hint = "migrate first (manage.py migrate), or see HOOPWEB_DATABASE_URL"
        return [Error("the control database could not be read", hint=hint, id="hoopweb.E006")]


@register(AT_EVERY_START)
def recordings_check(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """At every start: with a store that is none, no result could be recorded, so no statement would run."""
    try:
        outside_store()
    except StoreProblem as problem:
        return [Error(str(problem), hint="see HOOPWEB_RECORDING_STORE in docs/configuration.md", id="hoopweb.E007")]
    return []


def _upstream_problems() -> Iterator[CheckMessage]:
    for connection in Connection.objects.filter(enabled=True, tls=Connection.Tls.DISABLE):
        if not is_socket(connection.host):
            hint = "set tls to verify-full"
            yield Error(f"connection {connection.name} reaches its upstream in plaintext", hint=hint, id="hoopweb.E005")
        elif not connection.settings.get("requirepeer"):
            hint = "set requirepeer among its settings, unless nobody else can write its directory"
            told = f"connection {connection.name} takes whoever serves its Unix socket for its upstream"
            yield Warning(told, hint=hint, id="hoopweb.W001")


CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (keys_check, sign_in_check, upstreams_check)
