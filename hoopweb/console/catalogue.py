"""Which tables and columns a connection has, as the data plane sees them: the control plane holds no credential."""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest

from gateway.api import dataplane
from gateway.api.authentication import person_principal
from gateway.api.reanalysis import described_principal
from gateway.domain.version import current_version

KNOWN_WITHIN_S = 5.0  # the data plane looks for new configuration every second
_NOT_YET = frozenset({"no-connection", "not-yet-told"})


def column_names(request: HttpRequest, name: str) -> list[str]:
    """`schema.table.column` of every column, in the database's order."""
    tables = tables_of(request, name)
    return [f"{table['schema']}.{table['name']}.{column}" for table in tables for column in table["column_names"]]


def tables_of(request: HttpRequest, name: str, *, test: bool = False) -> list[dict[str, Any]]:
    """Names of tables and columns. Waits until the data plane has heard of the connection as it is now.

    Raises DataPlaneRefused and DataPlaneUnavailable.
    """
    body = {
        "connection": name,
        "principal": described_principal(person_principal(request.user)),
        "viewer": request.user.get_username(),
        "names_only": True,
        "test": test,
        "version": current_version(),
    }
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while True:
        try:
            return list(async_to_sync(dataplane.describe)(body=body)["tables"])
        except dataplane.DataPlaneRefused as refused:
            if refused.code not in _NOT_YET or time.monotonic() > deadline:
                raise
        time.sleep(0.2)
