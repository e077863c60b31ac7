"""`dryRun`: what a query would do, cost and be allowed, without running, holding or granting anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analysis.bigquery.dryrun import FieldSchema
from approvals.domain.request import Deny, RequireApproval
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.bigquery_jobs import must_be_on, statement_of
from gateway.listeners.bigquery_transport import denied
from gateway.listeners.data_api import Caller
from gateway.protocols.bigquery import resources
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.requests import QueryRequest
from gateway.protocols.bigquery.resources import JobFacts, JobStatistics
from gateway.session import entries
from gateway.session.assessment import Denied, assess, denied_by
from gateway.session.services import Services
from gateway.session.transport import Denial
from gateway.upstreams.bigquery import BigQueryUpstream, project_of


async def dry_run(
    services: Services, reader: BigQueryUpstream, caller: Caller, spec: ConnectionSpec, request: QueryRequest
) -> JobFacts:
    """The job as the service would describe it. Raises BigQueryError with the denial where it would be denied."""
    session = caller.session(spec, search_path=request.default_dataset, settings=request.settings)
    await must_be_on(services, session)
    statement = statement_of(request)
    refusal: Denied | None = None
    decision = "deny"
    try:
        assessment = await assess(services, session, statement)
        if isinstance(assessment.decision, Deny):
            refusal = denied_by(assessment.decision, assessment)
        else:
            decision = "require_approval" if isinstance(assessment.decision, RequireApproval) else "allow"
    except Denied as denied_:
        refusal = denied_
    await services.record.append(entries.explained(session, statement, decision))
    if refusal is not None:
        raise denied(_denial(refusal, session.session_id, statement.statement_id))
    read = await reader.dry_run(spec, request.text, request.parameters, request.default_dataset)
    if read.error is not None:
        raise BigQueryError(read.error.reason, read.error.message, read.error.status)
    return JobFacts(
        project=project_of(spec),
        job_id=request.job_id,
        location=spec.settings.get("location") or request.location,
        user=caller.principal.subject,
        request=request,
        state="DONE",
        text=request.text,
        labels={resources.DECISION_LABEL: decision},
        statistics=JobStatistics(statement_type=read.statement_type, bytes_processed=read.bytes_processed or 0),
        schema=[_field(field) for field in read.schema] if read.schema is not None else None,
    )


def _field(field: FieldSchema) -> dict[str, Any]:
    told: dict[str, Any] = {"name": field.name, "type": field.type, "mode": field.mode}
    return {**told, "fields": list(_fields(field.fields))} if field.fields else told


def _fields(fields: Iterable[FieldSchema]) -> Iterable[dict[str, Any]]:
    return (_field(field) for field in fields)


def _denial(refusal: Denied, session_id: str, statement_id: str) -> Denial:
    return Denial(
        code=refusal.code,
        reason=refusal.reason,
        session_id=session_id,
        statement_id=statement_id,
        rule=refusal.rule,
        permitted_alternative=refusal.permitted_alternative,
        sqlstate=refusal.sqlstate,
        position=refusal.position,
    )
