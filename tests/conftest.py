"""Fixtures everybody shares. Services come from tests/services.py."""

from __future__ import annotations

import os

import pytest

from tests.services import SUPERUSER_DSN


@pytest.fixture(scope="session")
def postgres_dsn() -> str:
    """A superuser's URL of the run's PostgreSQL (the developer's own database when HOOPWEB_HOME names one)."""
    from django.conf import settings

    return os.environ.get(SUPERUSER_DSN) or str(settings.HOOPWEB_DATABASE_URL)
