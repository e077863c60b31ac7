"""What a saved rule comes to, said at once where it comes to nothing: names that nobody and nothing bears.

A rule over a group without members, or a glob that meets no connection, is valid and may be meant (the group arrives
with the next sign-in); but it is usually a slip, and then everything waits or is refused without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import Group
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import escape

from approvals.domain.parse import parse_reviewers
from approvals.models import Policy
from audit.domain.marks import visible
from gateway.models import AccessRule, Agent, Connection
from hoopweb.console.coverage import columns_read
from masking.models import MaskingRule

WINDOW = timedelta(days=7)
MOST_NAMES = 12


def _access_rule(rule: AccessRule) -> Iterator[str]:
    held = _groups_with_somebody()
    for group in sorted(set(rule.groups) - held):
        yield f"no agent or person is in the group {group} yet: this rule gives it nothing until one is"
    yield from _without_connection(rule.connections)


def _agent(agent: Agent) -> Iterator[str]:
    ruled = {group for groups in AccessRule.objects.values_list("groups", flat=True) for group in groups}
    if not ruled & set(agent.groups):
        yield f"no access rule names a group of {agent.name}: it may do nothing until one does"


def _connection(connection: Connection) -> Iterator[str]:
    globs = AccessRule.objects.values_list("connections", flat=True)
    if not any(fnmatchcase(connection.name, glob) for several in globs for glob in several):
        yield f"no access rule names {connection.name}: nobody may use it until one does"


def _policy(policy: Policy) -> Iterator[str]:
    if policy.action == Policy.Action.REQUIRE_APPROVAL:
        for group in parse_reviewers(policy.reviewers, quorum=policy.quorum or 1):
            members = Group.objects.filter(name=group.group, user__is_active=True).values("user").distinct().count()
            if members < group.quorum:
                yield (
                    f"the group {group.group} has {members} of the {group.quorum} people that must approve: what this "
                    "policy holds will expire"
                )
    yield from _without_connection(policy.connections)


def _masking_rule(rule: MaskingRule) -> Iterator[str]:
    yield from _without_connection(rule.connections)
    read = _read_where(rule.connections)
    for glob in rule.columns if read else ():
        if not any(fnmatchcase(column, glob) for column in read):
            yield f"of {len(read)} columns read in {WINDOW.days} days none is {glob}: look at its spelling"


_CONSEQUENCES: dict[type[Model], Callable[[Any], Iterator[str]]] = {
    AccessRule: _access_rule,
    Agent: _agent,
    Connection: _connection,
    Policy: _policy,
    MaskingRule: _masking_rule,
}


def consequences_of(row: Model) -> list[str]:
    """Sentences about what a configuration row comes to; nothing where all it names is there."""
    found = _CONSEQUENCES.get(type(row))
    return list(found(row)) if found is not None else []


class SaysWhatItComesTo:
    """A mixin for `ModelAdmin`: before a save, which names there are; after it, what the row comes to."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **options)  # type: ignore[misc]
        known = _KNOWN.get(db_field.name)
        if field is not None and known is not None and (names := known()):
            # Help texts are markup to Django, and names are anybody's who may give one.
            shown = ", ".join(escape(visible(name)) for name in names[:MOST_NAMES]) + (
                " …" if len(names) > MOST_NAMES else ""
            )
            field.help_text = f"{field.help_text + '. ' if field.help_text else ''}There are: {shown}"
        return field

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        for sentence in consequences_of(form.instance):
            messages.warning(request, f"{sentence[0].upper()}{sentence[1:]}.")


def _known_groups() -> list[str]:
    agents = Agent.objects.values_list("groups", flat=True)
    return sorted({group for groups in agents for group in groups} | set(Group.objects.values_list("name", flat=True)))


def _known_connections() -> list[str]:
    return list(Connection.objects.order_by("name").values_list("name", flat=True))


_KNOWN: dict[str, Callable[[], list[str]]] = {
    "groups": _known_groups,
    "exempt_groups": _known_groups,
    "reviewers": _known_groups,
    "connections": _known_connections,
}


def _groups_with_somebody() -> set[str]:
    agents = Agent.objects.filter(enabled=True).values_list("groups", flat=True)
    people = Group.objects.filter(user__is_active=True).values_list("name", flat=True)
    return {group for groups in agents for group in groups} | set(people)


def _without_connection(globs: Iterable[str]) -> Iterator[str]:
    names = list(Connection.objects.values_list("name", flat=True))
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            yield f"no connection is called {glob}"


def _read_where(globs: Iterable[str]) -> set[str]:
    names = Connection.objects.values_list("name", flat=True)
    wanted = [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]
    read = columns_read(timezone.now() - WINDOW, wanted)
    return {one.column for several in read.values() for one in several}
