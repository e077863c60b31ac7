"""Functions of users, followed into their bodies where the database keeps one it has read itself, or as a person says.

PostgreSQL stores the tree of a function written as RETURN … or BEGIN ATOMIC … END (14 and later): the same kind of tree
as a statement's, with every name resolved when it was made. Such a body is read like a statement. What it may show is
whatever it reads, in whatever way: a call counts as computed from its arguments and from every column behind it.

Bodies kept as text are not followed (their names mean what the caller's search_path makes of them), nor bodies that
write, collect many rows into one value, call what is not known, or hide code in default arguments. A person may
classify those (`analysis.classified`): by the code they have, with the columns they read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.catalogue import Catalogue, Function
from analysis.functions import COLLECTING, COLLECTING_OIDS, FunctionClass, classify
from analysis.nodes import TreeError, walk
from analysis.statement import ColumnRef

if TYPE_CHECKING:
    from analysis.lineage import Lineage

MAX_DEPTH = 8  # functions that call functions
_SELECT = 1
_STORED = frozenset("rpf")  # pg_class.relkind

ReadLineage = Callable[[str, Catalogue, int], "Lineage"]


@dataclass(frozen=True, slots=True)
class Body:
    """What a call may read: columns, and the OIDs of the relations behind them."""

    columns: frozenset[ColumnRef] = frozenset()
    relations: frozenset[int] = frozenset()


def read_body(oid: int, catalogue: Catalogue, read_lineage: ReadLineage, *, depth: int) -> Body | None:
    """Return what calling the function may read; None when that is not known. Remembered for the catalogue's life."""
    if oid in catalogue.bodies:
        return catalogue.bodies[oid]
    function = catalogue.functions.get(oid)
    if function is None or function.is_builtin or depth > MAX_DEPTH:
        return None
    classified = catalogue.classified.get(oid)
    body = _as_classified(classified, catalogue) if classified is not None else None
    if body is None and function.body is not None:
        body = _followed(function, function.body, catalogue, read_lineage, depth)
    if body is not None or depth == 0:  # deeper in, a limit may have been the reason
        catalogue.bodies[oid] = body
    return body


def _as_classified(columns: frozenset[ColumnRef], catalogue: Catalogue) -> Body | None:
    """A person's word about stored columns that exist; about others it is out of date, and worth nothing.

    A view's column is no stored one: no rule is about it, but about what it is made of.
    """
    relations = {ref: catalogue.by_name.get(ref.table_ref) for ref in columns}
    if any(
        found is None or found.kind not in _STORED or found.attribute_of(ref.column) is None
        for ref, found in relations.items()
    ):
        return None
    return Body(columns, frozenset(found.oid for found in relations.values() if found is not None))


def _followed(
    function: Function, tree: str, catalogue: Catalogue, read_lineage: ReadLineage, depth: int
) -> Body | None:
    if function.kind != "f":
        return None
    catalogue.bodies[function.oid] = None  # while it is being read: one that calls itself is not followed
    try:
        lineage = read_lineage(tree, catalogue, depth + 1)
    except TreeError:
        return None
    finally:
        catalogue.bodies.pop(function.oid, None)  # long statements are compared in threads
    reading = lineage.reading
    commands = {node.number("commandType") for node in walk(lineage.query) if node.tag == "QUERY"}
    if commands != {_SELECT} or reading.problems or reading.side_doors or reading.written:
        return None
    if not all(
        _is_harmless(called, reading.followed - reading.hidden_calls, catalogue) for called in reading.functions
    ):
        return None
    if any(catalogue.relations[oid].read_functions for oid in reading.beneath if oid in catalogue.relations):
        return None
    shown = {origin.column for output in lineage.outputs or () for origin in output.origins}
    steering = {predicate.column for predicate in reading.predicates}
    return Body(frozenset(reading.reads | shown | steering), frozenset(reading.beneath))


def _is_harmless(oid: int, followed: set[int], catalogue: Catalogue) -> bool:
    called = catalogue.functions.get(oid)
    if called is None:
        return False
    if oid in followed:
        return True
    collects = called.is_builtin and (called.name in COLLECTING or oid in COLLECTING_OIDS)
    return classify(called) is FunctionClass.PURE and not collects
