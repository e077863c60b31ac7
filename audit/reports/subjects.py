"""Reports about subjects: the accounting of one's disclosures (164.528), and whose records somebody saw (164.402).

Both answer a sealed question (audit.domain.subject_question), in tables of their own, and prove the entries behind
them. Neither holds the number that was asked for: whoever asked knows it, and writes it on the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from audit.domain.accounting import Access, Gap, Window, all_accesses, all_seen, blast_radius, gaps
from audit.domain.bundle import Scope
from audit.domain.reports import Kind
from audit.domain.subject_question import Question

ACCOUNTING, BLAST_RADIUS = "accounting", "blast-radius"
MAX_PLACES = 200_000  # entries proved one by one; beyond, the bundle is of the whole period
REASONS = {
    "no-key": "the result did not carry the number",
    "incomplete": "the statement could not be read to its end",
    "type": "the number came in a form that is not read",
    "write": "records were changed, and nothing came back that would name them",
    "unfinished": "the process was killed before it could say",
    "no-subject-key": "there was no key to make tokens with",
    "row-without-number": "some rows had no number",
    "not-said": "recorded before subjects were declared, or by an older version",
    "running": "still running",
}


@dataclass(frozen=True, slots=True)
class SubjectReport:
    title: str
    section: str
    said: str


_PROVES = (
    "proof.bundle holds the entries behind every line, each with its proof of inclusion in the signed log. Whose "
    "records an entry is about is sealed in it, as keyed tokens: the nightly check compares the index with them, and a "
    "bundle with texts discloses them."
)
SUBJECT_REPORTS: Mapping[str, SubjectReport] = {
    ACCOUNTING: SubjectReport(
        "Accounting of disclosures",
        "164.528",
        "Every statement of the period that is known to have shown this person's records: when, to whom, which columns "
        "as they are stored (clear) and which masked. The person's number is in no file of this report. Statements "
        f"that met such records without saying whose are counted below: each may or may not have shown them. {_PROVES}",
    ),
    BLAST_RADIUS: SubjectReport(
        "Whose records were seen",
        "164.402-408",
        "How many persons' records were shown through what this report is limited to, which columns, clear or masked, "
        "and a token for each person. Tokens are pseudonymised PHI; a list of numbers is matched with them in the "
        "console. Statements that met such records without saying whose are counted: add them to what must be assumed. "
        f"{_PROVES}",
    ),
}


def subject_tables(report: str, question: Question) -> dict[str, Kind]:
    """The tables of a report, by the name of their CSV."""
    section = SUBJECT_REPORTS[report].section
    unknown = Kind("Not known", section, ("why", "statements", "rows"), lambda _: gap_rows(question))
    if report == ACCOUNTING:
        seen = Kind("Who saw the records", section, _ACCESS, lambda _: _accesses(question))
        return {"accounting": seen, "not-known": unknown}
    window = question.window
    return {
        "in-numbers": Kind("In numbers", section, ("what", "how many"), lambda _: _numbers(window)),
        "columns": Kind("What was shown", section, _COLUMNS, lambda _: iter(blast_radius(window=window).columns)),
        "not-known": unknown,
        "subjects": Kind("Whose, by token", section, SEEN, lambda _: seen_rows(window)),
    }


def limits_of(question: Question) -> str:
    """What a question is limited to beside its period, in words."""
    window = question.window
    named = (("by", window.subject), ("on connection", window.connection), ("in session", window.session))
    return ", ".join(f"{word} {value}" for word, value in named if value)


_ACCESS = ("at", "who", "through", "answerable", "connection", "shown clear", "shown masked", "rows in all", "review",
           "entry")  # fmt: skip
_COLUMNS = ("stored column", "statements that showed it clear or searched", "statements that showed it masked")
SEEN = ("token", "kind", "statements", "first", "last", "any column clear")


def _accesses(question: Question) -> Iterator[Sequence[Any]]:
    for found in all_accesses(tokens=question.tokens, window=question.window):
        yield (f"{found.at:%Y-%m-%d %H:%M:%S}", found.subject, found.actor, found.owner, found.connection,
               ", ".join(found.clear), ", ".join(found.masked), found.rows, found.review, found.entry)  # fmt: skip


def access_rows(question: Question) -> Iterator[Sequence[Any]]:
    """An accounting as one table, its gaps behind it: what the console gives as CSV at once."""
    yield ("at", "subject", "actor", "owner", "connection", "session", "statement", "entry", "kind", "status", "rows",
           "review", "clear columns", "masked columns")  # fmt: skip
    for found in all_accesses(tokens=question.tokens, window=question.window):
        yield _all_of(found)
    for gap in gaps(name=question.name, window=question.window):
        yield ("not known", REASONS.get(gap.why, gap.why), "", "", "", "", gap.statements, "", "", "", gap.rows)


def _all_of(found: Access) -> Sequence[Any]:
    facts = (found.at.isoformat(), found.subject, found.actor, found.owner, found.connection, found.session)
    counted = (found.statement, found.entry, found.kind, found.status, found.rows, found.review)
    return (*facts, *counted, "; ".join(found.clear), "; ".join(found.masked))


def seen_rows(window: Window) -> Iterator[Sequence[Any]]:
    for seen in all_seen(window=window):
        yield (seen.token, seen.name, seen.statements, seen.first.isoformat(), seen.last.isoformat(), seen.clear)


def gap_rows(question: Question) -> Iterator[Sequence[Any]]:
    for gap in explained(gaps(name=question.name, window=question.window)):
        yield (gap["why"], gap["statements"], gap["rows"])


def explained(found: Iterable[Gap]) -> list[dict[str, Any]]:
    return [{"why": REASONS.get(gap.why, gap.why), "statements": gap.statements, "rows": gap.rows} for gap in found]


def _numbers(window: Window) -> Iterator[Sequence[Any]]:
    found = blast_radius(window=window, limit=1)
    yield from ((f"different {name}s whose records were shown", count) for name, count in found.subjects.items())
    yield ("statements that met such records", found.statements)
    yield ("rows they returned", found.rows)
    yield ("statements that do not say whose", sum(gap.statements for gap in found.gaps))


def subject_scope(report: str, question: Question) -> Scope:
    """The entries that prove the report: where its statements begin and end, and every portion that names subjects."""
    window = question.window
    conditions, values = window.sql("s")
    if report == ACCOUNTING:
        shown, values = (
            "SELECT s.id, s.first_seq, s.last_seq, g.seq FROM audit_subjectsighting AS g JOIN audit_logentry AS e"  # noqa: S608
            " ON e.seq = g.seq JOIN audit_statementrecord AS s ON s.id = e.statement_id"
            f" WHERE g.token = ANY(%s) AND {conditions}",
            [list(question.tokens), *values],
        )
        query = f"SELECT unnest(ARRAY[first_seq, last_seq, seq]) FROM ({shown}) AS shown"  # noqa: S608
    else:
        met = f"FROM audit_statementrecord AS s WHERE s.about <> '[]' AND {conditions}"
        query = (
            f"SELECT unnest(ARRAY[s.first_seq, s.last_seq]) {met} UNION SELECT e.seq FROM audit_logentry AS e"  # noqa: S608
            f" WHERE e.kind = 'statement.subjects' AND e.statement_id IN (SELECT s.id {met})"
        )
        values = [*values, *values]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT place FROM ({query}) AS found(place) LIMIT {MAX_PLACES + 1}", values)  # noqa: S608
        places = tuple(sorted(place for (place,) in cursor.fetchall()))
    if len(places) > MAX_PLACES:
        return Scope(since=window.since, until=window.until)
    return Scope(places=places, about=report)
