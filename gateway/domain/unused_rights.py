"""Rights an agent holds beside those it used lately, and what could be taken away without anybody noticing.

45 CFR 164.502(b), minimum necessary; 164.308(a)(4)(ii)(C), modification of access. Statements that were denied used no
right; those asked by an agent on a person's behalf used the agent's. Nothing is taken away here: a person decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from gateway.domain.rights import Right, agent_holder, current_rights, matches
from gateway.models import AccessRule, Agent
from masking.models import MaskingRule

# (agent, connection, operation) → how many statements used it, and when last.
Uses = Mapping[tuple[str, str, str], tuple[int, datetime]]

# Statements that are alike are put together first: a handful of lists is taken apart instead of one for each of them.
_USED = """
    SELECT who.name, alike.connection, operation, sum(alike.statements)::bigint, max(alike.last)
      FROM (SELECT subject, actor, connection, operations, count(*) AS statements, max(at) AS last
              FROM audit_statementrecord WHERE at >= %s AND status <> 'denied' GROUP BY 1, 2, 3, 4) AS alike
     CROSS JOIN LATERAL (SELECT alike.subject UNION SELECT alike.actor) AS who (name)
     CROSS JOIN LATERAL jsonb_array_elements_text(alike.operations) AS operation
     WHERE who.name = ANY(%s)
     GROUP BY 1, 2, 3
"""
_COLUMNS_READ = """
    SELECT DISTINCT who.name, alike.connection, column_read
      FROM (SELECT subject, actor, connection, columns_read
              FROM audit_statementrecord WHERE at >= %s AND status <> 'denied' GROUP BY 1, 2, 3, 4) AS alike
     CROSS JOIN LATERAL (SELECT alike.subject UNION SELECT alike.actor) AS who (name)
     CROSS JOIN LATERAL jsonb_array_elements_text(alike.columns_read) AS column_read
     WHERE who.name = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class OperationUse:
    """One operation a rule opens on one connection, and what the agent made of it in the period."""

    connection: str
    rule: AccessRule
    operation: str
    statements: int
    last: datetime | None


@dataclass(frozen=True, slots=True)
class Tightening:
    """What could be taken away, in a sentence; `change` names the kind of row where (`agent`, `rule`, `mask`)."""

    says: str
    change: str
    pk: int


@dataclass(frozen=True, slots=True)
class AgentRights:
    """`unused` counts the operations and lifted masks the agent holds and did not use in the period."""

    agent: Agent
    ended: str
    is_new: bool
    uses: tuple[OperationUse, ...]
    lifted: tuple[tuple[MaskingRule, str, bool], ...]  # a rule it is exempt from, on a connection, made use of?
    tightenings: tuple[Tightening, ...]

    @property
    def statements(self) -> int:
        return sum(use.statements for use in self.uses)

    @property
    def last(self) -> datetime | None:
        return max((use.last for use in self.uses if use.last is not None), default=None)

    @property
    def unused(self) -> int:
        return sum(not use.statements for use in self.uses) + sum(not used for _, _, used in self.lifted)

    @property
    def flagged(self) -> bool:
        """Whether a person should look: rights that are of use, were there long enough, and were not used."""
        return bool(self.unused) and not self.ended and not self.is_new


def unused_rights(agents: Sequence[Agent], *, since: datetime) -> list[AgentRights]:
    """What each of the agents holds and what it used since then. The number of queries does not grow with theirs."""
    all_rights = current_rights()
    uses = _uses({right.holder.name for right in all_rights}, since)
    read = _columns_read([agent.name for agent in agents], since)
    masks = list(MaskingRule.objects.exclude(exempt_groups=[]).order_by("name"))
    found = []
    for agent in agents:
        rights = [right for right in all_rights if right.holder.kind == "agent" and right.holder.name == agent.name]
        lifted = tuple(_lifted(agent, rights, read, masks))
        operations = tuple(_operation_uses(agent, rights, uses))
        ended, is_new = agent_holder(agent).ended, agent.created_at > since
        proposed = () if ended or is_new else tuple(_tightenings(agent, operations, lifted, all_rights, uses))
        found.append(AgentRights(agent, ended, is_new, operations, lifted, proposed))
    return found


def _operation_uses(agent: Agent, rights: Iterable[Right], uses: Uses) -> Iterator[OperationUse]:
    for right in rights:
        for operation in right.rule.operations:
            count, last = uses.get((agent.name, right.connection, operation), (0, None))
            yield OperationUse(right.connection, right.rule, operation, count, last)


def _lifted(
    agent: Agent,
    rights: Iterable[Right],
    read: Mapping[tuple[str, str], set[str]],
    masks: Iterable[MaskingRule],
) -> Iterator[tuple[MaskingRule, str, bool]]:
    names = sorted({right.connection for right in rights})
    for mask in masks:
        if not set(mask.exempt_groups) & set(agent.groups):
            continue
        for name in names:
            if matches(mask.connections, name):
                columns = read.get((agent.name, name), set())
                yield mask, name, any(matches(mask.columns, column) for column in columns)


def _tightenings(
    agent: Agent,
    operations: Sequence[OperationUse],
    lifted: Iterable[tuple[MaskingRule, str, bool]],
    all_rights: Iterable[Right],
    uses: Uses,
) -> Iterator[Tightening]:
    if not operations:
        return
    if not any(use.statements for use in operations):
        yield Tightening("It used nothing at all: switch it off, or give it an end.", "agent", agent.pk)
        return
    spare = _spare_groups(agent, operations)
    for group in spare:
        yield Tightening(f"Take it out of the group {group}: it used nothing that group opens.", "agent", agent.pk)
    for rule, unused in _unused_by_rule(operations, set(agent.groups) - set(spare)):
        yield _of_rule(agent, rule, unused, all_rights, uses)
    for mask in {mask.pk: mask for mask, _, _ in lifted}.values():
        if not any(used for known, _, used in lifted if known.pk == mask.pk):
            groups = ", ".join(sorted(set(mask.exempt_groups) & set(agent.groups)))
            says = f"Masking rule {mask.name} spares the group {groups}; it read none of those columns."
            yield Tightening(says, "mask", mask.pk)


def _spare_groups(agent: Agent, operations: Iterable[OperationUse]) -> list[str]:
    """Groups that open something to it, none of which it used: leaving them takes away nothing it needs."""
    opened: dict[str, bool] = defaultdict(bool)
    for use in operations:
        for group in set(use.rule.groups) & set(agent.groups):
            opened[group] |= bool(use.statements)
    return sorted(group for group, used in opened.items() if not used)


def _unused_by_rule(
    operations: Iterable[OperationUse], groups: set[str]
) -> Iterator[tuple[AccessRule, list[tuple[str, str]]]]:
    """Rules that stay with it, each with the (connection, operation) pairs it did not use."""
    found: dict[int, tuple[AccessRule, list[tuple[str, str]]]] = {}
    for use in operations:
        if not use.statements and groups & set(use.rule.groups):
            found.setdefault(use.rule.pk, (use.rule, []))[1].append((use.connection, use.operation))
    yield from found.values()


def _of_rule(
    agent: Agent, rule: AccessRule, unused: Sequence[tuple[str, str]], all_rights: Iterable[Right], uses: Uses
) -> Tightening:
    holders = {right.holder.name for right in all_rights if right.rule.pk == rule.pk}
    needed = {(name, operation) for who, name, operation in uses if who in holders - {agent.name}}
    words = ", ".join(f"{operation} on {name}" for name, operation in unused)
    if needed.isdisjoint(unused):
        return Tightening(f"Take {words} out of the rule {rule.name}: nobody it serves used it.", "rule", rule.pk)
    says = f"It did not use {words} of the rule {rule.name}, others did: give it a group with a narrower rule."
    return Tightening(says, "rule", rule.pk)


def _uses(names: Iterable[str], since: datetime) -> Uses:
    with connection.cursor() as cursor:
        cursor.execute(_USED, [since, list(names)])
        return {(who, name, operation): (count, last) for who, name, operation, count, last in cursor.fetchall()}


def _columns_read(names: Sequence[str], since: datetime) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute(_COLUMNS_READ, [since, list(names)])
        for who, name, column in cursor.fetchall():
            found[who, name].add(column)
    return found
