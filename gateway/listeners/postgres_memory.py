"""What the session's names stand for: prepared statements and cursors, made by the protocol or by SQL.

PREPARE, DECLARE, DEALLOCATE and CLOSE share their names with Parse, Bind and Close. Code nobody could read (an opaque
function, a DO block) may make and drop names too; then every name is doubtful until the server has said what it keeps
under it. A name made anew from the same text stands for the same; one with another text is forgotten and must be made
again to be used. The unnamed statement and portal are beyond SQL, which has no empty names: they are not kept here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from analysis.statement import Analysis, Output
from gateway.listeners.postgres_names import MAX_NAMED_BYTES, MAX_NAMES, Names, Portal, Prepared
from gateway.session.context import SessionContext
from gateway.session.cursors import ApprovedCursor
from gateway.session.permit import ExecutionPermit

# The server's own list of names, each with the text it was made from.
NAME_QUESTIONS = (
    "select name, statement from pg_catalog.pg_prepared_statements",
    "select name, statement from pg_catalog.pg_cursors",
)

Row = Sequence[bytes | None]
Kept = Mapping[bytes | None, bytes | None]  # name → text, in the server's words
_NO_SOURCE = ("", "")
_Source = tuple[Literal["prepared", "cursor"], str]  # kind and name


def _not_read(analysis: Analysis) -> Analysis:
    """What a cursor stands for whose query nobody read: it exists, and nothing it returns is understood."""
    return replace(analysis, complete=False, outputs=(Output("", resolved=False),))


class Memory:
    """Keeps `context.prepared`, `.cursors` and `.approved_cursors` true."""

    def __init__(self, context: SessionContext) -> None:
        self.statements: Names[Prepared] = Names(self._statement_changed)
        self.portals: Names[Portal] = Names(self._portal_changed)
        self.doubtful = False
        self._context = context
        # The texts of PREPARE and DECLARE, the oldest first, and the settings they were read under.
        self._sources: dict[_Source, tuple[str, str]] = {}
        self._source_bytes = 0
        context.settings_of = self._settings_of

    def doubt(self) -> None:
        """Code nobody could read is about to run."""
        self.doubtful = True
        self._context.approved_cursors.clear()

    def transaction_ended(self) -> None:
        """Portals of the protocol end with their transaction, and so does what was approved of cursors."""
        self._context.approved_cursors.clear()
        for portal in self.portals.clear():
            portal.retire()

    def remember(self, permit: ExecutionPermit) -> None:
        """A statement succeeded: note the name it made or dropped."""
        prepared, cursors, analysis = self._context.prepared, self._context.cursors, permit.analysis
        every = not analysis.name or analysis.name.upper() == "ALL"
        match analysis.kind:
            case "PREPARE" if analysis.inner is not None and analysis.name:
                self.statements.forget(analysis.name)
                prepared[analysis.name] = analysis.inner
                self._keep(("prepared", analysis.name), permit.statement)
            case "DECLARE_CURSOR" | "DECLARE" if analysis.name:
                self.portals.forget(analysis.name)
                cursors[analysis.name] = analysis.inner or _not_read(analysis)
                self._keep(("cursor", analysis.name), permit.statement)
                if analysis.inner is not None:
                    self._remember_approval(permit, analysis.inner)
            case "DEALLOCATE" | "DISCARD" if every:
                self.statements.clear()
                prepared.clear()
                self._drop_all("prepared")
            case "DEALLOCATE":
                self.statements.forget(analysis.name)
                prepared.pop(analysis.name, None)
                self._drop(("prepared", analysis.name))
            case "CLOSE" | "CLOSE_CURSOR" if every:
                cursors.clear()
                self._context.approved_cursors.clear()
                self._drop_all("cursor")
            case "CLOSE" | "CLOSE_CURSOR":
                cursors.pop(analysis.name, None)
                self._context.approved_cursors.pop(analysis.name, None)
                self._drop(("cursor", analysis.name))

    def verify(self, prepared: Sequence[Row], cursors: Sequence[Row]) -> None:
        """Forget every name of which the server does not say the same. The arguments answer NAME_QUESTIONS."""
        kept_statements: Kept = {row[0]: row[1] for row in prepared}
        kept_cursors: Kept = {row[0]: row[1] for row in cursors}
        for entry in self.statements.confirmed():
            if entry.name and kept_statements.get(entry.name.encode()) != entry.text.encode():
                self.statements.forget(entry.name)
        for portal in self.portals.confirmed():
            if portal.name and kept_cursors.get(portal.name.encode()) != portal.statement.text.encode():
                self.portals.forget(portal.name)
                portal.retire()
        self._verify_sources("prepared", self._context.prepared, kept_statements, self.statements)
        self._verify_sources("cursor", self._context.cursors, kept_cursors, self.portals)
        self.doubtful = False

    def _keep(self, source: _Source, text: str) -> None:
        """Past what a session may keep its oldest names are no longer known: what runs them then is not read."""
        self._drop(source)
        self._sources[source] = text, self._context.settings
        self._source_bytes += len(text)
        while len(self._sources) > MAX_NAMES or (self._source_bytes > MAX_NAMED_BYTES and len(self._sources) > 1):
            oldest = next(iter(self._sources))
            self._drop(oldest)
            self._forget_meaning(*oldest)

    def _drop(self, source: _Source) -> None:
        self._source_bytes -= len(self._sources.pop(source, _NO_SOURCE)[0])

    def _drop_all(self, kind: str) -> None:
        for source in [source for source in self._sources if source[0] == kind]:
            self._drop(source)

    def _forget_meaning(self, kind: str, name: str) -> None:
        """Unless the protocol has made the name anew."""
        if kind == "prepared" and self.statements.get(name) is None:
            self._context.prepared.pop(name, None)
        elif kind == "cursor" and self.portals.get(name) is None:
            self._context.cursors.pop(name, None)
            self._context.approved_cursors.pop(name, None)

    def _verify_sources(
        self, kind: Literal["prepared", "cursor"], meant: dict[str, Analysis], kept: Kept, protocol: Names[Any]
    ) -> None:
        """The same for names made by SQL, which the server keeps with the whole text of the PREPARE or DECLARE."""
        for name in [name for name in meant if protocol.get(name) is None]:
            source = self._sources.get((kind, name), _NO_SOURCE)[0].encode()
            if (kept.get(name.encode()) or b"").removesuffix(b";") != source.removesuffix(b";"):
                del meant[name]
                self._drop((kind, name))

    def _remember_approval(self, permit: ExecutionPermit, inner: Analysis) -> None:
        self._context.approved_cursors.pop(permit.analysis.name, None)
        # An emergency approves nothing: each FETCH is counted, and asked about once it is over or used up.
        if permit.claim is not None and not permit.claim.emergency:
            self._context.approved_cursors[permit.analysis.name] = ApprovedCursor(
                declared=inner.statement.text,
                claim=permit.claim,
                decision=permit.decision,
                snapshot_version=permit.snapshot_version,
                settings=self._context.settings,
            )

    def _settings_of(self, kind: str, name: str) -> str | None:
        """`SessionContext.settings_of`."""
        entry = self.statements.get(name) if kind == "prepared" else self.portals.get(name)
        if entry is not None:
            return entry.settings
        source = self._sources.get(("prepared" if kind == "prepared" else "cursor", name))
        return None if source is None else source[1]

    def _statement_changed(self, name: str, entry: Prepared | None) -> None:
        if name and entry is not None and entry.analysis is not None:
            self._context.prepared[name] = entry.analysis
        else:
            self._context.prepared.pop(name, None)

    def _portal_changed(self, name: str, entry: Portal | None) -> None:
        if name and entry is not None and entry.statement.analysis is not None:
            self._context.cursors[name] = entry.statement.analysis
        else:
            self._context.cursors.pop(name, None)
