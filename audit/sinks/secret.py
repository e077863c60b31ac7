"""Secrets of sinks and anchors: sealed under the evidence keys, opened by the worker alone that sends.

The value of the Authorization header; a single word is sent as a bearer token. For Google Cloud a service-account key
(JSON) also does: requests then carry a token the account signed for itself, for this one service.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from joserfc import jwt
from joserfc.jwk import RSAKey

from audit.domain.box import SealProblem
from audit.domain.sealing import seal, unseal
from audit.models_delivery import Delivery
from audit.sinks.sending import NotDelivered, Way
from audit.sinks.targets import TargetProblem, parse_networks, parse_target

TOKEN_LIFE_S = 3600  # Google takes no longer ones


class SecretProblem(ValueError):
    """The stored secret cannot be used."""


def store_secret(row: Delivery, secret: str) -> bool:
    """Seal `secret` for this row and save it; False when it holds this secret already. An empty one removes it."""
    if not secret:
        changed = bool(row.sealed_secret)
        row.sealed_secret, row.secret_digest = b"", ""
    else:
        if row.secret_digest and check_password(secret, row.secret_digest):
            return False
        row.sealed_secret = seal(secret.encode(), context=_context(row))
        row.secret_digest = make_password(secret)
        changed = True
    row.save(update_fields=["sealed_secret", "secret_digest"])
    return changed


def plain_secret(row: Delivery) -> str:
    """The secret as it was stored, empty when there is none. Raises SealProblem."""
    return unseal(bytes(row.sealed_secret), context=_context(row)).decode().strip() if row.sealed_secret else ""


def authorization(row: Delivery) -> dict[str, str]:
    """The header to send. Raises SealProblem or SecretProblem."""
    secret = plain_secret(row)
    if not secret:
        return {}
    if secret.startswith("{"):
        return {"Authorization": f"Bearer {_self_signed(secret, audience=_audience(row.url))}"}
    if "\n" in secret or "\r" in secret:
        raise SecretProblem("the secret has more than one line")
    return {"Authorization": secret if " " in secret else f"Bearer {secret}"}


def way_to(row: Delivery, *, ca: str = "", directory: Path = Path()) -> Way:
    """How to reach the receiver, with what authorises. Raises NotDelivered when a setting or the secret is no use."""
    try:
        headers, networks = authorization(row), parse_networks(settings.HOOPWEB_SINK_NETWORKS)
        return Way(parse_target(row.url), networks, ca, headers, directory)
    except (SealProblem, SecretProblem) as problem:
        raise NotDelivered(f"the stored secret cannot be used: {problem}") from None
    except TargetProblem as problem:
        raise NotDelivered(str(problem)) from None


def _context(row: Delivery) -> str:
    # With the host in it a changed URL cannot take the old receiver's secret along to another one.
    return f"{type(row).__name__.lower()} {row.pk} {urlsplit(row.url).hostname}"


def _audience(url: str) -> str:
    return f"https://{urlsplit(url).hostname}/"


def _self_signed(key: str, *, audience: str) -> str:
    """https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth: no token service in between."""
    try:
        account: dict[str, Any] = json.loads(key)
        header = {"alg": "RS256", "kid": str(account["private_key_id"])}
        email, signing_key = str(account["client_email"]), RSAKey.import_key(str(account["private_key"]))
    except (ValueError, KeyError, TypeError):
        raise SecretProblem("the secret is not a service-account key") from None
    now = int(time.time())
    claims = {"iss": email, "sub": email, "aud": audience, "iat": now, "exp": now + TOKEN_LIFE_S}
    return jwt.encode(header, claims, signing_key)
