"""Who may decide on, and who may read, a review; always asked of the database at this moment."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Lower
from django.utils import timezone

from approvals.domain import hooks, refusal
from approvals.domain.refusal import Refusal
from approvals.domain.request import ReviewerGroup
from approvals.domain.role_conflicts import RoleConflict, must_not_conflict
from approvals.domain.role_names import AUDITORS
from approvals.models import Review


def eligible_groups(review: Review, user: AbstractUser) -> frozenset[str]:
    """Return the review's groups that `user` decides for. Raises Refusal for everyone who may not decide."""
    fresh = fresh_user(user)
    if fresh is None:
        raise Refusal(refusal.REVIEWER_DISABLED, "this account is disabled, expected an active reviewer")
    if asked_for(review, fresh):
        reason = "the requester, and the human behind an agent, never decide on their own request"
        raise Refusal(refusal.SELF_APPROVAL, reason)
    groups = groups_of(fresh) & review.deciding_groups
    _must_not_be_two(fresh)
    if not groups:
        wanted = ", ".join(sorted(review.deciding_groups))
        raise Refusal(refusal.NOT_REVIEWER, f"you are not a reviewer of this request, expected a member of {wanted}")
    return groups


def asked_for(review: Review, user: AbstractUser) -> bool:
    """Whether the request is this person's, under whichever of their names: their own, or an agent's of theirs."""
    vouched = hooks.accounts_of(review.subject, review.issuer)
    return bool(names_of(user) & people_behind(review.humans | vouched))


def may_read(review: Review, user: AbstractUser) -> bool:
    """Whether `user` may see the statement: whoever decides (the requester's humans among them too) and auditors."""
    fresh = fresh_user(user)
    return fresh is not None and (_sees_all(fresh) or bool(groups_of(fresh) & review.deciding_groups))


def readable_reviews(user: AbstractUser) -> QuerySet[Review]:
    """Return the reviews `may_read` would be true of."""
    fresh = fresh_user(user)
    if fresh is None:
        return Review.objects.none()
    if _sees_all(fresh):
        return Review.objects.all()
    mine = sorted(groups_of(fresh))
    # Review.is_escalated, as the database says it.
    undecided = Q(decided_at=None) | Q(decided_at__gte=F("escalate_at"))
    escalated = Q(escalated_at__isnull=False) | (Q(escalate_at__lte=timezone.now()) & undecided)
    return Review.objects.filter(Q(reviewer_groups__overlap=mine) | (Q(escalate_to__overlap=mine) & escalated))


def people_in(groups: Iterable[str]) -> QuerySet[AbstractUser]:
    """Active members of any of the groups."""
    return _users().filter(is_active=True, groups__name__in=list(groups)).distinct()


def people_named(usernames: Iterable[str]) -> QuerySet[AbstractUser]:
    """Active accounts of these names."""
    return _users().filter(is_active=True, username__in=list(usernames))


def administrators() -> QuerySet[AbstractUser]:
    """Active superusers: who is told when others do not act."""
    return _users().filter(is_active=True, is_superuser=True)


def active_groups(usernames: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return each active user's groups of this moment; who was disabled since is absent."""
    people = _users().filter(is_active=True, username__in=list(usernames)).prefetch_related("groups")
    return {person.username: frozenset(group.name for group in person.groups.all()) for person in people}


def groups_of(user: AbstractUser) -> frozenset[str]:
    return frozenset(user.groups.values_list("name", flat=True))


def names_of(user: AbstractUser) -> frozenset[str]:
    """Whatever an issuer may call a person: user name, mail address, key. Matching too much only refuses a vote."""
    return frozenset(name.casefold() for name in (user.username, user.email, str(user.pk)) if name)


def people_behind(names: Iterable[str | None]) -> frozenset[str]:
    """These names and all others of the people who bear them: a second account with one's address is oneself."""
    known = {name.casefold() for name in names if name}
    named = _users().annotate(called=Lower("username"), mailed=Lower("email"))
    accounts = named.filter(Q(called__in=known) | Q(mailed__in=known))
    return frozenset(known).union(*map(names_of, accounts))


def accounts_of(user: AbstractUser) -> list[str]:
    """The user names of this person: of all accounts with their address."""
    same = Q(email__iexact=user.email) if user.email else Q(pk=user.pk)
    return list(_users().filter(same | Q(pk=user.pk)).values_list("username", flat=True))


def is_disabled(names: Iterable[str | None]) -> bool:
    """Whether any of the names is the account of a person who was disabled."""
    known = [name for name in names if name]
    return _users().filter(Q(username__in=known) | Q(email__in=known), is_active=False).exists()


def _must_not_be_two(user: AbstractUser) -> None:
    """No door puts a person into roles that exclude each other, but a policy may come to name a group they are in."""
    try:
        must_not_conflict(user)
    except RoleConflict as conflict:
        reason = f"{conflict.messages[0]}; an administrator can take one of them away"
        raise Refusal(refusal.ROLE_CONFLICT, reason) from None


def _sees_all(user: AbstractUser) -> bool:
    return user.is_superuser or AUDITORS in groups_of(user) or user.has_perm("approvals.view_review")


def fresh_user(user: AbstractUser) -> AbstractUser | None:
    """The account as it is now; None when it was disabled or is gone."""
    return _users().filter(pk=user.pk, is_active=True).first() if user.pk else None


def _users() -> QuerySet[AbstractUser]:
    users: QuerySet[AbstractUser] = get_user_model()._default_manager.all()
    return users


def group_names(groups: Iterable[ReviewerGroup]) -> list[str]:
    """Each once, in their order."""
    return list(dict.fromkeys(group.group for group in groups))
