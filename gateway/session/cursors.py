"""Approved cursors: whoever approved a DECLARE approved what it fetches, in its transaction, under the same rules.

Every FETCH is still analysed, decided and recorded by itself; what an approved cursor spares is the second question to
the same reviewers about the same rows. It ends with the transaction (a WITH HOLD cursor is asked about again), with
CLOSE, with a new DECLARE of the name, and whenever code nobody could read may have changed what the name stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.statement import Analysis
from approvals.domain.request import Decision, GrantClaim


@dataclass(frozen=True, slots=True)
class ApprovedCursor:
    """What a DECLARE was approved as. `decision` says by which groups."""

    declared: str  # the text the cursor reads
    claim: GrantClaim
    decision: Decision
    snapshot_version: int


def covering(cursors: dict[str, ApprovedCursor], analysis: Analysis, *, snapshot_version: int) -> ApprovedCursor | None:
    """The approved cursor a FETCH or MOVE of this analysis reads from, if the rules are still the approval's."""
    if analysis.kind not in {"FETCH", "MOVE"} or analysis.inner is None:
        return None
    cursor = cursors.get(analysis.name)
    if cursor is None or cursor.snapshot_version != snapshot_version:
        return None
    return cursor if cursor.declared == analysis.inner.statement.text else None
