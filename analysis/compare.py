"""Whether sqlglot's reading of the client's text and the database's stored tree are about the same things."""

from __future__ import annotations

from analysis.findings import Findings
from analysis.lineage import Lineage
from analysis.nodes import Node, walk
from analysis.parse import ClientReading
from analysis.query_nodes import COMMANDS
from analysis.statement import Operation
from analysis.witness import Witness

_UNTRUSTED = "another reading of the statement disagrees"


def compare(client: ClientReading, lineage: Lineage, witness: Witness, found: Findings) -> None:
    """Put into `found.problems` every way in which the client's text, the walk and the database disagree.

    Without any, they agree about tables, commands and outputs, and the walk met all the database recorded.
    """
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
