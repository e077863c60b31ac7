"""Generic webhooks, signed as the Standard Webhooks specification says (standardwebhooks.com, version 1.0.0).

    webhook-id: <the message's id, the same on every attempt>
    webhook-timestamp: <Unix seconds of this attempt>
    webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">

A receiver compares in constant time, refuses timestamps that are minutes old, and takes an id once. Secrets are written
`whsec_<base64>`; any other text is used as its UTF-8 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from approvals.models import Delivery

PREFIX = "whsec_"
MIN_SECRET_BYTES = 24


class SecretProblem(ValueError):
    """The signing secret is missing or too short."""


def webhook_body(delivery: Delivery) -> bytes:
    """What is posted: the event, when it happened, and the payload as `data`. The same bytes on every attempt."""
    data = {name: value for name, value in delivery.payload.items() if name != "event"}
    document: dict[str, Any] = {
        "id": str(delivery.pk),
        "type": delivery.event,
        "timestamp": delivery.created_at.isoformat(timespec="milliseconds"),
        "data": data,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def webhook_headers(*, message_id: str, body: bytes, secret: str, at: int) -> dict[str, str]:
    """The three headers for one attempt at Unix time `at`. Raises SecretProblem."""
    signed = f"{message_id}.{at}.".encode() + body
    signature = base64.b64encode(hmac.digest(signing_key(secret), signed, hashlib.sha256)).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{signature}",
    }


def signing_key(secret: str) -> bytes:
    """The key's bytes. Raises SecretProblem when it is missing, not base64 after its prefix, or short."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        raise SecretProblem("the secret after whsec_ is not base64") from None
    key = key or (b"" if secret.startswith(PREFIX) else secret.encode())
    if len(key) < MIN_SECRET_BYTES:
        raise SecretProblem(f"the signing secret has {len(key)} bytes, expected at least {MIN_SECRET_BYTES}")
    return key
