"""The stored policies as the frozen rules a snapshot holds."""

from __future__ import annotations

from collections.abc import Mapping

from approvals.domain.decide import Action, PolicyRule
from approvals.domain.emergency import in_force
from approvals.domain.parse import parse_condition, parse_reviewers
from approvals.domain.request import Emergency, GrantTerms
from approvals.domain.scope import Scope
from approvals.models import Policy, PolicyVersion


def load_policies() -> tuple[PolicyRule, ...]:
    """Return every enabled policy, by name. Raises ConditionProblem on one that cannot be read.

    A rule that does not parse must stop the loading: without it the snapshot would permit more than was configured,
    and a gateway that cannot renew its snapshot stops serving.
    """
    versions = latest_versions()
    return tuple(
        policy_rule(policy, versions.get(policy.name))
        for policy in Policy.objects.filter(enabled=True).order_by("name")
    )


def latest_versions() -> Mapping[str, PolicyVersion]:
    """The newest kept version of every policy, by name."""
    newest = PolicyVersion.objects.order_by("policy", "-number").distinct("policy").defer("document")
    return {version.policy: version for version in newest}


def policy_rule(policy: Policy, version: PolicyVersion | None = None) -> PolicyRule:
    choice = policy.name if policy.reviewers_needed == Policy.Needed.ANY else ""
    return PolicyRule(
        name=policy.name,
        connections=tuple(policy.connections),
        action=Action(policy.action),
        when=parse_condition(policy.when, path=f"{policy.name}.when"),
        reviewers=parse_reviewers(
            policy.reviewers, quorum=policy.quorum, path=f"{policy.name}.reviewers", choice=choice
        ),
        decide_within_s=policy.decide_within_s,
        execute_within_s=policy.execute_within_s,
        skip_groups=frozenset(policy.skip_groups),
        separation=policy.separation,
        terms=grant_terms(policy),
        escalate_to=tuple(policy.escalate_to),
        escalate_before_s=policy.escalate_before_s,
        version=version.number if version else 0,
        author=version.author if version else "",
    )


def load_emergencies() -> tuple[Emergency, ...]:
    """Every emergency access that is in force now."""
    return tuple(
        Emergency(
            id=str(access.pk),
            person=access.person,
            connection=access.connection,
            ends_at=access.ends_at.timestamp(),
            agent=access.agent,
            issuer=access.issuer,
        )
        for access in in_force().order_by("ends_at")
    )


def grant_terms(policy: Policy) -> GrantTerms:
    return GrantTerms(
        scopes=tuple(scope.value for scope in Scope if scope.value in policy.grants),
        for_s=policy.grant_for_s,
        max_uses=policy.max_uses,
        max_rows=policy.max_rows,
        grace_s=policy.grace_s,
    )
