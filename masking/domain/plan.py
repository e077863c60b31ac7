"""From an analysis and the rules to what is protected in a statement (`touch`) and masked in its result (`build_plan`).

Pure. The order of fear: an output that comes unchanged from one protected column gets that column's technique; an
expression over protected columns is masked whole; whatever is unresolved, incomplete, or counted differently by the
database than by the analysis is masked whole on every connection that has something to protect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from analysis.statement import Analysis, Carried, ColumnRef, Origin, Output, Predicate, PredicateUse, Transform
from analysis.touch import ProtectedTouch
from masking.detectors.column_names import speaks_of_codes, speaks_of_people_or_places
from masking.detectors.scan import Depth, compile_scan
from masking.domain.field import FieldMask, MaskingPlan, MaskValue, ResultColumn
from masking.domain.inherit import spilled
from masking.domain.rules import ConnectionRules, Inference, MaskingRule, Technique, rules_for
from masking.engines.hash import process_key
from masking.engines.registry import compile_mask
from masking.engines.types import Family, MaskOptions, Target, target_for

WHOLE = "whole"
SCAN = "scan"
UNRESOLVED = "unresolved"  # the rule and the data class named where no rule could be

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})
# Stored whole: what is in them has no column of its own that could be named.
_DOCUMENTS = frozenset({Family.JSON, Family.JSONB, Family.BYTES, Family.UNKNOWN})
_ARRAYS_OF_TEXT = frozenset({1002, 1003, 1009, 1014, 1015})

# What a value of another column becomes under these tells nothing of it.
_NOTHING_LEFT = frozenset({Technique.REDACT, Technique.NULL})

_HARMLESS: dict[Inference, frozenset[PredicateUse]] = {
    Inference.OPEN: frozenset(PredicateUse),
    Inference.GUARDED: frozenset(PredicateUse) - {PredicateUse.COMPARISON, PredicateUse.COMPUTED},
    Inference.STRICT: frozenset({PredicateUse.NULL_TEST}),
}
_IN_WORDS: dict[PredicateUse, str] = {
    PredicateUse.JOIN_EQUALITY: "join on equality",
    PredicateUse.NULL_TEST: "test for null",
    PredicateUse.COMPARISON: "comparison with a constant or parameter",
    PredicateUse.ORDER: "ordering of rows",
    PredicateUse.GROUP: "grouping of rows",
    PredicateUse.REFERENCE: "looking up by a foreign key",
    PredicateUse.COMPUTED: "use inside a computed condition",
}


def touch(
    *,
    analysis: Analysis,
    rules: tuple[MaskingRule, ...],
    connection: str,
    groups: frozenset[str],
    beside: tuple[str, ...] = (),
) -> ProtectedTouch:
    """Return what of the statement meets protected data.

    Columns and classes count for exempt principals too (they touch PHI in clear); inference limits do not, since who
    may see a value learns nothing from comparing it. An incomplete analysis on a connection with rules touches the
    class `unresolved`: policies over PHI must match what could not be read. `beside`: other connections over which what
    is written here is read.
    """
    scope = rules_for(rules, connection)
    if not scope:
        return ProtectedTouch()
    returned = _protected(scope, _returned_columns(analysis.outputs))
    read = _protected(scope, analysis.reads) | _protected(scope, (p.column for p in analysis.predicates)) | returned
    written = _protected(scope, analysis.writes)
    classes = {_class_of(scope, column) for column in read | written}
    if not analysis.complete:
        classes.add(UNRESOLVED)
    return ProtectedTouch(
        columns_read=read,
        columns_written=written,
        columns_returned=returned,
        columns_spread=frozenset(each.origin for each in analysis.carries if _spreads(scope, each)),
        classes=frozenset(classes),
        inference_violations=(
            *_violations(analysis, scope, groups),
            *spilled(analysis.flows, scope, groups),
            *_spilled_elsewhere(analysis, scope, groups, [rules_for(rules, other) for other in beside]),
        ),
    )


def _spilled_elsewhere(
    analysis: Analysis, scope: ConnectionRules, groups: frozenset[str], others: Sequence[ConnectionRules]
) -> list[str]:
    """What this connection's rules cover, and another's over the same columns less."""
    here = {*spilled(analysis.flows, scope, groups)}
    found = {sentence for over in others for sentence in spilled(analysis.flows, scope, groups, over=over)}
    return sorted(found - here)


def _spreads(scope: ConnectionRules, carried: Carried) -> bool:
    """Whether a protected value would lie where it is protected less: by no rule, or as something else in part."""
    origin, into = scope.rule_for(carried.origin), scope.rule_for(carried.into)
    if origin is None or into is origin:
        return False
    if into is None or into.exempt_groups - origin.exempt_groups:
        return True
    return into.technique not in _NOTHING_LEFT and (into.technique, into.keep) != (origin.technique, origin.keep)


def build_plan(
    *,
    analysis: Analysis,
    columns: Sequence[ResultColumn],
    rules: tuple[MaskingRule, ...],
    connection: str,
    groups: frozenset[str],
    phi: bool,
    scan_text: bool,
) -> MaskingPlan:
    """Return one field per described column. Never raises: what does not add up is masked whole.

    A connection without rules that holds no PHI has nothing to protect and passes everything.
    """
    scope = rules_for(rules, connection)
    if not phi and not scope:
        return MaskingPlan(tuple(FieldMask(column=column.name) for column in columns))
    outputs = analysis.outputs
    if not analysis.complete or outputs is None or len(outputs) != len(columns):
        return MaskingPlan(tuple(_whole(column, UNRESOLVED) for column in columns))
    scans = phi and scan_text
    return MaskingPlan(
        tuple(
            _field(column=column, output=output, scope=scope, groups=groups, scans=scans)
            for column, output in zip(columns, outputs, strict=True)
        )
    )


def columns_expected(outputs: Iterable[Output]) -> list[ResultColumn]:
    """The columns of a result before anybody described it: names, and records with theirs."""
    return [ResultColumn(output.name, fields=tuple(columns_expected(output.fields))) for output in outputs]


def _field(
    *, column: ResultColumn, output: Output, scope: ConnectionRules, groups: frozenset[str], scans: bool
) -> FieldMask:
    if not output.resolved:
        return _whole(column, UNRESOLVED)
    if column.fields and _is_described(column, output):
        return _record_field(column=column, output=output, scope=scope, groups=groups, scans=scans)
    telling = [origin for origin in output.origins if _tells(origin, scope)]
    covered = [(origin, scope.rule_for(origin.column)) for origin in telling]
    masking = [(origin, rule) for origin, rule in covered if rule is not None and not rule.exempts(groups)]
    if masking:
        return _protected_field(column, masking, mixed=output.mixed)
    all_exempt = all(rule is not None for _origin, rule in covered)
    if scans and not all_exempt and not all(_of_the_system(origin.column) for origin in telling):
        return _scanned(column, _depth(telling, column))
    return FieldMask(column=column.name)


def _tells(origin: Origin, scope: ConnectionRules) -> bool:
    """Whether the value shows in it: of what was carried in by whoever asks, even that it is NULL is an answer."""
    if origin.transform is not Transform.SAFE:
        return True
    rule = scope.rule_for(origin.column)
    return rule is not None and rule.inherited


def _is_described(column: ResultColumn, output: Output) -> bool:
    """Whether the analysis knows the record field by field, as the database describes it."""
    names = [part.name.lower() for part in output.fields]
    return names == [part.name.lower() for part in column.fields]


def _record_field(
    *, column: ResultColumn, output: Output, scope: ConnectionRules, groups: frozenset[str], scans: bool
) -> FieldMask:
    """A record whose parts are known: each is masked for what it is."""
    parts = tuple(
        _field(column=part, output=inner, scope=scope, groups=groups, scans=scans)
        for part, inner in zip(column.fields, output.fields, strict=True)
    )
    return FieldMask(column=column.name, fields=parts)


def _protected_field(column: ResultColumn, masking: list[tuple[Origin, MaskingRule]], *, mixed: bool) -> FieldMask:
    names = ",".join(sorted({rule.name for _origin, rule in masking}))
    if any(origin.transform is not Transform.IDENTITY for origin, _rule in masking):
        return _whole(column, names)
    if all(rule.technique is Technique.SCAN for _origin, rule in masking):
        return _scanned(column, Depth.FULL, rule=names)
    if len(masking) > 1:
        return _whole(column, names)
    _origin, rule = masking[0]
    if mixed and rule.technique is Technique.HASH:  # the token of a guess is the token of whoever has that value
        return _whole(column, names)
    mask = _compile(rule.technique, column, rule)
    return FieldMask(column=column.name, rule=rule.name, technique=rule.technique.value, mask=mask)


def _compile(technique: Technique, column: ResultColumn, rule: MaskingRule) -> MaskValue:
    options = MaskOptions(
        data_class=rule.protected_class,
        keep=rule.keep,
        this_year=datetime.now(UTC).year,
        key=process_key(),
    )
    return compile_mask(technique.value, target=_target(column), options=options)


def _whole(column: ResultColumn, rule: str) -> FieldMask:
    mask = compile_mask(WHOLE, target=_target(column), options=MaskOptions(data_class=UNRESOLVED))
    return FieldMask(column=column.name, rule=rule, technique=WHOLE, mask=mask)


def _scanned(column: ResultColumn, depth: Depth, *, rule: str = SCAN) -> FieldMask:
    """`rule` names the rule that asked for it; the net under everything without a rule is called `scan`."""
    if column.fields:
        return FieldMask(column=column.name, fields=tuple(_scanned(part, depth, rule=rule) for part in column.fields))
    mask = compile_scan(_target(column), depth)
    if mask is None:
        return FieldMask(column=column.name)
    return FieldMask(column=column.name, rule=rule, technique=SCAN, mask=mask, scans_text=True)


def _depth(telling: list[Origin], column: ResultColumn) -> Depth:
    """How the net searches an output no rule covers: a name in its columns says more than the value can."""
    names = [origin.column.column.rsplit(".", 1)[-1] for origin in telling]
    if any(speaks_of_people_or_places(name) for name in names):
        return Depth.FULL
    if any(origin.transform is not Transform.IDENTITY for origin in telling):
        return Depth.DERIVED
    if _target(column).family in _DOCUMENTS and column.type_oid not in _ARRAYS_OF_TEXT:
        return Depth.FULL
    return Depth.DERIVED if all(speaks_of_codes(name) for name in names) else Depth.STORED


def _of_the_system(column: ColumnRef) -> bool:
    """Whether a column describes the database; the few of these that hold values are no part of any analysis."""
    return column.schema in _SYSTEM_SCHEMAS


def _target(column: ResultColumn) -> Target:
    return target_for(type_oid=column.type_oid, binary=column.format == 1, type_name=column.type_name)


def _returned_columns(outputs: tuple[Output, ...] | None) -> Iterable[ColumnRef]:
    for output in outputs or ():
        for origin in output.origins:
            if origin.transform is not Transform.SAFE:
                yield origin.column


def _protected(scope: ConnectionRules, columns: Iterable[ColumnRef]) -> frozenset[ColumnRef]:
    return frozenset(column for column in columns if scope.rule_for(column) is not None)


def _class_of(scope: ConnectionRules, column: ColumnRef) -> str:
    rule = scope.rule_for(column)
    assert rule is not None
    return rule.protected_class


def _violations(analysis: Analysis, scope: ConnectionRules, groups: frozenset[str]) -> tuple[str, ...]:
    limited = [rule for rule in scope.rules if rule.inference is not Inference.OPEN and not rule.exempts(groups)]
    if limited and not analysis.complete:
        return (f"{UNRESOLVED}: the conditions of the statement could not be established",)
    found = {_violation(predicate, scope, groups) for predicate in analysis.predicates}
    return tuple(sorted(sentence for sentence in found if sentence))


def _violation(predicate: Predicate, scope: ConnectionRules, groups: frozenset[str]) -> str:
    rule = scope.rule_for(predicate.column)
    if rule is None or rule.exempts(groups):
        return ""
    if predicate.use in _HARMLESS[rule.inference] and not rule.inherited:
        if rule.inference is Inference.OPEN or _among_equals(predicate, rule, scope):
            return ""
        return f"{rule.protected_class}: matched with other columns (rule {rule.name}, {rule.inference.value})"
    return f"{rule.protected_class}: {_IN_WORDS[predicate.use]} (rule {rule.name}, {rule.inference.value})"


def _among_equals(predicate: Predicate, rule: MaskingRule, scope: ConnectionRules) -> bool:
    """Whether a column is matched only with columns of its own class.

    Joined with an ordinary column it is compared with whatever somebody may have written there: guesses.
    """
    if predicate.use in (PredicateUse.JOIN_EQUALITY, PredicateUse.REFERENCE) and not predicate.partners:
        return False
    others = [scope.rule_for(partner) for partner in predicate.partners]
    return all(other is not None and other.protected_class == rule.protected_class for other in others)
