"""Kept answers as their askers may read them now: with rows only while the rules are those they were shown by.

An answer waits here for an hour. Whoever would be shown less by now, or whose approval was revoked, or whose emergency
is over, is not shown it again.
"""

from __future__ import annotations

from typing import Any

from approvals.domain.grant import is_revoked
from approvals.domain.load import load_emergencies
from gateway.domain.statements import ShownBy, answer_of
from gateway.models import RestStatement
from gateway.store import rules_now


def answer_now(row: RestStatement) -> dict[str, Any]:
    """`answer_of`, by the rules that are committed in this moment."""
    return answer_of(row, stands=lambda shown_by: _stands(row.connection, shown_by))


def _stands(connection: str, shown_by: ShownBy) -> bool:
    if shown_by.emergency and shown_by.emergency not in {each.id for each in load_emergencies()}:
        return False
    if shown_by.grant and is_revoked(grant_id=shown_by.grant):
        return False
    return bool(shown_by.rules) and shown_by.rules == rules_now(connection)
