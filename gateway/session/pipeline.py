"""The one way from a statement to an execution, for every protocol: analyse, decide, approve, record, execute.

Nothing here knows a protocol or a database; nothing elsewhere may mint a permit. Each step fails closed: an exception
that is not a decision ends in a recorded denial, and when even the denial cannot be recorded the client still gets an
error and no row.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from analysis.making import quickly_made
from approvals.domain.request import (
    Deny,
    GrantClaim,
    RequireApproval,
)
from gateway.domain.snapshot import StaleSnapshot
from gateway.session import entries
from gateway.session.alternative import instead
from gateway.session.approval import adopt, approve, reassess, spend, still_approved, suffices
from gateway.session.assessment import Assessment, Denied, assess, denied_by, rules_unavailable
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.cursors import covering, read_otherwise
from gateway.session.emergency import claim_emergency
from gateway.session.known import KnownStatement
from gateway.session.meter import Stages, now
from gateway.session.minting import mint
from gateway.session.permit import ExecutionPermit, Outcome
from gateway.session.quotas import FREE, Admission, QuotaExceeded, QuotasUnavailable
from gateway.session.remembered import is_about, record_now, remember
from gateway.session.services import InheritanceUnavailable, Services
from gateway.session.transport import Denial, Transport

logger = logging.getLogger(__name__)

# A record that takes longer is no part of deciding any more: what was decided is looked at again.
SHORT_WAIT_S = 2.0


async def run_statement(
    services: Services, session: SessionContext, request: StatementRequest, transport: Transport
) -> ExecutionPermit | None:
    """Govern one statement and hand it to the transport. Returns None when it was denied or did not wait."""
    try:
        permit = await authorise(services, session, request, transport)
    except Denied as denied:
        await refuse(services, session, request, transport, denied)
        return None
    if permit is not None:
        await transport.execute(permit)
    return permit


async def authorise(
    services: Services, session: SessionContext, request: StatementRequest, transport: Transport
) -> ExecutionPermit | None:
    """Return a permit, or None when the answer is "pending" and the request does not wait. Raises Denied."""
    stages = Stages()
    admission = await admit(services, session)
    permit = None
    try:
        permit = await _authorise(services, session, request, transport, Passage(admission, stages))
    except Denied as denied:
        denied.stages = stages
        raise
    finally:
        if permit is None:
            admission.finish()
        stages.close()
        services.meter.took(session, stages)
    return permit


@quickly_made
@dataclass(frozen=True, slots=True)
class Passage:
    """One statement on its way to a permit: how it was let in, and how long each stage takes."""

    admission: Admission
    stages: Stages


async def admit(services: Services, session: SessionContext) -> Admission:
    """Let a statement in, as the quotas of its principal stand. Raises Denied."""
    try:
        rules = services.snapshots.current().quotas
    except StaleSnapshot:
        return FREE  # `assess` refuses
    if not rules:
        return FREE
    try:
        if services.quotas is None:
            raise QuotasUnavailable
        return await services.quotas.admit(session, rules)
    except QuotaExceeded as exceeded:
        raise Denied(
            code="quota-exceeded",
            rule=exceeded.rule.name,
            reason=exceeded.reason,
            permitted_alternative=f"send it again in {exceeded.retry_after_s} s",
            sqlstate="53400",
            retry_after_s=exceeded.retry_after_s,
        ) from None
    except QuotasUnavailable:  # fail closed: what cannot be counted does not run
        raise Denied(
            code="quota-unavailable",
            reason="your quotas cannot be counted now; nothing was run",
            sqlstate="53400",
            retry_after_s=1,
        ) from None


async def _authorise(
    services: Services, session: SessionContext, request: StatementRequest, transport: Transport, passage: Passage
) -> ExecutionPermit | None:
    passage.stages.enter("analyse")
    assessment = await assess(services, session, request)
    services.meter.assessed += 1
    if assessment.analysis.inner is not None:
        # "EXECUTE p" says nothing by itself: record and approve it together with what p stands for now.
        request = replace(
            request,
            governed_as=assessment.analysis.inner.statement.text,
            read_otherwise=read_otherwise(session, assessment.analysis),
        )
    if isinstance(assessment.decision, Deny):
        raise denied_by(assessment.decision, assessment)
    emergency = await claim_emergency(services, session, request, assessment)
    if emergency is not None:
        await spend(services, request, emergency)
        return await record_and_mint(services, session, request, assessment, emergency, passage=passage)
    if not isinstance(assessment.decision, RequireApproval):
        known = remember(services, session, request, assessment)
        return await record_and_mint(services, session, request, assessment, None, passage=passage, known=known)
    cursor = covering(
        session.approved_cursors,
        assessment.analysis,
        snapshot_version=assessment.snapshot.version,
        settings=session.settings,
    )
    if (
        cursor is not None
        and suffices(cursor.decision, assessment.decision)
        and await still_approved(services, cursor.claim)
    ):
        return await record_and_mint(services, session, request, assessment, cursor.claim, passage=passage)
    passage.stages.enter("approve")
    claim = await approve(services, session, request, transport, assessment, admission=passage.admission)
    if claim is None:
        return None
    try:
        approved = adopt(request, transport, claim)
        reassessed = await reassess(services, session, approved, assessment, claim)
    except Denied:
        # Nothing ran: the grant goes back, and whoever sends the reviewer's text finds it.
        await services.reviews.release(claim, request.statement_id)
        raise
    await spend(services, approved, claim)
    return await record_and_mint(services, session, approved, reassessed, claim, passage=passage)


async def record_and_mint(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    assessment: Assessment,
    claim: GrantClaim | None,
    *,
    passage: Passage,
    known: KnownStatement | None = None,
) -> ExecutionPermit:
    """The last step before execution: the entry is durable or there is no permit.

    `known`: this very assessment as it was just remembered, whose entries are spelled once for all its executions.
    """
    if not services.can_keep(session, assessment.analysis):
        raise Denied(code="record-unavailable", reason="results cannot be recorded now; nothing was run")
    if assessment.inherited_over:
        passage.stages.enter("inherit")
        await inherit(services, request, assessment)
    passage.stages.enter("record")
    asked = now()
    try:
        await _record(services, session, request, assessment, claim, known=known)
    except Exception as error:  # fail closed: no record, no query
        logger.error("record unavailable: session=%s error=%s", session.session_id, type(error).__name__)
        raise Denied(code="record-unavailable", reason="the audit log cannot be written; nothing was run") from None
    passage.stages.close()
    permit = mint(
        services,
        session,
        request,
        assessment=assessment,
        claim=claim,
        planner=known or assessment,
        admission=passage.admission,
        began=now(),
        stages=passage.stages,
    )
    overtaken = await _overtaken(services, session, request, assessment, claim, waited_s=now() - asked)
    if overtaken is not None:
        permit.complete(Outcome("skipped"))
        raise overtaken
    return permit


async def _record(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    assessment: Assessment,
    claim: GrantClaim | None,
    *,
    known: KnownStatement | None,
) -> None:
    """Return when the authorised entry is durable. Raises when it is not."""
    if known is None:
        await services.record.append(entries.authorised(session, request, assessment, claim))
    elif known.waits or not record_now(services, session, request, known):
        await services.record.append(entries.authorised_again(session, request, known))


async def _overtaken(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    assessment: Assessment,
    claim: GrantClaim | None,
    *,
    waited_s: float,
) -> Denied | None:
    """Why what was decided before its record was waited for must not run any more.

    An approval was spent by then, and stays so: of two executions under it, one at most may ever have run.
    """
    try:
        stands = await _stands(services, session, request, assessment, waited_s=waited_s)
    except StaleSnapshot:
        return rules_unavailable()
    if not stands:
        why = "rules or schema changed while this waited for its record; ask again"
        return Denied(code="rules-changed", reason=why)
    if not await still_approved(services, claim):
        why = "the approval was revoked, or the emergency access ended, while this waited for its record; ask again"
        return Denied(code="grant-used", reason=why)
    return None


async def _stands(
    services: Services, session: SessionContext, request: StatementRequest, assessment: Assessment, *, waited_s: float
) -> bool:
    """Whether what was decided before its record was waited for would be decided now. Raises StaleSnapshot."""
    unchanged = services.snapshots.current().version == assessment.snapshot.version
    if unchanged and waited_s < SHORT_WAIT_S:
        return True
    try:
        again = await assess(services, session, request)
    except Denied:
        return False
    return again.decision == assessment.decision and is_about(again.analysis, assessment.analysis)


async def inherit(services: Services, request: StatementRequest, assessment: Assessment) -> None:
    """Protect the columns that are about to take in protected values, everywhere, before any of them is there."""
    try:
        if services.inheritance is None:
            raise InheritanceUnavailable
        await services.inheritance.keep(
            inherited=assessment.inherited_over,
            statement_id=request.statement_id,
        )
    except Exception as error:  # fail closed: what nobody would mask is not written
        logger.error("columns not protected: statement=%s error=%s", request.statement_id, type(error).__name__)
        raise Denied(
            code="inheritance-unavailable",
            reason="protected values would go into columns that cannot be protected now; nothing was run",
            permitted_alternative="send it again in a minute",
            sqlstate="57014",
            assessment=assessment,
        ) from None


async def refuse(
    services: Services, session: SessionContext, request: StatementRequest, transport: Transport, denied: Denied
) -> None:
    """Record the attempt, then tell the client. A log that fails changes nothing: there is no row either way."""
    denial = Denial(
        code=denied.code,
        reason=denied.reason,
        rule=denied.rule,
        permitted_alternative=denied.permitted_alternative,
        session_id=session.session_id,
        statement_id=request.statement_id,
        sqlstate=denied.sqlstate,
        position=denied.position,
        retry_after_s=denied.retry_after_s,
        permitted_statement=await instead(services, session, request, denied.assessment),
    )
    services.meter.denied(session, denied.code)
    if services.meter.trace is not None and denied.stages is not None:
        services.meter.trace(session, request.statement_id, denied.stages.spans, "denied")
    try:
        await services.record.append(entries.denied(session, request, denial, denied.assessment))
    except Exception as error:
        logger.error("denial not recorded: session=%s error=%s", session.session_id, type(error).__name__)
    await transport.send_denied(denial)
