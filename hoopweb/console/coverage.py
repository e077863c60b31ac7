"""Coverage of the classification: columns that were read, look protected by their names, and that no mask covers.

It speaks of what traffic touched, so it needs no upstream: a table nobody reads does not count, and one that agents
read since yesterday counts at once. Names are judged as the guided set-up judges them (`masking.domain.discovery`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_POST

from analysis.statement import ColumnRef
from gateway.domain.recorded import record_change, state_of
from gateway.models import Connection
from hoopweb.console.pages import context_of
from masking.domain.discovery import propose
from masking.domain.load import load_masking_rules
from masking.domain.rules import rules_for
from masking.domain.tags import dismiss_column, dismissed_columns
from masking.models import ColumnTag

WINDOW = timedelta(days=7)
_PARTS = 3  # schema.table.column; a nested field's path keeps its dots in the last part
_CATALOGUES = frozenset({"pg_catalog", "information_schema"})  # they tell of tables, not of patients

_READ = """
    SELECT connection, read AS name, sum(statements)::bigint AS statements, max(last) AS last
      FROM (SELECT connection, columns_read, count(*) AS statements, max(at) AS last FROM audit_statementrecord
             WHERE at >= %s AND connection = ANY(%s) GROUP BY connection, columns_read) AS alike,
           jsonb_array_elements_text(columns_read) AS read
     GROUP BY connection, read
     ORDER BY connection, read
"""


@dataclass(frozen=True, slots=True)
class BareColumn:
    """A column that looks protected and is shown as it is stored (but for what the value detectors find in it)."""

    connection: str
    column: str
    data_class: str
    evidence: str
    statements: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Coverage:
    """`telling`: columns read that have a mask, or whose names tell of protected data. `bare`: those without a mask."""

    telling: int
    bare: tuple[BareColumn, ...]

    @property
    def covered(self) -> int:
        return self.telling - len(self.bare)


@dataclass(frozen=True, slots=True)
class Read:
    """A column statements read, how many did, and when last."""

    column: str
    statements: int
    last: datetime


def coverage(request: HttpRequest) -> HttpResponse:
    """The page: what was read without a mask though its name tells of protected data, and where to mend it."""
    if not request.user.has_perm("masking.view_maskingrule"):
        raise PermissionDenied
    context = context_of(request, title="Coverage of the classification")
    context["coverage"] = coverage_since(timezone.now() - WINDOW)
    context["days"] = WINDOW.days
    context["inherited"] = inherited_tags().order_by("connection", "column")
    context["protected"] = Connection.objects.filter(phi=True, enabled=True).order_by("name")
    return TemplateResponse(request, "console/coverage.html", context)


def inherited_tags() -> QuerySet[ColumnTag]:
    """Columns that took in protected values by a statement, and that no person has looked at since."""
    return ColumnTag.objects.filter(source=ColumnTag.Source.INHERITED).select_related("data_class")


@require_POST
def dismiss(request: HttpRequest, name: str) -> HttpResponse:
    """A person looked at a column and found that it holds nothing of the kind its name tells of. Recorded."""
    if not request.user.has_perm("masking.add_columntag"):
        raise PermissionDenied
    protected = get_object_or_404(Connection, name=name)
    bare = {found.column: found for found in coverage_since(timezone.now() - WINDOW).bare if found.connection == name}
    found = bare.get(request.POST.get("column", ""))
    if found is not None:
        with transaction.atomic():
            tag = dismiss_column(
                connection=protected.name, column=found.column, data_class=found.data_class, evidence=found.evidence
            )
            record_change(row=tag, before=None, after=state_of(tag), subject=request.user.get_username())
        messages.success(request, f"{found.column} is no longer asked about.")
    return redirect("console:coverage")


def coverage_since(since: datetime) -> Coverage:
    """What statements since then read from connections that hold protected data."""
    protected = list(Connection.objects.filter(phi=True, enabled=True).values_list("name", flat=True))
    telling, bare = 0, list[BareColumn]()
    for name, read in columns_read(since, protected).items():
        covered, uncovered = _judge(name, read)
        telling += covered + len(uncovered)
        bare += uncovered
    return Coverage(telling, tuple(bare))


def columns_read(since: datetime, connections: list[str]) -> dict[str, list[Read]]:
    """What statements since then read, by connection. One query."""
    found: dict[str, list[Read]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_READ, [since, connections])
        for name, column, statements, last in cursor.fetchall():
            found[name].append(Read(column, statements, last))
    return found


def _judge(name: str, read: Iterable[Read]) -> tuple[int, list[BareColumn]]:
    """How many of them are masked, and those that ought to be."""
    scope = rules_for(load_masking_rules(), name)
    by_name = {one.column: one for one in read}
    refs = {column: ref for column in by_name if (ref := reference_of(column)) is not None}
    masked = {column for column, ref in refs.items() if scope.rule_for(ref) is not None}
    open_ones = set(refs) - masked - dismissed_columns(name)
    return len(masked), [
        BareColumn(
            connection=name,
            column=found.column,
            data_class=found.data_class,
            evidence=found.evidence,
            statements=by_name[found.column].statements,
            last=by_name[found.column].last,
        )
        for found in sorted(propose(dict.fromkeys(open_ones, ())), key=lambda proposal: proposal.column)
    ]


def reference_of(column: str) -> ColumnRef | None:
    """`schema.table.column` as the log writes it; None for what is no stored column, or a catalogue's."""
    parts = column.split(".", _PARTS - 1)
    return ColumnRef(*parts) if len(parts) == _PARTS and parts[0] not in _CATALOGUES else None
