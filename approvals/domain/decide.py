"""The decision point: pure, deterministic, over frozen rules. Deny beats approval beats allow; no rule is a deny.

The order of `decide` is the order of authority: access rules first (nothing overrides a right nobody gave), then
policies that deny, then what nobody could analyse, then policies that want a reviewer, then what masking rules say
about inference. Only what passes all of these is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache

from analysis.statement import Operation
from approvals.domain.conditions import Condition, evaluate, is_doubtful, makes_of_protected, row_cap
from approvals.domain.request import (
    AccessRequest,
    Allow,
    Decision,
    Deny,
    GrantTerms,
    RequireApproval,
    ReviewerGroup,
)
from approvals.domain.wording import (
    alternative_to_analysis,
    alternative_to_inference,
    alternative_to_policy,
    condition_words,
    listed,
    spread_words,
)

__all__ = ["LAST_PART", "AccessRule", "Action", "Condition", "PolicyRule", "decide", "merge_reviewers", "stand_ins_of"]


class Action(StrEnum):
    ALLOW = "allow"
    REQUIRE_APPROVAL = "require_approval"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Groups that may use connections (globs) for these operations. Necessary for every statement, never sufficient."""

    groups: frozenset[str]
    connections: tuple[str, ...]
    operations: frozenset[Operation]
    name: str = ""

    def covers(self, connection: str) -> bool:
        return covers(self.connections, connection)


@dataclass(frozen=True, slots=True)
class PolicyRule:
    name: str
    connections: tuple[str, ...]
    action: Action
    when: Condition = field(default_factory=Condition)
    reviewers: tuple[ReviewerGroup, ...] = ()
    decide_within_s: int = 3600
    execute_within_s: int = 600
    skip_groups: frozenset[str] = frozenset()  # requesters this policy does not hold
    separation: bool = True  # whoever wrote it cannot approve under it without somebody else
    terms: GrantTerms = field(default_factory=GrantTerms)
    escalate_to: tuple[str, ...] = ()  # whose members stand in for the reviewers when nobody decides
    escalate_before_s: int = 0
    version: int = 0  # of the kept versions; 0 when none was kept
    author: str = ""  # who wrote this version

    @property
    def label(self) -> str:
        """What decisions and records name the policy by."""
        return f"{self.name}@{self.version}"


# A policy that does not say when it escalates does so in the last quarter of the time to decide.
LAST_PART = 4

# What a statement may turn out to need when nothing says what it does.
EVERY_RIGHT = frozenset({Operation.READ, Operation.WRITE, Operation.DDL, Operation.ADMIN})


def decide(request: AccessRequest, *, access_rules: Sequence[AccessRule], policies: Sequence[PolicyRule]) -> Decision:
    """Return the decision for `request`. Never raises on odd SQL: what is not known counts as the dangerous value."""
    rights = [rule for rule in access_rules if _gives_rights(rule, request)]
    here = [policy for policy in policies if covers(policy.connections, request.resource.connection)]
    approvals = [policy for policy in here if _holds(policy, request)]
    return (
        _without_access(request, rights, access_rules)
        or _denied_by_policy(request, here)
        or _not_analysed(request, approvals)
        or _needs_approval(request, approvals)
        or _spreads(request)
        or _infers(request, here)
        or _allowed(request, rights, here)
    )


def merge_reviewers(groups: Iterable[ReviewerGroup]) -> tuple[ReviewerGroup, ...]:
    """Every group once, in order of first appearance, with the highest quorum asked of it and never less than one.

    Groups of a choice are merged within that choice only: "one of a or b" and "a" are two demands. Only whoever may
    stand in under each of the demands stands in for all of them.
    """
    merged: dict[tuple[str, str], ReviewerGroup] = {}
    for wanted in groups:
        known = merged.get((wanted.group, wanted.choice), wanted)
        merged[wanted.group, wanted.choice] = replace(
            known,
            quorum=max(known.quorum, wanted.quorum, 1),
            stand_ins=tuple(name for name in known.stand_ins if name in wanted.stand_ins),
        )
    return tuple(merged.values())


def stand_ins_of(groups: Iterable[ReviewerGroup]) -> tuple[str, ...]:
    """Whoever stands in for any of the groups, by name, each once."""
    return tuple(sorted({name for group in groups for name in group.stand_ins}))


def merge_terms(terms: Iterable[GrantTerms]) -> GrantTerms:
    """The narrowest of all: what one policy does not permit, the others cannot."""
    every = tuple(terms)
    row_caps = [each.max_rows for each in every if each.max_rows is not None]
    return GrantTerms(
        scopes=tuple(scope for scope in every[0].scopes if all(scope in each.scopes for each in every)),
        for_s=min(each.for_s for each in every),
        max_uses=min(each.max_uses for each in every),
        max_rows=min(row_caps, default=None),
        grace_s=min(each.grace_s for each in every),
    )


def covers(globs: Iterable[str], connection: str) -> bool:
    """Whether any of the globs names the connection."""
    return any(_names(glob, connection) for glob in globs)


@lru_cache(maxsize=4096)
def _names(glob: str, connection: str) -> bool:
    return fnmatchcase(connection, glob)


def _gives_rights(rule: AccessRule, request: AccessRequest) -> bool:
    return bool(rule.groups & request.principal.groups) and rule.covers(request.resource.connection)


def _holds(policy: PolicyRule, request: AccessRequest) -> bool:
    """Whether an approval policy applies. Who skips it is as if it were not there: it permits nothing to them."""
    asks = policy.action is Action.REQUIRE_APPROVAL and _could_restrict(policy, request)
    return asks and _restricts(policy, request)


def _could_restrict(policy: PolicyRule, request: AccessRequest) -> bool:
    """Whether the policy would have denied or held the request, had its condition been met."""
    if policy.action is Action.REQUIRE_APPROVAL:
        return not policy.skip_groups & request.principal.groups
    return policy.action is Action.DENY


def _restricts(policy: PolicyRule, request: AccessRequest) -> bool:
    """Whether a denying or approval policy applies: unknown counts as yes."""
    return evaluate(policy.when, request) is not False


def _without_access(
    request: AccessRequest, rights: Sequence[AccessRule], access_rules: Sequence[AccessRule]
) -> Deny | None:
    """Deny unless every operation is covered. SESSION statements need any right at all."""
    needed = (request.analysis.operations or EVERY_RIGHT) - {Operation.SESSION}
    if not request.resource.phi:
        needed -= {Operation.LISTEN}
    held = frozenset(operation for rule in rights for operation in rule.operations)
    if Operation.DDL in held:
        held |= {Operation.TEMP}
    missing = needed - held
    if rights and not missing:
        return None
    connection = request.resource.connection
    wanted = f"{listed(missing)} statements on connection {connection}" if rights else f"connection {connection}"
    return Deny(
        code="access-denied",
        rule="access",
        reason=f"no access rule gives {request.principal.subject} {wanted}",
        permitted_alternative=_what_is_permitted(request, held, access_rules),
    )


def _what_is_permitted(request: AccessRequest, held: frozenset[Operation], access_rules: Sequence[AccessRule]) -> str:
    if held:
        return f"on connection {request.resource.connection} you may run {listed(held)} statements"
    mine = [rule for rule in access_rules if rule.groups & request.principal.groups]
    if not mine:
        return "none of your groups has access to any connection; ask an administrator for an access rule"
    places = "; ".join(f"{', '.join(rule.connections)} ({listed(rule.operations)})" for rule in mine)
    return f"you have access to: {places}"


def _denied_by_policy(request: AccessRequest, here: Sequence[PolicyRule]) -> Deny | None:
    for policy in here:
        if policy.action is Action.DENY and _restricts(policy, request):
            certain = evaluate(policy.when, request) is True
            verb = "denies" if certain else "denies what this statement cannot be shown not to be:"
            return Deny(
                code="policy-denied",
                rule=policy.name,
                reason=f"policy {policy.name} {verb} {condition_words(policy.when)}",
                permitted_alternative=alternative_to_policy(policy.when, request),
                policies=(policy.label,),
            )
    return None


def _not_analysed(request: AccessRequest, approvals: Sequence[PolicyRule]) -> Deny | None:
    """On PHI, what could not be fully read is denied, unless a policy asks reviewers about exactly that."""
    if not (request.resource.phi and is_doubtful(request)):
        return None
    if any(policy.reviewers and policy.when.asks_for("incomplete") for policy in approvals):
        return None
    analysis = request.analysis
    why = (
        _makes_over(request)
        or listed(analysis.problems)
        or f"functions nobody has classified: {listed(analysis.opaque_functions)}"
    )
    return Deny(
        code="incomplete-analysis",
        rule="incomplete-analysis",
        reason=f"what the statement does on PHI could not be established ({why})",
        permitted_alternative=alternative_to_analysis(request),
    )


def _makes_over(request: AccessRequest) -> str:
    if not (request.analysis.complete and makes_of_protected(request)):
        return ""
    return f"it makes a relation over protected columns: {listed(map(str, request.touch.columns_read))}"


def _needs_approval(request: AccessRequest, approvals: Sequence[PolicyRule]) -> RequireApproval | Deny | None:
    """All matching policies at once: every reviewer group, the strictest expiries."""
    if not approvals:
        return None
    what = "; ".join(dict.fromkeys(condition_words(policy.when) for policy in approvals))
    inference = request.touch.inference_violations
    also = f"; it may infer protected values ({listed(inference)})" if inference else ""
    also += f"; it puts {spread_words(request)}" if request.touch.columns_spread else ""
    rule = ", ".join(policy.name for policy in approvals)
    return _ask(
        request,
        approvals,
        rule=rule,
        reason=f"{_policies(approvals)} a reviewer for {what}{also}",
        alternative=alternative_to_policy(approvals[0].when, request),
    )


def _policies(policies: Sequence[PolicyRule]) -> str:
    names = ", ".join(policy.name for policy in policies)
    return f"policy {names} requires" if len(policies) == 1 else f"policies {names} require"


def _ask(
    request: AccessRequest, policies: Sequence[PolicyRule], *, rule: str, reason: str, alternative: str
) -> RequireApproval | Deny:
    reviewers = merge_reviewers(
        replace(group, stand_ins=policy.escalate_to) for policy in policies for group in policy.reviewers
    )
    if not reviewers:
        # A quorum over no group would be met by nobody at all.
        return Deny(
            code="no-reviewers",
            rule=rule,
            reason=f"{reason}, but names no reviewers",
            permitted_alternative=alternative,
            policies=tuple(policy.label for policy in policies),
        )
    return RequireApproval(
        rule=rule,
        reason=reason,
        reviewers=reviewers,
        decide_within_s=min(policy.decide_within_s for policy in policies),
        execute_within_s=min(policy.execute_within_s for policy in policies),
        permitted_alternative=alternative,
        policies=tuple(policy.label for policy in policies),
        authors=tuple(sorted({policy.author for policy in policies if policy.separation and policy.author})),
        terms=merge_terms(policy.terms for policy in policies),
        escalate_to=stand_ins_of(reviewers),
        escalate_before_s=_escalates_before_s(policies),
    )


def _escalates_before_s(policies: Sequence[PolicyRule]) -> int:
    """The latest moment any of them names: before it, one of them does not let others decide yet."""
    escalating = [policy for policy in policies if policy.escalate_to]
    return min((policy.escalate_before_s or policy.decide_within_s // LAST_PART for policy in escalating), default=0)


def _spreads(request: AccessRequest) -> Deny | None:
    """Protected values would lie where no rule masks them, and no policy put that to a reviewer."""
    if not request.touch.columns_spread:
        return None
    return Deny(
        code="unprotected-copy",
        rule="unprotected-copy",
        reason=f"the statement puts {spread_words(request)}",
        permitted_alternative="leave these columns out, use a view, or have an administrator mask the destination too",
    )


def _infers(request: AccessRequest, here: Sequence[PolicyRule]) -> RequireApproval | Deny | None:
    """A masking rule's predicate limit is exceeded and no policy spoke of it: the connection's reviewers decide."""
    violations = request.touch.inference_violations
    if not violations:
        return None
    label = violations[0].partition(":")[0].strip()
    reason = f"the statement may infer protected values ({listed(violations)})"
    asking = [policy for policy in here if policy.action is Action.REQUIRE_APPROVAL and policy.reviewers]
    rule = f"inference:{label}"
    if asking:
        alternative = f"drop the comparison on {label}"
        return _ask(request, asking[:1], rule=rule, reason=reason, alternative=alternative)
    return Deny(
        code="inference-denied", rule=rule, reason=reason, permitted_alternative=alternative_to_inference(label)
    )


def _allowed(request: AccessRequest, rights: Sequence[AccessRule], here: Sequence[PolicyRule]) -> Allow:
    """A matching allow policy gives no right of its own; it is named, so that the record says which rule spoke."""
    cap = row_cap((policy.when for policy in here if _could_restrict(policy, request)), request)
    for policy in here:
        if policy.action is Action.ALLOW and evaluate(policy.when, request) is True:
            return Allow(rule=policy.name, policies=(policy.label,), row_cap=cap)
    needed = request.analysis.operations - {Operation.SESSION}
    used = [rule for rule in rights if rule.operations & needed] or list(rights)
    return Allow(rule=", ".join(dict.fromkeys(rule.name or "access" for rule in used)), row_cap=cap)
