"""Who saw a subject's records (45 CFR 164.528), and whose records somebody saw (164.402-408).

A number is turned into tokens under every key there is, and then forgotten: neither the log nor the index, a URL or a
log file ever holds it. Every look-up is an entry; what was looked up is in it as a token, sealed.

Both answers name their gaps: statements that met such records without naming them, and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.domain.head import stated_size
from audit.domain.subject_keys import subject_keys
from audit.domain.subjects import SubjectKey, numbers_meant, token_of
from audit.models import SubjectKeyRow

PAGE = 50
MAX_NUMBERS = 100_000  # in a list that is matched with what somebody saw
_BEGINNING, _END = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class AccountingProblem(ValueError):
    """The question cannot be answered as asked."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a question is limited to; empty means everything. `subject` is a person or an agent."""

    since: datetime = _BEGINNING
    until: datetime = _END
    subject: str = ""
    connection: str = ""
    session: str = ""

    def said(self) -> dict[str, Json]:
        words: dict[str, Json] = {name: str(value) for name, value in asdict(self).items() if isinstance(value, str)}
        return {**words, "since": self.since.isoformat(), "until": self.until.isoformat()}

    def sql(self, alias: str) -> tuple[str, list[Any]]:
        """Conditions over a statement's record, and their values."""
        parts: list[str] = [f"{alias}.at >= %s", f"{alias}.at < %s"]
        values: list[Any] = [self.since, self.until]
        named = {"subject": self.subject, "connection": self.connection, "session_id": self.session}
        for column, value in named.items():
            if value:
                parts.append(f"{alias}.{column} = %s")
                values.append(value)
        return " AND ".join(parts), values


@dataclass(frozen=True, slots=True)
class Access:
    """One execution that showed the subject's records."""

    at: datetime
    subject: str
    actor: str
    owner: str
    connection: str
    session: str
    statement: str
    entry: int
    kind: str
    status: str
    rows: int
    review: str
    clear: tuple[str, ...]  # columns shown as they are stored
    masked: tuple[str, ...]  # "column (technique)"


@dataclass(frozen=True, slots=True)
class Gap:
    """Statements that met records of the kind and do not say whose, by reason."""

    why: str
    statements: int
    rows: int


@dataclass(frozen=True, slots=True)
class Accounting:
    accesses: tuple[Access, ...]
    gaps: tuple[Gap, ...]
    after: str = ""  # where the next page begins, empty on the last


@dataclass(frozen=True, slots=True)
class Seen:
    """One subject somebody saw, by token."""

    token: str
    name: str
    statements: int
    first: datetime
    last: datetime
    clear: bool  # whether any column was shown to them unmasked


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """Whose records were seen through what the window describes."""

    subjects: dict[str, int]  # kind → how many
    statements: int
    rows: int
    columns: tuple[tuple[str, int, int], ...]  # stored column, statements that showed it clear, masked
    gaps: tuple[Gap, ...]
    seen: tuple[Seen, ...] = field(default=())  # the first of them
    more: bool = False


def tokens_for(typed: str, *, name: str) -> list[bytes]:
    """Every token the number may have. Raises AccountingProblem."""
    if not numbers_meant(typed):
        raise AccountingProblem("no number was given")
    return _tokens(typed, name=name, keys=_keys(name))


def _keys(name: str) -> list[SubjectKey]:
    if not name:
        raise AccountingProblem("no kind of subject was given, expected one such as patient")
    keys = subject_keys()
    if not keys:
        raise AccountingProblem("no connection declares subjects, so nobody's records are accounted for yet")
    return keys


def _tokens(typed: str, *, name: str, keys: Sequence[SubjectKey]) -> list[bytes]:
    return [token_of(key, name=name, number=number) for key in keys for number in numbers_meant(typed)]


def account(*, tokens: Sequence[bytes], name: str, window: Window, after: str = "", limit: int = PAGE) -> Accounting:
    """Who saw the subject, newest first, and how many statements cannot say whether they showed it."""
    place = int(after) if after.isdecimal() and len(after) < 19 else 1 << 62
    rows = list(_accesses(tokens, window, before=place, limit=limit + 1))
    more = str(rows[limit - 1].entry) if len(rows) > limit else ""
    return Accounting(tuple(rows[:limit]), gaps(name=name, window=window), more)


def all_accesses(*, tokens: Sequence[bytes], window: Window) -> Iterator[Access]:
    """Every access, newest first, for a report; read in portions."""
    place = 1 << 62
    while rows := list(_accesses(tokens, window, before=place, limit=1_000)):
        yield from rows
        place = rows[-1].entry


def _accesses(tokens: Sequence[bytes], window: Window, *, before: int, limit: int) -> Iterator[Access]:
    # The entry says who and when; the record, which may be past its retention, says the rest.
    conditions, values = window.sql("e")
    # By token, so that each is read from its end: a patient may have been seen by half of all statements.
    query = (
        "SELECT found.* FROM unnest(%s::bytea[]) AS asked(token), LATERAL ("  # noqa: S608
        "SELECT e.at, e.subject, coalesce(s.actor, ''), coalesce(s.owner, ''), e.connection, e.session_id,"
        " e.statement_id, e.seq, coalesce(s.kind, ''), coalesce(s.status, ''), coalesce(s.rows, 0),"
        " coalesce(s.review, ''), coalesce(s.shown, '[]') FROM audit_subjectsighting AS g"
        " JOIN audit_logentry AS e ON e.seq = g.seq LEFT JOIN audit_statementrecord AS s ON s.id = e.statement_id"
        f" WHERE g.token = asked.token AND g.seq < %s AND {conditions} ORDER BY g.seq DESC LIMIT %s"
        ") AS found ORDER BY found.seq DESC LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [list(tokens), before, *values, limit, limit])
        for row in cursor.fetchall():
            facts: tuple[Any, ...] = (*row[:-1], *_states(_json(row[-1])))
            yield Access(*facts)


def gaps(*, name: str, window: Window) -> tuple[Gap, ...]:
    """Statements of the window that met records of this kind (any kind where empty) without naming whose."""
    conditions, values = window.sql("s")
    query = (  # the first conditions are those of the index over such statements (audit.models)
        "SELECT why, count(*), coalesce(sum(rows), 0)::bigint FROM (SELECT s.rows, CASE WHEN s.status = 'running'"  # noqa: S608
        " THEN 'running' WHEN s.subjects = '[]' THEN CASE WHEN s.rows > 0 THEN 'not-said' END"
        " ELSE (SELECT min(k ->> 'why') FROM jsonb_array_elements(s.subjects) AS k"
        " WHERE (%s = '' OR k ->> 'name' = %s) AND NOT (k -> 'known')::boolean) END AS why"
        " FROM audit_statementrecord AS s WHERE NOT s.about = '[]' AND (s.subjects = '[]' OR"
        " s.subjects @> '[{\"known\": false}]') AND (%s = '' OR s.about ? %s)"
        f" AND {conditions} OFFSET 0) AS met WHERE why IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [name] * 4 + values)
        return tuple(Gap(*row) for row in cursor.fetchall())


def blast_radius(*, window: Window, limit: int = PAGE) -> BlastRadius:
    """Whose records were seen, in what state, and what cannot be said."""
    found = list(_seen(window, limit=limit + 1))
    conditions, values = window.sql("s")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(sum(s.rows), 0)::bigint FROM audit_statementrecord AS s"  # noqa: S608
            f" WHERE s.about <> '[]' AND {conditions} AND s.status NOT IN ('denied', 'held')",
            values,
        )
        statements, rows = cursor.fetchone()
        cursor.execute(
            "SELECT col, count(*) FILTER (WHERE state IN ('clear', 'scan')),"  # noqa: S608
            " count(*) FILTER (WHERE state NOT IN ('clear', 'scan'))"
            " FROM audit_statementrecord AS s, jsonb_array_elements(s.shown) AS c,"
            " LATERAL (SELECT c ->> 'as' AS state) AS st, jsonb_array_elements_text(c -> 'of') AS col"
            f" WHERE s.about <> '[]' AND s.rows > 0 AND {conditions} GROUP BY 1 ORDER BY 2 DESC, 1",
            values,
        )
        columns = tuple(cursor.fetchall())
    return BlastRadius(
        subjects=_counted(window),
        statements=statements,
        rows=rows,
        columns=columns,
        gaps=gaps(name="", window=window),
        seen=tuple(found[:limit]),
        more=len(found) > limit,
    )


def all_seen(*, window: Window) -> Iterator[Seen]:
    """Every subject that was seen, for a report."""
    return _seen(window, limit=None)


def match_numbers(*, typed: Sequence[str], name: str, window: Window) -> list[tuple[str, Seen]]:
    """Which of these numbers are among those seen: how tokens become people who must be told (164.404).

    Raises AccountingProblem.
    """
    if len(typed) > MAX_NUMBERS:
        raise AccountingProblem(f"{len(typed)} numbers were given, expected no more than {MAX_NUMBERS}")
    keys = _keys(name)
    by_token = {token.hex(): number for number in typed for token in _tokens(number, name=name, keys=keys)}
    return [(by_token[seen.token], seen) for seen in all_seen(window=window) if seen.token in by_token]


# A statement's record names its last entry, which has its subjects; of a large result earlier entries have some too.
_SIGHTINGS = (
    "(SELECT g.token, g.name, s.id, s.at, s.shown FROM audit_statementrecord AS s"
    " JOIN audit_subjectsighting AS g ON g.seq = s.last_seq WHERE s.about <> '[]' AND {conditions}"
    " UNION ALL SELECT g.token, g.name, s.id, s.at, s.shown FROM audit_logentry AS e"
    " JOIN audit_statementrecord AS s ON s.id = e.statement_id JOIN audit_subjectsighting AS g ON g.seq = e.seq"
    " WHERE e.kind = 'statement.subjects' AND {conditions}) AS sighting"
)


def _seen(window: Window, *, limit: int | None) -> Iterator[Seen]:
    conditions, values = window.sql("s")
    query = (
        "SELECT token, min(name), count(DISTINCT id), min(at), max(at), bool_or(jsonb_array_length(shown) = 0 OR"  # noqa: S608
        ' jsonb_path_exists(shown, \'$[*] ? (@.as == "clear" || @.as == "scan")\'))'
        f" FROM {_SIGHTINGS.format(conditions=conditions)} GROUP BY token ORDER BY 3 DESC, 1 LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [*values, *values, limit])
        for token, *facts in cursor.fetchall():
            yield Seen(bytes(token).hex(), *facts)


def _counted(window: Window) -> dict[str, int]:
    conditions, values = window.sql("s")
    source = _SIGHTINGS.format(conditions=conditions)
    with connection.cursor() as cursor:
        query = f"SELECT name, count(DISTINCT token) FROM {source} GROUP BY 1 ORDER BY 1"  # noqa: S608
        cursor.execute(query, [*values, *values])
        return dict(cursor.fetchall())


def record_look_up(
    *, viewer: str, what: str, name: str, window: Window, found: int, tokens: Sequence[bytes] = (), given: int = 0
) -> None:
    """Leave an entry of a look-up. `given`: how many numbers somebody matched."""
    body: dict[str, Json] = {
        "subject": viewer,
        "what": what,
        "name": name,
        "window": window.said(),
        "found": found,
        "given": given,
        "size": stated_size(),
    }
    sensitive: dict[str, Json] | None = {"tokens": [token.hex() for token in tokens]} if tokens else None
    append_entries([Entry(kind="subjects.looked_up", body=body, sensitive=sensitive)])


def erased_keys() -> int:
    """How many keys are erased: what was seen under them is found by nobody."""
    return SubjectKeyRow.objects.exclude(erased_at=None).count()


def _states(shown: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what was shown as it is stored, what was not). Of a column that was searched, everything the detectors did not
    find was shown: it counts as clear."""
    labels = {"clear": "{column}", "scan": "{column} (searched)"}
    clear = tuple(labels[c["as"]].format(column=c["column"]) for c in shown if c["as"] in labels)
    return clear, tuple(f"{c['column']} ({c['as']})" for c in shown if c["as"] not in labels)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
