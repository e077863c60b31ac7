"""An approval on its way to a permit: a grant found, or a review opened and waited for; then everything asked anew.

Nothing here mints a permit. Each step fails closed: what is not plainly approved is `Denied`.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from analysis.estimate import UNKNOWN, RowsExpected
from analysis.statement import Operation
from approvals.domain.facts import meaning_of, review_facts
from approvals.domain.request import Binding, Decision, Deny, GrantClaim, RequireApproval
from gateway.domain.snapshot import ConnectionSpec
from gateway.session import entries
from gateway.session.alternative import instead
from gateway.session.assessment import Assessment, Denied, assess, denied_by
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.expected import rows_expected
from gateway.session.quotas import Admission
from gateway.session.services import ReviewRefused, Services
from gateway.session.transport import Resumption, Transport

logger = logging.getLogger(__name__)

_READ_OTHERWISE = (
    "it was prepared, bound or declared under other settings (DateStyle, TimeZone …) than the session has now, "
    "so nobody can be shown what it says; make it again"
)
_AS_MODIFIED = "send the modified statement shown in the review; it is approved for you"


async def approve(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    transport: Transport,
    assessment: Assessment,
    *,
    admission: Admission,
) -> GrantClaim | None:
    """Consume a grant, or open a review and hold until it leaves one."""
    decision = assessment.decision
    assert isinstance(decision, RequireApproval)
    if request.read_otherwise:
        raise Denied(code="settings-changed", rule=decision.rule, reason=_READ_OTHERWISE)
    binding = bind(session, request, assessment.connection, meaning=_meaning(assessment))
    expected = await rows_expected(services, session, assessment.analysis) if _is_capped(assessment) else None
    claim = await find_grant(services, session, request, assessment, binding, expected=expected or UNKNOWN)
    if claim is not None:
        return claim
    if expected is None:
        expected = await rows_expected(services, session, assessment.analysis)
    try:
        review = await services.reviews.open(
            request=assessment.access,
            binding=binding,
            decision=decision,
            session=session,
            statement_id=request.statement_id,
            masks=assessment.expected_masks(),
            snapshot_version=assessment.snapshot.version,
            expected=expected,
        )
    except ReviewRefused as refused:
        raise Denied(code=refused.code, reason=refused.reason, rule=decision.rule) from None
    await services.record.append(entries.held(session, request, assessment, review))
    services.meter.held(session)
    await transport.send_pending(
        replace(review, permitted_statement=await instead(services, session, request, assessment))
    )
    if not request.wait_for_review:
        return None
    admission.pause()
    services.meter.holding += 1
    try:
        await services.reviews.wait(review, transport.gone)
    except ReviewRefused as refused:
        raise Denied(code=refused.code, reason=refused.reason, rule=refused.rule or decision.rule) from None
    finally:
        services.meter.holding -= 1
    admission.go_on()
    claim = await find_grant(services, session, request, assessment, binding, expected=expected)
    if claim is None:
        # Approved, but another execution of the same request was quicker, or the rules moved on.
        raise Denied(code="grant-used", reason="the approval was already used or is void", rule=decision.rule)
    await transport.send_resumed(
        Resumption(
            review_id=claim.review_id,
            approvers=claim.approvers,
            reason=claim.reason,
            statement=claim.statement,
            modified_from=claim.modified_from,
        )
    )
    return claim


def _is_capped(assessment: Assessment) -> bool:
    """Whether an approval may have too few rows left for what the statement is going to change."""
    decision = assessment.decision
    assert isinstance(decision, RequireApproval)
    return decision.terms.max_rows is not None and Operation.WRITE in assessment.analysis.operations


async def find_grant(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    assessment: Assessment,
    binding: Binding,
    *,
    expected: RowsExpected,
) -> GrantClaim | None:
    """Claim one use of a grant that is good for this request as it is decided now."""
    assert isinstance(assessment.decision, RequireApproval)
    return await services.reviews.claim(
        binding,
        request.statement_id,
        session_id=session.session_id,
        request=assessment.access,
        decision=assessment.decision,
        expected=expected,
    )


async def spend(services: Services, request: StatementRequest, claim: GrantClaim) -> None:
    """From here on the use is gone, whatever happens; a claim that was revoked or given back meanwhile runs nothing."""
    if not await services.reviews.confirm(claim, request.statement_id):
        raise Denied(code="grant-used", reason="the approval was revoked or given back meanwhile; ask again")


async def still_approved(services: Services, claim: GrantClaim | None) -> bool:
    """Whether what a statement was permitted under was neither revoked nor ended since. Never raises."""
    try:
        return claim is None or await services.reviews.stands(claim)
    except Exception as error:  # fail closed: nobody can say
        logger.error("approval not looked up: error=%s", type(error).__name__)
        return False


def adopt(request: StatementRequest, transport: Transport, claim: GrantClaim) -> StatementRequest:
    """Return the request that was approved: the asked one, or the reviewer's text in its place."""
    if claim.statement == request.text:
        return request
    if request.governed_as is not None or not transport.may_run_modified(claim.statement):
        raise Denied(
            code="modified-needs-resubmission",
            reason="the reviewer approved a modified statement, which a prepared statement cannot take on",
            permitted_alternative=_AS_MODIFIED,
        )
    return replace(request, text=claim.statement)


async def reassess(
    services: Services, session: SessionContext, request: StatementRequest, held: Assessment, claim: GrantClaim
) -> Assessment:
    """Analyse and decide again after a hold: text, rules, rights and schema may all have moved meanwhile."""
    assessment = await assess(services, session, request)
    if isinstance(assessment.decision, Deny):
        raise denied_by(assessment.decision, assessment)
    if assessment.connection.rules_digest != held.connection.rules_digest:
        raise Denied(code="rules-changed", reason="the rules changed after the approval; ask again")
    if isinstance(assessment.decision, RequireApproval) and not suffices(held.decision, assessment.decision):
        raise Denied(
            code="other-reviewers-needed",
            rule=assessment.decision.rule,
            reason="what was approved needs reviewers of another group as well",
            # Whoever those are, they were asked about the reviewer's text when it was put in place of the asked one.
            permitted_alternative=_AS_MODIFIED if request.text != held.analysis.statement.text else "",
        )
    if _meaning(assessment) != (claim.meaning or _meaning(held)):
        raise Denied(code="meaning-changed", reason="what its names mean changed after the approval; ask again")
    return assessment


def suffices(given: Decision, needed: RequireApproval) -> bool:
    """Whether the approval that was given is by every group the decision now names, in sufficient number."""
    assert isinstance(given, RequireApproval)
    quorums = {(group.group, group.choice): group.quorum for group in given.reviewers}
    return all(quorums.get((group.group, group.choice), 0) >= group.quorum for group in needed.reviewers)


def _meaning(assessment: Assessment) -> str:
    return meaning_of(review_facts(assessment.access))


def bind(
    session: SessionContext, request: StatementRequest, connection: ConnectionSpec, *, meaning: str = ""
) -> Binding:
    """Everything an approval of this request would be good for; without a `meaning` it is good for nothing."""
    return Binding(
        principal_subject=session.principal.subject,
        principal_issuer=session.principal.issuer,
        principal_actor=session.principal.actor,
        connection=connection.name,
        statement=request.text,
        governed_as=request.governed_as or "",
        parameters=request.parameters,
        parameter_types=request.parameter_types,
        parameter_formats=request.parameter_formats,
        role=session.role,
        search_path=session.search_path,
        settings=session.settings,
        rules=connection.rules_digest,
        meaning=meaning,
    )
