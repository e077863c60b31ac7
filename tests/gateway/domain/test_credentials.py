from __future__ import annotations

import pytest
from django.core.management import call_command

from gateway.domain.credentials import (
    CredentialProblem,
    generate_key_pair,
    open_credential,
    public_key_id,
    seal_credential,
    store_credential,
)
from gateway.models import Connection

SECRET = {"password": "canary-secret"}


@pytest.fixture
def connection(db: None) -> Connection:
    return Connection.objects.create(
        name="clinic", host="127.0.0.1", port=5432, database="clinic", username="app", tls="disable"
    )


def test_sealed_credential_opens_with_the_private_key() -> None:
    assert open_credential(seal_credential(SECRET)) == SECRET


def test_process_without_the_private_key_cannot_open(settings) -> None:
    sealed = seal_credential(SECRET)
    settings.HOOPWEB_CREDENTIAL_PRIVATE_KEYS = ""

    assert seal_credential(SECRET) != sealed
    with pytest.raises(CredentialProblem, match="holds no credential key"):
        open_credential(sealed)


def test_altered_credential_does_not_open() -> None:
    sealed = bytearray(seal_credential(SECRET))
    sealed[-1] ^= 1

    with pytest.raises(CredentialProblem, match="no configured private key"):
        open_credential(bytes(sealed))


def test_stored_credential_holds_no_secret_in_clear(connection: Connection) -> None:
    assert store_credential(connection=connection, values=SECRET) is True
    assert store_credential(connection=connection, values=SECRET) is False

    stored = connection.credential
    assert b"canary-secret" not in bytes(stored.sealed)
    assert "canary-secret" not in stored.digest


def test_rotation_moves_every_credential_to_the_new_key(connection: Connection, settings) -> None:
    store_credential(connection=connection, values=SECRET)
    old_key_id = public_key_id()
    public, private = generate_key_pair()
    settings.HOOPWEB_CREDENTIAL_PUBLIC_KEY = public
    settings.HOOPWEB_CREDENTIAL_PRIVATE_KEYS = f"{private},{settings.HOOPWEB_CREDENTIAL_PRIVATE_KEYS}"

    call_command("rotate_credentials")

    settings.HOOPWEB_CREDENTIAL_PRIVATE_KEYS = private  # the old key is dropped
    connection.credential.refresh_from_db()
    assert connection.credential.key_id != old_key_id
    assert open_credential(bytes(connection.credential.sealed)) == SECRET
