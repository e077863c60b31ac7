"""The test run itself stands on real services."""

from __future__ import annotations

import os

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from tests.services import SUPERUSER_DSN


@pytest.mark.django_db
def test_services_give_django_a_real_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int")

        assert cursor.fetchone()[0] >= 140000


def test_services_give_a_redis_that_answers() -> None:
    with redis.Redis.from_url(settings.HOOPWEB_REDIS_URL) as client:
        assert client.ping() is True


def test_services_refuse_a_wrong_password(postgres_dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_dsn, password="wrong")


def test_processes_of_a_run_do_not_share_a_redis() -> None:
    """What a test wrote, a test of another process would find under the same name."""
    if SUPERUSER_DSN not in os.environ:
        pytest.skip("the developer brought services of their own")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")

    assert settings.HOOPWEB_REDIS_URL.endswith(f"/{1 + int(worker.removeprefix('gw'))}" if worker else "/0")
