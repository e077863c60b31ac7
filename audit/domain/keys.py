"""The log's name and signing key. The origin names one database's log; the key is `HOOPWEB_LOG_SIGNING_KEY`."""

from __future__ import annotations

import base64
import binascii
import uuid

from django.conf import settings

from audit.domain.merkle import GENESIS
from audit.domain.note import Signer
from audit.models import LogState


class SigningKeyProblem(ValueError):
    """The configured signing key is missing or malformed."""


def log_origin() -> str:
    """The log's name in its checkpoints. Contains the log's id: an emptied database is another log, with another key
    name, and does not pass for this one."""
    state, _ = LogState.objects.get_or_create(id=1, defaults={"log_id": uuid.uuid4(), "head": GENESIS})
    return f"hoopweb.log/{state.log_id.hex[:16]}"


def log_signer() -> Signer:
    """Raises SigningKeyProblem."""
    text = settings.HOOPWEB_LOG_SIGNING_KEY
    if not text:
        raise SigningKeyProblem("HOOPWEB_LOG_SIGNING_KEY is not set, expected the base64 of 32 bytes")
    try:
        seed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SigningKeyProblem("HOOPWEB_LOG_SIGNING_KEY is not base64") from None
    if len(seed) != 32:
        raise SigningKeyProblem(f"HOOPWEB_LOG_SIGNING_KEY is {len(seed)} bytes, expected 32")
    return Signer(log_origin(), seed)


def audit_vkey() -> str:
    """The public key that verifies this log's checkpoints: what an auditor keeps, and `audit_verify --key` takes."""
    return log_signer().verifier.vkey
