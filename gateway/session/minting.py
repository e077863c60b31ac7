"""Permits, and what becomes of them: the end of every execution is recorded, whoever was let in."""

from __future__ import annotations

from collections.abc import Sequence

from approvals.domain.request import GrantClaim
from audit.domain.subjects import SubjectsSeen
from audit.domain.template import Template
from gateway.session import entries
from gateway.session.assessment import Assessment
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.known import KnownStatement
from gateway.session.meter import Stages, now
from gateway.session.permit import ExecutionPermit, Outcome, SubjectWatch, mint_permit, rows_counted
from gateway.session.quotas import Admission
from gateway.session.services import Services
from masking.domain.field import MaskingPlan, ResultColumn


def mint(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    *,
    assessment: Assessment,
    claim: GrantClaim | None,
    planner: Assessment | KnownStatement,
    admission: Admission,
    began: float,
    stages: Stages | None = None,
) -> ExecutionPermit:
    """Called right after the authorised entry became durable, and nowhere else. `stages`: it was assessed just now."""

    def on_complete(permit: ExecutionPermit, outcome: Outcome) -> None:
        admission.finish(outcome.rows, outcome.bytes)
        ended = now()
        services.meter.completed(session, outcome, ended - began, remembered=stages is None)
        if services.meter.trace is not None:
            before = () if stages is None else stages.spans
            services.meter.trace(session, request.statement_id, [*before, ("execute", began, ended)], outcome.status)
        if not isinstance(planner, KnownStatement) or not _completed_again(services, planner, permit, outcome):
            services.record.append_later(entries.completed(permit, outcome))
        if claim is not None:
            services.reviews.used(claim, request.statement_id, rows_counted(assessment.analysis, outcome))

    def still_masks(columns: Sequence[ResultColumn], plan: MaskingPlan) -> bool:
        return assessment.still_masks(services.snapshots, columns, plan)

    def still_allowed() -> bool:
        return assessment.still_allowed(services.snapshots, approved=claim is not None)

    return mint_permit(
        session=session,
        request=request,
        analysis=assessment.analysis,
        decision=assessment.decision,
        snapshot_version=assessment.snapshot.version,
        plan_for=assessment.clear_plan_for if claim is not None and claim.lifts_masks else planner.plan_for,
        on_complete=on_complete,
        claim=claim,
        subjects=watch_of(services, assessment),
        still_masks=None if claim is not None and claim.lifts_masks else still_masks,
        still_allowed=still_allowed,
    )


def _completed_again(services: Services, known: KnownStatement, permit: ExecutionPermit, outcome: Outcome) -> bool:
    """Record the usual end of a remembered statement; False when it has to be recorded the ordinary way."""
    filling = entries.completed_filling(permit, outcome)
    if filling is None:
        return False
    if permit.subjects is not None:
        return False  # it says more
    template = known.completed = known.completed or ends_of(permit.session, permit.analysis.kind)
    try:
        return services.record.append_like_later(template, filling, lambda: entries.completed(permit, outcome))
    except Exception:  # it happened: the ordinary way keeps it until it is written
        return False


def ends_of(session: SessionContext, kind: str) -> Template:
    """Of the entries that executions of this kind of statement have in this session, when they end well."""
    if session.known is None:
        return entries.completed_again(session, kind)
    template = session.known.ends.get(kind)
    if template is None:
        template = session.known.ends[kind] = entries.completed_again(session, kind)
    return template


def watch_of(services: Services, assessment: Assessment) -> SubjectWatch | None:
    """How whose records are met gets into the record; None on connections that declare no subjects."""
    about = assessment.about if assessment.connection.subjects else ()
    if not about:
        return None

    def note(permit: ExecutionPermit, seen: SubjectsSeen) -> None:
        services.record.append_later(entries.subjects_seen(permit, seen))

    return SubjectWatch(about=about, key=assessment.snapshot.subject_key, note=note)
