"""What can this agent see? Every table and column of a connection, as the pipeline would answer this agent now."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from approvals.domain.request import Principal
from gateway.api import dataplane
from gateway.api.reanalysis import described_principal
from gateway.domain.connections import agent_spec, usable_connections
from gateway.domain.tokens import issuer_url
from gateway.models import Agent
from hoopweb.console.pages import context_of, offset_of, readable_agent

NO_GATEWAY = "No gateway answers. Start one with rungateway, then look again."


def agent_sight(request: HttpRequest, name: str) -> HttpResponse:
    """The tables of one connection with what reading each is answered with, or one table column by column."""
    agent = readable_agent(request, name)
    spec = agent_spec(agent)
    usable = usable_connections(spec.groups)
    chosen = request.GET.get("connection") or next(iter(sorted(usable)), "")
    context = context_of(request, title=f"What {agent.name} can see") | {
        "agent": agent,
        "enabled": spec.enabled,
        "usable": [(known, sorted(map(str, operations))) for known, (_, operations) in sorted(usable.items())],
        "connection": chosen,
        "table_name": request.GET.get("table", ""),
    }
    if chosen in usable and spec.enabled:
        context |= _asked(request, _principal(agent), chosen)
    return TemplateResponse(request, "console/sight.html", context)


def _asked(request: HttpRequest, principal: Principal, connection: str) -> dict[str, Any]:
    """The data plane's answer, or the sentence that says why there is none."""
    body = {
        "connection": connection,
        "principal": described_principal(principal),
        "viewer": request.user.get_username(),
        "table": request.GET.get("table", ""),
        "offset": offset_of(request),
    }
    try:
        answer = async_to_sync(dataplane.describe)(body=body)
    except dataplane.DataPlaneRefused as refused:
        return {"problem": refused.reason}
    except dataplane.DataPlaneUnavailable:
        return {"problem": NO_GATEWAY}
    if body["table"]:
        return {"table": answer["tables"][0]}
    return {"tables": answer["tables"], "next_offset": answer["next_offset"]}


def _principal(agent: Agent) -> Principal:
    """The agent as a token of its own would present it at this moment."""
    return Principal(
        subject=agent.name,
        issuer=issuer_url(),
        groups=frozenset(agent.groups),
        kind="agent",
        owner=agent.owner.get_username(),
        auth_method="console",
    )
