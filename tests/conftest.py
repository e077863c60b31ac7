"""Fixtures everybody shares. Services come from tests/services.py, the running product from tests/stack.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from hoopweb.demo.generate import generate, load
from tests.services import SUPERUSER_DSN

SMALL_CLINIC = 300  # patients: enough for joins and small groups, loaded in a blink


@pytest.fixture(scope="session")
def postgres_dsn() -> str:
    """A superuser's URL of the run's PostgreSQL (the developer's own database when HOOPWEB_HOME names one)."""
    from django.conf import settings

    return os.environ.get(SUPERUSER_DSN) or str(settings.HOOPWEB_DATABASE_URL)


@pytest.fixture(scope="session")
def clinic_owner_dsn(postgres_dsn: str) -> Iterator[str]:
    """A scratch clinic of this process: the demo's schema and 300 synthetic patients, as its all-powerful owner."""
    database = f"clinic_{os.getpid()}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    dsn = make_conninfo(postgres_dsn, dbname=database)
    load(dsn, generate(patients=SMALL_CLINIC))
    yield dsn
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture(scope="session")
def clinic_dsn(clinic_owner_dsn: str) -> Iterator[str]:
    """The same clinic as the gateway sees it: a role that owns nothing, may read and write rows, and has pg_temp."""
    role, password = f"clinic_app_{os.getpid()}", "synthetic"
    with psycopg.connect(clinic_owner_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password))
        )
        connection.execute(
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(
                sql.Identifier(role)
            )
        )
    yield make_conninfo(clinic_owner_dsn, user=role, password=password)
    with psycopg.connect(clinic_owner_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))
