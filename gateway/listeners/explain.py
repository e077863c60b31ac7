"""What would happen to a statement, without running, holding or granting anything."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from analysis.statement import Analysis
from approvals.domain.request import Allow, Decision, Deny, Principal, ProtectedTouch, RequireApproval
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.relay_transport import Frame, RelayRequest
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.pipeline import Assessment, Denied, assess
from gateway.session.services import Services
from masking.domain.field import ResultColumn


async def explain_statement(
    services: Services, principal: Principal, spec: ConnectionSpec, request: RelayRequest
) -> Frame:
    """One `explained` frame: facts, decision and masks; `rejected` when the database itself refuses the text."""
    session = SessionContext(principal=principal, connection=spec, protocol="explain")
    statement = StatementRequest(request.statement, parameter_types=(0,) * len(request.parameters))
    try:
        assessment = await assess(services, session, statement)
    except Denied as denied:
        return {
            "type": "explained",
            "decision": {"action": "deny", "code": denied.code, "reason": denied.reason, "sqlstate": denied.sqlstate},
            "facts": None,
            "masks": [],
        }
    return {
        "type": "explained",
        "decision": described_decision(assessment.decision),
        "facts": described_facts(assessment.analysis, assessment.access.touch),
        "masks": described_masks(assessment),
        "rules_version": assessment.snapshot.version,
    }


def described_decision(decision: Decision) -> dict[str, Any]:
    match decision:
        case Allow(rule=rule):
            return {"action": "allow", "rule": rule}
        case RequireApproval():
            return {
                "action": "require_approval",
                "rule": decision.rule,
                "reason": decision.reason,
                "reviewers": [asdict(group) for group in decision.reviewers],
                "policies": list(decision.policies),
                "authors": list(decision.authors),
                "terms": asdict(decision.terms),
                "permitted_alternative": decision.permitted_alternative,
            }
        case Deny():
            return {
                "action": "deny",
                "rule": decision.rule,
                "code": decision.code,
                "reason": decision.reason,
                "permitted_alternative": decision.permitted_alternative,
            }


def described_facts(analysis: Analysis, touch: ProtectedTouch) -> dict[str, Any]:
    facts = analysis.facts
    return {
        "kind": analysis.kind,
        "operations": sorted(map(str, analysis.operations)),
        "complete": analysis.complete,
        "problems": list(analysis.problems),
        "tables_read": sorted(map(str, analysis.tables_read)),
        "tables_written": sorted(map(str, analysis.tables_written)),
        "columns_read": sorted(map(str, analysis.reads)),
        "columns_written": sorted(map(str, analysis.writes)),
        "protected": sorted(map(str, touch.columns_read | touch.columns_written)),
        "classes": sorted(touch.classes),
        "inference": list(touch.inference_violations),
        "functions": sorted(analysis.functions),
        "opaque_functions": sorted(analysis.opaque_functions),
        "no_where": facts.no_where,
        "export": facts.export,
        "row_bound": facts.row_bound,
        "estimated_rows": facts.estimated_rows,
        "risk": {
            "score": analysis.risk_score,
            "addends": [{"reason": addend.reason, "points": addend.points} for addend in analysis.risk],
        },
    }


def described_masks(assessment: Assessment) -> list[dict[str, Any]]:
    """One entry per output column. Types are not known before execution, so techniques are shown as for text."""
    outputs = assessment.analysis.outputs
    if not outputs:
        return []
    plan = assessment.plan_for([ResultColumn(output.name) for output in outputs])
    return [
        {
            "column": output.name,
            "origins": [f"{origin.column} ({origin.transform})" for origin in output.origins],
            "resolved": output.resolved,
            "masked": field.mask is not None and not field.scans_text,
            "rule": field.rule,
            "technique": field.technique,
            "scans_text": field.scans_text,
        }
        for output, field in zip(outputs, plan.fields, strict=True)
    ]
