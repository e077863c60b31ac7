"""Whose records a result holds: which of its columns carry a subject's number, and when that cannot be said.

Pure. A connection declares, per kind of subject (`patient`), the stored columns that hold its number. A result is about
a kind when its statement touches a table with such a column, and its subjects are known when every such table's number
is in the result unchanged, or is joined by equality with one that is. Whatever else touches such a table is counted as
not known (45 CFR 164.528 asks for an accounting; a wrong one would be worse than one that names its gaps).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from analysis.statement import Analysis, ColumnRef, Operation, Output, PredicateUse, TableRef, Transform
from masking.domain.field import FieldMask, ResultColumn, ShownColumn, SubjectPlan, WatchedColumn
from masking.engines.types import Family, Target, target_for

# Why subjects are not known.
NO_KEY = "no-key"  # the result does not carry the number, or not of every table it is about
INCOMPLETE = "incomplete"  # the statement could not be read to its end
UNREADABLE = "type"  # the number comes in a binary type that is not read
WRITTEN = "write"  # records were changed, and nothing came back that would name them
CLEAR = "clear"

ReadNumber = Callable[[bytes], str | None]


@dataclass(frozen=True, slots=True)
class SubjectColumns:
    """`columns`: the stored columns, `schema.table.column`, that hold the number of one kind of subject."""

    name: str
    columns: tuple[str, ...]

    def holds(self, column: ColumnRef) -> bool:
        return str(column).lower() in self.columns

    def of(self, table: TableRef) -> frozenset[str]:
        stem = f"{table}.".lower()
        return frozenset(column for column in self.columns if column.startswith(stem))


def kinds_touched(*, analysis: Analysis, declared: tuple[SubjectColumns, ...]) -> tuple[str, ...]:
    """The kinds of subjects a statement's result, or its change, is about. All of them where that cannot be told."""
    if not declared or analysis.operations == {Operation.SESSION}:
        return ()
    if not analysis.complete:
        return tuple(kind.name for kind in declared)
    if analysis.outputs is None and not analysis.tables_written:
        return ()  # a DECLARE or PREPARE shows nothing; what fetches from it does
    tables = analysis.tables_read | analysis.tables_written
    return tuple(kind.name for kind in declared if any(kind.of(table) for table in tables))


def subject_plan(
    *,
    analysis: Analysis,
    columns: Sequence[ResultColumn],
    fields: Sequence[FieldMask],
    declared: tuple[SubjectColumns, ...],
) -> SubjectPlan | None:
    """What must be noted of a result described as `columns` and masked by `fields`; None when it is about nobody."""
    about = kinds_touched(analysis=analysis, declared=declared)
    if not about:
        return None
    shown = _shown(analysis, fields)
    if not analysis.complete or (analysis.outputs is not None and len(analysis.outputs) != len(columns)):
        return SubjectPlan(about=about, unknown=tuple((name, INCOMPLETE) for name in about), shown=shown)
    watched: list[WatchedColumn] = []
    unknown: list[tuple[str, str]] = []
    for kind in declared:
        if kind.name in about:
            why = _watch(kind, analysis=analysis, columns=columns, watched=watched)
            if why:
                unknown.append((kind.name, why))
    return SubjectPlan(about=about, watched=tuple(watched), unknown=tuple(unknown), shown=shown)


def _watch(
    kind: SubjectColumns, *, analysis: Analysis, columns: Sequence[ResultColumn], watched: list[WatchedColumn]
) -> str:
    """Add the columns that carry the kind's number; return why they do not suffice, or nothing."""
    if analysis.outputs is None:
        return WRITTEN
    parts = [
        (index, *part)
        for index, (output, column) in enumerate(zip(analysis.outputs, columns, strict=True))
        for part in _parts(output, column)
    ]
    carrying = [part for part in parts if _carries(part[2], kind)]
    if not _reach_every_table(kind, analysis, [output for _, _, output, _ in carrying]):
        return NO_KEY
    found = [
        WatchedColumn(index, kind.name, read, path)
        for index, path, _, column in carrying
        if (read := number_reader(_target(column))) is not None
    ]
    if len(found) != len(carrying):
        return UNREADABLE
    watched += found
    return ""


def _parts(
    output: Output, column: ResultColumn, path: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[int, ...], Output, ResultColumn]]:
    """The scalar parts of a result column with their places in it; a record whose parts are not known is one."""
    names = [field.name.lower() for field in column.fields]
    if not names or [inner.name.lower() for inner in output.fields] != names:
        yield path, output, column
        return
    for at, (inner, field) in enumerate(zip(output.fields, column.fields, strict=True)):
        yield from _parts(inner, field, (*path, at))


def _carries(output: Output, kind: SubjectColumns) -> bool:
    """Every origin, since a UNION of patients' and providers' numbers would make patients of providers."""
    return (
        output.resolved
        and bool(output.origins)
        and all(o.transform is Transform.IDENTITY and kind.holds(o.column) for o in output.origins)
    )


def _reach_every_table(kind: SubjectColumns, analysis: Analysis, carrying: Sequence[Output]) -> bool:
    reached = {str(origin.column).lower() for output in carrying for origin in output.origins}
    pairs = [
        {str(column).lower() for column in (predicate.column, *predicate.partners)}
        for predicate in analysis.predicates
        if predicate.use is PredicateUse.JOIN_EQUALITY
    ]
    grown = True
    while grown:
        joined = [pair for pair in pairs if not reached.isdisjoint(pair) and not pair <= reached]
        reached = reached.union(*joined)
        grown = bool(joined)
    needed = [kind.of(table) for table in analysis.tables_read | analysis.tables_written]
    return bool(carrying) and all(not own or not own.isdisjoint(reached) for own in needed)


def number_reader(target: Target) -> ReadNumber | None:
    """How a value becomes the number people write, alike in text and binary; None where binary is not read."""
    if not target.binary or target.family is Family.TEXT:
        return _as_text
    if target.family is Family.INTEGER:
        return _as_integer
    return _as_uuid if target.family is Family.UUID else None


def _as_text(value: bytes) -> str | None:
    try:
        return value.decode("utf-8").strip() or None
    except UnicodeDecodeError:
        return None


def _as_integer(value: bytes) -> str:
    return str(int.from_bytes(value, "big", signed=True))


def _as_uuid(value: bytes) -> str | None:
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else None


def _target(column: ResultColumn) -> Target:
    return target_for(type_oid=column.type_oid, binary=column.format == 1, type_name=column.type_name)


def _shown(analysis: Analysis, fields: Sequence[FieldMask]) -> tuple[ShownColumn, ...]:
    """What the client got, column by column, and in which state."""
    outputs: Sequence[Output | None] = analysis.outputs or ()
    if len(outputs) != len(fields):
        outputs = [None] * len(fields)
    return tuple(shown for field, output in zip(fields, outputs, strict=True) for shown in _shown_parts(field, output))


def _shown_parts(field: FieldMask, output: Output | None, prefix: str = "") -> Iterator[ShownColumn]:
    """A record that is masked field by field is told field by field."""
    name = prefix + field.column
    if not field.fields:
        of = tuple(sorted({str(origin.column) for origin in output.origins})) if output is not None else ()
        yield ShownColumn(column=name, of=of, state=field.technique if field.mask is not None else CLEAR)
        return
    known = output is not None and len(output.fields) == len(field.fields)
    for at, inner in enumerate(field.fields):
        yield from _shown_parts(inner, output.fields[at] if known and output is not None else output, f"{name}.")
