"""Whether everyone behind a held request may still act: asked again before its grant is given or used."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.utils import timezone

from approvals.domain.request import Binding
from gateway.domain import tokens
from gateway.models import Agent, Issuer, PersonStatus


def requester_enabled(binding: Binding) -> bool:
    """False once the agent, its owner, the person or their issuer has been switched off since."""
    if binding.principal_actor is not None and not _agent_enabled(binding.principal_actor):
        return False
    if binding.principal_issuer != tokens.issuer_url():
        return Issuer.objects.filter(issuer=binding.principal_issuer, enabled=True).exists()
    if User.objects.filter(username=binding.principal_subject, is_active=True).exists():
        # An agent may carry a person's name; then both must be live.
        return _agent_enabled(binding.principal_subject) or not _agent_exists(binding.principal_subject)
    return _agent_enabled(binding.principal_subject)


def agents_of(username: str) -> list[str]:
    """The agents this person answers for, those that are switched on."""
    mine = Agent.objects.filter(enabled=True, owner__username=username, owner__is_active=True)
    return list(mine.values_list("name", flat=True))


def accounts_of(subject: str, issuer: str) -> list[str]:
    """The accounts an identity provider vouches for under this subject, however they are called here."""
    vouched = PersonStatus.objects.filter(oidc_subject=f"{issuer}|{subject}")
    return list(vouched.values_list("user__username", flat=True))


def purpose_of(subject: str, issuer: str) -> str:
    """What the agent is registered for. Of another issuer's subjects nothing is known, however they are called."""
    if issuer != tokens.issuer_url():
        return ""
    return Agent.objects.filter(name=subject).values_list("purpose", flat=True).first() or ""


def _agent_enabled(name: str) -> bool:
    agent = Agent.objects.filter(name=name, enabled=True, owner__is_active=True).first()
    return agent is not None and (agent.expires_at is None or agent.expires_at > timezone.now())


def _agent_exists(name: str) -> bool:
    return Agent.objects.filter(name=name).exists()
