"""What the person who answers for an agent may see and do: their own agents alone, and never more rights for them.

An owner renews what the agent proves itself with, and may end it, sooner or now. Groups, platforms that vouch for it,
switching on and living longer are an administrator's: each of them is somebody getting more than before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from gateway.domain.recorded import record_change, state_of
from gateway.domain.revocation import revoke_agent
from gateway.domain.roles import AGENT_OWNERS
from gateway.models import Agent


class NotNarrower(Exception):
    """The change would give the agent more than it has; the message says what was expected."""


def owned_agents(user: Any) -> QuerySet[Agent]:
    """The agents the person answers for, if they have the role of doing so."""
    if not user.is_active or not user.groups.filter(name=AGENT_OWNERS).exists():
        return Agent.objects.none()
    return Agent.objects.filter(owner=user)


def readable_agents(user: Any) -> QuerySet[Agent]:
    """All of them for who may read the configuration; else one's own."""
    return Agent.objects.all() if user.has_perm("gateway.view_agent") else owned_agents(user)


def may_renew(user: Any, agent: Agent) -> bool:
    """Whether the person may replace what the agent proves itself with, and end it."""
    return user.has_perm("gateway.change_agent") or owned_agents(user).filter(pk=agent.pk).exists()


@transaction.atomic
def describe_agent(*, agent: Agent, purpose: str, by: str) -> None:
    _save(agent, by, purpose=purpose)


@transaction.atomic
def switch_off_agent(*, agent: Agent, by: str) -> None:
    """Its tokens are refused and its sessions end within seconds; switching it on again is an administrator's."""
    _save(agent, by, enabled=False)


@transaction.atomic
def end_agent_at(*, agent: Agent, at: datetime, by: str) -> None:
    """Give the agent an end that is sooner than the one it has. Raises NotNarrower for any other."""
    # As it is now: somebody may have given it an end since the page was read.
    agent = Agent.objects.select_for_update().get(pk=agent.pk)
    if agent.expires_at is not None and at > agent.expires_at:
        raise NotNarrower(f"it ends on {agent.expires_at:%Y-%m-%d} already, expected no later day")
    if at <= timezone.now():
        raise NotNarrower("expected a moment to come; to end it now, switch it off")
    _save(agent, by, expires_at=at)


@transaction.atomic
def revoke_agents_tokens(*, agent: Agent, by: str) -> None:
    """Refuse every token issued to it until now, and record who did that."""
    before = state_of(agent)
    revoke_agent(agent=agent)
    agent.refresh_from_db()
    record_change(row=agent, before=before, after=state_of(agent), subject=by)


def _save(agent: Agent, by: str, **changes: Any) -> None:
    before = state_of(agent)
    for name, value in changes.items():
        setattr(agent, name, value)
    agent.full_clean()
    agent.save(update_fields=list(changes))
    record_change(row=agent, before=before, after=state_of(agent), subject=by)
