"""Protected data touched within a window, a line for each principal and connection: for the console's first page."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from hoopweb.console.coverage import reference_of
from masking.domain.load import load_masking_rules
from masking.domain.rules import rules_for

MAX_AGENTS = 20

_TOUCHED = """
    SELECT subject, connection, count(*) AS statements,
           count(*) FILTER (WHERE status = 'denied') AS denied,
           coalesce(sum(rows), 0) AS rows,
           coalesce(sum((SELECT sum((mask ->> 'count')::bigint) FROM jsonb_array_elements(masked) mask)), 0) AS masked
      FROM audit_statementrecord
     WHERE at >= %s AND jsonb_array_length(classes) > 0
     GROUP BY subject, connection
     ORDER BY statements DESC, subject
     LIMIT %s
"""
_CLASSES = """
    SELECT DISTINCT subject, connection, jsonb_array_elements_text(classes)
      FROM (SELECT DISTINCT subject, connection, classes FROM audit_statementrecord WHERE at >= %s) AS alike
     ORDER BY 3
"""
# Which stored columns were shown as they are; whether they ought to have been masked is asked of the rules.
_CLEAR = """
    SELECT subject, connection, origin, sum(rows)::bigint
      FROM audit_statementrecord, jsonb_array_elements(shown) AS result,
           jsonb_array_elements_text(result -> 'of') AS origin
     WHERE at >= %s AND rows > 0 AND result ->> 'as' = 'clear'
     GROUP BY subject, connection, origin
"""

Key = tuple[str, str]  # subject, connection


@dataclass(frozen=True, slots=True)
class Touched:
    """`clear`: values of columns that a rule covers and that were shown as stored (exempt groups, emergencies)."""

    subject: str
    connection: str
    statements: int
    denied: int
    rows: int
    masked: int
    clear: int
    classes: tuple[str, ...]


def touched_since(since: datetime) -> list[Touched]:
    """The busiest MAX_AGENTS pairs of principal and connection. Three queries and the rules."""
    with connection.cursor() as cursor:
        cursor.execute(_CLASSES, [since])
        classes: dict[Key, list[str]] = defaultdict(list)
        for subject, name, data_class in cursor.fetchall():
            classes[subject, name].append(data_class)
        cursor.execute(_CLEAR, [since])
        clear = _covered(cursor.fetchall())
        cursor.execute(_TOUCHED, [since, MAX_AGENTS])
        return [
            Touched(*key, statements, denied, int(rows), int(masked), clear[key], tuple(classes.get(key, ())))
            for *names, statements, denied, rows, masked in cursor.fetchall()
            if (key := (names[0], names[1]))
        ]


def _covered(shown: list[tuple[str, str, str, int]]) -> Counter[Key]:
    rules = load_masking_rules()
    found: Counter[Key] = Counter()
    for subject, name, origin, rows in shown:
        reference = reference_of(origin)
        if reference is not None and rules_for(rules, name).rule_for(reference) is not None:
            found[subject, name] += rows
    return found
