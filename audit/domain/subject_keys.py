"""The keys of subjects' tokens: made, replaced and erased. Sealed under the evidence keys, never shown.

New tokens are made under the newest key; a look-up asks under every key there is. Erasing a key is how the tokens made
under it cease to be anybody's: nobody can compute them again, from whatever copy of the index. (A backup of the control
database from before holds the key's sealed box: erase it there as well.)
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from django.db import connection, transaction

from audit.domain.append import append_entries
from audit.domain.box import SealProblem
from audit.domain.entry import Entry
from audit.domain.sealing import seal, unseal
from audit.domain.subjects import KEY_BYTES, SubjectKey
from audit.models import SubjectKeyRow

_LOCK = 0x686F6F70_7375626A  # of transactions that make a key


class SubjectKeyProblem(ValueError):
    """The key cannot be erased as asked."""


def subject_keys() -> list[SubjectKey]:
    """Every key that still is, newest first. Raises SealProblem."""
    rows = SubjectKeyRow.objects.filter(erased_at=None).order_by("-pk")
    return [SubjectKey(row.pk, unseal(bytes(row.sealed), context=_context(row.pk))) for row in rows]


def newest_subject_key() -> SubjectKey | None:
    """Raises SealProblem."""
    row = SubjectKeyRow.objects.filter(erased_at=None).order_by("-pk").first()
    return None if row is None else SubjectKey(row.pk, unseal(bytes(row.sealed), context=_context(row.pk)))


def opens(row: SubjectKeyRow) -> bool:
    """Whether the stored key is one of ours, in its own place."""
    try:
        return len(unseal(bytes(row.sealed), context=_context(row.pk))) == KEY_BYTES
    except SealProblem:
        return False


def ensure_subject_key() -> None:
    """Make the first key where there is none. Several processes may ask at once."""
    if SubjectKeyRow.objects.filter(erased_at=None).exists():
        return
    with transaction.atomic():
        _lock()
        if not SubjectKeyRow.objects.filter(erased_at=None).exists():
            _make(by="gateway")


def rotate_subject_key(*, by: str) -> int:
    """Make a new key for the tokens from now on; the older ones still find. Returns its number.

    The caller raises the rules' version in the same transaction, so that every data plane takes it up.
    """
    with transaction.atomic():
        _lock()
        return _make(by=by)


def erase_subject_key(*, key_id: int, by: str) -> None:
    """Destroy a key that no data plane uses any more. Raises SubjectKeyProblem."""
    with transaction.atomic():
        _lock()
        row = SubjectKeyRow.objects.filter(pk=key_id, erased_at=None).first()
        if row is None:
            raise SubjectKeyProblem(f"there is no subject key {key_id}, or it was erased already")
        if not SubjectKeyRow.objects.filter(erased_at=None, pk__gt=key_id).exists():
            raise SubjectKeyProblem("the newest key is in use, expected it to be rotated first")
        SubjectKeyRow.objects.filter(pk=key_id).update(sealed=b"", erased_at=datetime.now(UTC))
        append_entries([Entry(kind="subjects.key_erased", body={"subject": by, "key": key_id})])


def _make(*, by: str) -> int:
    row = SubjectKeyRow.objects.create(sealed=b"", created_at=datetime.now(UTC))
    row.sealed = seal(os.urandom(KEY_BYTES), context=_context(row.pk))
    row.save(update_fields=["sealed"])
    append_entries([Entry(kind="subjects.key_rotated", body={"subject": by, "key": row.pk})])
    return int(row.pk)


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _context(key_id: int) -> str:
    return f"subject-key:{key_id}"
