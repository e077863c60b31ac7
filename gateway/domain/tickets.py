"""Tickets: short one-time passwords for drivers that cannot carry a token, bought over REST.

Redeeming is one conditional UPDATE, so of any number of racing clients exactly one wins. Only a hash is stored: 192
random bits need no slow one.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from approvals.domain.request import Principal
from audit.domain.append import append_entries
from audit.domain.entry import Entry, Json
from gateway.models import Ticket

TICKET_PREFIX = "hwt_"
DEFAULT_TTL_S = 60
MAX_TTL_S = 300


@dataclass(frozen=True, slots=True)
class BoughtTicket:
    secret: str
    ticket_id: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"BoughtTicket(ticket_id={self.ticket_id!r})"


def buy_ticket(*, principal: Principal, connection: str, ttl_s: int = DEFAULT_TTL_S) -> BoughtTicket:
    """A one-time password for `connection`, good until it is used, for `ttl_s`, or as long as the buyer's token."""
    secret = TICKET_PREFIX + secrets.token_urlsafe(24)
    expires_at = timezone.now() + timedelta(seconds=min(ttl_s, MAX_TTL_S))
    if principal.expires_at is not None:
        expires_at = min(expires_at, datetime.fromtimestamp(principal.expires_at, tz=expires_at.tzinfo))
    ticket = Ticket.objects.create(
        secret_hash=_hash(secret),
        subject=principal.subject,
        principal=principal_to_json(principal),
        connection=connection,
        expires_at=expires_at,
    )
    return BoughtTicket(secret=secret, ticket_id=str(ticket.pk), expires_at=expires_at)


def redeem_ticket(*, secret: str, user: str, connection: str) -> Principal | None:
    """Use the ticket up and return its buyer; None when it is unknown, used, expired or for something else."""
    now = timezone.now()
    found = Ticket.objects.filter(
        secret_hash=_hash(secret),
        subject=user,
        connection=connection,
        used_at=None,
        expires_at__gt=now,
        # One that would be good for longer than any is from before the clock was set back.
        expires_at__lte=now + timedelta(seconds=MAX_TTL_S),
    )
    ticket = found.first()
    if ticket is None:
        return None
    with transaction.atomic():  # no record, no use
        if found.filter(pk=ticket.pk).update(used_at=timezone.now()) != 1:
            return None
        append_entries([_redeemed(ticket)])
    return principal_from_json(ticket.principal, ticket_id=str(ticket.pk))


def _redeemed(ticket: Ticket) -> Entry:
    """Joins the ticket that was bought with the session that opens next: `session.opened` names the buyer's token."""
    body: dict[str, Json] = {"subject": ticket.subject, "connection": ticket.connection, "ticket": str(ticket.pk)}
    return Entry(kind="ticket.redeemed", body=body)


def forget_old_tickets() -> int:
    """Delete tickets a day past their expiry; the log keeps who used which."""
    return Ticket.objects.filter(expires_at__lt=timezone.now() - timedelta(days=1)).delete()[0]


def principal_to_json(principal: Principal) -> dict[str, Any]:
    return {
        **asdict(principal),
        "groups": sorted(principal.groups),
        "either_groups": sorted(principal.either_groups),
        "known_as": sorted(principal.known_as),
        "derived_from": sorted(principal.derived_from),
    }


def principal_from_json(stored: dict[str, Any], *, ticket_id: str) -> Principal:
    """The buyer. Its token's id stays beside the ticket's, so that revoking the token ends the session too."""
    kept = {
        **stored,
        "groups": frozenset(stored["groups"]),
        "either_groups": frozenset(stored.get("either_groups", ())),
        "known_as": frozenset(stored.get("known_as", ())),
        "derived_from": frozenset(stored.get("derived_from", ())),
    }
    return Principal(**{**kept, "auth_method": "ticket", "token_id": kept["token_id"] or f"ticket:{ticket_id}"})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
