"""Pages of break-glass: taking it, ending it, looking at what was done, and saying what it was."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from approvals.domain import hooks
from approvals.domain.emergency import (
    break_glass,
    end_as,
    readable_emergencies,
    review_emergency,
    rosters_of,
)
from approvals.domain.refusal import Refusal
from approvals.domain.step_up import SESSION_KEY
from approvals.emergency_pages import emergency_page, emergency_rows, texts_under
from approvals.forms import EmergencyForm, FindingForm
from approvals.models import EmergencyAccess
from approvals.page import page, signed_in
from audit.domain.sealing import SealProblem

PAGE_SIZE = 50


@page
@require_http_methods(["GET", "HEAD", "POST"])
def emergencies(request: HttpRequest) -> HttpResponse:
    """Every emergency access the person may see; for members of a roster, the way to take one."""
    user = signed_in(request)
    rosters = list(rosters_of(user))
    form = EmergencyForm(request.POST or None, rosters=rosters, agents=hooks.agents_of(user.get_username()))
    if request.method == "POST" and form.is_valid():
        try:
            access = break_glass(person=user, authenticated_at=request.session.get(SESSION_KEY), **form.choice())
        except Refusal as refused:
            form.add_error(None, refused.reason)
        else:
            messages.warning(
                request, "The glass is broken and your reviewers have been told. Connect within the time below."
            )
            return _see_other(access)
    shown = Paginator(readable_emergencies(user), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"rows": emergency_rows(shown), "page": shown, "rosters": rosters, "form": form}
    return render(request, "approvals/emergencies.html", context, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def emergency(request: HttpRequest, access_id: UUID) -> HttpResponse:
    """One emergency access with every statement under it; its reviewers say here what it was."""
    access, user = _readable(request, access_id), signed_in(request)
    error = ""
    if request.method == "POST":
        form = FindingForm(request.POST)
        try:
            if not form.is_valid():
                raise Refusal("form", "choose a finding and say what you found")
            review_emergency(access=access, reviewer=user, **form.cleaned_data)
        except Refusal as refused:
            error = refused.reason
        else:
            messages.success(request, "Recorded. The finding stands beside the access for good.")
            return _see_other(access)
    typed = {name: request.POST.get(name, "") for name in ("finding", "notes")}
    context = emergency_page(access, user) | {"error": error, **typed}
    return render(request, "approvals/emergency.html", context, status=400 if error else 200)


@page
@require_POST
def texts(request: HttpRequest, access_id: UUID) -> HttpResponse:
    """The same page with what exactly was asked. POST: it is an act with a trace, not something a link can do."""
    access, user = _readable(request, access_id), signed_in(request)
    try:
        context = emergency_page(access, user, texts=texts_under(access, user))
    except (Refusal, SealProblem) as problem:
        words = problem.reason if isinstance(problem, Refusal) else f"the recorded text cannot be shown: {problem}"
        return render(request, "approvals/emergency.html", emergency_page(access, user) | {"error": words}, status=400)
    return render(request, "approvals/emergency.html", context)


@page
@require_POST
def end(request: HttpRequest, access_id: UUID) -> HttpResponse:
    """Return to normal now."""
    access = _readable(request, access_id)
    try:
        end_as(access=access, user=signed_in(request))
    except Refusal as refused:
        messages.error(request, refused.reason.capitalize() + ".")
    else:
        messages.success(request, "Ended. Whatever still ran under it has been ended too.")
    return _see_other(access)


def _see_other(access: EmergencyAccess) -> HttpResponseRedirect:
    response = redirect(access.get_absolute_url())
    response.status_code = 303
    return response


def _readable(request: HttpRequest, access_id: UUID) -> EmergencyAccess:
    found = readable_emergencies(signed_in(request)).filter(pk=access_id).first()
    if found is None:
        raise Http404
    return found
