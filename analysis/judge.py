"""What a statement calls, and what it does to what it writes, judged by what the catalogue says of it."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.catalogue import Catalogue, Relation
from analysis.findings import Findings
from analysis.functions import FunctionClass, classify
from analysis.lineage import Lineage
from analysis.nodes import Node, walk
from analysis.settings import may_set
from analysis.statement import Operation
from analysis.utility import Utility
from analysis.utility_shape import Made
from analysis.witness import Witness

# --- functions -------------------------------------------------------------------------------------------------------


def judge_functions(lineage: Lineage, witness: Witness, found: Findings) -> None:
    reading, catalogue = lineage.reading, witness.catalogue
    # Parameters too: their input runs whether the statement uses them or not.
    types = (*witness.types, *witness.parameter_types)
    hidden = {run for oid in types for run in catalogue.type_functions.get(oid, ())}
    for oid in reading.beneath:
        relation = catalogue.relations.get(oid)
        if relation is not None:
            hidden |= relation.read_functions
    understood = reading.followed - reading.hidden_calls - hidden
    for oid in understood & reading.functions:
        found.functions.add(str(catalogue.functions[oid]))
    for oid in (reading.functions | hidden) - understood:
        _judge_function(oid, catalogue, lineage.query, found)


def _judge_function(oid: int, catalogue: Catalogue, query: Node, found: Findings) -> None:
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


# --- writes and definitions ------------------------------------------------------------------------------------------


def judge_writes(written: Iterable[int], query: Node, catalogue: Catalogue, found: Findings) -> None:
    """Rows written to a partitioned table fire the triggers of its partitions, so the whole family is judged."""
    targets = {relative for target in written for relative in (target, *catalogue.family.get(target, ()))}
    for oid in targets:
        relation = catalogue.relations.get(oid)
        if relation is not None:
            _judge_write(relation, catalogue, query, found)


def judge_place(made: Made, witness: Witness, found: Findings) -> None:
    """One nobody else sees would stand before others unknown (pg_temp in search_path); a namesake may do so for all."""
    schema = made.schema or witness.creation_schema
    if not schema or schema.startswith("pg_"):
        found.problems.add("makes a relation where none that everybody sees can be made")
    if any(each.name == made.name and each.schema != schema for each in witness.catalogue.relations.values()):
        found.problems.add("makes a relation of a name that another schema has, which may be taken for that one")


def _judge_write(relation: Relation, catalogue: Catalogue, query: Node, found: Findings) -> None:
    if relation.triggers:
        found.opaque |= relation.triggers
        found.problems.add(f"writes to {relation.ref}, whose triggers nobody has classified")
    if relation.rules:
        found.problems.add(f"writes to {relation.ref}, whose rules rewrite the statement")
    if relation.is_system:
        found.operations.add(Operation.ADMIN)
        found.problems.add("writes to the system catalogue")
    left_out = (catalogue.domain_functions.get(column.type_oid, ()) for column in relation.columns.values())
    for oid in relation.write_functions.union(*left_out):
        _judge_function(oid, catalogue, query, found)


def judge_temporary(utility: Utility, lineage: Lineage, catalogue: Catalogue, found: Findings) -> None:
    """Definitions are understood where they are about nothing but the session's own relations."""
    if lineage.reading.relations and lineage.reading.relations <= catalogue.temporary:
        found.operations ^= {Operation.DDL, Operation.TEMP}
        return
    if utility.kind == "ANALYZE":
        found.operations.add(Operation.ADMIN)
    found.problems.add("definitions are not analysed")
