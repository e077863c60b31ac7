"""Upstream credentials at rest: anyone may seal one, only the data plane may open it.

A libsodium sealed box (X25519, XSalsa20-Poly1305, an ephemeral sender key): the control plane holds the public half
alone, so reading its database and its environment discloses no upstream password. Rotation keeps old private keys
until `rotate_credentials` has sealed everything again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.utils import timezone
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from gateway.domain.version import bump_version
from gateway.models import Connection, Credential


class CredentialProblem(RuntimeError):
    """A key is missing or malformed, or no key opens the box. The message never holds a secret."""


def seal_credential(values: dict[str, str]) -> bytes:
    """Seal `values` (such as {"password": …}) so that only the data plane can read them."""
    return bytes(SealedBox(_public_key()).encrypt(_canonical(values)))


def open_credential(sealed: bytes) -> dict[str, str]:
    """Open a sealed credential with any of the private keys. Works in the data plane only."""
    keys = _private_keys()
    if not keys:
        raise CredentialProblem("this process holds no credential key, expected HOOPWEB_CREDENTIAL_PRIVATE_KEYS")
    for key in keys:
        try:
            opened = SealedBox(key).decrypt(sealed)
        except CryptoError:
            continue
        return {str(name): str(value) for name, value in json.loads(opened).items()}
    raise CredentialProblem("no configured private key opens this credential")


def public_key_id() -> str:
    return hashlib.sha256(bytes(_public_key())).hexdigest()[:16]


def store_credential(*, connection: Connection, values: dict[str, str]) -> bool:
    """Seal `values` as the connection's credential. Returns False when the stored one already holds them.

    Equality is asked of a salted slow hash, since the control plane cannot open the box.
    """
    if holds_credential(connection=connection, values=values):
        return False
    Credential.objects.update_or_create(
        connection=connection,
        defaults={
            "sealed": seal_credential(values),
            "key_id": public_key_id(),
            "digest": make_password(_canonical(values).decode()),
            "rotated_at": timezone.now(),
        },
    )
    return True


def holds_credential(*, connection: Connection, values: dict[str, str]) -> bool:
    stored = Credential.objects.filter(connection=connection).first()
    return stored is not None and check_password(_canonical(values).decode(), stored.digest)


def rotate_credentials() -> int:
    """Seal every credential that is not under the current public key again. Returns how many were."""
    key_id = public_key_id()
    with transaction.atomic():
        stale = list(Credential.objects.select_for_update().exclude(key_id=key_id))
        for credential in stale:
            credential.sealed = seal_credential(open_credential(bytes(credential.sealed)))
            credential.key_id = key_id
            credential.rotated_at = timezone.now()
            credential.save(update_fields=["sealed", "key_id", "rotated_at"])
        if stale:
            bump_version()
    return len(stale)


def generate_key_pair() -> tuple[str, str]:
    """A new (public, private) pair, each in base64."""
    private = PrivateKey.generate()
    return base64.b64encode(bytes(private.public_key)).decode(), base64.b64encode(bytes(private)).decode()


def _canonical(values: dict[str, str]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _public_key() -> PublicKey:
    return PublicKey(_decode("HOOPWEB_CREDENTIAL_PUBLIC_KEY", settings.HOOPWEB_CREDENTIAL_PUBLIC_KEY))


def _private_keys() -> list[PrivateKey]:
    name = "HOOPWEB_CREDENTIAL_PRIVATE_KEYS"
    parts = [part.strip() for part in settings.HOOPWEB_CREDENTIAL_PRIVATE_KEYS.split(",")]
    return [PrivateKey(_decode(name, part)) for part in parts if part]


def _decode(name: str, text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise CredentialProblem(f"{name} is missing or malformed, expected 32 bytes in base64")
    return raw
