"""Statements under an emergency access: counted one by one, confirmed before they run, recorded in the log.

`claimed` → `confirmed` → ended, as uses of a grant are (`approvals.domain.grant`): a claim that nobody confirms is
given back.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from approvals.domain.emergency import in_force, is_still_named
from approvals.domain.grant import STALE_CLAIM_S
from approvals.domain.request import AccessRequest, Decision, GrantClaim, RequireApproval
from approvals.domain.reviewers import is_disabled
from approvals.models import EmergencyAccess, EmergencyUse
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json

State = EmergencyUse.State


def claim_emergency(
    *, emergency_id: str, request: AccessRequest, decision: Decision, statement_id: str, session_id: str
) -> GrantClaim | None:
    """Count one statement under an emergency access that is still in force; None when it is over or used up."""
    with transaction.atomic():
        usable = in_force().filter(pk=emergency_id, statements__lt=F("max_statements"))
        if usable.update(statements=F("statements") + 1) != 1:
            return None
        access = EmergencyAccess.objects.get(pk=emergency_id)
        if is_disabled([access.person, access.agent]) or not is_still_named(access):
            transaction.set_rollback(True)
            return None
        use = EmergencyUse.objects.create(
            access=access,
            statement_id=statement_id,
            session_id=session_id,
            kind=request.analysis.kind,
            tables=_tables(request),
            classes=sorted(request.touch.classes),
            rule=decision.rule if isinstance(decision, RequireApproval) else "",
        )
        append_entries([_used(access, use)])
    return GrantClaim(
        grant_id="",
        review_id="",
        approvers=(),
        reason="",
        statement=request.analysis.statement.text,
        emergency=str(access.pk),
        lifts_masks=access.lifts_masks,
    )


def confirm_emergency(*, claim: GrantClaim, statement_id: str) -> bool:
    """Spend the claim for good; False when it was given back, or the access ended meanwhile."""
    mine = EmergencyUse.objects.filter(access=UUID(claim.emergency), statement_id=statement_id, state=State.CLAIMED)
    return mine.filter(access__in=_in_force(claim)).update(state=State.CONFIRMED) == 1


def emergency_stands(*, claim: GrantClaim) -> bool:
    """Whether the access the claim was made under goes on."""
    return _in_force(claim).exists()


def end_emergency_use(*, claim: GrantClaim, statement_id: str, rows: int) -> None:
    """The statement ended: count its rows."""
    with transaction.atomic():
        running = EmergencyUse.objects.filter(access=UUID(claim.emergency), statement_id=statement_id, ended_at=None)
        if running.update(ended_at=Now(), rows=rows) == 1:
            EmergencyAccess.objects.filter(pk=claim.emergency).update(rows=F("rows") + rows)


def release_emergency_use(*, claim: GrantClaim, statement_id: str) -> None:
    """Give a claim back under which nothing ran."""
    for use in EmergencyUse.objects.filter(access=UUID(claim.emergency), statement_id=statement_id):
        _give_back(use)


def release_stale_uses() -> int:
    """Give back claims that nobody confirmed in time, because their gateway died. Returns how many."""
    stale = EmergencyUse.objects.filter(state=State.CLAIMED, at__lt=Now() - timedelta(seconds=STALE_CLAIM_S))
    return sum(_give_back(use) for use in stale)


def _give_back(use: EmergencyUse) -> bool:
    with transaction.atomic():
        mine = EmergencyUse.objects.filter(pk=use.pk, state=State.CLAIMED)
        if mine.update(state=State.RELEASED, ended_at=Now()) != 1:
            return False
        EmergencyAccess.objects.filter(pk=use.access_id).update(statements=F("statements") - 1)
    return True


def _in_force(claim: GrantClaim) -> QuerySet[EmergencyAccess]:
    return in_force().filter(pk=claim.emergency)


def _tables(request: AccessRequest) -> list[str]:
    return sorted({str(table)[:255] for table in request.analysis.tables_read | request.analysis.tables_written})


def _used(access: EmergencyAccess, use: EmergencyUse) -> Entry:
    body: dict[str, Json] = {
        "emergency": str(access.pk),
        "subject": access.person,
        "agent": access.agent,
        "connection": access.connection,
        "roster": access.roster,
        "kind": use.kind,
        "tables": list(use.tables),
        "classes": list(use.classes),
        "rule": use.rule,
        "masks": "lifted" if access.lifts_masks else "kept",
    }
    return Entry(kind="emergency.used", body=body, session_id=use.session_id, statement_id=use.statement_id)
