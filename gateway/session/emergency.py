"""Break-glass in the pipeline: an emergency access stands where a reviewer's approval would, and nowhere else.

Rights, denying policies and unreadable statements were decided before this is asked. Every statement that touches data
is claimed, counted and marked, also one that would have passed anyway: what was done in an emergency must be one list.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.statement import Operation
from approvals.domain.request import Emergency, GrantClaim, Principal
from gateway.domain import tokens
from gateway.domain.snapshot import Snapshot, StaleSnapshot
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.permit import ExecutionPermit
from gateway.session.services import Services
from masking.domain.field import FieldMask, MaskingPlan
from masking.domain.subjects import CLEAR

if TYPE_CHECKING:
    from gateway.session.assessment import Assessment


async def claim_emergency(
    services: Services, session: SessionContext, request: StatementRequest, assessment: Assessment
) -> GrantClaim | None:
    """Claim one use of the session's emergency access; None without one, or when it is over or used up."""
    emergency = emergency_of(assessment.snapshot, session, at=assessment.access.at)
    if emergency is None or assessment.analysis.operations <= {Operation.SESSION}:
        return None
    return await services.reviews.claim_emergency(
        emergency.id,
        request=assessment.access,
        decision=assessment.decision,
        statement_id=request.statement_id,
        session_id=session.session_id,
    )


def emergency_of(snapshot: Snapshot, session: SessionContext, *, at: float) -> Emergency | None:
    """The emergency access that is in force for this session's principal on its connection."""
    for emergency in snapshot.emergencies:
        here = emergency.connection == session.connection.name and at < emergency.ends_at
        if here and _is_for(emergency, session.principal):
            return emergency
    return None


def is_outlived(services: Services, permit: ExecutionPermit) -> bool:
    """Whether a permit that was kept for later stands on rules that changed, or on an emergency that is over.

    Time alone ends an emergency, whether or not the worker that says so to everybody is alive.
    """
    try:
        snapshot = services.snapshots.current()
    except StaleSnapshot:
        return True
    return snapshot.version != permit.snapshot_version or is_over(snapshot, permit)


def is_over(snapshot: Snapshot, permit: ExecutionPermit) -> bool:
    """Whether a permit stands on an emergency access that ended since."""
    if permit.claim is None or not permit.claim.emergency:
        return False
    emergency = emergency_of(snapshot, permit.session, at=time.time())
    return emergency is None or emergency.id != permit.claim.emergency


def without_masks(plan: MaskingPlan) -> MaskingPlan:
    """The plan with every column in clear. Whose records a result shows is noted as always, and as shown in clear."""
    subjects = plan.subjects
    if subjects is not None:
        subjects = replace(subjects, shown=tuple(replace(column, state=CLEAR) for column in subjects.shown))
    return replace(plan, fields=tuple(FieldMask(column=field.column) for field in plan.fields), subjects=subjects)


def _is_for(emergency: Emergency, principal: Principal) -> bool:
    """The person themselves, or their agent; never an agent that merely acts in the person's name."""
    own = tokens.issuer_url()
    if not emergency.agent:
        by_person = principal.kind == "person" and principal.actor is None
        return by_person and (principal.subject, principal.issuer) == (emergency.person, emergency.issuer or own)
    if principal.kind == "agent":
        as_agent = (principal.subject, principal.owner, principal.issuer)
        return principal.actor is None and as_agent == (emergency.agent, emergency.person, own)
    delegated = (principal.subject, principal.actor, principal.issuer)
    return delegated == (emergency.person, emergency.agent, emergency.issuer or own)
