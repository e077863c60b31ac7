"""When checkpoints are signed, and that the loop says so when they cannot be."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from django.db import connection

from audit.domain.anchor import anchored
from audit.domain.append import append_entries
from audit.domain.checkpoints import checkpoint_loop, sign_checkpoint, sign_when_due
from audit.domain.keys import log_signer
from audit.domain.note import open_checkpoint
from audit.models import Checkpoint
from tests.audit.factories import denied, opened


def test_checkpoint_is_due_after_a_thousand_entries(db):
    append_entries([opened()])
    assert sign_when_due().size == 1
    append_entries([denied(f"d{at}") for at in range(999)])
    assert sign_when_due() is None

    append_entries([denied("last")])

    assert sign_when_due().size == 1_001


def test_checkpoint_is_due_after_a_minute_of_nothing(db, monkeypatch):
    sign_checkpoint()
    assert sign_when_due() is None

    monkeypatch.setattr("audit.domain.checkpoints.EVERY_S", timedelta(0).total_seconds())

    assert sign_when_due().size == 0


def test_checkpoint_of_the_future_is_followed_by_another_all_the_same(db, monkeypatch):
    """The clock was a year ahead, and was set right."""
    in_a_year = time.time() + timedelta(days=365).total_seconds()
    with monkeypatch.context() as ahead:
        ahead.setattr("audit.domain.checkpoints.time.time", lambda: in_a_year)
        sign_checkpoint()
    assert sign_when_due() is None

    monkeypatch.setattr("audit.domain.checkpoints.EVERY_S", timedelta(0).total_seconds())

    assert sign_when_due().size == 0


def test_every_checkpoint_is_anchored_with_its_time(db):
    signed = [sign_checkpoint().note for _ in range(3)]

    notes = anchored(log_signer().name)

    assert notes == signed
    assert all(open_checkpoint(note, [log_signer().verifier]).time_s for note in notes)


@pytest.mark.django_db(transaction=True)
def test_loop_signs_at_start_and_reports_damage_without_signing(caplog):
    append_entries([opened()])
    asyncio.run(loop_for(3))
    assert Checkpoint.objects.get().size == 1

    append_entries([denied("d1")])
    with connection.cursor() as cursor:
        cursor.execute(
            "BEGIN; SET LOCAL session_replication_role = replica;"
            "UPDATE audit_logentry SET canonical = '{}' WHERE seq = 2; COMMIT"
        )
    asyncio.run(loop_for(3))

    assert Checkpoint.objects.count() == 1
    assert "checkpoint not signed: entry 2: edited" in caplog.text


async def loop_for(seconds: float) -> None:
    task = asyncio.create_task(checkpoint_loop())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
