"""Requests, policies and people as short as a test can say them."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth.models import Group, User

from analysis.estimate import UNKNOWN
from analysis.statement import Analysis, ColumnRef, Facts, Operation, RiskAddend, Statement, TableRef
from analysis.touch import ProtectedTouch
from approvals.domain.conditions import Condition
from approvals.domain.decide import AccessRule, Action, PolicyRule
from approvals.domain.request import (
    AccessRequest,
    Binding,
    Principal,
    RequireApproval,
    Resource,
    ReviewerGroup,
)
from approvals.domain.review import open_review
from approvals.models import Review

READ, WRITE, DDL, ADMIN, SESSION = Operation.READ, Operation.WRITE, Operation.DDL, Operation.ADMIN, Operation.SESSION
PATIENTS = TableRef("public", "patients")
SSN = ColumnRef("public", "patients", "ssn")
AGENT = Principal(subject="demo-agent", issuer="https://issuer", groups=frozenset({"ai-agents"}), owner="admin")
OFFICERS = ReviewerGroup("privacy-officers")
UPDATE = "UPDATE patients SET phone = '555-0100' WHERE id = 7"


def analysis(*operations: Operation, text: str = "select 1", **known: Any) -> Analysis:
    facts = known.pop("facts", Facts(row_bound=10))
    return Analysis(
        statement=Statement(text),
        kind=known.pop("kind", "SELECT"),
        fingerprint="f" * 16,
        complete=known.pop("complete", True),
        operations=frozenset(operations),
        facts=facts,
        **known,
    )


def access_request(*operations: Operation, phi: bool = True, **known: Any) -> AccessRequest:
    return AccessRequest(
        principal=known.pop("principal", AGENT),
        resource=Resource(connection=known.pop("connection", "clinic"), kind="postgres", phi=phi),
        touch=known.pop("touch", ProtectedTouch()),
        at=known.pop("at", time.time()),
        analysis=analysis(*(operations or (READ,)), **known),
    )


def access_rule(*operations: Operation, **known: Any) -> AccessRule:
    return AccessRule(
        groups=frozenset(known.pop("groups", {"ai-agents"})),
        connections=tuple(known.pop("connections", ("clinic",))),
        operations=frozenset(operations),
        name=known.pop("name", "agents"),
    )


def policy(action: Action, name: str = "policy", **known: Any) -> PolicyRule:
    reviewers = known.pop("reviewers", (OFFICERS,) if action is Action.REQUIRE_APPROVAL else ())
    connections = known.pop("connections", ("clinic",))
    expiries = {name: known.pop(name) for name in ("decide_within_s", "execute_within_s") if name in known}
    return PolicyRule(
        name=name,
        connections=connections,
        action=action,
        when=known.pop("when", None) or Condition(**known),
        reviewers=reviewers,
        **expiries,
    )


def binding(**changes: Any) -> Binding:
    known: dict[str, Any] = {
        "principal_subject": AGENT.subject,
        "principal_issuer": AGENT.issuer,
        "principal_actor": None,
        "connection": "clinic",
        "statement": UPDATE,
        "parameters": (b"7", None),
        "parameter_types": (23, 25),
        "parameter_formats": (0, 0),
        "role": "clinic_app",
        "search_path": "public",
        "rules": "digest-1",
    }
    return Binding(**(known | changes))


def write_request(text: str = UPDATE, **known: Any) -> AccessRequest:
    return access_request(
        WRITE,
        kind="UPDATE",
        text=text,
        tables_written=frozenset({PATIENTS}),
        writes=frozenset({SSN}),
        touch=ProtectedTouch(columns_written=frozenset({SSN}), classes=frozenset({"ssn"})),
        risk=(RiskAddend("writes protected data", known.pop("risk", 40)),),
        **known,
    )


def held(*, groups: tuple[ReviewerGroup, ...] = (OFFICERS,), **changes: Any) -> Review:
    """A pending review of the demo agent's UPDATE."""
    decision = RequireApproval(
        rule="phi-writes",
        reason="policy phi-writes requires a reviewer",
        reviewers=groups,
        decide_within_s=changes.pop("decide_within_s", 3600),
        execute_within_s=changes.pop("execute_within_s", 600),
    )
    request = changes.pop("request", None) or write_request(text=changes.get("statement", UPDATE))
    expected = changes.pop("expected", UNKNOWN)
    return open_review(
        request=request,
        binding=binding(**changes),
        decision=decision,
        session_id="session-1",
        statement_id="stmt-1",
        expected=expected,
    )


def person(username: str, *groups: str, **known: Any) -> User:
    user = User.objects.create_user(username, f"{username}@example.test", **known)
    user.groups.set([Group.objects.get_or_create(name=name)[0] for name in groups])
    return user
