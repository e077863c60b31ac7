"""Which types a mask must stay valid for: PostgreSQL type OIDs and the type names of kinds without OIDs.

A family says how a value is encoded on the wire and therefore what a mask may put in its place. Whatever is not
listed (enums, composites, arrays, ranges, extension types) is UNKNOWN: only NULL is valid for it in every driver.
Domains never arrive here: PostgreSQL describes a result column of a domain by its base type (`getBaseTypeAndTypmod`
in `SendRowDescriptionMessage`). OIDs are those of `pg_type.dat`, fixed since they were assigned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

# One value in the result's own encoding: None is SQL NULL.
MaskValue = Callable[[bytes | None], bytes | None]

REDACTED = b"[REDACTED]"
OLDEST_SHOWN_AGE = 90


class ConstantMask:
    """A `MaskValue` that puts one value in the place of every other.

    Compiled loops read `constant`, (value, whether NULL stays NULL), and call nothing.
    """

    __slots__ = ("constant",)

    def __init__(self, value: bytes | None, *, keeps_null: bool) -> None:
        self.constant = (value, keeps_null)

    def __call__(self, value: bytes | None) -> bytes | None:
        constant, keeps_null = self.constant
        return None if keeps_null and value is None else constant


class Family(StrEnum):
    TEXT = "text"  # UTF-8 in both formats
    JSON = "json"  # UTF-8 text in both formats
    JSONB = "jsonb"  # binary: a version byte 1, then the text
    INTEGER = "integer"  # binary: big-endian two's complement of `width` bytes
    DATE = "date"  # binary: int32 days since 2000-01-01
    TIMESTAMP = "timestamp"  # binary: int64 microseconds since 2000-01-01
    UUID = "uuid"  # binary: 16 bytes
    BYTES = "bytes"  # binary: raw; text: \\x and hexadecimal digits
    SCALAR = "scalar"  # another known type that cannot carry free text
    UNKNOWN = "unknown"  # may carry anything


@dataclass(frozen=True, slots=True)
class Target:
    """The encoding a mask is compiled for."""

    family: Family
    width: int = 0  # bytes of a binary INTEGER
    blank_padded: bool = False  # bpchar: trailing blanks are not part of the value
    binary: bool = False


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """What a rule adds to its technique. `this_year` anchors "over 89"; `key` is empty when none was configured."""

    data_class: str
    keep: int = 4
    this_year: int = 0
    key: bytes = b""

    @property
    def oldest_shown_year(self) -> int:
        """An earlier one would tell an age over 89 (45 CFR 164.514(b)(2)(i)(C))."""
        return self.this_year - OLDEST_SHOWN_AGE


_POSTGRES: dict[int, tuple[Family, int]] = {
    16: (Family.SCALAR, 1),  # bool
    17: (Family.BYTES, 0),
    18: (Family.SCALAR, 1),  # "char"
    19: (Family.TEXT, 0),  # name
    20: (Family.INTEGER, 8),
    21: (Family.INTEGER, 2),
    23: (Family.INTEGER, 4),
    25: (Family.TEXT, 0),
    26: (Family.SCALAR, 4),  # oid
    28: (Family.SCALAR, 4),  # xid
    114: (Family.JSON, 0),
    650: (Family.SCALAR, 0),  # cidr
    700: (Family.SCALAR, 4),  # float4
    701: (Family.SCALAR, 8),  # float8
    705: (Family.TEXT, 0),  # unknown: untyped literals
    774: (Family.SCALAR, 8),  # macaddr8
    790: (Family.SCALAR, 8),  # money
    829: (Family.SCALAR, 6),  # macaddr
    869: (Family.SCALAR, 0),  # inet
    1042: (Family.TEXT, 0),  # bpchar
    1043: (Family.TEXT, 0),  # varchar
    1082: (Family.DATE, 4),
    1083: (Family.SCALAR, 8),  # time
    1114: (Family.TIMESTAMP, 8),
    1184: (Family.TIMESTAMP, 8),  # timestamptz
    1186: (Family.SCALAR, 16),  # interval
    1266: (Family.SCALAR, 12),  # timetz
    1560: (Family.SCALAR, 0),  # bit
    1562: (Family.SCALAR, 0),  # varbit
    1700: (Family.SCALAR, 0),  # numeric
    2278: (Family.SCALAR, 0),  # void
    2950: (Family.UUID, 16),
    3802: (Family.JSONB, 0),
    3220: (Family.SCALAR, 8),  # pg_lsn
}

# Identifiers of the catalogue, and arrays and ranges of types that cannot carry free text: masked to NULL like UNKNOWN,
# but not searched for it (an oidvector reads like a telephone number).
_TEXTLESS: tuple[tuple[int, ...], ...] = (
    (22, 24, 27, 29, 30, 2202, 2203, 2204, 2205, 2206, 4089, 4096),  # int2vector, regproc … regrole
    (1000, 1005, 1006, 1007, 1010, 1013, 1016, 1021, 1022, 1028, 1115, 1182, 1183, 1185, 1187, 1231, 2951),  # arrays
    (3904, 3906, 3908, 3910, 3912, 3926, 4451, 4532, 4533, 4534, 4535, 4536),  # ranges and multiranges
    (600, 601, 602, 603, 604, 628, 718),  # geometry
)
_POSTGRES.update({oid: (Family.SCALAR, 0) for oids in _TEXTLESS for oid in oids})

# Kinds that describe columns by name send every value as text, BYTES aside (its wire decodes them: `binary`).
_NAMED: dict[str, Family] = {
    "STRING": Family.TEXT,
    "TEXT": Family.TEXT,
    "VARCHAR": Family.TEXT,
    "CHAR": Family.TEXT,
    "JSON": Family.JSON,
    "INT64": Family.INTEGER,
    "INTEGER": Family.INTEGER,
    "DATE": Family.DATE,
    "DATETIME": Family.TIMESTAMP,
    "TIMESTAMP": Family.TIMESTAMP,
    "FLOAT64": Family.SCALAR,
    "FLOAT": Family.SCALAR,
    "NUMERIC": Family.SCALAR,
    "BIGNUMERIC": Family.SCALAR,
    "BOOL": Family.SCALAR,
    "BOOLEAN": Family.SCALAR,
    "TIME": Family.SCALAR,
    "BYTES": Family.BYTES,
    "INTERVAL": Family.SCALAR,
    "RANGE": Family.SCALAR,
    "BIGDECIMAL": Family.SCALAR,
    "DECIMAL": Family.SCALAR,
}

_BPCHAR = 1042


def target_for(*, type_oid: int, binary: bool, type_name: str = "") -> Target:
    """Return the encoding of a result column; `type_name`, where given, is believed over the OID."""
    if type_name:
        return Target(_NAMED.get(type_name.upper(), Family.UNKNOWN), width=8, binary=binary)
    family, width = _POSTGRES.get(type_oid, (Family.UNKNOWN, 0))
    return Target(family, width=width, blank_padded=type_oid == _BPCHAR, binary=binary)


def text_of(value: bytes, target: Target) -> str | None:
    """Decode a TEXT value without its padding; None when it is not UTF-8 (then only a whole mask is safe)."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text.rstrip(" ") if target.blank_padded else text
