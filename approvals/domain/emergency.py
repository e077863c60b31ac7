"""Break-glass (45 CFR 164.312(a)(2)(ii)): taken by named people, told at once, short, and reviewed by somebody else.

    in force ─ its time is over, or somebody ends it ─▶ to review ─ a finding by someone else ─▶ reviewed
                                                          └ review_by passed ─▶ overdue, which is told

It takes the place of a reviewer's decision and of nothing else: rights, denying policies, what cannot be read and
(unless the roster says otherwise) masks stay as they are. docs/decisions/0020 says why.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone

from approvals.domain import hooks, refusal
from approvals.domain.announce import announce_emergency, announce_kill
from approvals.domain.clock import ClockTimestamp, begun
from approvals.domain.events import Event
from approvals.domain.refusal import Refusal
from approvals.domain.reviewers import fresh_user, groups_of, is_disabled, names_of, people_behind
from approvals.domain.role_names import AUDITORS
from approvals.domain.step_up import must_be_fresh
from approvals.models import EmergencyAccess, EmergencyRoster, EmergencyUse
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from audit.domain.sealing import seal, unseal

MIN_REASON_CHARS = 15
MAX_TEXT_CHARS = 4_000
BY_ROSTER = "roster:changed"  # what ended an access whose person may not take it any more


def rosters_of(user: AbstractUser) -> QuerySet[EmergencyRoster]:
    """The rosters that name this person."""
    return EmergencyRoster.objects.filter(enabled=True, members__contains=[user.get_username()])


def break_glass(
    *,
    person: AbstractUser,
    roster: EmergencyRoster,
    connection: str,
    reason: str,
    lasts_s: int | None = None,
    agent: str = "",
    issuer: str = "",
    authenticated_at: float | None = None,
) -> EmergencyAccess:
    """Open an emergency access, tell everyone, and let the data planes know. Raises Refusal.

    `agent` lets the person's own agent act instead of the person. `issuer` is who vouched for the person, when it was
    not this product. `authenticated_at` is when the person last proved who they are; while step-up is on, that is
    a short while ago. Ending an access asks for nothing: going back to normal never waits.
    """
    must_be_fresh(authenticated_at, what="emergency access")
    words = _checked_words(reason)
    _must_be_member(person, roster, connection, agent)
    now = timezone.now()
    seconds = min(max(60, lasts_s or roster.lasts_s), roster.lasts_s)
    access = EmergencyAccess(
        roster=roster.name,
        person=person.get_username(),
        issuer=issuer,
        agent=agent,
        connection=connection,
        lifts_masks=roster.lifts_masks,
        max_statements=roster.max_statements,
        reviewer_groups=roster.reviewers,
        opened_at=now,
        ends_at=now + timedelta(seconds=seconds),
        review_by=now + timedelta(seconds=seconds + roster.review_within_s),
    )
    access.sealed_reason = seal(words.encode(), context=f"emergency:{access.pk}:reason")
    end_due_emergencies()
    try:
        with transaction.atomic():
            access.save(force_insert=True)
            _record("emergency.opened", access, sensitive={"justification": words}, body=_terms(access))
            hooks.rules_changed()
            announce_emergency(access_id=access.pk, event=Event.EMERGENCY_OPENED)
    except IntegrityError:
        raise Refusal(refusal.EMERGENCY_OPEN, "an emergency access to this connection is in force already") from None
    return access


def end_emergency(*, access: EmergencyAccess, by: str = "") -> bool:
    """End it now and with it what still streams under it; False when it was over. `by` empty: its time was over."""
    with transaction.atomic():
        now = timezone.now()
        open_now = EmergencyAccess.objects.filter(pk=access.pk, ended_at=None)
        # What was given for the review counts from the end, not from the end that was planned.
        due = F("review_by") - Greatest(F("ends_at") - now, timedelta(0))
        if open_now.update(ended_at=now, ended_by=by, review_by=due) != 1:
            return False
        access.refresh_from_db()
        running = access.uses.filter(ended_at=None).exclude(state=EmergencyUse.State.RELEASED)
        sessions = sorted(set(running.exclude(session_id="").values_list("session_id", flat=True)))
        for session_id in sessions:
            announce_kill(session_id=session_id)
        body: dict[str, Json] = {"by": by, "ended_sessions": list(sessions), "statements": access.statements}
        _record("emergency.ended", access, body=body)
        hooks.rules_changed()
        announce_emergency(access_id=access.pk, event=Event.EMERGENCY_ENDED)
    return True


def end_as(*, access: EmergencyAccess, user: AbstractUser) -> bool:
    """End it in the user's name: whoever opened it, its reviewers and administrators may. Raises Refusal."""
    fresh = fresh_user(user)
    mine = fresh is not None and (
        fresh.get_username() == access.person
        or fresh.is_superuser
        or bool(groups_of(fresh) & frozenset(access.reviewer_groups))
    )
    if not mine:
        raise Refusal(refusal.NOT_REVIEWER, "only whoever opened it, its reviewers and administrators may end it")
    return end_emergency(access=access, by=user.get_username())


def is_still_named(access: EmergencyAccess) -> bool:
    """Whether a roster of its name still lets this person do this, there, through that agent."""
    rosters = EmergencyRoster.objects.filter(
        name=access.roster, enabled=True, members__contains=[access.person], connections__contains=[access.connection]
    )
    if not access.agent:
        return rosters.exists()
    return access.agent in hooks.agents_of(access.person) and rosters.filter(agents__contains=[access.agent]).exists()


def end_revoked_emergencies() -> int:
    """End every access whose person was taken off its roster, or disabled, meanwhile; return how many."""
    open_now = EmergencyAccess.objects.filter(ended_at=None)
    revoked = [a for a in open_now if is_disabled([a.person, a.agent]) or not is_still_named(a)]
    return sum(end_emergency(access=access, by=BY_ROSTER) for access in revoked)


def in_force() -> QuerySet[EmergencyAccess]:
    """Accesses nobody has ended and whose time has come and is not over."""
    return EmergencyAccess.objects.filter(begun("opened_at"), ended_at=None, ends_at__gt=ClockTimestamp())


def end_due_emergencies() -> int:
    """End every access whose time is over; return how many this call ended."""
    due = EmergencyAccess.objects.filter(~begun("opened_at") | Q(ends_at__lte=timezone.now()), ended_at=None)
    return sum(end_emergency(access=access) for access in due)


def review_emergency(*, access: EmergencyAccess, reviewer: AbstractUser, finding: str, notes: str) -> EmergencyAccess:
    """Say what an emergency access was, once, by somebody else, after it ended. Raises Refusal."""
    words = _checked_words(notes)
    if finding not in EmergencyAccess.Finding.values:
        raise Refusal(refusal.UNKNOWN_DECISION, f"expected one of {', '.join(EmergencyAccess.Finding.values)}")
    must_review(access, reviewer)
    with transaction.atomic():
        sealed = seal(words.encode(), context=f"emergency:{access.pk}:notes")
        waiting = EmergencyAccess.objects.filter(pk=access.pk, reviewed_at=None, ended_at__isnull=False)
        changes = {"reviewed_by": reviewer.get_username(), "finding": finding, "sealed_notes": sealed}
        if waiting.update(reviewed_at=timezone.now(), **changes) != 1:
            raise Refusal(refusal.ALREADY_DECIDED, "somebody reviewed it already")
        overdue = access.is_overdue
        access.refresh_from_db()
        body: dict[str, Json] = {"reviewer": access.reviewed_by, "finding": finding, "overdue": overdue}
        _record("emergency.reviewed", access, sensitive={"justification": words}, body=body)
        announce_emergency(access_id=access.pk, event=Event.EMERGENCY_REVIEWED)
    return access


def must_review(access: EmergencyAccess, user: AbstractUser) -> None:
    """Raise Refusal unless `user` may review this access: a member of its groups who had no part in it."""
    fresh = fresh_user(user)
    if fresh is None:
        raise Refusal(refusal.REVIEWER_DISABLED, "this account is disabled, expected an active reviewer")
    if names_of(fresh) & people_behind({access.person, access.agent} | hooks.accounts_of(access.person, access.issuer)):
        raise Refusal(refusal.SELF_APPROVAL, "whoever broke the glass never reviews it")
    if not groups_of(fresh) & frozenset(access.reviewer_groups):
        wanted = ", ".join(access.reviewer_groups)
        raise Refusal(refusal.NOT_REVIEWER, f"expected a member of {wanted}")
    if access.ended_at is None:
        raise Refusal(refusal.EMERGENCY_OPEN, "it is still in force; end it first, or wait for its end")
    if access.reviewed_at is not None:
        raise Refusal(refusal.ALREADY_DECIDED, "somebody reviewed it already")


def readable_emergencies(user: AbstractUser) -> QuerySet[EmergencyAccess]:
    """Those the user opened, reviews or audits."""
    fresh = fresh_user(user)
    if fresh is None:
        return EmergencyAccess.objects.none()
    groups = groups_of(fresh)
    if fresh.is_superuser or AUDITORS in groups or fresh.has_perm("approvals.view_emergencyaccess"):
        return EmergencyAccess.objects.all()
    return EmergencyAccess.objects.filter(Q(person=fresh.get_username()) | Q(reviewer_groups__overlap=sorted(groups)))


def take_overdue() -> list[UUID]:
    """Accesses whose review is overdue and was not told of yet; each is taken once."""
    late = EmergencyAccess.objects.filter(reviewed_at=None, review_by__lte=timezone.now(), overdue_told_at=None)
    taken = []
    for access in late:
        mine = EmergencyAccess.objects.filter(pk=access.pk, overdue_told_at=None)
        with transaction.atomic():
            if mine.update(overdue_told_at=timezone.now()) == 1:
                _record("emergency.overdue", access)
                taken.append(access.pk)
    return taken


def spoken_emergency(access: EmergencyAccess) -> tuple[str, str]:
    """(reason, notes) as people wrote them."""
    reason = unseal(bytes(access.sealed_reason), context=f"emergency:{access.pk}:reason").decode()
    if access.sealed_notes is None:
        return reason, ""
    return reason, unseal(bytes(access.sealed_notes), context=f"emergency:{access.pk}:notes").decode()


def _must_be_member(person: AbstractUser, roster: EmergencyRoster, connection: str, agent: str) -> None:
    fresh = fresh_user(person)
    if fresh is None:
        raise Refusal(refusal.REVIEWER_DISABLED, "this account is disabled")
    if not rosters_of(fresh).filter(pk=roster.pk).exists():
        raise Refusal(refusal.NOT_ON_ROSTER, "you are not on this roster")
    if connection not in roster.connections:
        raise Refusal(refusal.NOT_ON_ROSTER, "this roster does not reach that connection")
    if agent and (agent not in roster.agents or agent not in hooks.agents_of(fresh.get_username())):
        raise Refusal(refusal.NOT_ON_ROSTER, "expected an agent of this roster that you answer for")
    if agent and is_disabled([agent]):
        raise Refusal(refusal.REVIEWER_DISABLED, "this agent is disabled")


def _checked_words(text: str) -> str:
    words = " ".join(text.split())
    if len(words) < MIN_REASON_CHARS:
        raise Refusal(refusal.REASON_MISSING, f"say why, in at least {MIN_REASON_CHARS} characters")
    return words[:MAX_TEXT_CHARS]


def _terms(access: EmergencyAccess) -> dict[str, Json]:
    return {
        "ends_at": int(access.ends_at.timestamp()),
        "review_by": int(access.review_by.timestamp()),
        "lifts_masks": access.lifts_masks,
        "max_statements": access.max_statements,
        "reviewers": list(access.reviewer_groups),
    }


def _record(
    kind: str,
    access: EmergencyAccess,
    *,
    sensitive: dict[str, Json] | None = None,
    body: dict[str, Json] | None = None,
) -> None:
    known: dict[str, Json] = {
        "emergency": str(access.pk),
        "subject": access.person,
        "agent": access.agent,
        "connection": access.connection,
        "roster": access.roster,
        **(body or {}),
    }
    append_entries([Entry(kind=kind, body=known, sensitive=sensitive)])
