"""The control plane's question to the data plane: what would a reviewer's text do? Registered with approvals' hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from django.conf import settings

from approvals.domain.hooks import Reanalysis
from approvals.domain.request import (
    Allow,
    Binding,
    Decision,
    Deny,
    GrantTerms,
    Principal,
    RequireApproval,
    ReviewerGroup,
)

TIMEOUT_S = 20.0
NO_ANSWER = "the data plane does not answer; try again"


def reanalyse(*, binding: Binding, principal: Principal) -> Reanalysis:
    """Analyse and decide `binding.statement` for `principal`. Every failure is a `problem`, hence not approved."""
    try:
        answer = httpx.post(
            f"{settings.HOOPWEB_RELAY_URL}/relay/v1/reanalyses",
            headers={"X-Hoopweb-Relay": settings.HOOPWEB_RELAY_KEY},
            json=_question(binding, principal),
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        document = answer.raise_for_status().json()
        if document.get("problem"):
            return Reanalysis(problem=str(document["problem"]))
        decision = _decision(document["decision"])
        return Reanalysis(facts=document["facts"], risk=int(document["risk"]), decision=decision)
    except (httpx.HTTPError, KeyError, TypeError, ValueError):
        return Reanalysis(problem=NO_ANSWER)  # fail closed: an analysis that did not arrive is none


def _question(binding: Binding, principal: Principal) -> dict[str, Any]:
    return {
        "connection": binding.connection,
        "statement": binding.statement,
        "parameter_types": list(binding.parameter_types),
        "parameters": _document(binding),
        "settings": binding.settings,
        "role": binding.role,
        "search_path": binding.search_path,
        "principal": described_principal(principal),
    }


def _document(binding: Binding) -> str:
    """Parameters that are one document, as BigQuery's are; PostgreSQL's have types, and are not needed."""
    if len(binding.parameters) != 1 or binding.parameter_types:
        return ""
    return (binding.parameters[0] or b"").decode("utf-8", "replace")


def described_principal(principal: Principal) -> dict[str, Any]:
    """Whom the control plane asks for, as the data plane's `principal_of` reads it."""
    return {
        "subject": principal.subject,
        "issuer": principal.issuer,
        "groups": sorted(principal.groups),
        "kind": principal.kind,
        "actor": principal.actor,
        "owner": principal.owner,
        "auth_method": principal.auth_method,
        "either_groups": sorted(principal.either_groups),
    }


def _decision(described: Mapping[str, Any]) -> Decision:
    match described["action"]:
        case "allow":
            return Allow(rule=described["rule"])
        case "require_approval":
            terms = {**described["terms"], "scopes": tuple(described["terms"]["scopes"])}
            return RequireApproval(
                rule=described["rule"],
                reason=described["reason"],
                reviewers=tuple(ReviewerGroup.of(group) for group in described["reviewers"]),
                policies=tuple(described["policies"]),
                authors=tuple(described["authors"]),
                terms=GrantTerms(**terms),
                decide_within_s=described["decide_within_s"],
                escalate_to=tuple(described["escalate_to"]),
                escalate_before_s=described["escalate_before_s"],
            )
        case _:
            return Deny(code=described["code"], rule=described.get("rule", ""), reason=described["reason"])
