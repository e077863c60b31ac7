"""The site's start-up: receivers, and the permissions of role groups after migrations."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class HoopwebConfig(AppConfig):
    name = "hoopweb"

    def ready(self) -> None:
        # Importing celery makes our application the current one, so that a task sent from any process finds the broker.
        from hoopweb import advice, auth, celery, checks  # noqa: F401, PLC0415  models exist from here on

        # Permissions are created app by app; audit is the last whose permissions the roles name.
        last = apps.get_app_config("audit")
        post_migrate.connect(auth.sync_role_permissions, sender=last, dispatch_uid="hoopweb.roles")
