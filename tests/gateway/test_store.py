from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from gateway.domain.threads import in_thread
from gateway.models import Connection, RevokedToken
from gateway.store import SnapshotStore, load_snapshot


@pytest.mark.django_db(transaction=True)
def test_phi_connections_that_scan_text_get_the_free_text_rule() -> None:
    for name, phi, scan_text in (("clinic", True, True), ("quiet", True, False), ("public", False, True)):
        Connection.objects.create(
            name=name, kind="postgres", host="127.0.0.1", port=5432, database="d", phi=phi, scan_text=scan_text
        )

    snapshot = load_snapshot()

    implicit = [rule for rule in snapshot.masking_rules if rule.covers_free_text]
    assert [rule.connections for rule in implicit] == [("clinic",)]
    assert [rule.name for rule in implicit] == ["free-text"]


@pytest.mark.django_db(transaction=True)
def test_token_that_was_revoked_stays_so_when_the_clock_that_was_ahead_is_set_right() -> None:
    """Rules that were read meanwhile took it for expired, and nothing would have had them read again."""
    RevokedToken.objects.create(jti="stolen", expires_at=timezone.now() - timedelta(minutes=30))

    assert load_snapshot().revoked_tokens == {"stolen"}


@pytest.mark.django_db(transaction=True)
async def test_rules_stay_fresh_while_every_shared_thread_is_kept() -> None:
    """A table of the reviews that somebody locks, and as many statements that are asked about: nobody else notices."""
    let_go = threading.Event()
    store = SnapshotStore(max_age_s=3600)
    kept = [asyncio.ensure_future(in_thread(let_go.wait)) for _ in range(100)]
    try:
        await asyncio.wait_for(store.refresh(), 60)
        waiting = sum(not task.done() for task in kept)
    finally:
        let_go.set()
        await asyncio.gather(*kept)
        await store.close()

    assert waiting == 100
