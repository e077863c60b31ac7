"""Who has which role: the people with one, and those with two that nobody is to have together."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from approvals.domain.role_conflicts import deciding_groups, role_holders
from hoopweb.console.pages import context_of

WHAT_ROLES_DO = (
    ("administrators", "change configuration and accounts"),
    ("policy-authors", "change policies and masking rules"),
    ("auditors", "read everything, change nothing"),
    ("agent-owners", "renew and end the agents they answer for"),
    ("reviewers", "decide on what policies hold"),
)


def role_holders_page(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("auth.view_user"):
        raise PermissionDenied
    holders = role_holders()
    ids = dict(User.objects.values_list("username", "pk"))
    context = context_of(request, title="Who has which role?") | {
        "holders": [(one, ids.get(one.username)) for one in holders],
        "conflicts": sum(bool(one.conflicts) for one in holders),
        "separate": settings.HOOPWEB_ROLE_CONFLICTS,
        "enforced": settings.HOOPWEB_ROLE_CONFLICTS_ENFORCED,
        "roles": WHAT_ROLES_DO,
        "deciding": sorted(deciding_groups()),
    }
    return TemplateResponse(request, "console/roles.html", context)
