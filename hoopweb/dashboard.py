"""The console's first page: what is happening now, what waits for a person, and whether the evidence holds.

A handful of bounded queries (tests/hoopweb/test_dashboard.py counts them); each card only for who may open its list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, cast

from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest
from django.utils import timezone

from approvals.domain.emergency import readable_emergencies
from approvals.domain.reviewers import readable_reviews
from approvals.models import Review
from hoopweb.cards import (
    Card,
    accounting_card,
    activity_review_card,
    channels_card,
    coverage_card,
    emergency_card,
    health_card,
    held_card,
    log_card,
    owned_card,
    sessions_card,
    sign_in_card,
    sinks_card,
    statements_card,
)
from hoopweb.recent import Recent, recent_statements
from hoopweb.touched import touched_since

MAX_HELD = 5


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK: add what templates/admin/index.html shows."""
    now = timezone.now()
    allowed: Callable[[str], bool] = request.user.has_perm
    # What is overdue is expired by the worker within seconds; until then it is not worth anybody's time.
    held = readable_reviews(cast(AbstractUser, request.user)).filter(status=Review.Status.PENDING, decide_by__gt=now)
    emergencies = readable_emergencies(cast(AbstractUser, request.user)).filter(reviewed_at=None)
    recent = recent_statements(now) if allowed("audit.view_statementrecord") else None
    context["cards"] = [held_card(held, now), *emergency_card(emergencies, now), *_cards(now, allowed, recent)]
    if not allowed("gateway.view_agent"):
        context["cards"] += owned_card(request.user)
    context["title"] = "Overview"
    context["live"] = allowed("audit.view_logentry")  # who may listen to ws/v1/events/; others look again now and then
    context["held"] = list(held.order_by("decide_by")[:MAX_HELD])
    context["touched"] = touched_since(recent.since) if recent is not None else None
    context["recent"] = recent
    return context


def _cards(now: datetime, allowed: Callable[[str], bool], recent: Recent | None) -> Iterator[Card]:
    if allowed("audit.view_sessionrecord"):
        yield sessions_card()
    if recent is not None:
        yield statements_card(now, recent)
    if allowed("audit.read_subjectsighting"):
        yield accounting_card()
    if allowed("audit.view_logentry") and recent is not None:
        yield from activity_review_card(now)
    if allowed("audit.view_logentry"):
        yield sign_in_card(now)
    if allowed("masking.view_maskingrule") and recent is not None:
        yield coverage_card(recent)
    if allowed("audit.view_checkpoint"):
        yield log_card(now)
    if allowed("audit.view_sink"):
        yield from sinks_card()
    if allowed("audit.view_checkpoint"):
        yield health_card()
    if allowed("approvals.view_channel"):
        yield from channels_card()
