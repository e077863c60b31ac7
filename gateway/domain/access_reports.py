"""Reports that need to know what is configured: recertification of rights, and what would be the minimum necessary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import yaml
from django.db import connection, transaction
from django.db.models import Count, Max, Q

from audit.domain.reports import Kind, Period, register
from audit.models import StatementRecord
from audit.reports.extras import register_extra
from gateway.domain.rights import current_rights, matches
from gateway.models import AccessRule, Connection
from masking.models import ColumnTag, MaskingRule

Row = Sequence[Any]
_GLOB = frozenset("*?[")


def register_reports() -> None:
    register(
        "recertification",
        Kind(
            "Recertification of access",
            "164.308(a)(4)(ii)(B), 164.308(a)(4)(ii)(C)",
            (
                "who",
                "kind",
                "answerable",
                "connection",
                "operations",
                "rule",
                "since",
                "last used",
                "statements",
                "remark",
            ),
            recertification,
            "One row for each right that exists now: who holds it by which rule, since when the log knows that rule, "
            "when it was last used, and how often in the period. What was not used is to be confirmed or removed.",
        ),
    )
    register(
        "minimum-necessary",
        Kind(
            "Minimum necessary",
            "164.502(b), 164.514(d)",
            ("who", "connection", "column", "class", "masked by", "statements", "last", "remark"),
            minimum_necessary,
            "Columns each holder of a right may ask for and those it asked for in the period. Known columns are the "
            "tagged ones, those rules name, and those it read. What could be taken away is proposed in a document for "
            "apply.",
        ),
    )
    register_extra("minimum-necessary", "proposed-tightening.yaml", proposal)


def recertification(period: Period) -> Iterator[Row]:
    since = _known_since()
    for right in current_rights():
        used = StatementRecord.objects.filter(
            Q(subject=right.holder.name) | Q(actor=right.holder.name), connection=right.connection
        ).exclude(status="denied")
        last = used.aggregate(last=Max("at"))["last"]
        count = used.filter(at__gte=period.since, at__lt=period.until).count()
        yield [
            right.holder.name,
            right.holder.kind,
            right.holder.owner,
            right.connection,
            " ".join(right.rule.operations),
            right.rule.name,
            since.get(right.rule.name),
            last,
            count,
            right.holder.ended or ("" if count else "not used in the period" if last else "never used"),
        ]


def minimum_necessary(period: Period) -> Iterator[Row]:
    known, classes, rules = known_columns(), _classes(), list(MaskingRule.objects.order_by("priority", "name"))
    for holder, name in dict.fromkeys((right.holder, right.connection) for right in current_rights()):
        used = _columns_read(holder.name, name, period)
        for column in sorted({*known.get(name, ()), *used}, key=_catalogues_last):
            count, last = used.get(column, (0, None))
            masked = _masked_by(rules, name, column)
            remark = "" if count else "never asked for"
            yield [holder.name, name, column, classes.get((name, column), ""), masked, count, last, remark]


def _catalogues_last(column: str) -> tuple[bool, str]:
    """What clients ask the database's own catalogue by themselves would fill the printed pages."""
    return column.lower().startswith(("pg_catalog.", "information_schema.")), column


def proposal(period: Period) -> str:
    """A document for `apply` that would take away what nobody used in the period. A person decides."""
    access = [item for rule in AccessRule.objects.order_by("name") if (item := _tightened(rule, period)) is not None]
    policies = [
        {
            "name": f"minimum-necessary-{name}"[:120],
            "description": f"columns nobody asked for between {period.since:%Y-%m-%d} and {period.until:%Y-%m-%d}",
            "connections": [name],
            "when": {"columns": columns},
            "action": "deny",
        }
        for name, columns in _never_asked(period).items()
    ]
    document = {"apiVersion": "hoopweb/v1", "access": access, "policies": policies}
    said = yaml.safe_dump({k: v for k, v in document.items() if v}, sort_keys=False, allow_unicode=True, width=120)
    window = f"{period.since:%Y-%m-%d} and {period.until:%Y-%m-%d}"
    return f"# Proposed from what was used between {window}. Read it, then apply --dry-run.\n{said}"


def _known_since() -> dict[str, datetime]:
    """Access rule → when the log first knew it."""
    found: dict[str, datetime] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT change ->> 'name', min(at) FROM (SELECT at, convert_from(canonical, 'UTF8')::jsonb AS entry"
            " FROM audit_logentry WHERE kind = 'config.changed') AS entries,"
            " jsonb_array_elements(entry -> 'body' -> 'changes') AS change"
            " WHERE change ->> 'section' IN ('access', 'gateway.accessrule') AND change -> 'after' <> 'null' GROUP BY 1"
        )
        found.update({str(name): at for name, at in cursor.fetchall()})
    return found


def _columns_read(who: str, name: str, period: Period) -> dict[str, tuple[int, datetime]]:
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(
            "SELECT name, count(*), max(at) FROM audit_statementrecord,"
            " jsonb_array_elements_text(columns_read) AS name WHERE (subject = %s OR actor = %s) AND connection = %s"
            " AND at >= %s AND at < %s AND status <> 'denied' GROUP BY 1",
            [who, who, name, period.since, period.until],
        )
        return {str(column): (count, last) for column, count, last in cursor.fetchall()}


def known_columns() -> dict[str, set[str]]:
    """Connection → the columns its tags and rules name, without those named by a glob."""
    found: dict[str, set[str]] = {}
    for tag in ColumnTag.objects.all():
        if not set(tag.column) & _GLOB:
            found.setdefault(tag.connection, set()).add(tag.column)
    names = list(Connection.objects.values_list("name", flat=True))
    for rule in MaskingRule.objects.all():
        plain = {column for column in rule.columns if not set(column) & _GLOB}
        for name in names:
            if matches(rule.connections, name):
                found.setdefault(name, set()).update(plain)
    return found


def _classes() -> Mapping[tuple[str, str], str]:
    return {
        (tag.connection, tag.column): str(tag.data_class)
        for tag in ColumnTag.objects.exclude(source=ColumnTag.Source.DISMISSED).select_related("data_class")
    }


def _masked_by(rules: Sequence[MaskingRule], name: str, column: str) -> str:
    for rule in rules:
        if matches(rule.connections, name) and matches(rule.columns, column):
            return f"{rule.name} ({rule.technique})"
    return ""


def _tightened(rule: AccessRule, period: Period) -> dict[str, Any] | None:
    """The rule without the operations nobody used through it; None when all were, or when nothing was used at all."""
    used = _operations_used(rule, period)
    kept = [operation for operation in rule.operations if operation in used]
    if not kept or kept == list(rule.operations):
        return None
    return {"name": rule.name, "groups": rule.groups, "connections": rule.connections, "operations": kept}


def _operations_used(rule: AccessRule, period: Period) -> set[str]:
    holders = {right.holder.name for right in current_rights() if right.rule.pk == rule.pk}
    records = StatementRecord.objects.filter(at__gte=period.since, at__lt=period.until).exclude(status="denied")
    found = records.filter(Q(subject__in=holders) | Q(actor__in=holders)).values("operations").annotate(n=Count("id"))
    return {str(operation) for row in found for operation in row["operations"]}


def _never_asked(period: Period) -> dict[str, list[str]]:
    found = {}
    for name, columns in known_columns().items():
        used: set[str] = set()
        for holder in {right.holder.name for right in current_rights() if right.connection == name}:
            used |= set(_columns_read(holder, name, period))
        never = sorted(columns - used)
        # Nothing used at all says that nobody worked, not that nobody needs it.
        if never and used:
            found[name] = never
    return found
