"""What would happen to a statement, without running, holding or granting anything.

An answer is recorded before it is given. It never depends on the planner's estimate where protected values are asked
about: the planner's statistics are made of them, so `ssn < $1` would tell real ones by bisection, without a reviewer.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from analysis.risk import with_risk
from analysis.statement import Analysis
from approvals.domain.decide import decide
from approvals.domain.request import Allow, Decision, Deny, Principal, ProtectedTouch, RequireApproval
from gateway.domain.snapshot import ConnectionSpec
from gateway.listeners.relay_transport import Frame, RelayRequest, statement_of
from gateway.session import entries
from gateway.session.assessment import Assessment, Denied, assess
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.services import Services
from masking.domain.field import FieldMask
from masking.domain.plan import columns_expected


async def explain_statement(
    services: Services, principal: Principal, spec: ConnectionSpec, request: RelayRequest
) -> Frame:
    """One `explained` frame: facts, decision and masks; `rejected` when the database itself refuses the text."""
    session = SessionContext(
        principal=principal, connection=spec, protocol="explain", client_address=request.client_address
    )
    statement = StatementRequest(request.statement, parameter_types=(0,) * len(request.parameters))
    if spec.kind == "bigquery":
        statement = statement_of(request, spec.kind)
    frame = await _explained(services, session, statement)
    await services.record.append(entries.explained(session, statement, frame["decision"]["action"]))
    return frame


async def _explained(services: Services, session: SessionContext, statement: StatementRequest) -> Frame:
    try:
        assessment = without_estimate(await assess(services, session, statement))
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


def without_estimate(assessment: Assessment) -> Assessment:
    """The same, decided as if the planner had not been asked, when what it knows are protected values."""
    access = assessment.access
    if not access.touch.inference_violations or access.analysis.facts.estimated_rows is None:
        return assessment
    analysis = replace(access.analysis, facts=replace(access.analysis.facts, estimated_rows=None))
    access = replace(access, analysis=with_risk(analysis))
    snapshot = assessment.snapshot
    decision = decide(access, access_rules=snapshot.access_rules, policies=snapshot.policies)
    return replace(assessment, access=access, decision=decision)


def described_decision(decision: Decision) -> dict[str, Any]:
    """The decision as JSON has it, in REST's words: `action`, and what says why, who decides and until when."""
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
                "decide_within_s": decision.decide_within_s,
                "escalate_to": list(decision.escalate_to),
                "escalate_before_s": decision.escalate_before_s,
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
    """The facts of an analysis as JSON has them: names of tables, columns and functions sorted."""
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
    """One entry per output column, with `fields` by path for a record that is masked part by part.

    Types are not known before execution, so techniques are shown as for text.
    """
    outputs = assessment.analysis.outputs
    if not outputs:
        return []
    plan = assessment.plan_for(columns_expected(outputs))
    return [
        {
            "column": output.name,
            "origins": [f"{origin.column} ({origin.transform})" for origin in output.origins],
            "resolved": output.resolved,
            **_described_mask(field),
            **(
                {"fields": [{"column": path, **_described_mask(leaf)} for path, leaf in _parts(field)]}
                if _parts(field)
                else {}
            ),
        }
        for output, field in zip(outputs, plan.fields, strict=True)
    ]


def _parts(field: FieldMask) -> list[tuple[str, FieldMask]]:
    return list(field.leaves()) if field.fields else []


def _described_mask(field: FieldMask) -> dict[str, Any]:
    """Of a record what holds for any of its parts."""
    leaves = [leaf for _, leaf in field.leaves()]
    masking = [leaf for leaf in leaves if leaf.mask is not None and not leaf.scans_text]
    told = masking or [leaf for leaf in leaves if leaf.scans_text] or leaves
    return {
        "masked": bool(masking),
        "rule": ",".join(sorted({leaf.rule for leaf in told} - {""})),
        "technique": ",".join(sorted({leaf.technique for leaf in told} - {""})),
        "scans_text": not masking and any(leaf.scans_text for leaf in leaves),
    }
