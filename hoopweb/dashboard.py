"""The console's first page: what is happening now, what waits for a person, and whether the evidence holds.

A handful of bounded queries (tests/hoopweb/test_dashboard.py counts them); each card only for who may open its list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from django.contrib.auth.models import AbstractUser
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince

from approvals.domain.channels import FAILING, WAITING, channel_health
from approvals.domain.emergency import readable_emergencies
from approvals.domain.reviewers import readable_reviews
from approvals.models import EmergencyAccess, Review
from audit.models import Checkpoint, LogDamage, LogEntry, SessionRecord, StatementRecord
from hoopweb.health import failing_parts

WINDOW = timedelta(hours=24)
MAX_AGENTS, MAX_HELD = 20, 5
STALE_CHECKPOINT = timedelta(minutes=5)  # they are signed every minute, also when nothing happens

_TOUCHED = """
    SELECT subject, connection, count(*) AS statements,
           count(*) FILTER (WHERE status = 'denied') AS denied,
           coalesce(sum(rows), 0) AS rows,
           coalesce(sum((SELECT sum((mask ->> 'count')::bigint) FROM jsonb_array_elements(masked) mask)), 0) AS masked
      FROM audit_statementrecord
     WHERE at >= %s AND jsonb_array_length(classes) > 0
     GROUP BY subject, connection
     ORDER BY statements DESC, subject
     LIMIT %s
"""
_CLASSES = """
    SELECT DISTINCT subject, connection, jsonb_array_elements_text(classes)
      FROM audit_statementrecord
     WHERE at >= %s
     ORDER BY 3
"""


@dataclass(frozen=True, slots=True)
class Card:
    """`tone`: good, warn, bad, or nothing."""

    title: str
    value: str
    detail: str
    link: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Touched:
    """Protected data one principal reached through one connection within the window."""

    subject: str
    connection: str
    statements: int
    denied: int
    rows: int
    masked: int
    classes: tuple[str, ...]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK: add what templates/admin/index.html shows."""
    now = timezone.now()
    allowed: Callable[[str], bool] = request.user.has_perm
    # What is overdue is expired by the worker within seconds; until then it is not worth anybody's time.
    held = readable_reviews(cast(AbstractUser, request.user)).filter(status=Review.Status.PENDING, decide_by__gt=now)
    emergencies = readable_emergencies(cast(AbstractUser, request.user)).filter(reviewed_at=None)
    context["cards"] = [held_card(held, now), *emergency_card(emergencies, now), *_cards(now, allowed)]
    context["title"] = "Overview"
    context["held"] = list(held.order_by("decide_by")[:MAX_HELD])
    context["touched"] = touched_since(now - WINDOW) if allowed("audit.view_statementrecord") else None
    return context


def _cards(now: datetime, allowed: Callable[[str], bool]) -> Iterator[Card]:
    if allowed("audit.view_sessionrecord"):
        yield sessions_card()
    if allowed("audit.view_statementrecord"):
        yield statements_card(now)
    if allowed("audit.read_subjectsighting"):
        yield accounting_card()
    if allowed("audit.view_logentry"):
        yield sign_in_card(now)
    if allowed("audit.view_checkpoint"):
        yield log_card(now)
        yield health_card()
    if allowed("approvals.view_channel"):
        yield from channels_card()


def emergency_card(unreviewed: QuerySet[EmergencyAccess], now: datetime) -> Iterator[Card]:
    """Break-glass that somebody has to look at; nothing while the glass is whole."""
    accesses = list(unreviewed.only("ended_at", "ends_at", "review_by"))
    if not accesses:
        return
    in_force = sum(access.ended_at is None and now < access.ends_at for access in accesses)
    overdue = sum(now >= access.review_by for access in accesses)
    detail = f"{in_force} in force, {overdue} overdue for review"
    yield Card("Emergency access", str(len(accesses)), detail, reverse("approvals:emergencies"), "bad")


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


def statements_card(now: datetime) -> Card:
    recent = StatementRecord.objects.filter(at__gte=now - WINDOW)
    denied = recent.filter(status=StatementRecord.Status.DENIED).count()
    link = reverse("admin:audit_statementrecord_changelist")
    return Card("Denied in 24 hours", str(denied), f"of {recent.count()} statements", f"{link}?status__exact=denied")


def accounting_card() -> Card:
    """Accounting of disclosures, 45 CFR 164.528."""
    return Card(
        "Who saw a patient?",
        "Ask by number",
        "who, when, which columns, clear or masked",
        reverse("admin:audit_subjects"),
    )


def sign_in_card(now: datetime) -> Card:
    """Log-in monitoring, 45 CFR 164.308(a)(5)(ii)(C)."""
    failed = LogEntry.objects.filter(kind="authentication.failed", at__gte=now - WINDOW).count()
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
    detail = f"{newest.size} entries, signed {_ago(newest.signed_at, now)}"
    return Card("Log", "Signature overdue" if stale else "Intact", detail, link, "bad" if stale else "good")


def _ago(then: datetime, now: datetime) -> str:
    return "less than a minute ago" if now - then < timedelta(minutes=1) else f"{timesince(then, now)} ago"


def health_card() -> Card:
    failing = failing_parts()
    if failing:
        return Card("Health", "Failing", ", ".join(failing), tone="bad")
    return Card("Health", "All well", "database, Redis, gateway, worker", tone="good")


def touched_since(since: datetime) -> list[Touched]:
    with connection.cursor() as cursor:
        cursor.execute(_CLASSES, [since])
        classes: dict[tuple[str, str], list[str]] = {}
        for subject, name, data_class in cursor.fetchall():
            classes.setdefault((subject, name), []).append(data_class)
        cursor.execute(_TOUCHED, [since, MAX_AGENTS])
        return [
            Touched(subject, name, statements, denied, int(rows), int(masked), tuple(classes.get((subject, name), ())))
            for subject, name, statements, denied, rows, masked in cursor.fetchall()
        ]
