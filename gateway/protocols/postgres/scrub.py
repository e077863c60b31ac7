"""Errors and notices that lose their values: severity, SQLSTATE and position stay, text that may quote data goes.

PostgreSQL quotes rows in messages (`invalid input syntax for type integer: "078-05-1120"`), in DETAIL
(`Failing row contains (…)`, `Key (ssn)=(…) already exists`) and in CONTEXT (`COPY patients, line 3, column ssn: "…"`).

The SQLSTATE alone does not tell: `ssn::regclass` says `relation "078-05-1120" does not exist` with the code of a
misspelt table. What tells is *when* an error came. Nothing is evaluated while a Parse is answered, so its message is
made of the statement's own words and may stay. Afterwards a message stays only when its code belongs to a class of
fixed texts, or when it fits a known template whose names all occur in the statement; everything else becomes a sentence
of ours for its SQLSTATE. A CONTEXT means code of a function spoke (RAISE takes any SQLSTATE): never kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Fields that never carry values: severity (S, V), SQLSTATE, position, and the server's own source location.
_ALWAYS_KEPT = ("S", "V", "C", "P", "F", "L", "R")

# Names of schema objects in an error about a constraint: schema, table, column, data type, constraint.
_OBJECT_NAMES = ("s", "t", "c", "d", "n")

# SQLSTATE classes whose texts are fixed, also at execution: success, connection, transaction state, serialization and
# deadlock, resources, operator intervention (Appendix A of the PostgreSQL documentation).
_FIXED_TEXTS = ("00", "03", "08", "25", "40", "53", "57")

_GENERIC = {
    "22001": "value too long for its type",
    "22003": "numeric value out of range",
    "22007": "invalid input syntax for a date or time type",
    "22008": "date/time field value out of range",
    "22011": "invalid substring length",
    "22012": "division by zero",
    "22021": "invalid byte sequence for the encoding",
    "22023": "invalid parameter value",
    "22025": "invalid escape sequence",
    "2201B": "invalid regular expression",
    "22026": "string length mismatch",
    "22P02": "invalid input syntax",
    "22P03": "invalid binary representation",
    "22P04": "bad COPY file format",
    "22030": "duplicate JSON object key value",
    "22032": "invalid JSON text",
    "2200N": "invalid XML content",
    "23502": "null value violates a not-null constraint",
    "23503": "the change violates a foreign key constraint",
    "23505": "duplicate key value violates a unique constraint",
    "23514": "the new row violates a check constraint",
    "23P01": "conflicting key value violates an exclusion constraint",
    "21000": "a subquery returned more than one row",
    "0A000": "a feature that is not supported",
    "26000": "the prepared statement does not exist",
    "34000": "the cursor does not exist",
    "3D000": "the database does not exist",
    "3F000": "the schema does not exist",
    "40001": "could not serialize access",
    "40P01": "deadlock detected",
    "57014": "canceling statement",
    "42501": "permission denied",
    "42601": "syntax error",
    "42703": "undefined column",
    "42704": "undefined object",
    "42710": "the object already exists",
    "42883": "undefined function",
    "42P01": "undefined relation",
    "42P07": "the relation already exists",
    "55000": "the object is not in the required state",
    "55P03": "a lock is not available",
    "P0001": "an exception was raised; its text is withheld on this connection",
    "P0002": "a query returned no rows",
    "P0003": "a query returned more than one row",
    "P0004": "an assertion failed; its text is withheld on this connection",
    "XX000": "internal error of the database; its text is withheld on this connection",
}
_WITHHELD = "the database reported an error; its text is withheld on this connection"
_NOTICE_WITHHELD = "the database sent a notice; its text is withheld on this connection"

# Only the type's name is taken from the message, never what follows it.
_TYPE_NAME = re.compile(r"invalid input syntax for (?:type )?([a-z][a-z ]{0,40}?)(?::|$)")
_KNOWN_TYPES = frozenset(
    [
        "integer",
        "smallint",
        "bigint",
        "numeric",
        "real",
        "uuid",
        "json",
        "jsonb",
        "date",
        "time",
        "timestamp",
        "interval",
        "boolean",
        "inet",
        "cidr",
        "macaddr",
        "oid",
        "bytea",
        "money",
        "xml",
    ]
) | {"double precision", "timestamp with time zone", "time with time zone", "bit string"}

_OBJECT = (
    r"(?:relation|table|schema|index|view|materialized view|sequence|type|extension|constraint|trigger|role|column|"
    r"prepared statement|cursor|portal|savepoint|database|policy|rule)"
)
_TEMPLATES = (
    re.compile(_OBJECT + r' "([^"]*)" (?:of relation "([^"]*)" )?(?:already exists|does not exist)(?:, skipping)?'),
    re.compile(r"(?:permission denied for|must be owner of) [a-z ]+ ([^ ]+)"),
    re.compile(r"there is (?:no|already a) transaction in progress"),
    re.compile(r"[A-Z ]+ can only be used in transaction blocks"),
    re.compile(r"cached plan must not change result type"),  # asyncpg acts on this text
    re.compile(r"bind message supplies \d+ parameters, but prepared statement \"[^\"]*\" requires \d+"),
)


def scrub_error(fields: Mapping[str, str], *, statement: str, parsing: bool) -> dict[str, str]:
    """Return the fields of an ErrorResponse that may reach a client of a connection with PHI.

    `parsing` says that the error answers a Parse; `statement` is the text that was being run.
    """
    sqlstate, message = fields.get("C", "XX000"), fields.get("M", "")
    kept = {code: fields[code] for code in _ALWAYS_KEPT if code in fields}
    if not parsing:
        kept.pop("P", None)  # a position at execution may point into a value (JSON, regular expressions)
    if sqlstate.startswith("23"):
        kept |= {code: fields[code] for code in _OBJECT_NAMES if code in fields}
    kept["M"] = message if _may_stay(fields, statement, parsing=parsing) else _sentence(sqlstate, message)
    return kept


def scrub_notice(fields: Mapping[str, str], *, statement: str) -> dict[str, str]:
    """The same for a NoticeResponse. RAISE NOTICE has SQLSTATE 00000 like the server's own: only templates stay."""
    kept = {code: fields[code] for code in _ALWAYS_KEPT if code in fields and code != "P"}
    known = "W" not in fields and _fits_template(fields.get("M", ""), statement)
    kept["M"] = fields["M"] if known else _NOTICE_WITHHELD
    return kept


def _may_stay(fields: Mapping[str, str], statement: str, *, parsing: bool) -> bool:
    if "W" in fields or "q" in fields:
        return False
    if parsing or fields.get("C", "").startswith(_FIXED_TEXTS):
        return True
    return _fits_template(fields.get("M", ""), statement)


def _fits_template(message: str, statement: str) -> bool:
    """Whether the message is a fixed sentence around names that the client itself wrote."""
    folded = statement.casefold()
    for pattern in _TEMPLATES:
        match = pattern.fullmatch(message)
        if match and all(name.casefold() in folded for name in match.groups() if name):
            return True
    return False


def _sentence(sqlstate: str, message: str) -> str:
    if sqlstate in {"22P02", "22007"}:
        found = _TYPE_NAME.match(message)
        if found and found[1] in _KNOWN_TYPES:
            return f"invalid input syntax for type {found[1]}"
    return _GENERIC.get(sqlstate, _WITHHELD)
