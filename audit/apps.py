from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Evidence"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        connection_created.connect(read_committed, dispatch_uid="audit.read_committed")


def read_committed(connection: Any, **_: object) -> None:
    """Whatever the server's default is: who has waited for a lock has to see what was committed meanwhile.

    Entries, votes and grants are decided behind locks. With an older view each of them would see the world before the
    one it waited for, and be refused.
    """
    connection.connection.execute("SET default_transaction_isolation = 'read committed'")
