"""What a reviewer's text would do, asked by the control plane on behalf of whoever asked for the original.

Nothing runs, nothing is held, nothing is granted: the text is analysed with the held session's role and search path,
and decided under the requester's rights of this moment, exactly as the pipeline will do again before it may run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from analysis.estimate import RowsExpected
from analysis.split import split_statements
from approvals.domain.facts import review_facts, without_sizes
from approvals.domain.request import Principal
from gateway.domain.identity import revalidated
from gateway.domain.long_texts import read_beside
from gateway.domain.snapshot import ConnectionSpec, StaleSnapshot
from gateway.listeners.explain import described_decision, described_masks
from gateway.protocols.bigquery.errors import BigQueryError
from gateway.protocols.bigquery.parameters import bound, declared
from gateway.protocols.bigquery.requests import read_held
from gateway.protocols.bigquery.work import read_destination
from gateway.session.assessment import Assessment, Denied, assess
from gateway.session.context import SessionContext, StatementRequest
from gateway.session.expected import rows_expected
from gateway.session.services import AuthenticationFailed, Services

Answer = dict[str, Any]


async def reanalyse_statement(services: Services, body: Mapping[str, Any]) -> Answer:
    """Return {"facts", "risk", "decision"} or {"problem"}; KeyError, TypeError or ValueError for another shape."""
    text = str(body["statement"])
    try:
        snapshot = services.snapshots.current()
        principal = revalidated(principal_of(body["principal"]), rules=snapshot)
    except StaleSnapshot:
        return {"problem": "the gateway's rules are out of date; try again"}
    except AuthenticationFailed:
        return {"problem": "whoever asked may not act any more"}
    spec = snapshot.connections.get(str(body["connection"]))
    if spec is None:
        return {"problem": "this connection does not exist"}
    if spec.kind == "postgres":
        parts = await read_beside(principal.subject, len(text), partial(split_statements, text))
        if len(parts) != 1:
            return {"problem": "expected exactly one statement"}
    session = SessionContext(
        principal=principal,
        connection=spec,
        protocol="review",
        role=str(body["role"]),
        search_path=str(body["search_path"]),
    )
    try:
        assessment = await assess(services, session, _request(spec, text, body))
        expected = await rows_expected(services, session, assessment.analysis)
        return _described(assessment, expected)
    except Denied as denied:
        return {"problem": denied.reason}


def _request(spec: ConnectionSpec, text: str, body: Mapping[str, Any]) -> StatementRequest:
    """The text with what it was asked with: types, or BigQuery's parameters and destination."""
    if spec.kind != "bigquery":
        return StatementRequest(text, parameter_types=tuple(int(oid) for oid in body["parameter_types"]))
    try:
        parameters, written = read_held(str(body.get("parameters", "")), str(body.get("settings", "")))
        destination = read_destination(written, spec.settings.get("project", ""), columns=None) if written else None
    except BigQueryError as refused:
        raise Denied(code="no-query", reason=refused.message) from None
    return StatementRequest(
        text, parameters=bound(parameters), declared_parameters=declared(parameters), destination=destination
    )


def _described(assessment: Assessment, expected: RowsExpected) -> Answer:
    """No estimate where the reviewer's own text asks about protected values: it would answer, text after text."""
    told = [part for mask in described_masks(assessment) for part in mask.get("fields") or (mask,)]
    masks = [(mask["column"], mask["technique"], mask["rule"]) for mask in told if mask["masked"]]
    return {
        "facts": without_sizes(review_facts(assessment.access, masks, expected)),
        "risk": assessment.analysis.risk_score,
        "decision": described_decision(assessment.decision),
    }


def principal_of(known: Mapping[str, Any]) -> Principal:
    """Whom the control plane asks for, without a token of theirs."""
    return Principal(
        subject=str(known["subject"]),
        issuer=str(known["issuer"]),
        groups=frozenset(map(str, known["groups"])),
        kind=str(known["kind"]),
        actor=known["actor"],
        owner=known["owner"],
        auth_method=str(known["auth_method"]),
        either_groups=frozenset(map(str, known.get("either_groups", ()))),
    )
