"""Masking rules as frozen values, and which of them applies to a column for a principal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Technique(StrEnum):
    REDACT = "redact"  # a constant valid for the type
    NULL = "null"
    PARTIAL = "partial"  # keep the last four characters (`keep`)
    HASH = "hash"  # keyed token (HMAC-SHA-256, truncated); pseudonymised PHI, says the documentation
    YEAR = "year"  # dates to 1 January; ages over 89 to 90
    ZIP3 = "zip3"  # first three digits, 000 for restricted prefixes


class Inference(StrEnum):
    """What predicates on a protected column may do (see docs/architecture.md, "Masking")."""

    OPEN = "open"
    GUARDED = "guarded"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class MaskingRule:
    """`columns` and `connections` are globs; the first matching rule in `priority` order wins (lower first)."""

    name: str
    connections: tuple[str, ...]
    columns: tuple[str, ...]
    technique: Technique
    inference: Inference = Inference.GUARDED
    exempt_groups: frozenset[str] = frozenset()
    data_class: str = ""  # e.g. "ssn"; empty: the rule's name is the class
    keep: int = 4
    priority: int = 100
