"""One analysis for all statements that the database read alike: their stored trees differ in names alone.

What `analysis.agree` says of a query is made of its stored tree, of what the database recorded beside it, of the
catalogue and of the first reading, and of nothing else of its text. No name in a tree is looked up, a column is an
entry and a number: what outputs and aliases are called, and where in the text that stood, changes nothing but the names
of the outputs. (CTEs are found by their names, which therefore stay in the key, like every constant.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

from analysis.fingerprint import Shape
from analysis.making import quickly_made, remade
from analysis.nodes import MAX_TREE, without_names
from analysis.parse import ClientReading
from analysis.statement import Analysis, Statement
from analysis.utility import Utility
from analysis.witness import Witness


@quickly_made
@dataclass(frozen=True, slots=True)
class Alike:
    """`key`: both readings of a query, names aside; for one catalogue. `names`: what its outputs are called."""

    key: Hashable
    names: tuple[str, ...]


def alike(*, utility: Utility, client: ClientReading, witness: Witness) -> Alike | None:
    """What of a plain query's readings another's may share; None for what no other statement's analysis serves."""
    if not utility.is_query or utility.problems or not client.understood or len(witness.tree) > MAX_TREE:
        return None
    try:
        tree, names = without_names(witness.tree)
    except (ValueError, IndexError):
        return None
    recorded = (witness.columns, witness.relations, witness.functions, witness.operators, witness.types)
    digest = hashlib.sha256(tree.encode("utf-8", "surrogatepass")).digest()
    return Alike((digest, *recorded, witness.parameter_types, witness.creation_schema, client), tuple(names))


def serves_others(found: Analysis, of: Alike) -> bool:
    """Whether the analysis is one `adopted` can fit to other statements: a complete one, of a SELECT."""
    outputs = found.outputs
    return (
        found.complete
        and found.kind == "SELECT"
        and outputs is not None
        and tuple(output.name for output in outputs) == of.names
    )


def adopted(kept: Analysis, of: Alike, *, statement: Statement, shape: Shape) -> Analysis:
    """The analysis of `statement`, as `agree` would make it, from one of another statement with the same key."""
    outputs = tuple(
        output if output.name == name else remade(output, name=name)
        for output, name in zip(kept.outputs or (), of.names, strict=True)
    )
    return remade(
        kept,
        statement=statement,
        fingerprint=shape.fingerprint,
        literal_independent=shape.literal_independent,
        outputs=outputs,
    )
