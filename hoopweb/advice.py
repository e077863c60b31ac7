"""`manage.py check --deploy`, the warnings: what works and is probably not meant. One sentence each, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from approvals.domain.role_conflicts import role_holders
from gateway.domain.addresses import is_loopback
from gateway.models import ScimToken

FILES = ("HOOPWEB_TLS_CERT_FILE", "HOOPWEB_TLS_KEY_FILE", "HOOPWEB_TLS_CLIENT_CA_FILE", "HOOPWEB_CHANNEL_CA_FILE")
OIDC_ADDRESSES = {
    "HOOPWEB_OIDC_ISSUER": "OIDC_OP_ISSUER",
    "HOOPWEB_OIDC_AUTHORIZATION_ENDPOINT": "OIDC_OP_AUTHORIZATION_ENDPOINT",
    "HOOPWEB_OIDC_TOKEN_ENDPOINT": "OIDC_OP_TOKEN_ENDPOINT",
    "HOOPWEB_OIDC_JWKS_URI": "OIDC_OP_JWKS_ENDPOINT",
}
_LONG_STEP_UP_S = 8 * 3600


@register(Tags.security, deploy=True)
def identity_advice(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [*_sign_in(), *_step_up(), *_separation()]


@register(Tags.security, deploy=True)
def transport_advice(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    return [*_files(), *_outbound()]


@register(Tags.security, Tags.database, deploy=True)
def people_advice(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """People with two roles that exclude each other, and provisioning that never ends."""
    try:
        return [*_conflicts(), *_endless_tokens()]
    except DatabaseError:  # hoopweb.checks says so already
        return []


def _sign_in() -> Iterator[CheckMessage]:
    if settings.HOOPWEB_OIDC_EMBEDDED:
        return
    for name, setting in OIDC_ADDRESSES.items():
        if not _is_safe(getattr(settings, setting)):
            hint = "what it says decides who people are; use https://"
            yield Error(f"{name} is not an https:// address", hint=hint, id="hoopweb.E008")


def _step_up() -> Iterator[CheckMessage]:
    if settings.HOOPWEB_STEP_UP_S == 0:
        hint = "whoever finds an open browser decides; 900 asks for a proof of the last quarter of an hour"
        yield Warning("HOOPWEB_STEP_UP_S is 0: decisions need no recent sign-in", hint=hint, id="hoopweb.W001")
    elif settings.HOOPWEB_STEP_UP_S > _LONG_STEP_UP_S:
        hint = "that is longer than a working day and asks nobody"
        yield Warning(f"HOOPWEB_STEP_UP_S is {settings.HOOPWEB_STEP_UP_S} seconds", hint=hint, id="hoopweb.W001")


def _separation() -> Iterator[CheckMessage]:
    if not settings.HOOPWEB_ROLE_CONFLICTS:
        hint = "name the pairs of roles nobody has together (docs/identity.md)"
        yield Warning("HOOPWEB_ROLE_CONFLICTS is empty: nothing keeps roles apart", hint=hint, id="hoopweb.W002")
    elif not settings.HOOPWEB_ROLE_CONFLICTS_ENFORCED:
        hint = "they are shown in the console and stop nobody"
        yield Warning("HOOPWEB_ROLE_CONFLICTS_ENFORCED is off", hint=hint, id="hoopweb.W002")


def _files() -> Iterator[CheckMessage]:
    for name in FILES:
        path = getattr(settings, name)
        if path and not (Path(path).is_file() and os.access(path, os.R_OK)):
            hint = "expected a file this account may read; a gateway would not start with it"
            yield Error(f"{name} names {path}, which cannot be read", hint=hint, id="hoopweb.E009")
    if bool(settings.HOOPWEB_TLS_CERT_FILE) != bool(settings.HOOPWEB_TLS_KEY_FILE):
        hint = "set both HOOPWEB_TLS_CERT_FILE and HOOPWEB_TLS_KEY_FILE, or neither"
        yield Error("a certificate and its key come together", hint=hint, id="hoopweb.E009")


def _outbound() -> Iterator[CheckMessage]:
    if settings.EMAIL_BACKEND.endswith("filebased.EmailBackend"):
        hint = "mails to reviewers are written to files; set HOOPWEB_SMTP_HOST"
        yield Warning("HOOPWEB_SMTP_HOST is not set: nobody gets a mail", hint=hint, id="hoopweb.W003")
    for network in settings.HOOPWEB_CHANNEL_NETWORKS:
        if network.endswith("/0"):
            hint = "name the networks of your receivers; this lets a channel write to anything inside"
            yield Warning(f"HOOPWEB_CHANNEL_NETWORKS holds {network}", hint=hint, id="hoopweb.W004")
    if settings.HOOPWEB_OTLP_ENDPOINT and not _is_safe(settings.HOOPWEB_OTLP_ENDPOINT):
        hint = "traces hold names and ids; use https:// off this machine"
        yield Warning("HOOPWEB_OTLP_ENDPOINT is not an https:// address", hint=hint, id="hoopweb.W005")
    if settings.HOOPWEB_RECORDING_STORE_ENDPOINT and not _is_safe(settings.HOOPWEB_RECORDING_STORE_ENDPOINT):
        hint = "recordings are sealed, its credentials are not; use https:// off this machine"
        message = "HOOPWEB_RECORDING_STORE_ENDPOINT is not an https:// address"
        yield Warning(message, hint=hint, id="hoopweb.W005")


def _conflicts() -> Iterator[CheckMessage]:
    for one in role_holders():
        for first, second in one.conflicts:
            hint = "take one of them away; see Who has which role? in the console"
            yield Warning(f"{one.username} has the roles {first} and {second}", hint=hint, id="hoopweb.W006")


def _endless_tokens() -> Iterator[CheckMessage]:
    for name in ScimToken.objects.filter(enabled=True, expires_at=None).values_list("name", flat=True):
        hint = "give it an end, and replace it before; two may live at once"
        yield Warning(f"the provisioning token {name} never ends", hint=hint, id="hoopweb.W007")


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


ADVICE: tuple[Callable[..., list[CheckMessage]], ...] = (identity_advice, transport_advice, people_advice)
