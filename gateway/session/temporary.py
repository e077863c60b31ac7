"""What a session knows of its own temporary relations: which there are, and what was carried into them.

A relation is known by its OID and its attributes by number, so that neither names made anew nor renamed ones mislead.
It is understood when a statement that was completely read made it, and only such statements ran since. Everything is
noted when a statement is sent, before anybody can read what it leaves, and is never taken back: a transaction that is
undone leaves a table masked that need not be, and brings one back that was dropped in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from analysis.catalogue import Relation
from analysis.statement import NOT_YET, Analysis, Creation, Origin

Row = Sequence[bytes | None]
# Relations that are remembered though they are gone. One that was forgotten and comes back is not followed any more.
MAX_GONE = 1_000


class PlaceRefused(Exception):
    """The database refused what was asked in the session itself. `message` may hold values: scrub it."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(fields.get("C", ""))
        self.fields = fields


class OwnPlace(Protocol):
    """The session's own connection to its database, where a question sees what the session sees."""

    async def ready(self) -> bool:
        """Whether something can be asked now: everything before is answered, nothing failed, nothing is half sent."""

    async def ask_undone(self, texts: Sequence[str]) -> list[list[Row]] | None:
        """Ask in a transaction, or a savepoint of the open one, that is undone. None: the session is gone.

        Raises PlaceRefused.
        """


@dataclass(slots=True)
class TemporaryContents:
    """`changes` grows whenever something was sent that may have changed names, definitions or what is inherited."""

    changes: int = 0
    inherited: dict[tuple[int, int], frozenset[Origin]] = field(default_factory=dict)
    _made: list[Creation] = field(default_factory=list)
    _opaque: bool = False
    _known: dict[int, frozenset[int]] = field(default_factory=dict)  # attributes, by OID
    _unfollowed: set[int] = field(default_factory=set)
    _highest: int = 0  # OID that was ever seen: what is made later has a higher one

    def sent(self, analysis: Analysis, *, hidden: bool, changes: bool) -> None:
        """Note what a statement that is about to run will leave. `hidden`: nobody could read all it does."""
        self.changes += changes
        self._opaque |= hidden
        if analysis.creates is not None:
            self._made.append(analysis.creates)
        for flow in analysis.flows:
            if flow.relation == NOT_YET:
                continue
            place = (flow.relation, flow.attribute)
            before = self.inherited.get(place, frozenset())
            if flow.origin not in before:
                self.inherited[place] = before | {flow.origin}
                self.changes += 1

    def seen(self, relations: Iterable[Relation]) -> frozenset[int]:
        """Take in the temporary relations there are now; returns those whose contents nobody followed.

        Call when everything that was sent is answered.
        """
        there = {relation.oid: relation for relation in relations}
        for oid, relation in there.items():
            if oid not in self._known:
                self._adopt(relation)
            elif self._known[oid] != frozenset(relation.columns):
                self._unfollowed.add(oid)
        if self._opaque:
            self._unfollowed |= self._known.keys()
        self._highest = max(self._highest, *there, 0)
        if len(self._known) > len(there) + MAX_GONE:
            self._keep(there.keys())
        self._keep(self._known.keys())
        self._made.clear()
        self._opaque = False
        return frozenset(self._unfollowed & there.keys())

    def all_gone(self) -> None:
        """The server says, outside of any transaction, that there is no temporary relation."""
        self.seen(())
        self._keep(())

    def _keep(self, oids: Collection[int]) -> None:
        self._known = {oid: known for oid, known in self._known.items() if oid in oids}
        self._unfollowed &= self._known.keys()
        self.inherited = {place: found for place, found in self.inherited.items() if place[0] in self._known}

    def _adopt(self, relation: Relation) -> None:
        self._known[relation.oid] = frozenset(relation.columns)
        if relation.kind == "v":
            return  # read through, like any view
        if relation.oid <= self._highest:
            self._unfollowed.add(relation.oid)
            return
        made = [creation for creation in self._made if creation.name == relation.name]
        if (
            len(made) != 1
            or relation.kind != "r"
            or (made[0].columns and len(made[0].columns) != len(relation.columns))
        ):
            self._unfollowed.add(relation.oid)
            return
        for number, origins in zip(sorted(relation.columns), made[0].columns, strict=False):
            if origins:
                self.inherited[relation.oid, number] = origins
