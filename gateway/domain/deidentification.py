"""Report: what becomes of each identifier of 45 CFR 164.514(b)(2), by connection, under the rules as they stand now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection

from audit.domain.reports import Kind, Period, register
from gateway.domain.access_reports import known_columns
from gateway.models import Connection
from masking.domain.load import load_masking_rules
from masking.domain.rules import rules_for
from masking.domain.safe_harbor import Finding, judge
from masking.domain.tags import confirmed_classes, dismissed_columns

Row = Sequence[Any]
_CATALOGUES = ("pg_catalog.", "information_schema.")


def register_report() -> None:
    register(
        "de-identification",
        Kind(
            "De-identification by the Safe Harbor method",
            "164.514(b)(2)",
            (
                "connection",
                "identifier",
                "column",
                "class",
                "rule",
                "technique",
                "becomes",
                "satisfied",
                "exempt groups",
            ),
            de_identification,
            "One row for each known column that tells of an identifier: tagged columns, those rules name, and those "
            "that were read in the period. Tokens, last characters and searched texts do not satisfy the method. "
            "Whether the rest could identify somebody is not for a report to say.",
        ),
    )


def de_identification(period: Period) -> Iterator[Row]:
    rules, named = load_masking_rules(), known_columns()
    for name in Connection.objects.filter(phi=True).order_by("name").values_list("name", flat=True):
        columns = sorted(column for column in {*named.get(name, ()), *_read(name, period)} if _is_stored(column))
        found = judge(
            columns,
            rules=rules_for(rules, name),
            tagged=confirmed_classes(name),
            dismissed=dismissed_columns(name),
        )
        yield from (_row(name, finding) for finding in found)


def _row(name: str, finding: Finding) -> Row:
    return [
        name,
        f"({finding.identifier.letter}) {finding.identifier.title}",
        finding.column,
        finding.data_class,
        finding.rule,
        finding.technique,
        finding.verdict.value,
        "yes" if finding.satisfied else "no",
        " ".join(finding.exempt),
    ]


def _read(name: str, period: Period) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT jsonb_array_elements_text(columns_read) FROM audit_statementrecord"
            " WHERE connection = %s AND at >= %s AND at < %s AND status <> 'denied'",
            [name, period.since, period.until],
        )
        return {str(column) for (column,) in cursor.fetchall()}


def _is_stored(column: str) -> bool:
    return column.count(".") >= 2 and not column.startswith(_CATALOGUES)
