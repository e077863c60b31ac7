"""The simulator's page: a draft policy, a period, and what would have been decided otherwise."""

from __future__ import annotations

import yaml
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from approvals.domain.drafts import read_drafts, try_drafts
from approvals.domain.policies import policy_document
from approvals.domain.refusal import Refusal
from approvals.domain.simulate import Simulation
from approvals.forms import SimulatorForm
from approvals.models import Policy
from approvals.page import page, signed_in

EXAMPLE = """\
name: draft
connections: ["*"]
when: {touches_phi: true, rows_over: 50}
action: require_approval
reviewers: [privacy-officers]
"""


@page
@require_http_methods(["GET", "HEAD", "POST"])
def simulator(request: HttpRequest) -> HttpResponse:
    """GET fills in a policy (`?policy=name`) to change; POST tries what was typed, and changes nothing."""
    user = signed_in(request)
    if not user.has_perm("approvals.view_policy"):
        raise PermissionDenied
    names = list(Policy.objects.filter(enabled=True).values_list("name", flat=True))
    form = SimulatorForm(request.POST if request.method == "POST" else None, policies=names)
    result: Simulation | None = None
    error = ""
    if request.method == "POST" and form.is_valid():
        try:
            given = form.cleaned_data
            result = try_drafts(
                drafts=read_drafts(given["draft"]) if given["draft"].strip() else (),
                without=given["without"],
                days=given["days"],
                on_connection=given["connection"],
                by=user.get_username(),
            )
        except Refusal as refused:
            error = refused.reason
    context = {
        "form": form,
        "draft": request.POST.get("draft") or _written(request.GET.get("policy", "")),
        "policies": names,
        "without": request.POST.getlist("without"),
        "result": result,
        "error": error,
    }
    return render(request, "approvals/simulator.html", context, status=400 if error or form.errors else 200)


def _written(name: str) -> str:
    """A policy as a person would write it, defaults left out; an example when there is none of the name."""
    policy = Policy.objects.filter(name=name).first()
    if policy is None:
        return EXAMPLE
    plain = policy_document(Policy(name=policy.name, action=policy.action))
    document = {key: value for key, value in policy_document(policy).items() if key == "name" or value != plain[key]}
    return yaml.safe_dump({"name": policy.name, "action": policy.action, **document}, sort_keys=False, width=100)
