"""The analysis of a statement, put together from what its readings found."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from analysis.catalogue import Catalogue
from analysis.facts import read_facts
from analysis.findings import Findings
from analysis.fingerprint import Shape
from analysis.lineage import Lineage
from analysis.making import remade
from analysis.nodes import walk
from analysis.query_nodes import COMMANDS
from analysis.statement import (
    NOT_YET,
    Analysis,
    ColumnRef,
    Creation,
    Facts,
    Flow,
    Operation,
    Origin,
    Output,
    Predicate,
    PredicateUse,
    Statement,
    TableRef,
    Transform,
)
from analysis.utility import Utility
from analysis.utility_shape import Made
from analysis.witness import Witness
from analysis.writes import asked_by_copying


def assemble(
    *,
    statement: Statement,
    utility: Utility,
    lineage: Lineage | None,
    witness: Witness | None,
    found: Findings,
    shape: Shape,
) -> Analysis:
    """Make the `Analysis` of what both readings found: complete unless `found` has problems.

    Without `lineage` or `witness` the output of a statement that needs them is not resolved, hence masked whole.
    """
    complete = not found.problems
    stated = partial(
        Analysis,
        statement=statement,
        fingerprint=shape.fingerprint,
        complete=complete,
        problems=tuple(sorted(found.problems)),
        # A utility statement's literals are what it does: SET client_encoding = 'latin1'.
        literal_independent=complete and utility.is_query and shape.literal_independent,
        name=utility.name,
        copy=utility.copy,
        creates_temp=utility.creates_temp,
        creates=Creation(utility.creates) if utility.creates else None,
        parameters=witness.parameter_types if witness is not None and not utility.keeps_parameters else (),
    )
    if lineage is not None and witness is not None and utility.returns_probe:
        return _with_lineage(stated, utility, lineage, witness, found)
    base = stated(
        kind=utility.kind,
        operations=frozenset(found.operations),
        outputs=None if utility.outputs is None else tuple(Output(name) for name in utility.outputs),
        facts=Facts(no_where=utility.no_where, export=utility.export, row_bound=utility.row_bound),
    )
    if utility.temporary_only and (lineage is None or witness is None):
        own = Operation.ADMIN if utility.kind == "ANALYZE" else Operation.DDL
        return remade(base, operations=frozenset({own}), complete=False)
    if utility.probe is None:
        # Unknown kinds must not look harmless: their result, if any, is not understood.
        return base if complete or utility.outputs else remade(base, outputs=(Output("", resolved=False),))
    if lineage is None or witness is None:
        return remade(
            base,
            kind="UNKNOWN" if utility.is_query else base.kind,
            operations=base.operations | {Operation.ADMIN},
            outputs=(Output("", resolved=False),),
            facts=remade(base.facts, no_where=True),
        )
    return _reshaped(_with_lineage(stated, utility, lineage, witness, found), base, utility, lineage, witness)


def _with_lineage(
    stated: partial[Analysis], utility: Utility, lineage: Lineage, witness: Witness, found: Findings
) -> Analysis:
    """The analysis of the probe itself. `stated` has all that it takes no reading to say."""
    reading = lineage.reading
    facts, uncounted = read_facts(lineage.query, witness.catalogue), _changes_beneath(lineage)
    return stated(
        kind=COMMANDS[lineage.query.number("commandType")] if utility.is_query else utility.kind,
        operations=frozenset(found.operations | _operations(lineage, witness.catalogue)),
        tables_read=reading.tables(reading.beneath - reading.written) | _read_tables(lineage, witness.catalogue),
        tables_written=reading.tables(reading.written),
        reads=frozenset(reading.reads),
        writes=frozenset(reading.writes),
        flows=frozenset(reading.flows),
        outputs=trusted(lineage.outputs, complete=not found.problems),
        predicates=frozenset(reading.predicates),
        computed=frozenset(reading.computed),
        sized=frozenset(reading.sized),
        functions=frozenset(found.functions),
        opaque_functions=frozenset(found.opaque),
        facts=facts
        if not (utility.no_where or utility.export or uncounted)
        else remade(facts, no_where=facts.no_where or utility.no_where, export=utility.export, uncounted=uncounted),
    )


def _operations(lineage: Lineage, catalogue: Catalogue) -> set[Operation]:
    commands = {node.number("commandType") for node in walk(lineage.query) if node.tag == "QUERY"}
    written = lineage.reading.written
    own = bool(written) and written <= catalogue.temporary
    operations = {Operation.TEMP if own else Operation.WRITE} if commands - {1} else set()
    if lineage.query.number("commandType") == 1 or lineage.reading.reads:
        operations.add(Operation.READ)
    return operations


def _changes_beneath(lineage: Lineage) -> bool:
    """Whether WITH holds a statement that changes rows: the command tag counts those of the outermost one alone."""
    inner = (node for node in walk(lineage.query) if node.tag == "QUERY" and node is not lineage.query)
    return any(node.number("commandType") != 1 for node in inner)


def _read_tables(lineage: Lineage, catalogue: Catalogue) -> frozenset[TableRef]:
    """Written tables count as read too where one of their columns is."""
    written = lineage.reading.tables(lineage.reading.written)
    return frozenset(table for table in written if any(c.table_ref == table for c in lineage.reading.reads))


def trusted(outputs: Iterable[Output] | None, *, complete: bool) -> tuple[Output, ...] | None:
    return (
        None
        if outputs is None
        else tuple(Output(each.name, each.origins, complete, each.fields, each.mixed) for each in outputs)
    )


def _reshaped(whole: Analysis, base: Analysis, utility: Utility, lineage: Lineage, witness: Witness) -> Analysis:
    """Fit the probe's analysis to the statement that carries it."""
    if utility.kind in ("PREPARE", "DECLARE_CURSOR"):
        inner = remade(
            whole,
            statement=Statement(utility.probe or "", base.statement.dialect, witness.parameter_types),
            kind=COMMANDS[lineage.query.number("commandType")],
            name="",
        )
        if utility.runs_probe:
            operations, facts = whole.operations | {Operation.SESSION}, remade(whole.facts, row_bound=0)
            return remade(whole, inner=inner, outputs=None, operations=operations, facts=facts)
        return remade(base, inner=inner, operations=frozenset({Operation.SESSION}))
    if utility.writes_probed:
        own = bool(lineage.reading.relations) and lineage.reading.relations <= witness.catalogue.temporary
        return remade(
            base,
            operations=frozenset({Operation.TEMP}) if own and Operation.WRITE in base.operations else base.operations,
            tables_written=whole.tables_read,
            writes=_whole_tables(lineage, witness.catalogue) if utility.writes_whole else whole.reads,
            predicates=_asked_by_writing(whole, lineage),
            facts=remade(base.facts, row_bound=0, uncounted=utility.kind == "TRUNCATE"),
        )
    if utility.derived_output:
        return explained(whole, utility)
    if utility.made is not None:
        whole = remade(whole, flows=whole.flows | _flows_into(utility.made, whole.outputs or (), witness))
    if utility.defines is not None:  # whatever its columns are made of is read
        origins = frozenset(origin.column for output in whole.outputs or () for origin in output.origins)
        whole = remade(whole, reads=whole.reads | origins)
    columns = tuple(frozenset(output.origins) for output in whole.outputs or ())
    creates = Creation(utility.creates, columns) if utility.creates else None
    return remade(whole, outputs=None, creates=creates, facts=remade(whole.facts, row_bound=0))


def _asked_by_writing(whole: Analysis, lineage: Lineage) -> frozenset[Predicate]:
    if whole.kind == "COPY_FROM":
        return asked_by_copying(lineage.reading)
    # An index refuses what is too long for it: what was computed to be long, or not, is asked about.
    indexed = whole.computed if whole.kind == "CREATE_INDEX" else ()
    return frozenset(Predicate(column, PredicateUse.COMPUTED) for column in indexed)


def _flows_into(made: Made, outputs: tuple[Output, ...], witness: Witness) -> frozenset[Flow]:
    """What a relation that is only about to be made takes in: a person may let it, and then its columns inherit."""
    schema = made.schema or witness.creation_schema
    names = made.columns + tuple(output.name for output in outputs)[len(made.columns) :]
    return frozenset(
        Flow(NOT_YET, number, ColumnRef(schema, made.name, name), origin)
        for number, (name, output) in enumerate(zip(names, outputs, strict=False), start=1)
        for origin in output.origins
        if schema and name
    )


def _whole_tables(lineage: Lineage, catalogue: Catalogue) -> frozenset[ColumnRef]:
    """Every column of every table reached: TRUNCATE names none and empties all."""
    relations = (catalogue.relations[oid] for oid in lineage.reading.beneath if oid in catalogue.relations)
    columns = (relation.column_ref(number) for relation in relations for number in relation.columns)
    return frozenset(column for column in columns if column is not None)


def explained(whole: Analysis, utility: Utility) -> Analysis:
    """EXPLAIN tells of every column the plan is steered by: estimates, filters, rows removed.

    With ANALYZE it measures as well: the memory, the bytes sent and logged tell the size of whatever was computed.
    """
    columns = {predicate.column for predicate in whole.predicates} | whole.sized
    if utility.kind == "EXPLAIN_ANALYZE":
        columns |= whole.computed
    origins = tuple(sorted(Origin(column, Transform.DERIVED) for column in columns))
    operations = whole.operations if utility.kind == "EXPLAIN_ANALYZE" else frozenset({Operation.READ})
    if not whole.complete:
        operations |= whole.operations
    return remade(
        whole,
        operations=operations,
        tables_written=whole.tables_written if utility.kind == "EXPLAIN_ANALYZE" else frozenset(),
        outputs=(Output(utility.derived_output, origins, resolved=whole.complete),),
        # The lines of a plan are no rows of any table, and its tag counts nothing.
        facts=remade(whole.facts, row_bound=0, uncounted=Operation.WRITE in operations),
    )
