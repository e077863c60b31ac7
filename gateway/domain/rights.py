"""Who holds which rights now, by which access rule: what reports and the console's pages on rights start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from django.contrib.auth.models import User

from gateway.models import AccessRule, Agent, Connection


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody or something that may hold rights by its groups."""

    name: str
    kind: str  # agent or person
    owner: str
    groups: frozenset[str]
    ended: str = ""  # why its rights are no use now


@dataclass(frozen=True, slots=True)
class Right:
    """What one rule opens to one holder on one connection."""

    holder: Holder
    connection: str
    rule: AccessRule


def current_rights() -> list[Right]:
    """Every right that exists now, of agents and people, by holder, connection and rule."""
    names = list(Connection.objects.order_by("name").values_list("name", flat=True))
    rules = list(AccessRule.objects.order_by("name"))
    return [
        Right(holder, name, rule)
        for holder in [*_agent_holders(), *_person_holders()]
        for name in names
        for rule in rules
        if matches(rule.connections, name) and holder.groups & set(rule.groups)
    ]


def _agent_holders() -> list[Holder]:
    return [agent_holder(agent) for agent in Agent.objects.select_related("owner").order_by("name")]


def agent_holder(agent: Agent) -> Holder:
    expired = agent.expires_at is not None and agent.expires_at <= datetime.now(UTC)
    ended = "expired" if expired else "" if agent.enabled else "disabled"
    return Holder(agent.name, "agent", agent.owner.get_username(), frozenset(agent.groups), ended)


def matches(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _person_holders() -> list[Holder]:
    found = []
    for user in User.objects.prefetch_related("groups").order_by("username"):
        groups = frozenset(group.name for group in user.groups.all())
        found.append(Holder(user.username, "person", user.username, groups, "" if user.is_active else "disabled"))
    return found
