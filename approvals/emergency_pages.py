"""What the break-glass pages show, gathered once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db.models import QuerySet
from django.utils import timezone

from approvals.domain.emergency import must_review, spoken_emergency
from approvals.domain.refusal import Refusal
from approvals.models import EmergencyAccess, EmergencyUse
from approvals.shown import shown_text
from audit.domain.reading import StatementText, read_emergency_texts

MAX_SHOWN_USES = 500


@dataclass(frozen=True, slots=True)
class EmergencyRow:
    access: EmergencyAccess
    state: str
    remaining_s: int


def emergency_rows(accesses: Iterable[EmergencyAccess]) -> list[EmergencyRow]:
    return [EmergencyRow(access, access.state, remaining_s(access)) for access in accesses]


def remaining_s(access: EmergencyAccess) -> int:
    """Seconds it lasts while it is in force, else seconds until its review is due."""
    until = access.ends_at if access.is_open else access.review_by
    return max(0, int((until - timezone.now()).total_seconds()))


def emergency_page(
    access: EmergencyAccess, user: AbstractUser, *, texts: Mapping[str, list[StatementText]] | None = None
) -> dict[str, Any]:
    reason, notes = spoken_emergency(access)
    may_review, why_not = _may_review(access, user)
    return {
        "access": access,
        "state": access.state,
        "reason": reason,
        "found": notes,
        "remaining_s": remaining_s(access),
        "uses": [{"use": use, "asked": _asked((texts or {}).get(use.statement_id, ()))} for use in _shown(access)],
        "texts_shown": texts is not None,
        "may_review": may_review,
        "why_not": why_not,
        "may_end": access.ended_at is None,
        "findings": EmergencyAccess.Finding.choices,
    }


def texts_under(access: EmergencyAccess, user: AbstractUser) -> dict[str, list[StatementText]]:
    """What exactly was asked under it, by statement, for who must say what it was. The reading is recorded.

    Raises Refusal, and SealProblem when a recorded text is altered.
    """
    must_review(access, user)
    statements: dict[str, set[str]] = {}
    for use in _shown(access):
        statements.setdefault(use.session_id, set()).add(use.statement_id)
    return read_emergency_texts(
        emergency=str(access.pk), connection=access.connection, statements=statements, viewer=user.get_username()
    )


def _asked(texts: Iterable[StatementText]) -> list[dict[str, Any]]:
    """The different texts of a statement with their values, as the pages show them."""
    different = {(text.statement, text.parameters) for text in texts if text.statement}
    return [
        {"statement": shown_text(statement), "parameters": values} for statement, values in sorted(different, key=str)
    ]


def _shown(access: EmergencyAccess) -> QuerySet[EmergencyUse]:
    return access.uses.exclude(state=EmergencyUse.State.RELEASED)[:MAX_SHOWN_USES]


def _may_review(access: EmergencyAccess, user: AbstractUser) -> tuple[bool, str]:
    try:
        must_review(access, user)
    except Refusal as refused:
        return False, "" if access.reviewed_at is not None else refused.reason
    return True, ""
