"""What a reviewer must know about a statement, as names and counts: JSON without a literal of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from approvals.domain.request import AccessRequest


def review_facts(request: AccessRequest, masks: Iterable[tuple[str, str, str]] = ()) -> dict[str, Any]:
    """Return the facts of `request`. `masks` are (column, technique, rule) of the result, where already known."""
    analysis, touch = request.analysis, request.touch
    return {
        "kind": analysis.kind,
        "fingerprint": analysis.fingerprint,
        "complete": analysis.complete,
        "problems": list(analysis.problems),
        "opaque_functions": sorted(analysis.opaque_functions),
        "operations": sorted(map(str, analysis.operations)),
        "tables_read": [str(table) for table in sorted(analysis.tables_read)],
        "tables_written": [str(table) for table in sorted(analysis.tables_written)],
        "columns_read": [str(column) for column in sorted(analysis.reads)],
        "columns_written": [str(column) for column in sorted(analysis.writes)],
        "protected_read": [str(column) for column in sorted(touch.columns_read)],
        "protected_written": [str(column) for column in sorted(touch.columns_written)],
        "protected_returned": [str(column) for column in sorted(touch.columns_returned)],
        "classes": sorted(touch.classes),
        "inference": list(touch.inference_violations),
        "no_where": analysis.facts.no_where,
        "export": analysis.facts.export,
        "row_bound": analysis.facts.row_bound,
        "estimated_rows": analysis.facts.estimated_rows,
        "estimated_bytes": analysis.facts.estimated_bytes,
        "risk": [{"reason": addend.reason, "points": addend.points} for addend in analysis.risk],
        "phi": request.resource.phi,
        "masks": [{"column": column, "technique": technique, "rule": rule} for column, technique, rule in masks],
    }
