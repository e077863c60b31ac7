"""The stored policies as the frozen rules a snapshot holds."""

from __future__ import annotations

from approvals.domain.decide import Action, PolicyRule
from approvals.domain.parse import parse_condition, parse_reviewers
from approvals.models import Policy


def load_policies() -> tuple[PolicyRule, ...]:
    """Return every enabled policy, by name. Raises ConditionProblem on one that cannot be read.

    A rule that does not parse must stop the loading: without it the snapshot would permit more than was configured,
    and a gateway that cannot renew its snapshot stops serving.
    """
    return tuple(policy_rule(policy) for policy in Policy.objects.filter(enabled=True).order_by("name"))


def policy_rule(policy: Policy) -> PolicyRule:
    return PolicyRule(
        name=policy.name,
        connections=tuple(policy.connections),
        action=Action(policy.action),
        when=parse_condition(policy.when, path=f"{policy.name}.when"),
        reviewers=parse_reviewers(policy.reviewers, quorum=policy.quorum, path=f"{policy.name}.reviewers"),
        decide_within_s=policy.decide_within_s,
        execute_within_s=policy.execute_within_s,
    )
