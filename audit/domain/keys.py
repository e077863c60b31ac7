"""The log's name and signing keys. The origin names one database's log; keys are `HOOPWEB_LOG_SIGNING_KEY`.

Several keys are given with commas, newest first, while one takes over from another. Which of them signs is not what the
configuration says but what the log says: the newest rotation in it (`rotate_log_key`), or the oldest key given.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid

from django.conf import settings

from audit.domain.keyring import KeyRing, Rotation, open_rotation
from audit.domain.note import NoteProblem, Signer
from audit.models import LogEntry, LogState

KEY_ROTATED = "log.key_rotated"


class SigningKeyProblem(ValueError):
    """The configured signing key is missing or malformed."""


def log_origin() -> str:
    """The log's name in its checkpoints. Contains the log's id: an emptied database is another log, with another key
    name, and does not pass for this one."""
    state, _ = LogState.objects.get_or_create(id=1, defaults={"log_id": uuid.uuid4()})
    return f"hoopweb.log/{state.log_id.hex[:16]}"


def log_signer() -> Signer:
    """The key that signs now. Raises SigningKeyProblem."""
    configured, rotations = configured_signers(), log_rotations()
    if not rotations:
        return configured[-1]
    for signer in configured:
        if signer.verifier == rotations[-1].new:
            return signer
    raise SigningKeyProblem(f"HOOPWEB_LOG_SIGNING_KEY holds no key {rotations[-1].new.vkey}, which the log names")


def log_keys() -> KeyRing:
    """Every key this log was signed with, from the one that signs now backwards. Raises SigningKeyProblem."""
    return KeyRing.of(log_signer().verifier).extended(log_rotations())


def log_rotations() -> list[Rotation]:
    """The rotations the log holds, oldest first. One that does not verify is left out: the log's checks name it."""
    found = []
    for canonical in LogEntry.objects.filter(kind=KEY_ROTATED).order_by("seq").values_list("canonical", flat=True):
        try:
            found.append(open_rotation(str(json.loads(bytes(canonical))["body"]["note"])))
        except (NoteProblem, ValueError, KeyError, TypeError):
            continue
    return found


def configured_signers() -> list[Signer]:
    """The keys of the configuration, newest first. Raises SigningKeyProblem."""
    parts = [part.strip() for part in settings.HOOPWEB_LOG_SIGNING_KEY.split(",") if part.strip()]
    if not parts:
        raise SigningKeyProblem("HOOPWEB_LOG_SIGNING_KEY is not set, expected the base64 of 32 bytes")
    origin = log_origin()
    return [Signer(origin, _seed(part)) for part in parts]


def _seed(text: str) -> bytes:
    try:
        seed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SigningKeyProblem("HOOPWEB_LOG_SIGNING_KEY is not base64") from None
    if len(seed) != 32:
        raise SigningKeyProblem(f"HOOPWEB_LOG_SIGNING_KEY is {len(seed)} bytes, expected 32")
    return seed


def audit_vkey() -> str:
    """The public key that verifies this log's checkpoints: what an auditor keeps, and `audit_verify --key` takes."""
    return log_signer().verifier.vkey
