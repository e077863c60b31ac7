"""What the break-glass pages show, gathered once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.utils import timezone

from approvals.domain.emergency import must_review, spoken_emergency
from approvals.domain.refusal import Refusal
from approvals.models import EmergencyAccess, EmergencyUse

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


def emergency_page(access: EmergencyAccess, user: AbstractUser) -> dict[str, Any]:
    reason, notes = spoken_emergency(access)
    may_review, why_not = _may_review(access, user)
    return {
        "access": access,
        "state": access.state,
        "reason": reason,
        "found": notes,
        "remaining_s": remaining_s(access),
        "uses": access.uses.exclude(state=EmergencyUse.State.RELEASED)[:MAX_SHOWN_USES],
        "may_review": may_review,
        "why_not": why_not,
        "may_end": access.ended_at is None,
        "findings": EmergencyAccess.Finding.choices,
    }


def _may_review(access: EmergencyAccess, user: AbstractUser) -> tuple[bool, str]:
    try:
        must_review(access, user)
    except Refusal as refused:
        return False, "" if access.reviewed_at is not None else refused.reason
    return True, ""
