"""The console's own pages, below `/admin/console/`: questions about decisions, and the guided set-up."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from hoopweb.console import connect
from hoopweb.console.coverage import coverage, dismiss
from hoopweb.console.owned import owned, owned_agent
from hoopweb.console.proof import agent_proof
from hoopweb.console.rights import rights
from hoopweb.console.roles import role_holders_page
from hoopweb.console.safe_harbor import safe_harbor
from hoopweb.console.sight import agent_sight
from hoopweb.console.why import why

app_name = "console"
view = admin.site.admin_view

urlpatterns = [
    path("why/", view(why), name="why"),
    path("coverage/", view(coverage), name="coverage"),
    path("coverage/<slug:name>/dismiss/", view(dismiss), name="coverage-dismiss"),
    path("safe-harbor/<slug:name>/", view(safe_harbor), name="safe-harbor"),
    path("rights/", view(rights), name="rights"),
    path("roles/", view(role_holders_page), name="roles"),
    path("agents/", view(owned), name="owned"),
    path("agents/<slug:name>/", view(owned_agent), name="owned-agent"),
    path("agents/<slug:name>/sees/", view(agent_sight), name="sight"),
    path("agents/<slug:name>/proof/", view(agent_proof), name="proof"),
    path("connect/", view(connect.start), name="connect"),
    path("connect/<slug:name>/change/", view(connect.change), name="connect-change"),
    path("connect/<slug:name>/test/", view(connect.test), name="connect-test"),
    path("connect/<slug:name>/classify/", view(connect.classify), name="connect-classify"),
    path("connect/<slug:name>/rules/", view(connect.rules), name="connect-rules"),
    path("connect/<slug:name>/agent/", view(connect.agent), name="connect-agent"),
    path("connect/<slug:name>/use/<slug:agent_name>/", view(connect.use), name="connect-use"),
]
