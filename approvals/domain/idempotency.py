"""Idempotency keys (draft-ietf-httpapi-idempotency-key-header): the same key and request get the same answer.

A key is claimed by inserting its row before anything is done, so of any number of racing requests one is served. A
request whose process ended in the middle stays claimed until the key expires: whether it was done cannot be known,
and doing it again could do it twice.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from approvals.models import IdempotentRequest
from audit.domain.sealing import seal, unseal

KEEP_KEY_S = 24 * 3600
KEY = re.compile(r"[\x21-\x7e]{1,255}")


class KeyReused(Exception):
    """The key already stands for another request."""


class KeyInUse(Exception):
    """The request with this key is being answered, or its answer never came to be."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the first request was answered with. `statement_id`: a statement whose own answer says more."""

    status: int
    content_type: str
    body: bytes
    statement_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A key that is ours to answer."""

    row_id: int

    def began(self, statement_id: str) -> None:
        """A statement started under the key: whatever happens from here on, its own record has the answer."""
        IdempotentRequest.objects.filter(pk=self.row_id).update(statement_id=statement_id)

    def answered(self, *, status: int, content_type: str, body: bytes) -> None:
        sealed = seal(body, context=_context(self.row_id))
        rows = IdempotentRequest.objects.filter(pk=self.row_id)
        rows.update(answer_status=status, content_type=content_type, sealed_answer=sealed)

    def release(self) -> None:
        """Nothing was done: the key may be used again."""
        IdempotentRequest.objects.filter(pk=self.row_id, statement_id="", answer_status=0).delete()


def claim_key(*, holder: tuple[str, ...], key: str, request: bytes) -> Claim | KeptAnswer:
    """Claim `key` of `holder`, or return what it was answered with. Raises KeyReused and KeyInUse."""
    name, asked = _key_digest(holder, key), _request_digest(request)
    IdempotentRequest.objects.filter(key_digest=name, expires_at__lt=timezone.now()).delete()
    try:
        with transaction.atomic():
            row = IdempotentRequest.objects.create(
                key_digest=name, request_digest=asked, expires_at=timezone.now() + timedelta(seconds=KEEP_KEY_S)
            )
    except IntegrityError:
        return _kept(name, asked)
    return Claim(row.pk)


def forget_old_keys() -> int:
    """Delete keys past their time, answers with them."""
    return IdempotentRequest.objects.filter(expires_at__lt=timezone.now()).delete()[0]


def _kept(name: str, asked: str) -> KeptAnswer:
    row = IdempotentRequest.objects.filter(key_digest=name).first()
    if row is None:  # released in this moment
        raise KeyInUse
    if not constant_time_compare(row.request_digest, asked):
        raise KeyReused
    if not row.answer_status and not row.statement_id:
        raise KeyInUse
    body = unseal(bytes(row.sealed_answer), context=_context(row.pk)) if row.sealed_answer else b""
    return KeptAnswer(row.answer_status, row.content_type, body, row.statement_id)


def _key_digest(holder: tuple[str, ...], key: str) -> str:
    # Lengths in front: no two holders and keys spell the same text.
    parts = [*holder, key]
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


def _request_digest(request: bytes) -> str:
    """Keyed, because a statement with one unknown value in it could be guessed from a plain digest."""
    return salted_hmac("hoopweb idempotent request", request, algorithm="sha256").hexdigest()


def _context(row_id: int) -> str:
    return f"idempotent-request:{row_id}"
