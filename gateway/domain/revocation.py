"""Withdrawing everything an agent or a person holds. Live sessions end with it."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from gateway.domain.version import bump_version
from gateway.models import Agent, PersonStatus, RevokedToken


@transaction.atomic
def revoke_agent(*, agent: Agent) -> None:
    """Refuse every token issued to the agent before now."""
    Agent.objects.filter(pk=agent.pk).update(revoked_before=timezone.now())
    bump_version()


@transaction.atomic
def revoke_person(*, user: User) -> None:
    """Refuse every token issued to the person before now."""
    PersonStatus.objects.update_or_create(user=user, defaults={"revoked_before": timezone.now()})
    bump_version()


def forget_expired_revocations() -> int:
    """Delete revocations of tokens that have expired by themselves."""
    return RevokedToken.objects.filter(expires_at__lt=timezone.now() - timedelta(hours=1)).delete()[0]
