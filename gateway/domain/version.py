"""The version of the rules: raised with every change, told to every data plane once the change is committed."""

from __future__ import annotations

import logging

from django.db import transaction
from django.db.models import F

from approvals.domain.announce import tell_group
from gateway.models import ConfigVersion

logger = logging.getLogger(__name__)

SNAPSHOT_GROUP = "snapshot"


def current_version() -> int:
    """The committed version; 0 before the first change."""
    return ConfigVersion.objects.filter(pk=1).values_list("version", flat=True).first() or 0


def bump_version() -> int:
    """Raise the version inside the caller's transaction and announce it after commit. Returns the new version."""
    with transaction.atomic():
        ConfigVersion.objects.get_or_create(pk=1)
        ConfigVersion.objects.filter(pk=1).update(version=F("version") + 1)
        version = current_version()
        transaction.on_commit(lambda: announce_version(version))
    return version


def announce_version(version: int) -> None:
    """Tell the data planes to reload. Losing this message costs seconds, not safety: they also poll the version."""
    try:
        tell_group(SNAPSHOT_GROUP, {"type": "snapshot.changed", "version": version})
    except Exception as error:  # the change is committed; the data planes' own poll will see it
        logger.warning("snapshot change not announced: version=%s error=%s", version, type(error).__name__)
