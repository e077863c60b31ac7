"""Columns that take in protected values inherit their classes: from then on they are masked whole for everybody.

`INSERT … SELECT`, `UPDATE … FROM`, MERGE and their like carry values from column to column. Where the column that takes
them in has no rule, it gets one from the flow itself, before the statement runs (`inherited_by`); where it has a rule
already that shows more than the source's does, the write is as telling as a comparison (`spilled`). Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.statement import ColumnRef, Flow, Transform
from masking.domain.rules import ConnectionRules, Inference, MaskingRule, Technique, exactly, rules_for

_FIRST = -1  # before every rule a person wrote
_HIDES_ALL = frozenset({Technique.REDACT, Technique.NULL})
_TEMPORARY = "pg_temp_"  # shown by lineage, in their session alone


@dataclass(frozen=True, slots=True, order=True)
class Inherited:
    """A column without a rule, and the class of what it takes in."""

    column: ColumnRef
    data_class: str


def inherited_by(
    flows: Iterable[Flow], *, rules: tuple[MaskingRule, ...], connection: str, over: str = ""
) -> tuple[Inherited, ...]:
    """Return what a statement with these flows gives to columns that have no rule yet, chains included.

    `over`: another connection to the same database, over which those columns are read; by its rules they have none, and
    by its rules or this one's the values are protected.
    """
    scope = rules_for(rules, connection)
    target = rules_for(rules, over or connection)
    if not scope:
        return ()
    carrying = [flow for flow in flows if _carries(flow)]
    taken: defaultdict[ColumnRef, set[str]] = defaultdict(set)
    grows = True
    while grows:
        grows = False
        for flow in carrying:
            if target.rule_for(flow.column) is not None:
                continue
            rule = scope.rule_for(flow.origin.column) or target.rule_for(flow.origin.column)
            classes = {rule.protected_class} if rule is not None else set(taken.get(flow.origin.column, ()))
            if not classes <= taken[flow.column]:
                taken[flow.column] |= classes
                grows = True
    return tuple(sorted(Inherited(column, name) for column, names in taken.items() for name in names))


def inherited_rules(connection: str, inherited: Iterable[tuple[str, str]]) -> tuple[MaskingRule, ...]:
    """One rule a class over (column or glob, class): nothing of the value is kept, and conditions on it are held.

    Who may write into such a column may put guesses beside what was carried in, so no comparison is harmless.
    """
    columns: defaultdict[str, list[str]] = defaultdict(list)
    for column, data_class in inherited:
        columns[data_class].append(column)
    return tuple(
        MaskingRule(
            name=f"inherited-{data_class}",
            connections=(exactly(connection),),
            columns=tuple(names),
            technique=Technique.REDACT,
            inference=Inference.STRICT,
            data_class=data_class,
            priority=_FIRST,
            inherited=True,
        )
        for data_class, names in sorted(columns.items())
    )


def with_inherited(
    rules: tuple[MaskingRule, ...], connection: str, inherited: Iterable[Inherited]
) -> tuple[MaskingRule, ...]:
    """The rules as they are once the columns have inherited."""
    added = [(exactly(str(each.column)), each.data_class) for each in inherited]
    return (*inherited_rules(connection, added), *rules) if added else rules


def spilled(
    flows: Iterable[Flow], scope: ConnectionRules, groups: frozenset[str], *, over: ConnectionRules | None = None
) -> tuple[str, ...]:
    """Sentences about protected values that go where a rule of another kind shows more of them.

    `over`: the rules under which what they go into is read over another connection.
    """
    targets = scope if over is None else over
    found = set()
    for flow in flows:
        source = scope.rule_for(flow.origin.column) if _carries(flow) else None
        target = targets.rule_for(flow.column)
        if source is None or target is None or source.exempts(groups):
            continue
        if not _hides_enough(target, source, flow.origin.transform):
            found.add(
                f"{source.protected_class}: carried into a column that shows more of it "
                f"(rule {target.name}, {target.technique.value})"
            )
    return tuple(sorted(found))


def _carries(flow: Flow) -> bool:
    return flow.origin.transform is not Transform.SAFE and not flow.column.schema.startswith(_TEMPORARY)


def _hides_enough(target: MaskingRule, source: MaskingRule, transform: Transform) -> bool:
    if target.inherited:
        return True
    if target.exempt_groups - source.exempt_groups:
        return False
    if target.inference is Inference.OPEN and source.inference is not Inference.OPEN:
        return False
    if target.technique in _HIDES_ALL:
        # Every rule shows whether there is a value, and nullif(ssn, guess) is made to be asked that.
        return transform is Transform.IDENTITY
    alike = target.technique is source.technique and (
        target.technique is Technique.SCAN or target.protected_class == source.protected_class
    )
    return alike and transform is Transform.IDENTITY
