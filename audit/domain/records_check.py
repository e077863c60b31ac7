"""Whether the records people browse still say what the log says.

The log is projected once more, by the code that wrote the records, into temporary tables of the same names (PostgreSQL
looks for a relation in `pg_temp` first), and the two are compared row by row, in one snapshot of the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from audit.domain.canonical import Draft
from audit.domain.certificates import PROJECTIONS
from audit.domain.chain import Leaf, Prepared
from audit.domain.entry import Entry
from audit.domain.findings import Finding
from audit.domain.projection import project
from audit.domain.purges import certified_gone
from audit.domain.session_counts import counted_records
from audit.models import LogEntry

RECORDS = {"audit_sessionrecord": "session", "audit_statementrecord": "statement"}
_COLUMNS = {"audit_sessionrecord": ("opened_at", "id"), "audit_statementrecord": ("at", "session_id")}
# No record ends before it began: the newest statements are found by the index of where they end.
_BEGAN_AFTER = {
    "audit_sessionrecord": "first_seq > %s",
    "audit_statementrecord": "first_seq > %s AND last_seq > %s",
}
_PAGE = 500
_MOST = 20
_NOT_A_LEAF = Draft(b"", b"")


def check_records(*, newest: int | None = None) -> list[Finding]:
    """Compare the records with the log; with `newest`, only those that began within that many entries of its end.

    Returns the first differences, by the entry each record began with.
    """
    alone = not connection.in_atomic_block
    with connection.cursor() as cursor:
        end = _newest(cursor)
        start = max(0, end - newest) if newest is not None else 0
        schema = _shadow(cursor)
        try:
            # Entries never change, so no snapshot is kept while most of them are projected: appends would read every
            # version of the log's head since then. What came meanwhile is few, and projected within the one snapshot.
            _project(start, end)
            with transaction.atomic():
                if alone:  # what is appended from here on is then in neither reading
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                _project(end, _newest(cursor))
                return _differences(cursor, schema, start)[:_MOST]
        finally:
            _drop_shadow(cursor)


def _drop_shadow(cursor: CursorWrapper) -> None:
    """Nothing may find the twins any more: where they cannot be dropped, they go with the connection."""
    try:
        for table in RECORDS:
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{table}")
    except BaseException:
        connection.close()
        raise


def _newest(cursor: CursorWrapper) -> int:
    cursor.execute("SELECT coalesce(max(seq), 0) FROM audit_logentry")
    return int(cursor.fetchone()[0])


def _project(start: int, end: int) -> None:
    for leaves, prepared in _batches(start, end):
        project(leaves, prepared, shadowed=True)


def _shadow(cursor: CursorWrapper) -> str:
    """Empty twins of the record tables, found before the real ones. Returns the schema the real ones are in."""
    cursor.execute("SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'audit_sessionrecord'::regclass")
    (schema,) = cursor.fetchone()
    for table in RECORDS:
        cursor.execute(f"CREATE TEMP TABLE {table} (LIKE {schema}.{table} INCLUDING DEFAULTS)")
        cursor.execute(f"ALTER TABLE pg_temp.{table} ADD PRIMARY KEY (id)")
    return str(schema)


def _batches(start: int, end: int) -> Iterator[tuple[Sequence[Leaf], Sequence[Prepared]]]:
    after = start
    while after < end:
        rows = list(
            LogEntry.objects.filter(seq__gt=after, seq__lte=end).order_by("seq").values_list("seq", "canonical")[:_PAGE]
        )
        if not rows:
            return
        pairs = [pair for seq, canonical in rows if (pair := _read(seq, bytes(canonical))) is not None]
        yield [leaf for leaf, _ in pairs], [prepared for _, prepared in pairs]
        after = rows[-1][0]


def _read(seq: int, canonical: bytes) -> tuple[Leaf, Prepared] | None:
    try:
        content: dict[str, Any] = json.loads(canonical)
        entry = Entry(
            kind=content["kind"],
            body=content["body"],
            session_id=content["session"],
            statement_id=content["statement"],
            at_us=content["at_us"],
        )
        return Leaf(seq, b"", b"", b""), Prepared(entry, content["gateway"], _NOT_A_LEAF, b"")
    except (ValueError, KeyError, TypeError):
        return None  # damaged: the chain's check names it


def _differences(cursor: CursorWrapper, schema: str, start: int) -> list[Finding]:
    findings: list[Finding] = []
    for table, word in RECORDS.items():
        at, session = _COLUMNS[table]
        purged, values = certified_gone(PROJECTIONS, table="log", at=at, session=session)
        stored = counted_records(cursor, schema) if word == "session" else f"SELECT * FROM {schema}.{table}"  # noqa: S608
        cursor.execute(
            "SELECT coalesce(log.first_seq, stored.first_seq), stored.id IS NULL, log.id IS NULL"  # noqa: S608
            f" FROM (SELECT * FROM pg_temp.{table} WHERE first_seq > %s) AS log"
            f" FULL JOIN (SELECT * FROM ({stored}) AS kept WHERE {_BEGAN_AFTER[table]}) AS stored ON stored.id = log.id"
            f" WHERE log IS DISTINCT FROM stored AND NOT (stored.id IS NULL AND ({purged})) ORDER BY 1 LIMIT %s",
            [start, *[start] * _BEGAN_AFTER[table].count("%s"), *values, _MOST],
        )
        for seq, missing, stranger in cursor.fetchall():
            kind, detail = _named(word, missing=missing, stranger=stranger)
            findings.append(Finding(seq, kind, detail))
    return sorted(findings, key=lambda finding: finding.seq)


def _named(word: str, *, missing: bool, stranger: bool) -> tuple[str, str]:
    if missing:
        return "record-missing", f"the {word}'s record is gone"
    if stranger:
        return "record-inserted", f"a {word}'s record that no entry of the log makes"
    return "record-edited", f"the {word}'s record does not say what the log says"
