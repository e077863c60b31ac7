"""Messages on their way to channels: made once per event, tried with growing pauses, given up visibly.

A message is stored in the transaction of its cause where there is one; the worker that takes an attempt pushes the next
one into the future first (one conditional UPDATE), so a worker that dies costs a pause and two workers never send at
once. Receivers may see a message twice after a crash, always under the same id.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from approvals.domain.channels import channels_for
from approvals.domain.events import WHILE_PENDING, Event
from approvals.models import Channel, Delivery, Review

DELIVER_TASK = "approvals.deliver"
# Pauses after the first, second … failed attempt: about nine hours in all, then a person has to look.
PAUSES_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
_JITTER = 0.5
MAX_ATTEMPTS = len(PAUSES_S) + 1
# A worker has this long for one attempt before another may take it.
ATTEMPT_S = 60

State = Delivery.State


def tell(*, event: str, about: str, payload: dict[str, Any], connection: str, groups: Iterable[str]) -> int:
    """Make one message for every channel that asked for it; return how many are new. Calling again changes nothing."""
    made = [
        Delivery.objects.get_or_create(
            channel=channel, event=event, about=about, defaults={"payload": _with_event(event, payload)}
        )
        for channel in channels_for(event=event, connection=connection, groups=groups)
    ]
    fresh = [delivery for delivery, created in made if created]
    for delivery in fresh:
        _send_soon(delivery.pk)
    return len(fresh)


def tell_test(*, channel: Channel, by: str) -> Delivery:
    """A message that says only that it is one."""
    about = f"test:{timezone.now().isoformat(timespec='milliseconds')}"
    payload = _with_event(Event.CHANNEL_TEST, {"channel": channel.name, "asked_by": by})
    delivery = Delivery.objects.create(channel=channel, event=Event.CHANNEL_TEST, about=about, payload=payload)
    _send_soon(delivery.pk)
    return delivery


def take_attempt(delivery_id: UUID | str) -> Delivery | None:
    """Take the attempt that is due; None when it is not, when someone else has it, or when nobody needs it any more."""
    now = timezone.now()
    due = Delivery.objects.filter(_due(now), pk=delivery_id)
    if due.update(attempts=F("attempts") + 1, tried_at=now, next_at=now + timedelta(seconds=ATTEMPT_S)) != 1:
        return None
    delivery = Delivery.objects.select_related("channel").get(pk=delivery_id)
    if not delivery.channel.enabled or _is_moot(delivery):
        Delivery.objects.filter(pk=delivery.pk, state=State.PENDING).update(state=State.MOOT)
        return None
    return delivery


def note_delivered(*, delivery: Delivery, answer: int) -> None:
    taken = Delivery.objects.filter(pk=delivery.pk, state=State.PENDING)
    taken.update(state=State.DELIVERED, delivered_at=timezone.now(), answer=answer, problem="")


def note_failed(*, delivery: Delivery, problem: str, answer: int | None = None, for_good: bool = False) -> None:
    """Try again after a pause with jitter, or give up: `for_good`, or after MAX_ATTEMPTS."""
    dead = for_good or delivery.attempts >= MAX_ATTEMPTS
    pause_s = PAUSES_S[min(delivery.attempts, len(PAUSES_S)) - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret
    Delivery.objects.filter(pk=delivery.pk, state=State.PENDING).update(
        state=State.DEAD if dead else State.PENDING,
        next_at=timezone.now() + timedelta(seconds=pause_s),
        answer=answer,
        problem=problem[:200],
    )


def send_again(*, delivery: Delivery) -> bool:
    """Give a dead message a new set of attempts, now; False when it is not dead."""
    dead = Delivery.objects.filter(pk=delivery.pk, state=State.DEAD)
    if dead.update(state=State.PENDING, attempts=0, next_at=timezone.now(), problem="", answer=None) != 1:
        return False
    _send_soon(delivery.pk)
    return True


def due_deliveries(limit: int = 500) -> list[UUID]:
    """Messages whose next attempt is due, the oldest first; also those whose worker died or never heard of them."""
    due = Delivery.objects.filter(_due(timezone.now())).order_by("next_at")
    return list(due.values_list("pk", flat=True)[:limit])


def forget_old_deliveries(days: int = 30) -> int:
    """Delete what came through or was moot long ago; dead letters stay until a person deals with them."""
    old = Delivery.objects.filter(
        state__in=[State.DELIVERED, State.MOOT], created_at__lt=timezone.now() - timedelta(days=days)
    )
    return old.delete()[0]


def _due(now: datetime) -> Q:
    """What nobody tried yet, or whose pause is over. A pause longer than any is from before the clock was set back."""
    longest = timedelta(seconds=max(ATTEMPT_S, PAUSES_S[-1] * (1 + _JITTER)))
    return Q(state=State.PENDING) & (Q(next_at__lte=now) | Q(attempts=0) | Q(next_at__gt=now + longest))


def _is_moot(delivery: Delivery) -> bool:
    if delivery.event not in WHILE_PENDING:
        return False
    review_id = delivery.payload.get("review")
    open_now = Review.objects.filter(pk=review_id, status=Review.Status.PENDING, decide_by__gt=timezone.now())
    return not open_now.exists()


def _with_event(event: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"event": event, **payload}


def _send_soon(delivery_id: UUID) -> None:
    """Hurry the worker once the message is committed; the sweep finds it anyway."""

    def told() -> None:
        with contextlib.suppress(Exception):  # the broker is away: `due_deliveries` finds what nobody was told of
            current_app.send_task(DELIVER_TASK, args=[str(delivery_id)], retry=False)

    transaction.on_commit(told)
