"""From rows to the frozen rules of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from masking.domain.inherit import inherited_rules
from masking.domain.rules import Inference, MaskingRule, Technique
from masking.models import ColumnTag
from masking.models import MaskingRule as MaskingRuleRow


def load_masking_rules() -> tuple[MaskingRule, ...]:
    """Return every rule, by priority and name. Three queries.

    A rule of a data class also covers the columns a person tagged with it, on the tag's own connection only: such
    columns become a second frozen rule right behind the first, with the same name. Columns that inherited a class come
    first, under rules of their own.
    """
    tagged = _tagged_columns()
    loaded: list[MaskingRule] = [*_inherited()]
    for row in MaskingRuleRow.objects.order_by("priority", "name"):
        rule = _frozen(row)
        if rule.columns:
            loaded.append(rule)
        loaded.extend(_for_tags(rule, tagged.get(rule.protected_class, {})))
    return tuple(loaded)


def _frozen(row: MaskingRuleRow) -> MaskingRule:
    return MaskingRule(
        name=row.name,
        connections=tuple(row.connections),
        columns=tuple(row.columns),
        technique=Technique(row.technique),
        inference=Inference(row.inference),
        exempt_groups=frozenset(row.exempt_groups),
        data_class=row.data_class,
        keep=row.keep,
        priority=row.priority,
    )


def _inherited() -> Iterator[MaskingRule]:
    rows = ColumnTag.objects.filter(source=ColumnTag.Source.INHERITED).order_by("connection", "column")
    by_connection: dict[str, list[tuple[str, str]]] = {}
    for connection, column, data_class in rows.values_list("connection", "column", "data_class__name"):
        by_connection.setdefault(connection, []).append((column, data_class))
    for connection, columns in by_connection.items():
        yield from inherited_rules(connection, columns)


def _tagged_columns() -> dict[str, dict[str, tuple[str, ...]]]:
    """Data class → connection → columns, of the tags a person confirmed."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    rows = ColumnTag.objects.filter(source=ColumnTag.Source.CONFIRMED).order_by("connection", "column")
    for data_class, connection, column in rows.values_list("data_class__name", "connection", "column"):
        by_connection = found.setdefault(data_class, {})
        by_connection[connection] = (*by_connection.get(connection, ()), column)
    return found


def _for_tags(rule: MaskingRule, columns_by_connection: dict[str, tuple[str, ...]]) -> list[MaskingRule]:
    return [
        replace(rule, connections=(connection,), columns=columns)
        for connection, columns in columns_by_connection.items()
        if any(fnmatchcase(connection, glob) for glob in rule.connections)
    ]
