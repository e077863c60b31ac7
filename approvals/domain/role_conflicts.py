"""Roles that nobody has together: who writes a rule and who decides under it, who acts and who audits.

45 CFR 164.308(a)(3), (a)(4): separation of duties. `HOOPWEB_ROLE_CONFLICTS` names the pairs; while
`HOOPWEB_ROLE_CONFLICTS_ENFORCED` is on, no door puts a person into both (console, `apply`, SCIM, sign-in: all of them
end in the same table), and who came to be both some other way decides nothing until that is mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from approvals.domain.parse import parse_reviewers
from approvals.domain.role_names import ADMINISTRATORS, REVIEWERS, ROLE_GROUPS, Pair
from approvals.models import EmergencyRoster, Policy

_waiting: ContextVar[set[int] | None] = ContextVar("people whose roles are judged at the end", default=None)


class RoleConflict(ValidationError):
    """The change would make somebody both of two roles; the message names the person and the roles."""


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """A person with the roles they have, and the pairs of them that exclude each other."""

    username: str
    roles: tuple[str, ...]
    conflicts: tuple[Pair, ...]
    is_superuser: bool = False


def deciding_groups() -> frozenset[str]:
    """The groups whose members decide: by policies, also once these escalate, and by rosters."""
    found: set[str] = set()
    for policy in Policy.objects.filter(enabled=True, action=Policy.Action.REQUIRE_APPROVAL):
        found |= {group.group for group in parse_reviewers(policy.reviewers, quorum=policy.quorum or 1)}
        found |= set(policy.escalate_to)
    for groups in EmergencyRoster.objects.filter(enabled=True).values_list("reviewers", flat=True):
        found |= set(groups)
    return frozenset(found)


def roles_among(groups: Iterable[str], *, is_superuser: bool = False, deciding: Iterable[str] = ()) -> tuple[str, ...]:
    """The roles that membership in these groups comes to, in a fixed order."""
    named, superuser = set(groups), {ADMINISTRATORS} if is_superuser else set()
    roles = (named & set(ROLE_GROUPS)) | superuser | ({REVIEWERS} if named & set(deciding) else set())
    return tuple(role for role in (*ROLE_GROUPS, REVIEWERS) if role in roles)


def conflicts_among(roles: Iterable[str]) -> tuple[Pair, ...]:
    held = set(roles)
    return tuple(pair for pair in settings.HOOPWEB_ROLE_CONFLICTS if set(pair) <= held)


def role_holders() -> list[RoleHolder]:
    """Everybody active who has a role, those with a conflict first."""
    deciding = deciding_groups()
    people = get_user_model()._default_manager.filter(is_active=True).prefetch_related("groups").order_by("username")
    found = [_holder(person, {group.name for group in person.groups.all()}, deciding) for person in people]
    return sorted((one for one in found if one.roles), key=lambda one: (not one.conflicts, one.username))


def must_not_conflict(user: Any) -> None:
    """Raise RoleConflict where conflicts are enforced and the person has one."""
    must_be_separate(user.get_username(), user.groups.values_list("name", flat=True), is_superuser=user.is_superuser)


def must_be_separate(username: str, groups: Iterable[str], *, is_superuser: bool) -> None:
    """The same of somebody who would be in `groups`."""
    if not settings.HOOPWEB_ROLE_CONFLICTS_ENFORCED:
        return
    for first, second in conflicts_among(roles_among(groups, is_superuser=is_superuser, deciding=deciding_groups())):
        raise RoleConflict(f"{username} is not to be of both {first} and {second}: nobody has these roles together")


def watch_memberships(*, action: str, instance: Any, reverse: bool, pk_set: set[Any] | None, **_: Any) -> None:
    """Receiver of `m2m_changed` of a person's groups: the one place every door goes through."""
    if action != "post_add" or not pk_set or not settings.HOOPWEB_ROLE_CONFLICTS_ENFORCED:
        return
    people = pk_set if reverse else {instance.pk}
    later = _waiting.get()
    if later is not None:
        later |= people
        return
    _judge(people)


@contextmanager
def judged_together() -> Iterator[None]:
    """Judge memberships once all of a change is written, so that a move between two roles may come in any order."""
    people: set[int] = set()
    token = _waiting.set(people)
    try:
        yield
    finally:
        _waiting.reset(token)
    _judge(people)


def _judge(people: Iterable[int]) -> None:
    for person in get_user_model()._default_manager.filter(pk__in=list(people), is_active=True):
        must_not_conflict(person)


def _holder(user: Any, groups: set[str], deciding: frozenset[str]) -> RoleHolder:
    roles = roles_among(groups, is_superuser=user.is_superuser, deciding=deciding)
    return RoleHolder(user.get_username(), roles, conflicts_among(roles), user.is_superuser)
