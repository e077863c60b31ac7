"""Masks over BigQuery's JSON rows: `{"f": [{"v": …}, …]}`, records and arrays included (REST reference, `TableRow`).

Every scalar travels as text, BYTES in base64, TIMESTAMP in one of three forms the client chooses (`formatOptions`). A
masked value is valid for its type; where none can say "hidden" it is NULL, in a REQUIRED field a constant, and a masked
array is empty. A row of another shape than the described columns is refused whole.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from analysis.bigquery.dryrun import FieldSchema, fields_of
from masking.bigquery_job import without_literals, without_values
from masking.domain.field import FieldMask, MaskingPlan, MaskValue, ResultColumn
from masking.domain.plan import WHOLE

__all__ = ["RowMasker", "TimestampFormat", "result_columns", "without_literals", "without_values"]

Json = Any
Cell = Callable[[Json], Json]

_REDACTED = "[REDACTED]"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What stands in a REQUIRED field where only NULL would be valid: the type's zero, never a stored value.
_ZEROS = {
    "INT64": "0",
    "FLOAT64": "0.0",
    "NUMERIC": "0",
    "BIGNUMERIC": "0",
    "BOOL": "false",
    "DATE": "0001-01-01",
    "DATETIME": "0001-01-01T00:00:00",
    "TIME": "00:00:00",
    "BYTES": base64.b64encode(_REDACTED.encode()).decode(),
    "GEOGRAPHY": "GEOMETRYCOLLECTION EMPTY",
    "INTERVAL": "0-0 0 0:0:0",
    "RANGE": "[UNBOUNDED, UNBOUNDED)",
    "JSON": f'"{_REDACTED}"',
    "STRING": _REDACTED,
}


class TimestampFormat(StrEnum):
    """How the result writes TIMESTAMP (`formatOptions.useInt64Timestamp`, `timestampOutputFormat`)."""

    FLOAT = "float"  # seconds, the default
    INT64 = "int64"  # microseconds
    ISO8601 = "iso8601"


class ShapeMismatch(ValueError):
    """A row does not have the described columns: nothing of it may be shown."""


def result_columns(schema: Mapping[str, Json]) -> tuple[ResultColumn, ...]:
    """Return the columns a `TableSchema` resource describes. Raises ValueError on anything that is not one."""
    return tuple(map(_column, fields_of(schema)))


def _column(item: FieldSchema) -> ResultColumn:
    return ResultColumn(
        name=item.name,
        type_name=item.type,
        mode=item.mode,
        format=1 if item.type == "BYTES" else 0,
        fields=tuple(map(_column, item.fields)),
    )


class RowMasker:
    """Masks the rows of one result, page after page, and counts what it masked.

    A value under a rule counts once it is there; one the detectors only looked at counts when they changed it.
    """

    def __init__(
        self,
        plan: MaskingPlan,
        columns: Sequence[ResultColumn],
        *,
        timestamps: TimestampFormat = TimestampFormat.FLOAT,
    ) -> None:
        if len(plan.fields) != len(columns):
            raise ShapeMismatch(f"a plan of {len(plan.fields)} fields, expected {len(columns)}")
        self._counts: dict[tuple[str, str, str], int] = {}
        self._timestamps = timestamps
        self._width = len(columns)
        cells = (self._cell(field, column, "") for field, column in zip(plan.fields, columns, strict=True))
        self._cells = [(index, cell) for index, cell in enumerate(cells) if cell is not None]

    def mask_rows(self, rows: Iterable[Json]) -> list[Json]:
        """Return the rows as they may be shown. Raises ShapeMismatch."""
        return [_mask_record(row, self._width, self._cells) for row in rows]

    def counts(self) -> tuple[tuple[str, str, str, int], ...]:
        """(column by path, rule, technique, values masked), in the order of the columns."""
        return tuple((*key, count) for key, count in self._counts.items())

    def _cell(self, field: FieldMask, column: ResultColumn, prefix: str) -> Cell | None:
        """The mask of one column's `v`, None when it passes unchanged."""
        if field.masks_nothing:
            return None
        path = prefix + column.name
        if field.mask is not None and (column.fields or field.technique == WHOLE):
            return self._constant_cell(field, column, path)
        inner = self._record_cell(field, column, path) if column.fields else self._scalar_cell(field, column, path)
        return _each(inner) if column.mode == "REPEATED" else inner

    def _constant_cell(self, field: FieldMask, column: ResultColumn, path: str) -> Cell:
        key, constant = (path, field.rule, field.technique), _hidden(column, self._timestamps)
        self._counts[key] = 0

        def hide(_value: Json) -> Json:
            self._counts[key] += 1
            return constant

        return hide

    def _record_cell(self, field: FieldMask, column: ResultColumn, path: str) -> Cell:
        parts = (self._cell(f, c, path + ".") for f, c in zip(field.fields, column.fields, strict=True))
        cells = [(index, cell) for index, cell in enumerate(parts) if cell is not None]
        width = len(column.fields)
        return lambda value: None if value is None else _mask_record(value, width, cells)

    def _scalar_cell(self, field: FieldMask, column: ResultColumn, path: str) -> Cell:
        assert field.mask is not None
        key = (path, field.rule, field.technique)
        self._counts[key] = 0
        mask = _over_text(field.mask, column, self._timestamps)
        instead = _zero(column, self._timestamps) if column.mode == "REQUIRED" else None

        def masked(value: Json) -> Json:
            if value is not None and not isinstance(value, str):
                raise ShapeMismatch("a scalar that is no text")
            shown = mask(value)
            if value is not None and (shown != value or not field.scans_text):
                self._counts[key] += 1
            return instead if shown is None else shown

        return masked


def _mask_record(row: Json, width: int, cells: Sequence[tuple[int, Cell]]) -> Json:
    values = row.get("f") if isinstance(row, Mapping) else None
    if not isinstance(values, list) or len(values) != width:
        raise ShapeMismatch(f"a row that has not {width} values")
    shown = list(values)
    for index, cell in cells:
        if not isinstance(values[index], Mapping):
            raise ShapeMismatch("a value that is no object")
        shown[index] = {"v": cell(values[index].get("v"))}
    return {"f": shown}


def _each(inner: Cell) -> Cell:
    """An array: every element is masked for itself; how many there are is no value of a column."""

    def masked(value: Json) -> Json:
        if not isinstance(value, list):
            if value is None:
                return []
            raise ShapeMismatch("an array that is no list")
        shown = [inner(item.get("v") if isinstance(item, Mapping) else item) for item in value]
        return [{"v": item} for item in shown if item is not None]  # arrays of results hold no NULL

    return masked


# --- constants -------------------------------------------------------------------------------------------------------


def _hidden(column: ResultColumn, timestamps: TimestampFormat) -> Json:
    """What a whole mask leaves of a column, whatever was in it."""
    if column.mode == "REPEATED":
        return []
    if column.mode == "REQUIRED":
        return _zero(column, timestamps)
    if column.type_name == "STRING":
        return _REDACTED
    return _ZEROS["JSON"] if column.type_name == "JSON" else None


def _zero(column: ResultColumn, timestamps: TimestampFormat) -> Json:
    if column.fields:
        return {"f": [{"v": _hidden(part, timestamps)} for part in column.fields]}
    if column.type_name == "TIMESTAMP":
        return {
            TimestampFormat.FLOAT: "0.0",
            TimestampFormat.INT64: "0",
            TimestampFormat.ISO8601: "1970-01-01T00:00:00Z",
        }[timestamps]
    return _ZEROS.get(column.type_name, _REDACTED)


# --- scalars ---------------------------------------------------------------------------------------------------------


def _over_text(
    mask: MaskValue, column: ResultColumn, timestamps: TimestampFormat
) -> Callable[[str | None], str | None]:
    """A mask over bytes as a mask over what the wire says. What cannot be decoded is not shown."""
    if column.type_name == "BYTES":
        return lambda value: _masked_bytes(mask, value)
    if column.type_name == "TIMESTAMP" and timestamps is not TimestampFormat.ISO8601:
        return lambda value: _masked_time(mask, value, timestamps)
    return lambda value: _decoded(mask(None if value is None else value.encode()))


def _decoded(shown: bytes | None) -> str | None:
    return None if shown is None else shown.decode()


def _masked_bytes(mask: MaskValue, value: str | None) -> str | None:
    try:
        raw = None if value is None else base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    shown = mask(raw)
    return value if shown is raw else None if shown is None else base64.b64encode(shown).decode()


def _masked_time(mask: MaskValue, value: str | None, timestamps: TimestampFormat) -> str | None:
    """Numbers are masked as the date they stand for, and become numbers of the same form again."""
    try:
        shown = mask(None if value is None else _iso_of(value, timestamps).encode())
        return None if shown is None else _number_of(shown.decode(), timestamps)
    except (ValueError, OverflowError):
        return None


def _iso_of(value: str, timestamps: TimestampFormat) -> str:
    micros = int(value) if timestamps is TimestampFormat.INT64 else round(float(value) * 1_000_000)
    moment = _EPOCH + timedelta(microseconds=micros)
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds") + " UTC"


def _number_of(shown: str, timestamps: TimestampFormat) -> str:
    moment = datetime.fromisoformat(shown.removesuffix(" UTC").strip()).replace(tzinfo=UTC)
    micros = (moment - _EPOCH) // timedelta(microseconds=1)
    return str(micros) if timestamps is TimestampFormat.INT64 else repr(micros / 1_000_000)
