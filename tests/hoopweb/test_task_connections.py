"""A worker keeps its connection to the control database from task to task, and loses it to nobody's transaction."""

from __future__ import annotations

import time
from types import SimpleNamespace

import psycopg
import pytest
from django.db import connection

from hoopweb.task_connections import end_what_is_over
from tests.stack import Stack

TASKS = 40
SEND = f"""
from uuid import uuid4
from approvals.tasks import notify_outcome
for _ in range({TASKS}):
    notify_outcome.delay(str(uuid4()))
"""
WAITING = """
from django.conf import settings
from redis import Redis
redis = Redis.from_url(settings.HOOPWEB_REDIS_URL)
print(redis.llen(settings.CELERY_TASK_DEFAULT_QUEUE) + redis.hlen("unacked"))
"""


def sessions_begun(stack: Stack) -> int:
    """How often anybody has connected to the control database (counted once a session has said what it did)."""
    with psycopg.connect(stack.superuser_dsn("postgres"), autocommit=True) as owner:
        row = owner.execute("SELECT sessions FROM pg_stat_database WHERE datname = 'hoopweb'").fetchone()
    assert row is not None
    return int(row[0])


def until_all_are_done(stack: Stack, *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while int(stack.manage("shell", "-v", "0", "-c", WAITING).stdout):
        assert time.monotonic() < deadline, f"tasks still wait after {within_s:.0f} s"
        time.sleep(0.2)


def test_tasks_share_a_connection(stack: Stack) -> None:
    until_all_are_done(stack)
    before = sessions_begun(stack)

    sent = stack.manage("shell", "-v", "0", "-c", SEND)
    assert sent.returncode == 0, sent.stderr
    until_all_are_done(stack)
    time.sleep(1.5)  # PostgreSQL counts a session at most a second late

    # The rest of the product connects meanwhile, too, but not once a task.
    assert sessions_begun(stack) - before < TASKS // 2


@pytest.mark.django_db(transaction=True)
def test_old_connection_ends_between_tasks_and_not_within_one_run_in_place() -> None:
    connection.ensure_connection()
    connection.close_at = time.monotonic() - 1

    end_what_is_over(SimpleNamespace(request=SimpleNamespace(is_eager=True)))
    assert connection.connection is not None

    end_what_is_over(SimpleNamespace(request=SimpleNamespace(is_eager=False)))
    assert connection.connection is None
