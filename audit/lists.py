"""Lists of evidence in the console cost what they show: nothing is counted, and no choice is looked for row by row."""

from __future__ import annotations

from typing import Any, cast

from django.contrib.admin import AllValuesFieldListFilter, SimpleListFilter
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from audit.domain.words import DECISIONS
from audit.models import SessionRecord, StatementRecord

RECENT_SESSIONS = 10_000
MOST_NAMES = 1_000


def names_in(model: type[Model], column: str, *, beginning: str = "") -> list[str]:
    """The different values of a column an index begins with: a look at the index for each, whatever stands between."""
    table, name = model._meta.db_table, connection.ops.quote_name(column)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE names(name) AS ((SELECT {name} FROM {table} ORDER BY {name} LIMIT 1) UNION ALL"  # noqa: S608
            f" SELECT (SELECT {name} FROM {table} WHERE {name} > names.name ORDER BY {name} LIMIT 1) FROM names"
            " WHERE names.name IS NOT NULL)"
            " SELECT name FROM names WHERE name IS NOT NULL AND starts_with(name, %s) LIMIT %s",
            [beginning, MOST_NAMES],
        )
        return [name for (name,) in cursor.fetchall()]


class IndexedNamesFilter(AllValuesFieldListFilter):
    """Choices of a column an index begins with."""

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: type[Model], *more: Any, **named: Any
    ) -> None:
        super().__init__(field, request, params, model, *more, **named)
        self.lookup_choices = cast(Any, names_in(field.model, field.name))  # a list to choose from, as a queryset is


class ProtocolFilter(AllValuesFieldListFilter):
    """The protocols that the newest sessions spoke."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        newest = SessionRecord.objects.order_by("-opened_at").values("protocol")[:RECENT_SESSIONS]
        self.lookup_choices = cast(Any, sorted({row["protocol"] for row in newest}))


class DecisionFilter(SimpleListFilter):
    """What was decided, found by the words of statements (audit.domain.words) where it is rare."""

    title, parameter_name = "decision", "decision"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(DECISIONS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[StatementRecord]) -> QuerySet[StatementRecord]:
        if self.value() is None:
            return queryset
        return queryset.filter(decision=self.value(), touched__contains=[f"decision:{self.value()}"])


class UnderEmergencyFilter(SimpleListFilter):
    """Statements under an emergency access, of which there is an index, or the others."""

    title, parameter_name = "emergency", "emergency__isempty"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "no"), ("0", "yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[StatementRecord]) -> QuerySet[StatementRecord]:
        if self.value() == "0":
            return queryset.filter(emergency__gt="")
        return queryset.filter(emergency="") if self.value() == "1" else queryset
