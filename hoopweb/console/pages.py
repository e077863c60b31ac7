"""What the console's own pages share: the admin site's frame, query parameters, and the agent a page is about."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from gateway.domain.agents import readable_agents
from gateway.models import Agent


def context_of(request: HttpRequest, *, title: str) -> dict[str, Any]:
    """The admin site's context (navigation, who is signed in) for a page with this title."""
    return {**admin.site.each_context(request), "title": title}


def readable_agent(request: HttpRequest, name: str) -> Agent:
    """The agent of this name, for who may read it. Raises PermissionDenied or Http404 (not there, or not theirs)."""
    agents = readable_agents(request.user)
    if not (request.user.has_perm("gateway.view_agent") or agents.exists()):
        raise PermissionDenied
    agent = agents.select_related("owner").filter(name=name).first()
    if agent is None:
        raise Http404("no such agent")
    return agent


def offset_of(request: HttpRequest) -> int:
    raw = request.GET.get("offset", "0")
    return int(raw) if raw.isascii() and raw.isdecimal() and len(raw) < 9 else 0
