"""What the pipeline writes into the log, one builder per kind of entry. Ids, names and counts; text is sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.statement import Analysis
from approvals.domain.request import Allow, Decision, Deny, GrantClaim, RequireApproval
from audit.domain.canonical import CanonicalBody, canonical, canonical_text
from audit.domain.entry import Entry, Json
from audit.domain.subjects import SubjectsSeen, seen_body, seen_sensitive
from audit.domain.template import Filling, Template
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.permit import ExecutionPermit, FieldCount, Outcome
from gateway.session.transport import Denial, PendingReview

if TYPE_CHECKING:
    from gateway.session.assessment import Assessment
    from gateway.session.known import KnownStatement


def session_opened(session: SessionContext) -> Entry:
    principal = session.principal
    return Entry(
        kind="session.opened",
        session_id=session.session_id,
        durability=session.connection.durability,
        body={
            **_who(session),
            "issuer": principal.issuer,
            "groups": sorted(principal.groups),
            "auth_method": principal.auth_method,
            "token_id": principal.token_id,
            "client_address": session.client_address,
            "client_tls": session.client_tls,
            "upstream_tls": session.upstream_tls,
            "application": session.application,
        },
    )


def session_closed(session: SessionContext, reason: str) -> Entry:
    return Entry(
        kind="session.closed",
        session_id=session.session_id,
        body={**_who(session), "reason": reason},
        durability=session.connection.durability,
    )


def authentication_failed(*, protocol: str, client_address: str, claimed: str, connection: str, reason: str) -> Entry:
    """`claimed` is the user name the client sent, never its password or token."""
    body: dict[str, Json] = {
        "protocol": protocol,
        "client_address": client_address,
        "claimed_subject": claimed[:128],
        "connection": connection[:128],
        "reason": reason,
    }
    return Entry(kind="authentication.failed", body=body)


def authorised(
    session: SessionContext, request: StatementRequest, assessment: Assessment, claim: GrantClaim | None
) -> Entry:
    body = _authorised(session, assessment)
    if claim is not None and claim.emergency:
        body["emergency"] = claim.emergency
        body["masks"] = "lifted" if claim.lifts_masks else "kept"
    elif claim is not None:
        body["review"] = claim.review_id
        body["grant"] = claim.grant_id
        body["approvers"] = list(claim.approvers)
        body["modified"] = claim.modified_from is not None
    durability = assessment.connection.durability
    return _statement_entry("statement.authorised", session, request, body, durability=durability)


def authorised_body(session: SessionContext, assessment: Assessment) -> CanonicalBody:
    """What every authorised entry of this assessment says: its constant part, spelled once."""
    return CanonicalBody(_authorised(session, assessment))


def authorised_again(session: SessionContext, request: StatementRequest, known: KnownStatement) -> Entry:
    durability = known.assessment.connection.durability
    return _statement_entry("statement.authorised", session, request, known.body, durability=durability)


def authorised_template(session: SessionContext, known: KnownStatement) -> Template:
    """Of every authorised entry this remembered statement will have in its session."""
    body, durability = known.body, known.assessment.connection.durability
    return Template(Entry(kind="statement.authorised", session_id=session.session_id, body=body, durability=durability))


def authorised_filling(request: StatementRequest) -> Filling:
    return Filling(request.statement_id, sensitive=_sensitive(request))


_OUTCOME_BLANKS = ("bytes", "command_tag", "masked", "rows")
_RECORDED_BLANKS = ("bytes", "command_tag", "masked", "recording", "rows")


def completed_again(session: SessionContext, kind: str) -> Template:
    """Of the entries of executions that end well, where they say no more than `completed_filling`."""
    body = _completed(session, kind, Outcome(status="completed"))
    durability = session.connection.durability
    example = Entry(kind="statement.completed", session_id=session.session_id, body=body, durability=durability)
    return Template(example, blanks=_RECORDED_BLANKS if session.records_results else _OUTCOME_BLANKS)


def completed_filling(permit: ExecutionPermit, outcome: Outcome) -> Filling | None:
    """None when the outcome is not the usual one: then the entry is spelled the ordinary way."""
    if outcome.status != "completed" or outcome.error or outcome.bytes_processed is not None:
        return None
    if outcome.subjects is not None:
        return None
    masked = masked_canonical(outcome.masked) if outcome.masked else b"[]"
    values = completed_values(
        permit.session,
        rows=outcome.rows,
        size=outcome.bytes,
        tag=outcome.command_tag,
        masked=masked,
        recording=outcome.recording,
    )
    return Filling(permit.request.statement_id, values)


def completed_values(
    session: SessionContext, *, rows: int, size: int, tag: str, masked: bytes, recording: str
) -> tuple[bytes, ...]:
    """What `completed_again` leaves blank, in its order; `masked` is canonical."""
    recorded = (canonical_text(recording),) if session.records_results else ()
    return (b"%d" % size, canonical_text(tag), masked, *recorded, b"%d" % rows)


def masked_canonical(masked: Sequence[FieldCount]) -> bytes:
    """What a completed entry says was masked, for `completed_filling` and whoever keeps it."""
    return canonical(_masked(masked))


def _masked(masked: Sequence[FieldCount]) -> list[Json]:
    return [{"column": m.column, "rule": m.rule, "technique": m.technique, "count": m.count} for m in masked]


def _authorised(session: SessionContext, assessment: Assessment) -> dict[str, Json]:
    about = assessment.about
    return {
        **_who(session),
        **_what(assessment.analysis),
        **_decision(assessment.decision),
        "snapshot": assessment.snapshot.version,
        "rules_digest": assessment.connection.rules_digest,
        "classes": sorted(assessment.access.touch.classes),
        "durability": assessment.connection.durability,
        "role": session.role,
        "inputs": assessment.inputs,
        **({"about": list(about)} if about else {}),
        **({"inherited": _inherited(assessment)} if assessment.inherited_over else {}),
    }


def _inherited(assessment: Assessment) -> list[Json]:
    """Of other connections to the same database with their names."""
    return [
        {
            "column": str(each.column),
            "class": each.data_class,
            **({} if name == assessment.connection.name else {"connection": name}),
        }
        for name, inherited in sorted(assessment.inherited_over.items())
        for each in inherited
    ]


def held(session: SessionContext, request: StatementRequest, assessment: Assessment, review: PendingReview) -> Entry:
    body: dict[str, Json] = {
        **_who(session),
        **_what(assessment.analysis),
        **_decision(assessment.decision),
        "snapshot": assessment.snapshot.version,
        "classes": sorted(assessment.access.touch.classes),
        "review": review.review_id,
        "inputs": assessment.inputs,
    }
    return _statement_entry("statement.held", session, request, body)


def denied(
    session: SessionContext, request: StatementRequest, denial: Denial, assessment: Assessment | None = None
) -> Entry:
    """What was refused and why. The reason is told where a rule gave it: the database's own may quote names.

    `inputs`: what the decision was made of, where one was made at all.
    """
    body: dict[str, Json] = {**_who(session), "inputs": ""}
    if assessment is not None:
        body |= {**_what(assessment.analysis), **_decision(assessment.decision), "inputs": assessment.inputs}
        body |= {"snapshot": assessment.snapshot.version, "classes": sorted(assessment.access.touch.classes)}
        body |= {"reason": denial.reason, "permitted_alternative": denial.permitted_alternative}
    body |= {"code": denial.code, "rule": denial.rule, "sqlstate": denial.sqlstate}
    durability = session.connection.durability
    return _statement_entry("statement.denied", session, request, body, durability=durability)


def explained(session: SessionContext, request: StatementRequest, action: str) -> Entry:
    """A dry run: nothing ran and no session was opened, but somebody asked what they might get."""
    body: dict[str, Json] = {**_who(session), "decision": action}
    return Entry(kind="statement.explained", body=body, sensitive={"statement": request.text})


def described(session: SessionContext, what: str, *, viewer: str = "") -> Entry:
    """Tables and columns were told, and how they would come out for the subject; `viewer` is a person who looked."""
    return Entry(kind="tables.described", body={**_who(session), "described": what, "viewer": viewer})


def _completed(session: SessionContext, kind: str, outcome: Outcome) -> dict[str, Json]:
    return {
        **_who(session),
        "kind": kind,
        "status": outcome.status,
        "rows": outcome.rows,
        "bytes": outcome.bytes,
        "error": outcome.error,
        "command_tag": outcome.command_tag,
        "recording": outcome.recording,
        "masked": _masked(outcome.masked),
    }


def completed(permit: ExecutionPermit, outcome: Outcome) -> Entry:
    body = _completed(permit.session, permit.analysis.kind, outcome)
    if outcome.bytes_processed is not None:
        body["bytes_processed"] = outcome.bytes_processed
    seen = outcome.subjects or _unseen(permit, outcome)
    return Entry(
        kind="statement.completed",
        session_id=permit.session.session_id,
        statement_id=permit.request.statement_id,
        body=body if seen is None else {**body, **seen_body(seen)},
        sensitive=None if seen is None else seen_sensitive(seen),
        durability=permit.session.connection.durability,
    )


def subjects_seen(permit: ExecutionPermit, seen: SubjectsSeen) -> Entry:
    """A portion of a result's subjects, ahead of the entry that says how it ended."""
    return Entry(
        kind="statement.subjects",
        session_id=permit.session.session_id,
        statement_id=permit.request.statement_id,
        body={**_who(permit.session), **seen_body(seen)},
        sensitive=seen_sensitive(seen),
        durability=permit.session.connection.durability,
    )


def _unseen(permit: ExecutionPermit, outcome: Outcome) -> SubjectsSeen | None:
    """Records that were changed without anything coming back that would name them."""
    if permit.subjects is None or outcome.status != "completed" or not permit.analysis.tables_written:
        return None
    return SubjectsSeen(0, unknown=tuple((name, "write") for name in permit.subjects.about))


def read_again(permit: ExecutionPermit, outcome: Outcome) -> Entry:
    """Rows of a finished statement's result went to its client once more; its own entry had already been closed."""
    body: dict[str, Json] = {
        **_who(permit.session),
        "rows": outcome.rows,
        "bytes": outcome.bytes,
        "recording": outcome.recording,
        "masked": _masked(outcome.masked),
    }
    return Entry(
        kind="statement.read_again",
        session_id=permit.session.session_id,
        statement_id=permit.request.statement_id,
        body=body,
    )


def request_refused(session: SessionContext, endpoint: str, reason: str) -> Entry:
    """A call of a data API that is not served. `endpoint` is a name of ours, never the client's path."""
    return Entry(kind="request.refused", body={**_who(session), "endpoint": endpoint, "reason": reason})


def _statement_entry(
    kind: str,
    session: SessionContext,
    request: StatementRequest,
    body: Mapping[str, Json],
    *,
    durability: str = "database",
) -> Entry:
    return Entry(
        kind=kind,
        session_id=session.session_id,
        statement_id=request.statement_id,
        body=body,
        sensitive=_sensitive(request),
        durability=durability,
    )


def _sensitive(request: StatementRequest) -> dict[str, Json]:
    sensitive: dict[str, Json] = {"statement": request.text}
    if request.governed_as is not None:
        sensitive["governed_as"] = request.governed_as
    if request.parameters:
        sensitive["parameters"] = [None if p is None else p.hex() for p in request.parameters]
        sensitive["parameter_types"] = list(request.parameter_types)
        sensitive["parameter_formats"] = list(request.parameter_formats)
    return sensitive


def _who(session: SessionContext) -> dict[str, Json]:
    principal = session.principal
    return {
        "subject": principal.subject,
        "actor": principal.actor,
        "owner": principal.owner,
        "connection": session.connection.name,
        "protocol": session.protocol,
    }


def _what(analysis: Analysis) -> dict[str, Json]:
    estimated = analysis.facts.estimated_bytes
    return {
        "kind": analysis.kind,
        "fingerprint": analysis.fingerprint,
        "complete": analysis.complete,
        "operations": sorted(str(operation) for operation in analysis.operations),
        "tables_read": [str(table) for table in sorted(analysis.tables_read)],
        "tables_written": [str(table) for table in sorted(analysis.tables_written)],
        "columns_read": [str(column) for column in sorted(analysis.reads)],
        "risk": analysis.risk_score,
        **({} if estimated is None else {"estimated_bytes": estimated}),
    }


def _decision(decision: Decision) -> dict[str, Json]:
    named: dict[str, Json] = {"policies": list(decision.policies)} if decision.policies else {}
    match decision:
        case Allow(rule=rule):
            return {"decision": "allow", "rule": rule, **named}
        case RequireApproval(rule=rule):
            return {"decision": "require_approval", "rule": rule, **named}
        case Deny(rule=rule, code=code):
            return {"decision": "deny", "rule": rule, "code": code, **named}
