"""Channels: their secrets, which of them hear of what, and whether they work.

Secrets (a webhook's signing key, Slack's address and signing secret) are sealed under the evidence keys and bound to
the channel's name, so that a row copied onto another name opens nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from django.db.models import Count, Max, Q

from approvals.models import Channel, Delivery
from audit.domain.sealing import seal, unseal

URL, SECRET = "url", "secret"
GOOD, WAITING, FAILING, UNUSED, OFF = "good", "waiting", "failing", "unused", "off"


@dataclass(frozen=True, slots=True)
class Health:
    """A channel's light: good, waiting (trying again, or dead letters lie there), failing, unused, off."""

    light: str
    dead: int
    retrying: int
    last_delivered: datetime | None
    problem: str = ""


def channel_secrets(channel: Channel) -> dict[str, str]:
    """The opened secrets; empty when there are none. Raises SealProblem when altered or moved."""
    if not channel.sealed:
        return {}
    opened: dict[str, str] = json.loads(unseal(bytes(channel.sealed), context=_context(channel.name)))
    return opened


def set_channel_secrets(*, channel: Channel, values: Mapping[str, str]) -> tuple[str, ...]:
    """Keep the given secrets beside those that are there; return the names of those that are new, unsaved so far."""
    before = channel_secrets(channel)
    replaced = tuple(name for name, value in values.items() if before.get(name) != value)
    if replaced:
        document = json.dumps({**before, **values}, sort_keys=True)
        channel.sealed = seal(document.encode(), context=_context(channel.name))
    return replaced


def channel_url(channel: Channel) -> str:
    """Where the channel's messages go; empty when nobody said."""
    return channel.url or channel_secrets(channel).get(URL, "")


def channels_for(*, event: str, connection: str, groups: Iterable[str]) -> Iterator[Channel]:
    """The enabled channels that asked for the event, on this connection, about these deciders."""
    mine = frozenset(groups)
    for channel in Channel.objects.filter(enabled=True, events__contains=[event]):
        here = any(fnmatchcase(connection, glob) for glob in channel.connections)
        if here and (not channel.groups or mine & frozenset(channel.groups)):
            yield channel


def channel_health() -> dict[int, Health]:
    """The light of every channel, by primary key, in two queries."""
    State = Delivery.State
    counted = Channel.objects.annotate(
        dead=Count("deliveries", filter=Q(deliveries__state=State.DEAD)),
        retrying=Count("deliveries", filter=Q(deliveries__state=State.PENDING, deliveries__attempts__gt=0)),
        last_delivered=Max("deliveries__delivered_at"),
        last_failed=Max("deliveries__tried_at", filter=Q(deliveries__problem__gt="")),
    )
    problems = dict(
        Delivery.objects.exclude(problem="")
        .exclude(state=State.DELIVERED)
        .order_by("channel", "-tried_at")
        .distinct("channel")
        .values_list("channel", "problem")
    )
    return {
        row.pk: Health(_light(row), row.dead, row.retrying, row.last_delivered, problems.get(row.pk, ""))
        for row in counted
    }


def _light(row: Channel) -> str:
    known = vars(row)
    delivered, failed = known["last_delivered"], known["last_failed"]
    if not row.enabled:
        return OFF
    if failed is not None and (delivered is None or failed > delivered):
        return FAILING if known["dead"] or delivered is None else WAITING
    if known["dead"] or known["retrying"]:
        return WAITING
    return GOOD if delivered is not None else UNUSED


def _context(name: str) -> str:
    return f"channel:{name}"
