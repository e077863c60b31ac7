"""Statements that were allowed before, authorised again: decided then under the same rules, recorded now.

Whatever is not plainly as it was is left to `gateway.session.pipeline`.
"""

from __future__ import annotations

from dataclasses import replace

from analysis.statement import Analysis
from approvals.domain.decide import covers
from approvals.domain.request import Allow
from audit.domain.entry import Entry
from gateway.domain.snapshot import StaleSnapshot
from gateway.session import entries
from gateway.session.assessment import Assessment
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.emergency import emergency_of
from gateway.session.known import KnownStatement, KnownStatements
from gateway.session.meter import now
from gateway.session.minting import ends_of, mint, watch_of
from gateway.session.permit import ExecutionPermit
from gateway.session.quotas import FREE, Admission
from gateway.session.recurring import Occurrence, Recurring
from gateway.session.services import Services


def recall(
    services: Services, session: SessionContext, text: str, parameter_types: tuple[int, ...] = ()
) -> KnownStatement | None:
    """Return the plain Allow that `assess` would arrive at now, or None when only `assess` can tell."""
    try:
        snapshot = services.snapshots.current()
    except StaleSnapshot:
        return None  # `assess` says so to the client
    connection = snapshot.connections.get(session.connection.name)
    if connection is None or not connection.enabled or session.known is None:
        return None
    remembered = services.analysts[connection.kind].recall(session, text, parameter_types)
    return None if remembered is None else session.known.find(remembered, snapshot.version)


def authorise_known(services: Services, session: SessionContext, request: StatementRequest) -> ExecutionPermit | None:
    """Authorise without waiting: decided as before under the same rules, recorded now. None: use `authorise`.

    Every execution has its own durable entry, as on the long way; only its constant part is not spelled anew.
    """
    known = recall(services, session, request.text, request.parameter_types)
    return None if known is None else authorise_again(services, session, request, known)


def authorise_again(
    services: Services, session: SessionContext, request: StatementRequest, known: KnownStatement
) -> ExecutionPermit | None:
    """The same for a statement that was recalled in this very moment."""
    began = now()
    admission = _admit_now(services, session, known)
    if admission is None:
        return None
    if not record_now(services, session, request, known):
        admission.finish()
        return None
    services.meter.remembered += 1
    return mint(
        services,
        session,
        request,
        assessment=known.assessment,
        claim=None,
        planner=known,
        admission=admission,
        began=began,
    )


def record_now(services: Services, session: SessionContext, request: StatementRequest, known: KnownStatement) -> bool:
    """Make the authorised entry of a known statement durable without waiting. False: it is not, and nothing may run."""

    if not services.can_keep(session, known.assessment.analysis):
        return False

    def whole() -> Entry:
        return entries.authorised_again(session, request, known)

    template = known.authorised = known.authorised or entries.authorised_template(session, known)
    try:
        receipt = services.record.append_like(template, entries.authorised_filling(request), whole)
        return (receipt or services.record.append_now(whole())) is not None
    except Exception:  # fail closed: the long way tries again, and refuses with the reason
        return False


def recurring(
    services: Services,
    session: SessionContext,
    request: StatementRequest,
    known: KnownStatement,
    *,
    by_shape: bool = False,
) -> Recurring | None:
    """What authorises a statement that was recalled in this very moment, and later ones like it, with one look.

    `by_shape`: it may be another text's of the same shape.
    """
    found = known.recurring
    if found is not None and found.covers(request, by_shape=by_shape):
        return found
    analyst = services.analysts[known.assessment.connection.kind]
    recollection = analyst.recollect(session, request.text, request.parameter_types, known.remembered)
    if recollection is None:
        return None
    assessment = known.assessment
    says_more = watch_of(services, assessment) is not None
    if not says_more and known.completed is None:
        known.completed = ends_of(session, assessment.analysis.kind)
    known.recurring = Recurring(
        services,
        session,
        request,
        known,
        recollection,
        mint=_mint_occurrence,
        admit=lambda: _admit_now(services, session, known),
        completed=None if says_more else known.completed,
    )
    return known.recurring


def _mint_occurrence(occurrence: Occurrence) -> ExecutionPermit:
    """Called by an occurrence that was recorded, when its execution is not the usual one."""
    known = occurrence.recurring.known
    return mint(
        occurrence.recurring.services,
        occurrence.recurring.session,
        occurrence.request(),
        assessment=known.assessment,
        claim=None,
        planner=known,
        admission=occurrence.admission,
        began=occurrence.began,
    )


def _admit_now(services: Services, session: SessionContext, known: KnownStatement) -> Admission | None:
    """What `admit` would answer, where it need not wait to say so."""
    rules = known.assessment.snapshot.quotas
    if not rules:
        return FREE
    return None if services.quotas is None else services.quotas.admit_now(session, rules)


def remember(
    services: Services, session: SessionContext, request: StatementRequest, assessment: Assessment
) -> KnownStatement | None:
    """Keep a plain Allow that holds for as long as its analysis, its rules and its principal do. None: it does not."""
    if type(assessment.decision) is not Allow or assessment.analysis.inner is not None:
        return None
    if assessment.access.touch.columns_written or assessment.inherited_over:
        # Its values are looked at every time (`writes_masked_value`), and what takes them in is protected first.
        return None
    snapshot, name = assessment.snapshot, assessment.connection.name
    if emergency_of(snapshot, session, at=assessment.access.at) is not None:
        return None  # every statement of an emergency is counted
    if any(policy.when.depends_on_moment for policy in snapshot.policies if covers(policy.connections, name)):
        return None
    analyst = services.analysts[assessment.connection.kind]
    remembered = analyst.recall(session, request.text, request.parameter_types)
    if remembered is None or not is_about(remembered, assessment.analysis):
        return None
    if session.known is None:
        session.known = KnownStatements()
    body = entries.authorised_body(session, assessment)
    known = KnownStatement(remembered=remembered, assessment=assessment, body=body)
    session.known.keep(known)
    return known


def is_about(remembered: Analysis, analysis: Analysis) -> bool:
    """Whether the analysis is the remembered one, the text of the statement aside."""
    return remembered is analysis or replace(remembered, statement=analysis.statement) == analysis
