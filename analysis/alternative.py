"""Smaller statements beside one that was held or denied: what a client might send instead. Pure, and only a proposal.

Nothing here decides: each text is analysed and decided like any other before it is shown, and again when it is sent.
So the printer may lose a comment or spell a cast in another way; it is never the text that runs unasked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

MAX_CHARS = 10_000
DEFAULT_ROWS = 100


def alternatives(text: str, *, dialect: str, protected: Collection[str], most_rows: int | None) -> Iterator[str]:
    """Texts in the order of how much they leave as it was: fewer rows, no protected predicate, both, no export.

    `protected`: names of columns, without their tables. `most_rows`: what a policy lets through, where one says so.
    """
    query = _query(text, dialect)
    if query is None:
        return
    rows = most_rows or DEFAULT_ROWS
    seen = {query.sql(dialect=dialect)} if not _is_export(text) else set()
    for open_query in (query, _without_predicates(query, protected)):
        for proposed in (open_query, _limited(open_query, rows)) if open_query is not None else ():
            spelled = proposed.sql(dialect=dialect)
            if spelled not in seen:
                seen.add(spelled)
                yield spelled


def _query(text: str, dialect: str) -> exp.Query | None:
    """The one SELECT in `text`, that of a COPY (…) TO included; None for everything else."""
    if len(text) > MAX_CHARS:
        return None
    try:
        parsed = sqlglot.parse(text, dialect=dialect)
    except (SqlglotError, RecursionError):
        return None
    statement = parsed[0] if len(parsed) == 1 else None
    if isinstance(statement, exp.Copy) and isinstance(statement.this, exp.Subquery):
        statement = statement.this.unnest()
    return statement if isinstance(statement, exp.Query) else None


def _is_export(text: str) -> bool:
    return text.lstrip()[:4].upper() == "COPY"


def _limited(query: exp.Query, rows: int) -> exp.Query:
    limit = query.args.get("limit")
    known = limit.expression if isinstance(limit, exp.Limit) else None
    if isinstance(known, exp.Literal) and known.is_int and int(known.name) <= rows:
        return query
    return query.limit(rows)


def _without_predicates(query: exp.Query, protected: Collection[str]) -> exp.Query | None:
    """The query without the parts of its WHERE that compare a protected column; None when there are none."""
    names = {name.lower() for name in protected}
    where = query.args.get("where")
    if not isinstance(query, exp.Select) or where is None:
        return None
    kept = (
        [part for part in where.this.flatten() if not _mentions(part, names)] if isinstance(where.this, exp.And) else []
    )
    if not isinstance(where.this, exp.And) and not _mentions(where.this, names):
        return None
    changed = query.copy()
    changed.set("where", None)
    return changed.where(*kept) if kept else changed


def _mentions(part: exp.Expr, names: Collection[str]) -> bool:
    return any(column.name.lower() in names for column in part.find_all(exp.Column))
