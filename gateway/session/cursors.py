"""Approved cursors: whoever approved a DECLARE approved what it fetches, in its transaction, under the same rules.

Every FETCH is still analysed, decided and recorded by itself; what an approved cursor spares is the second question to
the same reviewers about the same rows. It ends with the transaction (a WITH HOLD cursor is asked about again), with
CLOSE, with a new DECLARE of the name, and whenever code nobody could read may have changed what the name stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.statement import Analysis
from approvals.domain.request import Decision, GrantClaim

if TYPE_CHECKING:
    from gateway.session.context import SessionContext

# Statements that make the name they bear, and read its text now.
_MAKE_NAMES = frozenset({"PREPARE", "DECLARE", "DECLARE_CURSOR"})


@dataclass(frozen=True, slots=True)
class ApprovedCursor:
    """What a DECLARE was approved as. `decision` says by which groups."""

    declared: str  # the text the cursor reads
    claim: GrantClaim
    decision: Decision
    snapshot_version: int
    settings: str  # of the session: a cursor's rows are computed as they are fetched


def covering(
    cursors: dict[str, ApprovedCursor], analysis: Analysis, *, snapshot_version: int, settings: str
) -> ApprovedCursor | None:
    """The approved cursor a FETCH or MOVE of this analysis reads from, while rules and settings are the approval's."""
    if analysis.kind not in {"FETCH", "MOVE"} or analysis.inner is None:
        return None
    cursor = cursors.get(analysis.name)
    if cursor is None or cursor.snapshot_version != snapshot_version or cursor.settings != settings:
        return None
    return cursor if cursor.declared == analysis.inner.statement.text else None


def read_otherwise(session: SessionContext, analysis: Analysis) -> bool:
    """Whether what EXECUTE, FETCH … run was read under other settings than those an approval would name.

    `d = '02/03/2020'` means what DateStyle was when it was parsed; what is computed by TimeZone, what that is now.
    """
    if session.settings_of is None or analysis.kind in _MAKE_NAMES:
        return False
    kind = "cursor" if analysis.kind in {"FETCH", "MOVE"} else "prepared"
    return bool(analysis.name) and session.settings_of(kind, analysis.name) != session.settings
