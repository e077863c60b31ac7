"""Writing certificates of purges: signed with the log's key, and under a checkpoint before anything goes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from audit.domain.append import append_entries
from audit.domain.certificates import KIND, Certificate, UnsignedCertificate, certificate_body, read_certificate
from audit.domain.checkpoints import lock_signing, sign_checkpoint
from audit.domain.entry import Entry
from audit.domain.head import lock_head
from audit.domain.keys import log_keys, log_signer
from audit.domain.merkle import leaf_hash
from audit.domain.note import NoteProblem, parse_named
from audit.models import LogEntry


class NothingToConfirm(ValueError):
    """What was named is not an unsigned certificate of this log."""


def certify(said: Mapping[str, Any]) -> Certificate:
    """Append a certificate that says this, signed, and sign the log over it. Raises LogDamaged or SigningKeyProblem."""
    sign_checkpoint()  # checks what was written since the last one
    with transaction.atomic(), connection.cursor() as cursor:
        lock_signing(cursor)  # no other key takes over meanwhile
        head = lock_head()
        body = certificate_body(
            signer=log_signer(), said=said, seq=head.size + 1, prev=head.leaf, time_s=int(time.time())
        )
        append_entries([Entry(kind=KIND, body=body)])
    sign_checkpoint()
    entry = LogEntry.objects.get(seq=head.size + 1)
    return read_certificate(bytes(entry.canonical), keys=log_keys())


def confirm_certificate(named: str, *, by: str) -> Certificate:
    """Say once more, signed, what an unsigned certificate says. `named`: `<entry>:<hash>`, as the checks name it.

    Raises NothingToConfirm, LogDamaged or SigningKeyProblem.
    """
    try:
        seq, leaf = parse_named(named)
    except NoteProblem as problem:
        raise NothingToConfirm(str(problem)) from None
    row = LogEntry.objects.filter(seq=seq, kind=KIND).first()
    if row is None or leaf_hash(bytes(row.canonical)) != leaf:
        raise NothingToConfirm(f"entry {seq} is not this certificate of a purge")
    try:
        read_certificate(bytes(row.canonical), keys=log_keys())
    except UnsignedCertificate:
        said = json.loads(bytes(row.canonical))["body"]
        return certify({**said, "subject": by, "confirms": named})
    except NoteProblem as problem:
        raise NothingToConfirm(str(problem)) from None
    raise NothingToConfirm(f"entry {seq} is signed, it needs no confirmation")
