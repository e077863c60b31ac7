"""The cards of the console's first page: each one number, what it means, and the list behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse
from django.utils.timesince import timesince

from approvals.domain.channels import FAILING, WAITING, channel_health
from approvals.models import EmergencyAccess, Review
from audit.domain.activity_review import is_overdue, waiting_weeks
from audit.models import AnchorProof, Checkpoint, LogDamage, SessionRecord, StatementRecord
from audit.sinks.lag import Lag, lags
from gateway.domain.agents import owned_agents
from gateway.domain.clients import is_live
from hoopweb.console.coverage import coverage_since, inherited_tags
from hoopweb.health import failing_parts
from hoopweb.recent import WINDOW, Recent, failures_since

STALE_CHECKPOINT = timedelta(minutes=5)  # they are signed every minute, also when nothing happens
LATE_SINK = timedelta(minutes=5)  # a receiver that is behind by more is worth a look


@dataclass(frozen=True, slots=True)
class Card:
    """`tone`: good, warn, bad, or nothing."""

    title: str
    value: str
    detail: str
    link: str = ""
    tone: str = ""


def emergency_card(unreviewed: QuerySet[EmergencyAccess], now: datetime) -> Iterator[Card]:
    """Break-glass that somebody has to look at; nothing while the glass is whole."""
    accesses = list(unreviewed.only("ended_at", "ends_at", "review_by"))
    if not accesses:
        return
    in_force = sum(access.ended_at is None and now < access.ends_at for access in accesses)
    overdue = sum(now >= access.review_by for access in accesses)
    detail = f"{in_force} in force, {overdue} overdue for review"
    yield Card("Emergency access", str(len(accesses)), detail, reverse("approvals:emergencies"), "bad")


def owned_card(user: Any) -> Iterator[Card]:
    """The agents a person answers for; nothing for who answers for none."""
    agents = list(owned_agents(user).select_related("owner"))
    if agents:
        live = sum(map(is_live, agents))
        yield Card("My agents", str(len(agents)), f"{live} switched on", reverse("console:owned"))


def channels_card() -> Iterator[Card]:
    """Whether people are told; nothing where there are no channels."""
    lights = [health.light for health in channel_health().values()]
    if not lights:
        return
    failing, waiting = lights.count(FAILING), lights.count(WAITING)
    tone = "bad" if failing else "warn" if waiting else "good"
    detail = f"{failing} failing, {waiting} trying again" if failing or waiting else "every message came through"
    yield Card("Channels", str(len(lights)), detail, reverse("admin:approvals_channel_changelist"), tone)


def held_card(held: QuerySet[Review], now: datetime) -> Card:
    oldest = held.order_by("opened_at").first()
    count = held.count() if oldest else 0
    detail = f"the oldest was asked {_ago(oldest.opened_at, now)}" if oldest else "nobody waits for a decision"
    return Card("Held statements", str(count), detail, reverse("approvals:inbox"), "warn" if count else "good")


def sessions_card() -> Card:
    live = SessionRecord.objects.filter(closed_at__isnull=True).count()
    link = reverse("admin:audit_sessionrecord_changelist")
    return Card("Live sessions", str(live), "connected through the gateway now", f"{link}?closed_at__isnull=True")


def statements_card(now: datetime, recent: Recent) -> Card:
    denied = StatementRecord.objects.filter(at__gte=now - WINDOW, status=StatementRecord.Status.DENIED).count()
    link = reverse("admin:audit_statementrecord_changelist")
    return Card("Denied in 24 hours", str(denied), f"of {recent.counted}", f"{link}?status__exact=denied")


def accounting_card() -> Card:
    """Accounting of disclosures, 45 CFR 164.528."""
    return Card(
        "Who saw a patient?",
        "Ask by number",
        "who, when, which columns, clear or masked",
        reverse("admin:audit_subjects"),
    )


def activity_review_card(now: datetime) -> Iterator[Card]:
    """Weeks nobody has looked at, 45 CFR 164.308(a)(1)(ii)(D); nothing while there are none."""
    waiting = waiting_weeks(now=now)
    if waiting:
        detail = f"the oldest began on {waiting[0]:%Y-%m-%d}"
        link = f"{reverse('admin:audit_reports')}#activity-review"
        yield Card(
            "Weeks to review", str(len(waiting)), detail, link, "warn" if is_overdue(waiting[0], now=now) else ""
        )


def sign_in_card(now: datetime) -> Card:
    """Log-in monitoring, 45 CFR 164.308(a)(5)(ii)(C)."""
    failed = failures_since(now - WINDOW)
    link = reverse("admin:audit_logentry_changelist")
    return Card(
        "Failed sign-ins in 24 hours",
        str(failed),
        "people, agents and drivers",
        f"{link}?kind__exact=authentication.failed",
        "warn" if failed else "",
    )


def log_card(now: datetime) -> Card:
    """Whether the evidence holds: known damage first, then how fresh the signed head is."""
    damage = LogDamage.objects.filter(cleared_at__isnull=True).count()
    newest = Checkpoint.objects.only("size", "signed_at").first()
    link = reverse("admin:audit_checkpoint_changelist")
    if damage:
        return Card("Log", "Damaged", f"{damage} places are not as they were written", link, "bad")
    if newest is None:
        return Card("Log", "Not signed yet", "the first checkpoint follows within a minute", link, "warn")
    stale = now - newest.signed_at > STALE_CHECKPOINT
    detail = f"{newest.size} entries, signed {_ago(newest.signed_at, now)}, {_anchored(now)}"
    return Card("Log", "Signature overdue" if stale else "Intact", detail, link, "bad" if stale else "good")


def _anchored(now: datetime) -> str:
    """Who else holds a signed head: without one, a cut-off tail could not be proven (docs/anchors.md)."""
    proof = AnchorProof.objects.only("anchor", "at").first()
    return f"anchored by {proof.anchor} {_ago(proof.at, now)}" if proof else "not anchored outside"


def _ago(then: datetime, now: datetime) -> str:
    return "less than a minute ago" if now - then < timedelta(minutes=1) else f"{timesince(then, now)} ago"


def coverage_card(recent: Recent) -> Card:
    """Whether what agents read and looks protected has a mask (docs/hipaa.md, minimum necessary)."""
    coverage, inherited = coverage_since(recent.since), inherited_tags().count()
    link = reverse("console:coverage")
    waiting = (
        f"; {inherited} inherited a class and wait{'s' if inherited == 1 else ''} for a person" if inherited else ""
    )
    if not coverage.telling:
        detail = f"no column that looks protected {recent.said}{waiting}"
        return Card("Classification", "Nothing read", detail, link, "warn" if inherited else "")
    detail = f"columns that look protected and were read have a mask{waiting}"
    value = f"{coverage.covered} of {coverage.telling}"
    return Card("Classification", value, detail, link, "warn" if coverage.bare or inherited else "good")


def sinks_card() -> Iterator[Card]:
    """How far behind the receivers of the evidence are; nothing where there are none."""
    enabled = [lag for lag in lags() if lag.enabled]
    if not enabled:
        return
    failing, late = sum(lag.failing for lag in enabled), sum(map(_is_late, enabled))
    tone = "bad" if failing else "warn" if late else "good"
    behind = sum(lag.entries for lag in enabled)
    detail = f"{failing} failing, {behind} entries to go" if failing or late else f"{behind} entries on their way"
    yield Card("Sinks", str(len(enabled)), detail, reverse("admin:audit_sink_changelist"), tone)


def _is_late(lag: Lag) -> bool:
    return lag.seconds > LATE_SINK.total_seconds()


def health_card() -> Card:
    failing = failing_parts()
    if failing:
        return Card("Health", "Failing", ", ".join(failing), tone="bad")
    return Card("Health", "All well", "database, Redis, gateway, worker", tone="good")
