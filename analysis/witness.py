"""What the database said about one statement: its own stored reading, as a pure value."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.catalogue import Catalogue
from analysis.making import quickly_made


@quickly_made
@dataclass(frozen=True, slots=True)
class Witness:
    """`tree` is pg_proc.prosqlbody of the probe; the sets are its pg_depend rows (never pinned system objects)."""

    tree: str
    catalogue: Catalogue
    columns: frozenset[tuple[int, int]] = frozenset()  # (relation OID, attribute)
    relations: frozenset[int] = frozenset()
    functions: frozenset[int] = frozenset()
    operators: frozenset[int] = frozenset()
    types: frozenset[int] = frozenset()
    parameter_types: tuple[int, ...] = ()
    creation_schema: str = ""  # where an unqualified relation would be made; asked for where one is
