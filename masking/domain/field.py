"""What masking hands to a wire: one `FieldMask` per result column, and the counts that come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from analysis.making import quickly_made

# One value in the result's own encoding: None is SQL NULL, bytes is the text or binary form on the wire.
MaskValue = Callable[[bytes | None], bytes | None]


@quickly_made
@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a result as the database described it (PostgreSQL RowDescription fields, BigQuery schema fields)."""

    name: str
    type_oid: int = 25
    format: int = 0  # 0 text, 1 binary
    table_oid: int = 0
    attribute: int = 0
    type_name: str = ""  # for kinds without OIDs (BigQuery)
    mode: str = ""  # BigQuery: NULLABLE, REQUIRED or REPEATED
    fields: tuple[ResultColumn, ...] = ()  # of a record


@quickly_made
@dataclass(frozen=True, slots=True)
class FieldMask:
    """`mask` is None for a column that passes unchanged. `technique` and `rule` are what the record names."""

    column: str
    rule: str = ""
    technique: str = ""
    mask: MaskValue | None = None
    scans_text: bool = False  # the value detectors, not a rule: counts only values it changed
    fields: tuple[FieldMask, ...] = ()  # of a record that is masked field by field; `mask` is None then

    @property
    def masks_nothing(self) -> bool:
        return self.mask is None and all(field.masks_nothing for field in self.fields)

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, FieldMask]]:
        """The scalar parts with their paths; a plain column is its own."""
        if not self.fields:
            yield prefix + self.column, self
        for field in self.fields:
            yield from field.leaves(f"{prefix}{self.column}.")


@dataclass(frozen=True, slots=True)
class WatchedColumn:
    """A result column that carries a subject's number. `read` turns an unmasked value into the number as text.

    `path`: where in a record the number is, field by field (BigQuery STRUCT); arrays on the way hold several.
    """

    index: int
    name: str  # the kind of subject, e.g. "patient"
    read: Callable[[bytes], str | None]
    path: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ShownColumn:
    """What the client saw of a column: `clear`, or the technique that masked it. `of`: the stored columns behind it."""

    column: str
    of: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class SubjectPlan:
    """Whose records a result may hold. `unknown`: (kind, why) of those the result does not name."""

    about: tuple[str, ...]
    watched: tuple[WatchedColumn, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()
    shown: tuple[ShownColumn, ...] = ()


@quickly_made
@dataclass(frozen=True, slots=True)
class MaskingPlan:
    """One entry per result column, in order. Built for exactly the described columns or not at all."""

    fields: tuple[FieldMask, ...] = ()
    subjects: SubjectPlan | None = None  # None: nothing declared, or a result about nobody

    @property
    def masks_nothing(self) -> bool:
        return all(field.masks_nothing for field in self.fields)

    @property
    def techniques(self) -> tuple[tuple[str, str], ...]:
        """What is done to every scalar part, in order."""
        return tuple((name, leaf.technique) for field in self.fields for name, leaf in field.leaves())
