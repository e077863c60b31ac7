"""People whom the identity provider manages: what they are given, and what ends the moment they are switched off.

45 CFR 164.308(a)(3)(ii)(C), termination: one transaction takes roles, sessions of the console, tokens, approvals that
were not used yet and requests that still wait; the data plane ends live sessions when it hears of the new version.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import Q, QuerySet

from approvals.domain.grant import revoke_grant
from approvals.domain.review import withdraw_review
from approvals.models import Grant, Review
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.domain.recorded import record_change, state_of
from gateway.domain.revocation import revoke_person
from gateway.domain.tokens import issuer_url
from gateway.models import PersonStatus


def managed_people() -> QuerySet[User]:
    """The accounts the provider may see and change: those it made. Local ones, break-glass above all, are not its."""
    return User.objects.filter(hoopweb_status__managed=True, is_superuser=False).select_related("hoopweb_status")


@transaction.atomic
def save_person(*, user: User, status: PersonStatus, before: dict[str, Json] | None, by: str) -> None:
    """Write an account and what identity knows of it, and record the change."""
    user.is_staff = _belongs_here(user)
    user.save()
    status.user = user
    status.save()
    record_change(row=user, before=before, after=state_of(user), subject=by)


@transaction.atomic
def deactivate_person(*, user: User, by: str) -> None:
    """Switch the account off and end everything it holds. Repeating it is harmless."""
    before = state_of(user)
    user.groups.clear()
    user.is_active = user.is_staff = False
    user.set_unusable_password()  # a new one each time: every session of the account is void by its hash
    user.save()
    record_change(row=user, before=before, after=state_of(user), subject=by)
    end_all_of(user=user, by=by)


@transaction.atomic
def end_all_of(*, user: User, by: str) -> None:
    """End what somebody holds whose account was just switched off: tokens, sessions, approvals, requests that wait."""
    revoke_person(user=user)
    body: dict[str, Json] = {
        "subject": user.get_username(),
        "by": by,
        "grants": _revoke_grants(user, by),
        "reviews": _withdraw_reviews(user),
        "agents": sorted(user.agents.values_list("name", flat=True)),
    }
    append_entries([Entry(kind="person.deprovisioned", body=body)])


@transaction.atomic
def set_members(*, group: Group, members: Iterable[User], by: str) -> None:
    """Make these the group's members, among the people the provider manages; others stay as they are."""
    before = _membership(group)
    asked = {user.pk for user in members}
    managed = {user.pk for user in managed_people().filter(groups=group)}
    group.user_set.remove(*(managed - asked))
    group.user_set.add(*(asked - managed))
    for user in User.objects.filter(pk__in=managed ^ asked):
        User.objects.filter(pk=user.pk).update(is_staff=_belongs_here(user))
    if managed != asked:
        record_change(row=group, before=before, after=_membership(group), subject=by)


def _belongs_here(user: User) -> bool:
    """Whether there is anything in the console for them: a group that exists here, or agents they answer for."""
    if not user.is_active or user.pk is None:
        return False
    return user.is_superuser or user.groups.exists() or user.agents.exists()


def _membership(group: Group) -> dict[str, Json]:
    members: list[Json] = list(group.user_set.order_by("username").values_list("username", flat=True))
    return {**state_of(group), "members": members}


def _revoke_grants(user: User, by: str) -> int:
    """Approvals for their requests and their agents': `revoke_grant` ends what runs under them."""
    grants = Grant.objects.filter(_asked_by(user, "review__"), revoked=False)
    return sum(revoke_grant(grant=grant, by=by) for grant in grants)


def _withdraw_reviews(user: User) -> int:
    waiting = list(Review.objects.filter(_asked_by(user), status=Review.Status.PENDING).values_list("pk", "holders"))
    for review_id, holders in waiting:
        for _ in range(max(1, holders)):  # each of those who wait for it leaves
            withdraw_review(review_id=str(review_id))
    return len(waiting)


def _asked_by(user: User, path: str = "") -> Q:
    """Requests of the person, by our own token or by one of their issuer's, and of the agents they answer for."""
    name = user.get_username()
    issuer, _, subject = (user.hoopweb_status.oidc_subject or "").partition("|")  # a subject may hold bars itself
    theirs = Q(**{f"{path}subject": name, f"{path}issuer": issuer_url()}) | Q(**{f"{path}owner": name})
    return theirs | Q(**{f"{path}subject": subject, f"{path}issuer": issuer}) if subject else theirs
