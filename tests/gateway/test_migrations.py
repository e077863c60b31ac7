"""Migrations that carry data: what an installation had before the upgrade, it has after it, and after going back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE = [("gateway", "0005_connection_subjects")]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def newest() -> Iterator[list[tuple[str, str]]]:
    """The newest migrations of the app, which the database has again afterwards."""
    leaves = [node for node in MigrationExecutor(connection).loader.graph.leaf_nodes() if node[0] == "gateway"]
    yield leaves
    migrate(leaves)


def migrate(to: list[tuple[str, str]]) -> Any:
    """Bring the app there; return its models as they were then."""
    executor = MigrationExecutor(connection)
    executor.migrate(to)
    return MigrationExecutor(connection).loader.project_state(to).apps


def test_clients_keep_their_secrets_both_ways(newest: list[tuple[str, str]]) -> None:
    old = migrate(BEFORE)
    agents, owner = old.get_model("gateway", "Agent").objects, User.objects.create_user("owner")
    agents.create(name="kept", client_id="kept", owner_id=owner.pk, client_secret_hash=make_password("synthetic"))
    agents.create(name="none", client_id="none", owner_id=owner.pk, client_secret_hash="")

    migrate(newest)
    secrets = list(apps.get_model("gateway", "ClientSecret").objects.values_list("agent__name", "digest", "expires_at"))
    back = migrate(BEFORE)

    assert [(name, check_password("synthetic", digest), until) for name, digest, until in secrets] == [
        ("kept", True, None)
    ]
    hashes = dict(back.get_model("gateway", "Agent").objects.values_list("name", "client_secret_hash"))
    assert check_password("synthetic", hashes["kept"])
    assert hashes["none"] == ""
