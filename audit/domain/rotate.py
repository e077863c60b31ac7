"""Handing the log over to another signing key, so that everything the old one signed still counts."""

from __future__ import annotations

import time

from django.db import connection, transaction

from audit.domain.append import append_entries
from audit.domain.checkpoints import lock_signing, sign_checkpoint
from audit.domain.entry import Entry, Json
from audit.domain.head import lock_head
from audit.domain.keyring import Rotation, open_rotation, rotation_note
from audit.domain.keys import KEY_ROTATED, SigningKeyProblem, configured_signers, log_keys, log_signer


def rotate_log_key(*, rotated_by: str) -> Rotation:
    """Let the newest configured key take over. Raises SigningKeyProblem, LogDamaged (nothing changes), or OSError.

    The old key signs the log as it is; then one entry carries the note both keys signed; then the new key signs.
    """
    new = configured_signers()[0]
    if new.verifier in log_keys().keys:
        raise SigningKeyProblem(
            "the newest configured key is the log's already, expected HOOPWEB_LOG_SIGNING_KEY=NEW,OLD"
        )
    sign_checkpoint()
    with transaction.atomic(), connection.cursor() as cursor:
        lock_signing(cursor)
        old = log_signer()
        place = lock_head().size + 1
        note = rotation_note(old=old, new=new, seq=place, time_s=int(time.time()))
        body: dict[str, Json] = {
            "subject": rotated_by,
            "old": old.verifier.vkey,
            "new": new.verifier.vkey,
            "note": note,
        }
        append_entries([Entry(kind=KEY_ROTATED, body=body)])
    sign_checkpoint()
    return open_rotation(note)
