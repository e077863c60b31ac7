"""An agent in the hands of the person who answers for it: renew its proof, say what it is for, end it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from gateway.domain.agents import (
    NotNarrower,
    describe_agent,
    end_agent_at,
    may_renew,
    owned_agents,
    revoke_agents_tokens,
    switch_off_agent,
)
from gateway.domain.clients import is_live, live_secrets
from gateway.domain.roles import AGENT_OWNERS
from gateway.models import Agent
from hoopweb.console.pages import context_of


class PurposeForm(forms.Form):
    purpose = forms.CharField(max_length=500, required=False, help_text="reviewers read it beside what the agent asks")


class EndForm(forms.Form):
    ends_on = forms.DateField(
        label="Ends with the day",
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="sooner than now set; later is for an administrator",
    )

    @property
    def moment(self) -> datetime:
        day: date = self.cleaned_data["ends_on"]
        return datetime.combine(day, time.max, tzinfo=UTC)


def owned(request: HttpRequest) -> HttpResponse:
    """The list of one's own agents."""
    _must_be_owner(request)
    agents = list(owned_agents(request.user).order_by("name"))
    context = context_of(request, title="My agents") | {"agents": [(agent, is_live(agent)) for agent in agents]}
    return TemplateResponse(request, "console/owned.html", context)


def owned_agent(request: HttpRequest, name: str) -> HttpResponse:
    """One of them, with what may be done."""
    _must_be_owner(request)
    agent = owned_agents(request.user).select_related("owner").filter(name=name).first()
    if agent is None:
        raise Http404("no such agent")
    if request.method == "POST":
        action = ACTIONS.get(request.POST.get("do", ""))
        if action is None or not may_renew(request.user, agent):
            raise PermissionDenied
        return action(request, agent)
    return _page(request, agent, {})


def _must_be_owner(request: HttpRequest) -> None:
    if not request.user.groups.filter(name=AGENT_OWNERS).exists():
        raise PermissionDenied


def _page(request: HttpRequest, agent: Agent, more: dict[str, Any]) -> HttpResponse:
    context = context_of(request, title=f"Agent {agent.name}") | {
        "agent": agent,
        "live": is_live(agent),
        "secrets": list(live_secrets(agent)),
        "purpose_form": PurposeForm(initial={"purpose": agent.purpose}),
        "end_form": EndForm(),
    }
    return TemplateResponse(request, "console/owned_agent.html", context | more)


def _purpose(request: HttpRequest, agent: Agent) -> HttpResponse:
    form = PurposeForm(request.POST)
    if not form.is_valid():
        return _page(request, agent, {"purpose_form": form})
    return _done(
        request, agent, "The purpose is saved.", lambda by: describe_agent(agent=agent, by=by, **form.cleaned_data)
    )


def _end(request: HttpRequest, agent: Agent) -> HttpResponse:
    form = EndForm(request.POST)
    if not form.is_valid():
        return _page(request, agent, {"end_form": form})
    return _done(
        request, agent, "The agent has an end now.", lambda by: end_agent_at(agent=agent, at=form.moment, by=by)
    )


def _revoke(request: HttpRequest, agent: Agent) -> HttpResponse:
    said = "Its tokens are revoked; its sessions end within seconds."
    return _done(request, agent, said, lambda by: revoke_agents_tokens(agent=agent, by=by))


def _switch_off(request: HttpRequest, agent: Agent) -> HttpResponse:
    said = "The agent is switched off; its sessions end within seconds."
    return _done(request, agent, said, lambda by: switch_off_agent(agent=agent, by=by))


def _done(request: HttpRequest, agent: Agent, said: str, work: Callable[[str], None]) -> HttpResponse:
    try:
        work(request.user.get_username())
    except NotNarrower as refused:
        messages.error(request, f"{str(refused)[0].upper()}{str(refused)[1:]}.")
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, said)
    return redirect("console:owned-agent", name=agent.name)


ACTIONS: dict[str, Callable[[HttpRequest, Agent], HttpResponse]] = {
    "purpose": _purpose,
    "end": _end,
    "revoke": _revoke,
    "switch-off": _switch_off,
}
