"""Sealing under this installation's evidence keys (`HOOPWEB_EVIDENCE_KEYS`: base64, commas, newest first)."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from audit.domain.box import KeyProblem, Sealer, SealProblem, parse_keys

__all__ = ["KeyProblem", "SealProblem", "evidence_sealer", "seal", "unseal"]


def evidence_sealer() -> Sealer:
    """Raises KeyProblem when no key is configured: without one nothing can be recorded, so nothing runs."""
    return _sealer(settings.HOOPWEB_EVIDENCE_KEYS)


def seal(plaintext: bytes, *, context: str) -> bytes:
    """Encrypt under the newest evidence key; opens only with the same `context`."""
    return evidence_sealer().seal(plaintext, bound_to=context.encode())


def unseal(sealed: bytes, *, context: str) -> bytes:
    """Raises SealProblem when altered, moved, or sealed under a key that is not configured."""
    return evidence_sealer().open(sealed, bound_to=context.encode())


@lru_cache(maxsize=4)
def _sealer(keys: str) -> Sealer:
    return Sealer(parse_keys(keys))
