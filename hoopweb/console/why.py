"""Why was this denied? What the gateway knew of a statement, the rule that spoke, and what would be permitted instead.

For whoever may read the evidence, for the person who asked, and for the person who answers for the agent that asked.
The statement's text is not shown here: it is sealed, and read on the evidence page, where looking is recorded.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from approvals.domain.parse import ConditionProblem, parse_condition
from approvals.domain.wording import condition_words
from approvals.models import Policy, PolicyVersion
from audit.domain.statement_entries import entries_about
from audit.models import SessionRecord, StatementRecord
from gateway.domain.tokens import issuer_url
from gateway.models import AccessRule
from hoopweb.console.pages import context_of
from masking.models import MaskingRule

_ID = re.compile(r"[0-9a-f-]{36}")
_DECIDING = ("statement.denied", "statement.held", "statement.authorised")


@dataclass(frozen=True, slots=True)
class SpokenRule:
    """A rule that decided, as it stands now; `link` where it may be looked at."""

    name: str
    kind: str
    says: str
    link: str = ""
    changed_since: bool = False


def why(request: HttpRequest) -> HttpResponse:
    """The page, empty until a statement's id is asked for (`?statement=`)."""
    asked = request.GET.get("statement", "").strip()
    context = context_of(request, title="Why was this denied?") | {"asked": asked}
    statement = readable_statements(request).filter(pk=asked).first() if _ID.fullmatch(asked) else None
    if asked and statement is None:
        # The same sentence for what does not exist and what is somebody else's: ids are no oracle.
        context["problem"] = "there is no such statement, or you may not read it"
    if statement is not None:
        context |= explanation_of(request, statement)
    else:
        context["recent"] = readable_statements(request).filter(status=StatementRecord.Status.DENIED)[:10]
    return TemplateResponse(request, "console/why.html", context, status=404 if context.get("problem") else 200)


def readable_statements(request: HttpRequest) -> QuerySet[StatementRecord]:
    """Every statement for who may read the evidence; else one's own, and those of agents one answers for."""
    rows = StatementRecord.objects.all()
    if request.user.has_perm("audit.view_statementrecord"):
        return rows
    name = request.user.get_username()
    # Not by name alone: another issuer's person may bear it.
    own = SessionRecord.objects.filter(subject=name, issuer=issuer_url(), actor="").values("id")
    return rows.filter(Q(owner=name) | Q(subject=name, session_id__in=own))


def explanation_of(request: HttpRequest, statement: StatementRecord) -> dict[str, Any]:
    body = _decision_body(statement)
    session = SessionRecord.objects.filter(pk=statement.session_id).first()
    return {
        "statement": statement,
        "groups": session.groups if session else [],
        "reason": body.get("reason", ""),
        "permitted_alternative": body.get("permitted_alternative", ""),
        "code": statement.code or body.get("code", ""),
        "policies": body.get("policies", []),
        "rules": spoken_rules(request, statement, body),
    }


def spoken_rules(request: HttpRequest, statement: StatementRecord, body: dict[str, Any]) -> list[SpokenRule]:
    """The rules a decision names, by kind: an access rule that is missing, policies, masking rules (inference)."""
    versions = dict(name.rpartition("@")[::2] for name in body.get("policies", []))
    found: list[SpokenRule] = []
    for name in filter(None, (statement.rule or "").split(", ")):
        if name == "access":
            found.append(_access(statement))
        elif policy := Policy.objects.filter(name=name).first():
            found.append(_policy(request, policy, versions.get(name, "")))
        elif rule := MaskingRule.objects.filter(name=name).first():
            link = reverse("admin:masking_maskingrule_change", args=[rule.pk])
            says = (
                f"{rule.technique} on {', '.join(rule.columns) or rule.data_class}; conditions on it: {rule.inference}"
            )
            found.append(SpokenRule(name, "masking rule", says, _visible(request, "masking.view_maskingrule", link)))
        else:
            found.append(SpokenRule(name, "rule of the gateway itself", "holds on every connection"))
    return found


def _policy(request: HttpRequest, policy: Policy, version: str) -> SpokenRule:
    newest = (
        PolicyVersion.objects.filter(policy=policy.name).order_by("-number").values_list("number", flat=True).first()
    )
    return SpokenRule(
        name=f"{policy.name}@{version}" if version else policy.name,
        kind="policy",
        says=policy.description or _says(policy),
        link=_visible(request, "approvals.view_policy", reverse("admin:approvals_policy_change", args=[policy.pk])),
        changed_since=bool(version) and str(newest) != version,
    )


def _says(policy: Policy) -> str:
    try:
        about = condition_words(parse_condition(policy.when))
    except ConditionProblem:  # written by a newer version; the policy's own page says what is wrong
        about = json.dumps(policy.when, sort_keys=True)
    return f"{_ACTIONS.get(policy.action, policy.action)}: {about}"


_ACTIONS = {"allow": "allows", "require_approval": "asks for a reviewer", "deny": "denies"}


def _access(statement: StatementRecord) -> SpokenRule:
    rules = [rule for rule in AccessRule.objects.all() if statement.connection in rule.connections]
    here = "; ".join(f"{', '.join(rule.groups)}: {', '.join(rule.operations)}" for rule in rules)
    return SpokenRule(
        "access", "no access rule gives this right", f"on {statement.connection} have rights: {here or 'nobody'}"
    )


def _visible(request: HttpRequest, permission: str, link: str) -> str:
    return link if request.user.has_perm(permission) else ""


def _decision_body(statement: StatementRecord) -> dict[str, Any]:
    """The body of the entry that decided last, without what is sealed beside it."""
    newest = entries_about([statement])[0].filter(kind__in=_DECIDING).last()
    if newest is None:
        return {}
    body = json.loads(bytes(newest.canonical)).get("body", {})
    return dict(body)
