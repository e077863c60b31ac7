"""Unused rights: what each agent may do, what of it it did lately, and what could be taken away, with the way there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from gateway.domain.agents import readable_agents
from gateway.domain.unused_rights import AgentRights, Tightening, unused_rights
from gateway.models import Agent
from hoopweb.console.pages import context_of

PERIODS = (30, 90, 180, 365)  # days
DEFAULT_DAYS = 90
_PLACES = {
    "agent": ("gateway.change_agent", "admin:gateway_agent_change", "Open the agent"),
    "rule": ("gateway.change_accessrule", "admin:gateway_accessrule_change", "Open the rule"),
    "mask": ("masking.change_maskingrule", "admin:masking_maskingrule_change", "Open the rule"),
}


def rights(request: HttpRequest) -> HttpResponse:
    """Every agent the person may see, those worth a look first; one of them with `?agent=`."""
    agents = readable_agents(request.user).select_related("owner").order_by("name")
    if not (request.user.has_perm("gateway.view_agent") or agents.exists()):
        raise PermissionDenied
    days = _days(request)
    chosen = request.GET.get("agent", "")
    found = unused_rights(_chosen(agents, chosen), since=timezone.now() - timedelta(days=days))
    context = context_of(request, title="Unused rights") | {
        "days": days,
        "periods": PERIODS,
        "agent": chosen,
        "flagged": sum(one.flagged for one in found),
        "found": [
            (one, [(said.says, *_way(request, said)) for said in one.tightenings])
            for one in sorted(found, key=_worth_a_look)
        ],
        "may_report": request.user.has_perm("audit.view_reportrun"),
    }
    return TemplateResponse(request, "console/rights.html", context)


def _chosen(agents: Any, name: str) -> list[Agent]:
    return list(agents.filter(name=name) if name else agents)


def _worth_a_look(one: AgentRights) -> tuple[bool, str]:
    return not one.flagged, one.agent.name


def _way(request: HttpRequest, said: Tightening) -> tuple[str, str]:
    """Where the person may change it, and what the button says; nothing for who may not."""
    permission, place, words = _PLACES[said.change]
    return (reverse(place, args=[said.pk]), words) if request.user.has_perm(permission) else ("", "")


def _days(request: HttpRequest) -> int:
    asked = request.GET.get("days", "")
    return int(asked) if asked.isdecimal() and int(asked) in PERIODS else DEFAULT_DAYS
