from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from approvals.domain.request import Principal
from gateway.domain.tickets import buy_ticket, redeem_ticket
from gateway.models import Ticket

BUYER = Principal(
    subject="demo",
    issuer="http://i",
    groups=frozenset({"ai-agents"}),
    token_id="t1",
    expires_at=2e9,
    derived_from=frozenset({"t0"}),
)


def redeem(secret: str, *, user: str = "demo", connection: str = "clinic") -> Principal | None:
    return redeem_ticket(secret=secret, user=user, connection=connection)


def test_ticket_is_good_once(db: None) -> None:
    secret = buy_ticket(principal=BUYER, connection="clinic").secret

    principal = redeem(secret)

    assert principal is not None
    assert (principal.subject, principal.groups, principal.auth_method) == ("demo", BUYER.groups, "ticket")
    assert (principal.token_id, principal.expires_at, principal.derived_from) == ("t1", 2e9, {"t0"})
    assert redeem(secret) is None


def test_ticket_is_for_its_buyer_and_connection_only(db: None) -> None:
    secret = buy_ticket(principal=BUYER, connection="clinic").secret

    assert redeem(secret, user="other") is None
    assert redeem(secret, connection="warehouse") is None
    assert redeem(secret + "x") is None
    assert redeem(secret) is not None


def test_expired_ticket_is_refused(db: None) -> None:
    secret = buy_ticket(principal=BUYER, connection="clinic").secret
    Ticket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert redeem(secret) is None


def test_secret_is_not_stored(db: None) -> None:
    secret = buy_ticket(principal=BUYER, connection="clinic").secret

    assert secret not in str(Ticket.objects.values().get())


@pytest.mark.django_db(transaction=True)
def test_racing_clients_redeem_a_ticket_once() -> None:
    secret = buy_ticket(principal=BUYER, connection="clinic").secret
    start = threading.Barrier(8)
    won: list[Principal] = []

    def race() -> None:
        start.wait()
        principal = redeem(secret)
        if principal is not None:
            won.append(principal)
        connections.close_all()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1


def test_ticket_of_a_clock_that_was_ahead_is_refused(db: None) -> None:
    secret = buy_ticket(principal=BUYER, connection="clinic", ttl_s=300).secret
    bought_in_a_year = timezone.now() + timedelta(days=365, seconds=300)
    Ticket.objects.update(expires_at=bought_in_a_year)

    assert redeem(secret) is None
    Ticket.objects.update(expires_at=timezone.now() + timedelta(seconds=299))
    assert redeem(secret) is not None
