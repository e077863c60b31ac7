"""Compare the two readings of a statement and say what may be relied on.

An analysis is complete when sqlglot's reading of the client's text and the database's stored tree name the same
relations and the same verbs, the tree accounts for every column the database recorded a dependency on, every function
is known, and no other problem was met. Anything else keeps what was found, distrusts every output, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from analysis.catalogue import Catalogue, Relation
from analysis.facts import read_facts
from analysis.fingerprint import Shape
from analysis.functions import FunctionClass, classify
from analysis.lineage import COMMANDS, Lineage, read_lineage
from analysis.nodes import Node, TreeError, walk
from analysis.parse import ClientReading
from analysis.risk import assess_risk
from analysis.settings import may_set
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
    Statement,
    TableRef,
    Transform,
)
from analysis.utility import Utility
from analysis.utility_shape import Made
from analysis.witness import Witness

_UNTRUSTED = "another reading of the statement disagrees"


@dataclass(slots=True)
class _Findings:
    """What accumulates while the readings are compared."""

    problems: set[str] = field(default_factory=set)
    operations: set[Operation] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)


def agree(
    *, statement: Statement, utility: Utility, client: ClientReading, witness: Witness | None, shape: Shape
) -> Analysis:
    """Return the analysis of `statement`. `witness` is None for what the second reading cannot take."""
    found = _Findings(problems=set(utility.problems), operations=set(utility.operations))
    lineage = None
    if utility.probe is not None:
        if not client.understood:
            found.problems.add(client.problem)
        lineage = _second_reading(witness, found)
        if lineage is not None and witness is not None:
            _compare(client, lineage, witness, found)
            _judge_functions(lineage, witness.catalogue, found)
            written = lineage.reading.relations if utility.writes_probed else lineage.reading.written
            _judge_writes(written, lineage.query, witness.catalogue, found)
            if utility.temporary_only:
                _judge_temporary(utility, lineage, witness.catalogue, found)
            if utility.defines is not None:
                _judge_place(utility.defines, witness, found)
    analysis = _assemble(
        statement=statement, utility=utility, lineage=lineage, witness=witness, found=found, shape=shape
    )
    return replace(analysis, risk=assess_risk(analysis))


def incomplete(*, statement: Statement, kind: str, problem: str, shape: Shape) -> Analysis:
    """An analysis that says nothing but that it is none: ADMIN, and not complete."""
    analysis = Analysis(
        statement=statement,
        kind=kind,
        fingerprint=shape.fingerprint,
        complete=False,
        problems=(problem,),
        operations=frozenset({Operation.ADMIN}),
        outputs=(Output("", resolved=False),),
        facts=Facts(no_where=True),
    )
    return replace(analysis, risk=assess_risk(analysis))


def taken_over(*, statement: Statement, utility: Utility, stored: Analysis, shape: Shape) -> Analysis:
    """EXECUTE, FETCH and MOVE do what the statement they name does: its analysis, with their own text and bound."""
    if utility.derived_output:
        stated = replace(
            stored,
            statement=statement,
            kind=utility.kind,
            fingerprint=shape.fingerprint,
            complete=stored.complete and not utility.problems,
            problems=(*stored.problems, *utility.problems),
            literal_independent=False,
            name=utility.name,
            inner=stored,
        )
        explained = _explained(stated, utility)
        return replace(explained, risk=assess_risk(explained))
    bounds = [bound for bound in (stored.facts.row_bound, utility.row_bound) if bound is not None]
    moves = utility.kind == "MOVE"
    analysis = replace(
        stored,
        statement=statement,
        kind=utility.kind,
        fingerprint=shape.fingerprint,
        complete=stored.complete and not utility.problems,
        problems=(*stored.problems, *utility.problems),
        outputs=None if moves else _trusted(stored.outputs, complete=stored.complete and not utility.problems),
        facts=replace(stored.facts, row_bound=0 if moves else min(bounds, default=None)),
        literal_independent=False,
        name=utility.name,
        inner=stored,
    )
    return replace(analysis, risk=assess_risk(analysis))


def distrusted(analysis: Analysis, problem: str) -> Analysis:
    """The same analysis, no longer to be relied on."""
    outputs = None if analysis.outputs is None else tuple(replace(o, resolved=False) for o in analysis.outputs)
    doubted = replace(
        analysis,
        complete=False,
        problems=(*analysis.problems, problem),
        outputs=outputs,
        literal_independent=False,
    )
    return replace(doubted, risk=assess_risk(doubted))


def _judge_temporary(utility: Utility, lineage: Lineage, catalogue: Catalogue, found: _Findings) -> None:
    """Definitions are understood where they are about nothing but the session's own relations."""
    if lineage.reading.relations and lineage.reading.relations <= catalogue.temporary:
        found.operations ^= {Operation.DDL, Operation.TEMP}
        return
    if utility.kind == "ANALYZE":
        found.operations.add(Operation.ADMIN)
    found.problems.add("definitions are not analysed")


def _second_reading(witness: Witness | None, found: _Findings) -> Lineage | None:
    if witness is None:
        found.problems.add("the database gave no second reading")
        return None
    try:
        return read_lineage(witness.tree, witness.catalogue)
    except TreeError:
        found.problems.add("the database's reading cannot be followed")
        return None


# --- comparison ------------------------------------------------------------------------------------------------------


def _compare(client: ClientReading, lineage: Lineage, witness: Witness, found: _Findings) -> None:
    reading = lineage.reading
    found.problems |= reading.problems
    for name in reading.side_doors:
        found.operations.add(Operation.ADMIN)
        found.problems.add(f"reads {name}, which shows values of other tables or sessions")
    named = {witness.catalogue.relations[oid].name for oid in reading.relations if oid in witness.catalogue.relations}
    if not (client.tables - client.ctes <= named <= client.tables):
        found.problems.add(f"{_UNTRUSTED} about its tables")
    verbs = {COMMANDS.get(node.number("commandType"), "") for node in walk(lineage.query) if node.tag == "QUERY"}
    if client.verbs != verbs - {"SELECT"}:
        found.problems.add(f"{_UNTRUSTED} about what it writes")
    if client.outputs is not None and lineage.outputs is not None and client.outputs != len(lineage.outputs):
        found.problems.add(f"{_UNTRUSTED} about its outputs")
    # The walk must have met everything the database recorded; what it met beyond that only makes it stricter.
    named_by_constant = _named_by_constants(lineage.query)
    if not witness.columns <= reading.visited:
        found.problems.add("a column the database depends on was not met")
    if not witness.relations <= reading.relations | named_by_constant:
        found.problems.add("a relation the database depends on was not met")
    if not witness.functions <= reading.functions | named_by_constant:
        found.problems.add("a function the database depends on was not met")
    unknown = [
        oid for oid in witness.operators if witness.catalogue.operators.get(oid, ("", 0))[1] not in reading.functions
    ]
    if unknown:
        found.problems.add("an operator the database depends on was not met")


_REFERENCE_TYPES = frozenset({"24", "2202", "2203", "2204", "2205", "2206", "3734", "3769", "4089", "4096"})  # reg…


def _named_by_constants(query: Node) -> set[int]:
    """Objects a constant only names ('patients'::regclass): the database records a dependency, nothing is read."""
    found: set[int] = set()
    for node in walk(query):
        if node.tag == "CONST" and node.text("consttype") in _REFERENCE_TYPES and not node.flag("constisnull"):
            data = bytes(int(item) & 0xFF for item in node.items("constvalue")[:4] if isinstance(item, str))
            found.add(int.from_bytes(data, "little"))
    return found


# --- functions -------------------------------------------------------------------------------------------------------


def _judge_functions(lineage: Lineage, catalogue: Catalogue, found: _Findings) -> None:
    reading = lineage.reading
    hidden: set[int] = set()
    for oid in reading.beneath:
        relation = catalogue.relations.get(oid)
        if relation is not None:
            hidden |= relation.read_functions
    understood = reading.followed - reading.hidden_calls - hidden
    for oid in understood & reading.functions:
        found.functions.add(str(catalogue.functions[oid]))
    for oid in (reading.functions | hidden) - understood:
        _judge_function(oid, catalogue, lineage.query, found)


def _judge_function(oid: int, catalogue: Catalogue, query: Node, found: _Findings) -> None:
    function = catalogue.functions.get(oid)
    if function is None:
        found.problems.add("calls a function the catalogue does not know yet")
        return
    found.functions.add(str(function))
    match classify(function):
        case FunctionClass.PURE:
            pass
        case FunctionClass.WRITES:
            found.operations.add(Operation.WRITE)
        case FunctionClass.SETTING:
            if not _sets_harmless(query, oid):
                found.operations.add(Operation.ADMIN)
                found.problems.add("changes a setting that decides what statements mean, or is not known")
        case FunctionClass.DANGEROUS:
            found.operations.add(Operation.ADMIN)
            found.problems.add(f"calls {function}, which reaches beyond the tables the statement names")
        case FunctionClass.OPAQUE:
            found.opaque.add(str(function))
            known = "is not what a person classified" if oid in catalogue.outdated else "nobody has classified"
            found.problems.add(f"calls {function}, whose code {known}")


def _sets_harmless(query: Node, oid: int) -> bool:
    """Whether every set_config() names an allowed setting and an allowed value, both as constants."""
    calls = [node for node in walk(query) if node.tag == "FUNCEXPR" and node.number("funcid") == oid]
    for call in calls:
        arguments = [_text_constant(argument) for argument in call.nodes("args")[:2]]
        if len(arguments) != 2 or arguments[0] is None or not may_set(arguments[0], arguments[1]):
            return False
    return bool(calls)


def _text_constant(node: Node) -> str | None:
    """The value of a text literal: a varlena with a four-byte length, as outDatum writes it (signed bytes)."""
    if node.tag != "CONST" or node.text("consttype") != "25" or node.flag("constisnull"):
        return None
    data = bytes(int(item) & 0xFF for item in node.items("constvalue") if isinstance(item, str))
    return data[4:].decode("utf-8", "replace")


# --- writes ----------------------------------------------------------------------------------------------------------


def _judge_writes(written: Iterable[int], query: Node, catalogue: Catalogue, found: _Findings) -> None:
    """Rows written to a partitioned table fire the triggers of its partitions, so the whole family is judged."""
    targets = {relative for target in written for relative in (target, *catalogue.family.get(target, ()))}
    for oid in targets:
        relation = catalogue.relations.get(oid)
        if relation is not None:
            _judge_write(relation, catalogue, query, found)


def _judge_place(made: Made, witness: Witness, found: _Findings) -> None:
    """One nobody else sees would stand before others unknown (pg_temp in search_path); a namesake may do so for all."""
    schema = made.schema or witness.creation_schema
    if not schema or schema.startswith("pg_"):
        found.problems.add("makes a relation where none that everybody sees can be made")
    if any(each.name == made.name and each.schema != schema for each in witness.catalogue.relations.values()):
        found.problems.add("makes a relation of a name that another schema has, which may be taken for that one")


def _judge_write(relation: Relation, catalogue: Catalogue, query: Node, found: _Findings) -> None:
    if relation.triggers:
        found.opaque |= relation.triggers
        found.problems.add(f"writes to {relation.ref}, whose triggers nobody has classified")
    if relation.rules:
        found.problems.add(f"writes to {relation.ref}, whose rules rewrite the statement")
    if relation.is_system:
        found.operations.add(Operation.ADMIN)
        found.problems.add("writes to the system catalogue")
    for oid in relation.write_functions:
        _judge_function(oid, catalogue, query, found)


# --- the result ------------------------------------------------------------------------------------------------------


def _assemble(
    *,
    statement: Statement,
    utility: Utility,
    lineage: Lineage | None,
    witness: Witness | None,
    found: _Findings,
    shape: Shape,
) -> Analysis:
    complete = not found.problems
    base = Analysis(
        statement=statement,
        kind=utility.kind,
        fingerprint=shape.fingerprint,
        complete=complete,
        problems=tuple(sorted(found.problems)),
        operations=frozenset(found.operations),
        outputs=None if utility.outputs is None else tuple(Output(name) for name in utility.outputs),
        facts=Facts(no_where=utility.no_where, export=utility.export, row_bound=utility.row_bound),
        # A utility statement's literals are what it does: SET client_encoding = 'latin1'.
        literal_independent=complete and utility.is_query and shape.literal_independent,
        name=utility.name,
        copy=utility.copy,
        creates_temp=utility.creates_temp,
        creates=Creation(utility.creates) if utility.creates else None,
    )
    if utility.temporary_only and (lineage is None or witness is None):
        own = Operation.ADMIN if utility.kind == "ANALYZE" else Operation.DDL
        return replace(base, operations=frozenset({own}), complete=False)
    if utility.probe is None:
        # Unknown kinds must not look harmless: their result, if any, is not understood.
        return base if complete or utility.outputs else replace(base, outputs=(Output("", resolved=False),))
    if lineage is None or witness is None:
        return replace(
            base,
            kind="UNKNOWN" if utility.is_query else base.kind,
            operations=base.operations | {Operation.ADMIN},
            outputs=(Output("", resolved=False),),
            facts=replace(base.facts, no_where=True),
        )
    return _with_lineage(base, utility, lineage, witness, found)


def _with_lineage(base: Analysis, utility: Utility, lineage: Lineage, witness: Witness, found: _Findings) -> Analysis:
    reading = lineage.reading
    facts = read_facts(lineage.query, witness.catalogue)
    whole = replace(
        base,
        kind=COMMANDS[lineage.query.number("commandType")] if utility.is_query else base.kind,
        operations=frozenset(found.operations | _operations(lineage, witness.catalogue)),
        tables_read=reading.tables(reading.beneath - reading.written) | _read_tables(lineage, witness.catalogue),
        tables_written=reading.tables(reading.written),
        reads=frozenset(reading.reads),
        writes=frozenset(reading.writes),
        flows=frozenset(reading.flows),
        outputs=_trusted(lineage.outputs, complete=base.complete),
        predicates=frozenset(reading.predicates),
        functions=frozenset(found.functions),
        opaque_functions=frozenset(found.opaque),
        facts=replace(
            facts,
            no_where=facts.no_where or utility.no_where,
            export=utility.export,
            uncounted=_changes_beneath(lineage),
        ),
    )
    return _reshaped(whole, base, utility, lineage, witness)


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


def _trusted(outputs: Iterable[Output] | None, *, complete: bool) -> tuple[Output, ...] | None:
    return None if outputs is None else tuple(replace(output, resolved=complete) for output in outputs)


def _reshaped(whole: Analysis, base: Analysis, utility: Utility, lineage: Lineage, witness: Witness) -> Analysis:
    """Fit the probe's analysis to the statement that carries it."""
    if utility.returns_probe:
        return whole
    if utility.kind in ("PREPARE", "DECLARE_CURSOR"):
        inner = replace(
            whole,
            statement=Statement(utility.probe or "", base.statement.dialect, witness.parameter_types),
            kind=COMMANDS[lineage.query.number("commandType")],
            name="",
        )
        return replace(base, inner=inner, operations=frozenset({Operation.SESSION}))
    if utility.writes_probed:
        own = bool(lineage.reading.relations) and lineage.reading.relations <= witness.catalogue.temporary
        return replace(
            base,
            operations=frozenset({Operation.TEMP}) if own and Operation.WRITE in base.operations else base.operations,
            tables_written=whole.tables_read,
            writes=_whole_tables(lineage, witness.catalogue) if utility.writes_whole else whole.reads,
            facts=replace(base.facts, row_bound=0, uncounted=utility.kind == "TRUNCATE"),
        )
    if utility.derived_output:
        return _explained(whole, utility)
    if utility.made is not None:
        whole = replace(whole, flows=whole.flows | _flows_into(utility.made, whole.outputs or (), witness))
    if utility.defines is not None:  # whatever its columns are made of is read
        origins = frozenset(origin.column for output in whole.outputs or () for origin in output.origins)
        whole = replace(whole, reads=whole.reads | origins)
    columns = tuple(frozenset(output.origins) for output in whole.outputs or ())
    creates = Creation(utility.creates, columns) if utility.creates else None
    return replace(whole, outputs=None, creates=creates, facts=replace(whole.facts, row_bound=0))


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


def _explained(whole: Analysis, utility: Utility) -> Analysis:
    """EXPLAIN tells of every column the plan is steered by: estimates, filters, rows removed."""
    columns = {predicate.column for predicate in whole.predicates}
    origins = tuple(sorted(Origin(column, Transform.DERIVED) for column in columns))
    operations = whole.operations if utility.kind == "EXPLAIN_ANALYZE" else frozenset({Operation.READ})
    if not whole.complete:
        operations |= whole.operations
    return replace(
        whole,
        operations=operations,
        tables_written=whole.tables_written if utility.kind == "EXPLAIN_ANALYZE" else frozenset(),
        outputs=(Output(utility.derived_output, origins, resolved=whole.complete),),
        # The lines of a plan are no rows of any table, and its tag counts nothing.
        facts=replace(whole.facts, row_bound=0, uncounted=Operation.WRITE in operations),
    )
