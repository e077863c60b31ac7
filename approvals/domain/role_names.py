"""The groups that are roles of the console. Their permissions are given by `hoopweb.auth`, by these names."""

from __future__ import annotations

from collections.abc import Iterable

Pair = tuple[str, str]

ADMINISTRATORS = "administrators"
POLICY_AUTHORS = "policy-authors"
AUDITORS = "auditors"
AGENT_OWNERS = "agent-owners"
ROLE_GROUPS = (ADMINISTRATORS, POLICY_AUTHORS, AUDITORS, AGENT_OWNERS)
# No group of its own: whoever is in a group that decides under some policy.
REVIEWERS = "reviewers"

# Who writes a rule does not decide under it; who audits changes nothing.
SEPARATE = (
    f"{POLICY_AUTHORS}+{REVIEWERS}",
    f"{ADMINISTRATORS}+{AUDITORS}",
    f"{POLICY_AUTHORS}+{AUDITORS}",
    f"{REVIEWERS}+{AUDITORS}",
    f"{AGENT_OWNERS}+{AUDITORS}",
)


def parse_role_conflicts(pairs: Iterable[str]) -> tuple[Pair, ...]:
    """`a+b` texts as pairs. Raises ValueError, in a sentence, for what is none."""
    known = (*ROLE_GROUPS, REVIEWERS)
    found = []
    for text in pairs:
        first, _, second = (part.strip() for part in text.partition("+"))
        if first not in known or second not in known or first == second:
            raise ValueError(f"{text!r} is no pair of roles, expected two of {', '.join(known)} joined by +")
        found.append((first, second))
    return tuple(found)
