"""A statement analysed and decided at one moment: what `pipeline` acts on, and what dry runs and previews tell.

Nothing here runs, holds or records anything, and nothing here can mint a permit. Each step fails closed: an exception
that is not a decision becomes `Denied`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis.making import quickly_made
from analysis.statement import Analysis, Statement
from approvals.domain.decide import decide
from approvals.domain.request import AccessRequest, Allow, Decision, Deny, Resource
from gateway.domain.same_database import beside
from gateway.domain.snapshot import ConnectionSpec, Snapshot, StaleSnapshot
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.emergency import without_masks
from gateway.session.meter import Stages
from gateway.session.openness import read
from gateway.session.services import Masks, Services, Snapshots, UpstreamRejected
from masking.domain.field import MaskingPlan, ResultColumn
from masking.domain.inherit import Inherited, inherited_by, with_inherited
from masking.domain.plan import build_plan, columns_expected, touch
from masking.domain.subjects import kinds_touched, subject_plan
from masking.engines.marks import carries_mask

logger = logging.getLogger(__name__)

_MASKED_VALUE_WRITE = Deny(
    code="masked-value-write",
    rule="masked-value-write",
    reason="the statement writes a masked value into a protected column, where it would replace the real one",
    permitted_alternative="leave columns whose values came masked out of the statement",
)
_UNREADABLE_WRITE = Deny(
    code="unreadable-write",
    rule="masked-value-write",
    reason="the file goes into protected columns and cannot be looked through for values that came masked",
    permitted_alternative="upload it as CSV or newline-delimited JSON, not compressed",
)


class Denied(Exception):
    """A statement will not run. Carried to the client as a `Denial`, to the log as an entry."""

    def __init__(
        self,
        *,
        code: str,
        reason: str,
        rule: str = "",
        permitted_alternative: str = "",
        sqlstate: str = "42501",
        position: int = 0,
        retry_after_s: int = 0,
        assessment: Assessment | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.rule = rule
        self.permitted_alternative = permitted_alternative
        self.sqlstate = sqlstate
        self.position = position
        self.retry_after_s = retry_after_s
        self.stages: Stages | None = None  # how far it came, for traces
        self.assessment = assessment  # what was known when it was decided; for the record, never for the client


@quickly_made
@dataclass(frozen=True, slots=True)
class Assessment:
    """A statement analysed and decided under one snapshot; valid for this session at this moment only."""

    snapshot: Snapshot
    connection: ConnectionSpec
    access: AccessRequest
    decision: Decision
    inputs: str = ""  # what `decision` was made of, by digest
    # What columns without a rule get from it, by connection to the same database; to be kept before it runs.
    inherited_over: Mapping[str, tuple[Inherited, ...]] = field(default_factory=dict)

    @property
    def analysis(self) -> Analysis:
        return self.access.analysis

    @property
    def inherited(self) -> tuple[Inherited, ...]:
        """Over the statement's own connection."""
        return self.inherited_over.get(self.connection.name, ())

    @property
    def about(self) -> tuple[str, ...]:
        """The kinds of subjects whose records the statement meets."""
        return kinds_touched(analysis=self.analysis, declared=self.connection.subjects)

    def plan_for(self, columns: Sequence[ResultColumn]) -> MaskingPlan:
        """The masks of a result described as `columns`. Whole-masked when the description and analysis disagree."""
        plan = build_plan(
            analysis=self.analysis,
            columns=columns,
            rules=with_inherited(self.snapshot.masking_rules, self.connection.name, self.inherited),
            connection=self.connection.name,
            groups=self.access.principal.groups,
            phi=self.connection.phi,
            scan_text=self.connection.scan_text,
        )
        declared = self.connection.subjects
        if not declared:
            return plan
        met = subject_plan(analysis=self.analysis, columns=columns, fields=plan.fields, declared=declared)
        return replace(plan, subjects=met)

    def still_masks(self, snapshots: Snapshots, columns: Sequence[ResultColumn], plan: MaskingPlan) -> bool:
        """Whether the rules of this moment make the same of a result, where they are others than it was decided by.

        Somebody may have put protected values into its columns while it waited for a lock. Raises StaleSnapshot.
        """
        snapshot = snapshots.current()
        if snapshot.version == self.snapshot.version:
            return True
        again = replace(self, snapshot=snapshot).plan_for(columns)
        return again.techniques == plan.techniques

    def still_allowed(self, snapshots: Snapshots, *, approved: bool) -> bool:
        """Whether rights and policies of this moment allow, as plainly, what was allowed when it was decided.

        What people `approved`, or an emergency access let through, goes on unless it is denied by now: neither stands
        above a right that was withdrawn or a policy that denies. Of what runs: its conditions stay those it began with,
        the hour included. Raises StaleSnapshot.
        """
        snapshot = snapshots.current()
        if snapshot.version == self.snapshot.version:
            return True
        again = decide(self.access, access_rules=snapshot.access_rules, policies=snapshot.policies)
        if approved:
            return not isinstance(again, Deny)
        return isinstance(again, Allow) and not _has_less_room(again, self.decision)

    def clear_plan_for(self, columns: Sequence[ResultColumn]) -> MaskingPlan:
        """No mask at all: for an emergency access whose roster lifts them."""
        return without_masks(self.plan_for(columns))

    def expected_masks(self) -> Masks:
        """What the result will look like, for the reviewer: (column, technique, rule) of every masked column."""
        outputs = self.analysis.outputs or ()
        fields = self.plan_for(columns_expected(outputs)).fields if outputs else ()
        return tuple(
            (name, leaf.technique, leaf.rule)
            for field in fields
            for name, leaf in field.leaves()
            if leaf.mask is not None and not leaf.scans_text
        )


def _has_less_room(again: Allow, decision: Decision) -> bool:
    """Whether fewer rows would do without a reviewer than the execution stops at."""
    began_with = decision.row_cap if isinstance(decision, Allow) else None
    return again.row_cap is not None and (began_with is None or began_with > again.row_cap)


def rules_unavailable() -> Denied:
    """Nobody knows what the rules say now."""
    return Denied(code="rules-unavailable", reason="the gateway's rules are out of date; try again")


async def assess(services: Services, session: SessionContext, request: StatementRequest) -> Assessment:
    """Analyse and decide, without running, holding or recording anything."""
    try:
        snapshot = services.snapshots.current()
    except StaleSnapshot as stale:
        raise rules_unavailable() from stale
    connection = snapshot.connections.get(session.connection.name)
    if connection is None or not connection.enabled:
        raise Denied(code="no-connection", reason="this connection does not exist or is switched off")
    analyst = services.analysts.get(connection.kind)
    if analyst is None:
        raise Denied(code="no-connection", reason=f"this gateway does not serve connections of kind {connection.kind}")
    statement = Statement(
        request.text,
        dialect=connection.kind,
        parameter_types=request.parameter_types,
        declared_parameters=request.declared_parameters,
        destination=request.destination,
        parameter_values=(request.parameters[0] or b"") if request.declared_parameters and request.parameters else b"",
    )
    try:
        analysis = await read(analyst, session, statement, snapshot=snapshot, connection=connection)
    except UpstreamRejected as rejected:
        raise Denied(
            code="rejected-by-database",
            reason=rejected.message,
            sqlstate=rejected.sqlstate,
            position=rejected.position,
        ) from None
    except Exception as error:  # fail closed: an analysis that crashed is no analysis
        logger.exception("analysis failed: session=%s", session.session_id, exc_info=_without_values(error))
        raise Denied(code="analysis-failed", reason="the statement could not be analysed") from None
    name = connection.name
    others = beside(connection, snapshot.connections) if analysis.flows else ()
    inherited = _inherited_over((name, *others), analysis, snapshot, connection)
    access = AccessRequest(
        principal=session.principal,
        resource=Resource(connection=connection.name, kind=connection.kind, phi=connection.phi),
        analysis=analysis,
        touch=touch(
            analysis=analysis,
            rules=with_inherited(snapshot.masking_rules, name, inherited.get(name, ())),
            connection=name,
            groups=session.principal.groups,
            beside=others,
        ),
        at=time.time(),
    )
    decision = decide(access, access_rules=snapshot.access_rules, policies=snapshot.policies)
    if access.touch.columns_written and writes_masked_value(request, analysis):
        decision = _MASKED_VALUE_WRITE
    elif access.touch.columns_written and request.upload == "unreadable":
        decision = _UNREADABLE_WRITE
    inputs = services.reviews.keep_inputs(access, snapshot.version)
    return Assessment(
        snapshot=snapshot,
        connection=connection,
        access=access,
        decision=decision,
        inputs=inputs,
        inherited_over=inherited,
    )


def _inherited_over(
    names: Sequence[str], analysis: Analysis, snapshot: Snapshot, connection: ConnectionSpec
) -> dict[str, tuple[Inherited, ...]]:
    """What is carried lies in the database: whoever reads it over another connection reads it as well."""
    rules, found = snapshot.masking_rules, {}
    for name in names:
        inherited = inherited_by(analysis.flows, rules=rules, connection=connection.name, over=name)
        if inherited:
            found[name] = inherited
    return found


def writes_masked_value(request: StatementRequest, analysis: Analysis) -> bool:
    """Whether the statement holds what a mask left of a value: writing that back would destroy the original."""
    inner = analysis.inner.statement.text if analysis.inner is not None else ""
    return request.upload == "masked" or carries_mask(request.text, request.parameters) or carries_mask(inner)


def denied_by(decision: Deny, assessment: Assessment) -> Denied:
    return Denied(
        assessment=assessment,
        code=decision.code,
        reason=decision.reason,
        rule=decision.rule,
        permitted_alternative=decision.permitted_alternative,
    )


class AnalysisError(Exception):
    """What stands in the log for an error whose own message might quote the statement."""


def _without_values(error: BaseException) -> BaseException:
    """The error's type and place, without a message that might quote the statement."""
    return AnalysisError(type(error).__name__).with_traceback(error.__traceback__)
