"""Reports in an auditor's words: what is asked by a section of 45 CFR, as columns and rows out of the records.

A report names the log's size it was made from; what it counts can be proved with a bundle of that log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.domain.head import stated_size
from audit.domain.report_rows import coverage, rights
from audit.models import LogEntry

MAX_PERIOD = timedelta(days=366)


class ReportProblem(ValueError):
    """The report cannot be made as asked."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` up to, not including, `until`."""

    since: datetime
    until: datetime

    @classmethod
    def parse(cls, since: str, until: str) -> Period:
        """Days or moments in ISO 8601, UTC. Raises ReportProblem."""
        try:
            first, last = (datetime.fromisoformat(text) for text in (since, until))
        except ValueError:
            raise ReportProblem("the period cannot be read, expected two days such as 2026-11-01") from None
        period = cls(*(moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in (first, last)))
        if not timedelta() < period.until - period.since <= MAX_PERIOD:
            raise ReportProblem("the period is empty, backwards or longer than a year")
        return period


@dataclass(frozen=True, slots=True)
class Report:
    """`rows` is read once, as it is written out."""

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Kind:
    title: str
    section: str  # of 45 CFR
    columns: tuple[str, ...]
    make: Callable[[Period], Iterator[Sequence[Any]]]
    definition: str = ""  # what is counted, for whoever reads the report

    @property
    def said(self) -> str:
        return self.definition or DEFINITIONS.get(self.title, "")


def register(name: str, kind: Kind) -> None:
    """A report of an app above this one, which knows what is configured."""
    REPORTS[name] = kind


def _statements(sql: str) -> Callable[[Period], Iterator[Sequence[Any]]]:
    def rows(period: Period) -> Iterator[Sequence[Any]]:
        # A cursor of the server's: the rows come in portions, however many there are.
        with transaction.atomic(), connection.chunked_cursor() as cursor:
            cursor.execute(sql, {"since": period.since, "until": period.until})
            while found := cursor.fetchmany(2_000):
                yield from found

    return rows


def _entries(*kinds: str, fields: Sequence[str]) -> Callable[[Period], Iterator[Sequence[Any]]]:
    """One row an entry: place, time, kind, who, and `fields` of its body."""

    def rows(period: Period) -> Iterator[Sequence[Any]]:
        found = LogEntry.objects.filter(kind__in=kinds, at__gte=period.since, at__lt=period.until).order_by("seq")
        for seq, at, kind, canonical in found.values_list("seq", "at", "kind", "canonical").iterator(2_000):
            body = json.loads(bytes(canonical))["body"]
            yield [seq, at.isoformat(), kind, *(_plain(body.get(name)) for name in fields)]

    return rows


DEFINITIONS = {
    "Activity by person and agent": "One row for each subject and connection: statements recorded in the period, how "
    "many were denied, needed a reviewer or failed, and how many rows were returned.",
    "Who accessed which table": "Tables that statements which were not denied read or wrote, as two independent "
    "readings of each statement agree. Rows are those of the statements, not of one table alone.",
    "What was masked": "Values replaced before they left, by output column, rule and technique.",
    "Reviews and approvals": "Each step of each review: who asked, who decided, and when the approval was used.",
    "Emergency access: who, limits, return to normal": "Each use of emergency access from its opening to its review.",
    "Failed authentication": "Refusals before any session began. The claimed name is what the client sent, unproven.",
    "Changes of rules, connections and accounts": "Every recorded change of configuration, with its version.",
    "Checks of the evidence, damage, gateways": "Checks of the stored evidence and what they found, exports, and the "
    "starts and ends of data-plane processes.",
    "Audit coverage": "The unbroken run of the log's entries in the period, the processes that wrote it, and the "
    "connections whose statements it holds.",
    "Access lifecycle": "Every change of a right: access rules, agents, groups, accounts, issuers; what it was before "
    "and after, and who changed it.",
    "Sign-offs of reviewed activity": "Who certified the review of which period, and the log it was made over. The "
    "findings are sealed; a bundle that discloses texts has them.",
    "Who looked at the evidence": "Every reading, search and export of evidence by a person.",
}
_PERIOD = "at >= %(since)s AND at < %(until)s"
REPORTS: dict[str, Kind] = {
    "activity": Kind(
        "Activity by person and agent",
        "164.308(a)(1)(ii)(D), 164.312(b)",
        ("subject", "connection", "statements", "denied", "held", "failed", "rows", "first", "last"),
        _statements(
            "SELECT subject, connection, count(*), count(*) FILTER (WHERE status = 'denied'),"  # noqa: S608
            " count(*) FILTER (WHERE review <> ''), count(*) FILTER (WHERE status = 'failed'), sum(rows), min(at),"
            f" max(at) FROM audit_statementrecord WHERE {_PERIOD} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
        ),
    ),
    "access": Kind(
        "Who accessed which table",
        "164.308(a)(4), 164.502(b)",
        ("subject", "connection", "table", "access", "statements", "rows", "last"),
        _statements(
            "SELECT subject, connection, substr(word, strpos(word, ':') + 1), split_part(word, ':', 1), count(*),"  # noqa: S608
            f" sum(rows), max(at) FROM audit_statementrecord, unnest(touched) AS word WHERE {_PERIOD}"
            " AND (word LIKE 'read:%%' OR word LIKE 'write:%%') AND status <> 'denied' GROUP BY 1, 2, 3, 4"
            # The database's own catalogue last: what clients ask it by themselves would fill the printed pages.
            " ORDER BY 1, 2, starts_with(substr(word, strpos(word, ':') + 1), 'pg_catalog.'), 3, 4"
        ),
    ),
    "masking": Kind(
        "What was masked",
        "164.514(b), 164.514(d)",
        ("connection", "column", "rule", "technique", "statements", "values"),
        _statements(
            "SELECT connection, m ->> 'column', m ->> 'rule', m ->> 'technique', count(*), sum((m ->> 'count')::bigint)"  # noqa: S608
            f" FROM audit_statementrecord, jsonb_array_elements(masked) AS m WHERE {_PERIOD}"
            " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        ),
    ),
    "approvals": Kind(
        "Reviews and approvals",
        "164.308(a)(3)(ii)(A), 164.308(a)(4)(ii)(B)",
        ("entry", "at", "what", "review", "requester", "decision", "reviewer", "rule", "connection"),
        _entries(
            "review.opened",
            "review.decided",
            "review.escalated",
            "review.expired",
            "review.withdrawn",
            "grant.claimed",
            "grant.revoked",
            fields=("review", "subject", "decision", "reviewer", "rule", "connection"),
        ),
    ),
    "break-glass": Kind(
        "Emergency access: who, limits, return to normal",
        "164.312(a)(2)(ii)",
        (
            "entry",
            "at",
            "what",
            "emergency",
            "person",
            "agent",
            "connection",
            "kind",
            "tables",
            "masks lifted",
            "ended by",
            "reviewer",
            "finding",
        ),
        _entries(
            "emergency.opened",
            "emergency.used",
            "emergency.ended",
            "emergency.overdue",
            "emergency.reviewed",
            fields=(
                "emergency",
                "subject",
                "agent",
                "connection",
                "kind",
                "tables",
                "lifts_masks",
                "by",
                "reviewer",
                "finding",
            ),
        ),
    ),
    "failed-authentication": Kind(
        "Failed authentication",
        "164.308(a)(5)(ii)(C)",
        ("entry", "at", "what", "claimed", "address", "protocol", "connection", "reason"),
        _entries(
            "authentication.failed", fields=("claimed_subject", "client_address", "protocol", "connection", "reason")
        ),
    ),
    "configuration": Kind(
        "Changes of rules, connections and accounts",
        "164.308(a)(4)(ii)(C), 164.316(b)",
        ("entry", "at", "what", "by", "version", "changes"),
        _entries("config.changed", "key.created", "key.rotated", fields=("subject", "version", "changes")),
    ),
    "integrity": Kind(
        "Checks of the evidence, damage, gateways",
        "164.312(c)(1), 164.312(c)(2)",
        ("entry", "at", "what", "by", "entries checked", "findings", "recordings intact"),
        _entries(
            "evidence.checked",
            "evidence.exported",
            "log.damage_found",
            "gateway.started",
            "gateway.stopped",
            fields=("subject", "entries", "findings", "recordings_intact"),
        ),
    ),
    "coverage": Kind(
        "Audit coverage",
        "164.312(b)",
        ("what", "name", "from", "until", "entries or statements", "remark"),
        lambda period: coverage(period.since, period.until),
    ),
    "access-lifecycle": Kind(
        "Access lifecycle",
        "164.308(a)(3)(ii)(C), 164.308(a)(4)(ii)(C)",
        ("entry", "at", "by", "kind of right", "name", "change", "before", "after"),
        lambda period: rights(period.since, period.until),
    ),
    "sign-offs": Kind(
        "Sign-offs of reviewed activity",
        "164.308(a)(1)(ii)(D)",
        ("entry", "at", "what", "reviewer", "from", "before", "log size then"),
        _entries("evidence.reviewed", fields=("subject", "since", "until", "size")),
    ),
    "evidence-access": Kind(
        "Who looked at the evidence",
        "164.312(b)",
        ("entry", "at", "what", "by", "connection", "scope", "filters"),
        _entries(
            "evidence.viewed",
            "evidence.searched",
            "evidence.exported",
            "evidence.reviewed",
            fields=("subject", "connection", "scope", "filters"),
        ),
    ),
}


def make_report(name: str, *, period: Period, viewer: str) -> Report:
    """The report, after recording that it leaves. Raises ReportProblem."""
    kind = REPORTS.get(name)
    if kind is None:
        raise ReportProblem("there is no such table")
    record_export(name, period=period, viewer=viewer, format="csv")
    return Report(name, kind.columns, kind.make(period))


def record_export(name: str, *, period: Period, viewer: str, format: str) -> None:
    """Say in the log that a report leaves, and how large the log is it is made from."""
    body: dict[str, Json] = {
        "subject": viewer,
        "scope": {"kind": "report", "report": name, **_said(period)},
        "with_text": False,
        "format": format,
        "size": stated_size(),
    }
    append_entries([Entry(kind="evidence.exported", body=body)])


def sign_off(*, period: Period, reviewer: str, note: str) -> int:
    """Certify that the activity of a period was reviewed (164.308(a)(1)(ii)(D)). Returns the entry's place.

    The entry names the log's size and newest leaf at that moment; the note is sealed, because it may name a patient.
    """
    if not note.strip():
        raise ReportProblem("a sign-off says what was found, even if it is nothing")
    if period.until > datetime.now(UTC):
        raise ReportProblem("the period is not over yet")
    newest = LogEntry.objects.order_by("-seq").only("seq", "leaf").first()
    body: dict[str, Json] = {
        "subject": reviewer,
        **_said(period),
        "size": newest.seq if newest is not None else 0,
        "head": bytes(newest.leaf).hex() if newest is not None else "",
    }
    entry = Entry(kind="evidence.reviewed", body=body, sensitive={"justification": note[:4_000]})
    return append_entries([entry])[0].seq or 0


def sign_offs(limit: int = 50) -> list[dict[str, Any]]:
    """The newest sign-offs, as their entries say."""
    rows = LogEntry.objects.filter(kind="evidence.reviewed").order_by("-seq").values_list("seq", "at", "canonical")
    return [{"seq": seq, "at": at, **json.loads(bytes(canonical))["body"]} for seq, at, canonical in rows[:limit]]


def _said(period: Period) -> dict[str, str]:
    return {"since": period.since.isoformat(), "until": period.until.isoformat()}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int) else json.dumps(value, ensure_ascii=False)
