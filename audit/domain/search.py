"""Finding statements and entries among millions, newest first, a page at a time by place instead of by count.

The text of a statement is sealed: it cannot be searched. What it touched can: tables, columns, data classes, rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, QuerySet

from audit.domain.append import append_entries
from audit.domain.entry import Entry
from audit.domain.kinds import KINDS
from audit.domain.places import not_before, not_behind
from audit.domain.words import qualified
from audit.models import LogEntry, StatementRecord

PAGE = 50


class SearchProblem(ValueError):
    """A field of the search cannot be read."""


@dataclass(frozen=True, slots=True)
class StatementSearch:
    """What is asked of statements; empty means any. Names are exact: a search in evidence must not guess."""

    subject: str = ""
    connection: str = ""
    table: str = ""  # read or written; `public` unless it names a schema
    column: str = ""  # schema.table.column
    data_class: str = ""
    rule: str = ""
    decision: str = ""
    status: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class EntrySearch:
    """What is asked of entries. `kind` is a kind or the beginning of some, such as `review.`"""

    kind: str = ""
    subject: str = ""
    connection: str = ""
    session: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    rows: tuple[Any, ...]
    after: str  # where the next page begins, empty on the last


def find_statements(search: StatementSearch, *, after: str = "", limit: int = PAGE) -> Found:
    """A page of statements, newest first. `after` is from the page before. Raises SearchProblem."""
    rows = _between(StatementRecord.objects.all(), search.since, search.until)
    if search.status:
        rows = rows.filter(status=search.status)
    words = {
        "column": search.column,
        "class": search.data_class,
        "rule": search.rule,
        "decision": search.decision,
    }
    wanted = [f"{prefix}:{value}" for prefix, value in words.items() if value]
    if wanted:
        rows = rows.filter(touched__contains=wanted)
    if search.table:
        table = qualified(search.table)
        rows = rows.filter(touched__overlap=[f"read:{table}", f"write:{table}"])
    if after:
        moment, key = _place(after)
        rows = rows.filter(at__lte=moment).exclude(Q(at=moment) & Q(id__gte=key))
    asked = {name: value for name in ("subject", "connection") if (value := getattr(search, name))}
    only_names = asked and not (search.status or wanted or search.table)
    rows = _by_index(rows, asked, "-at", "-id") if only_names else rows.filter(**asked).order_by("-at", "-id")
    found = list(rows[: limit + 1])
    last = found[limit - 1] if len(found) > limit else None
    return Found(tuple(found[:limit]), f"{last.at.isoformat()},{last.pk}" if last is not None else "")


def find_entries(search: EntrySearch, *, after: str = "", limit: int = PAGE) -> Found:
    """A page of log entries, newest first, read from about where their time is. Raises SearchProblem."""
    rows: QuerySet[LogEntry] = LogEntry.objects.defer("canonical", "leaf", "prev")
    if search.since:
        since = _moment(search.since)
        rows = rows.filter(at__gte=since, seq__gt=not_before(since))
    if search.until:
        until = _moment(search.until)
        rows = rows.filter(at__lt=until, seq__lte=not_behind(until))
    if search.kind:
        kinds = [kind for kind in KINDS if kind == search.kind or kind.startswith(search.kind)]
        rows = rows.filter(kind__in=kinds or [search.kind])
    if search.connection:
        rows = rows.filter(connection=search.connection)
    if after:
        if not after.isdecimal() or len(after) > 18:
            raise SearchProblem("the page's place cannot be read")
        rows = rows.filter(seq__lt=int(after))
    asked = {"session_id": search.session, "subject": search.subject}
    found = list(_by_index(rows, {name: value for name, value in asked.items() if value}, "-seq")[: limit + 1])
    return Found(tuple(found[:limit]), str(found[limit - 1].pk) if len(found) > limit else "")


def _by_index(rows: QuerySet[Any], asked: Mapping[str, str], *order: str) -> QuerySet[Any]:
    """`rows` of these names in this order, by the index that begins with the first of the names.

    The planner takes a name's rows for spread evenly, and would rather go back from the newest row until it has a page:
    through everything since, where somebody has not been here for long. So it is told a range, whose order only that
    index has.
    """
    if not asked:
        return rows.order_by(*order)
    first, *others = asked
    rows = rows.filter(**{f"{first}__gte": asked[first], f"{first}__lte": asked[first]})
    return rows.filter(**{name: asked[name] for name in others}).order_by(f"-{first}", *order)


def record_search(search: StatementSearch | EntrySearch, *, viewer: str) -> None:
    """Searching is looking: who asked for what, once per search (not per page)."""
    asked = {field.name: getattr(search, field.name)[:256] for field in fields(search) if getattr(search, field.name)}
    append_entries([Entry(kind="evidence.searched", body={"subject": viewer, "filters": asked})])


def search_from(kind: type[Any], values: Mapping[str, str]) -> Any:
    """The search a form asks for; unknown fields are ignored."""
    return kind(**{field.name: values.get(field.name, "").strip()[:256] for field in fields(kind)})


def _between(rows: QuerySet[StatementRecord], since: str, until: str) -> QuerySet[StatementRecord]:
    if since:
        rows = rows.filter(at__gte=_moment(since))
    return rows.filter(at__lt=_moment(until)) if until else rows


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SearchProblem(f"{text!r} is not a moment, expected ISO 8601 such as 2026-11-20T14:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _place(after: str) -> tuple[datetime, str]:
    moment, _, key = after.partition(",")
    try:
        return datetime.fromisoformat(moment), key
    except ValueError:
        raise SearchProblem("the page's place cannot be read") from None
