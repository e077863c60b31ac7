"""Pages for reviewers. Reading changes nothing; every decision is a POST with CSRF by somebody who is signed in."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import AbstractUser
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from approvals.domain.dossier import current_statement
from approvals.domain.grants import revoke_as, usable_grants
from approvals.domain.hooks import Reanalysis
from approvals.domain.links import find_link, review_of_own_link, spend_link
from approvals.domain.reach import Reach
from approvals.domain.record import record_view
from approvals.domain.refusal import Refusal
from approvals.domain.review import decide_review, reanalyse
from approvals.domain.reviewers import eligible_groups, groups_of, may_read, readable_reviews
from approvals.domain.step_up import SESSION_KEY, is_fresh, limit_of
from approvals.forms import PREVIEW, DecisionForm, InboxForm, line_feeds
from approvals.models import Review
from approvals.page import page, signed_in
from approvals.pages import Preview, grant_rows, inbox_rows, preview, review_page

PAGE_SIZE = 50
MAX_READ_KEPT = 100
_DONE = {
    "approved": "Approved. The statement may run now.",
    "denied": "Denied. The requester has been told.",
    "pending": "Recorded. Another reviewer has to decide as well.",
}
_LINK_OVER = "The link in your mail is used, expired or about an earlier text. This is the request as it stands now."


@page
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    user = signed_in(request)
    form = InboxForm(request.GET)
    form.is_valid()
    chosen = form.cleaned_data
    rows = readable_reviews(user).filter(status__in=form.statuses)
    if chosen.get("connection"):
        rows = rows.filter(connection=chosen["connection"])
    if chosen.get("requester"):
        rows = rows.filter(subject__icontains=chosen["requester"])
    if chosen.get("older_min"):
        rows = rows.filter(opened_at__lte=timezone.now() - timedelta(minutes=chosen["older_min"]))
    if chosen.get("risk"):
        rows = rows.filter(risk__gte=chosen["risk"])
    # The next to expire comes first while something can be done about it, the newest afterwards.
    ordered = rows.order_by("decide_by" if form.statuses == ["pending"] else "-opened_at")
    shown = Paginator(ordered.defer("sealed_binding", "sealed_modified"), PAGE_SIZE).get_page(request.GET.get("page"))
    asked = request.GET.copy()
    asked.pop("page", None)
    context = {
        "form": form,
        "query": asked.urlencode(),
        "chosen": chosen.get("status") or "open",
        "page": shown,
        "rows": inbox_rows(shown, user, groups_of(user)),
    }
    return render(request, "approvals/inbox.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def review(request: HttpRequest, review_id: UUID) -> HttpResponse:
    found = _readable(request, review_id)
    return _answer(request, found) if request.method == "POST" else _show(request, found)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, token: str) -> HttpResponse:
    """The address in a mail. GET shows the review and changes nothing, not even that it was opened.

    Whoever opens a link of theirs again is led to the request as it stands; a POST through it decides nothing.
    """
    user = signed_in(request)
    try:
        found = find_link(token=token, user=user).review
    except Refusal as refused:
        own = review_of_own_link(token=token, user=user)
        if own is not None and request.method != "POST":
            messages.info(request, _LINK_OVER)
            return redirect(own)
        context = {"reason": refused.reason, "review": own}
        return render(request, "approvals/link_spent.html", context, status=403)
    return _answer(request, found, token) if request.method == "POST" else _show(request, found)


@page
@require_safe
def grants(request: HttpRequest) -> HttpResponse:
    """Approvals that can still be used, those of the user's groups; the wide ones are why this page exists."""
    usable = usable_grants(signed_in(request)).order_by("expires_at").prefetch_related("uses")
    shown = Paginator(usable, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "approvals/grants.html", {"page": shown, "rows": grant_rows(shown)})


@page
@require_POST
def revoke(request: HttpRequest, grant_id: UUID) -> HttpResponse:
    """Take an approval back. Sessions that still run under it end."""
    user = signed_in(request)
    grant = usable_grants(user).filter(pk=grant_id).first()
    if grant is None:
        raise Http404
    try:
        revoke_as(grant=grant, user=user, authenticated_at=request.session.get(SESSION_KEY))
    except Refusal as refused:
        messages.error(request, refused.reason.capitalize() + ".")
    else:
        messages.success(request, "Revoked. Whatever still ran under it has been ended.")
    response = redirect("approvals:grants")
    response.status_code = 303
    return response


@page
@require_POST
def analysis(request: HttpRequest, review_id: UUID) -> HttpResponse:
    """The live answer to an edited text, as a fragment of the page. Stores nothing."""
    found = _readable(request, review_id)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return HttpResponse(status=400)
    _note_reading(request, found)  # the difference shows the asked text as well
    context = {"preview": _preview(request, found, form.cleaned_data["statement"]), "review": found}
    return render(request, "approvals/_preview.html", context)


def _answer(request: HttpRequest, found: Review, token: str = "") -> HttpResponse:
    form = DecisionForm(request.POST)
    if not form.is_valid():
        error = "the form was incomplete; look at the request and decide again"
        return _show(request, found, error=error, reason=request.POST.get("reason", ""), status=400)
    given = form.cleaned_data
    # What was typed and chosen stays where something is refused.
    kept = {name: given[name] for name in ("reason", "scope", "minutes")}
    if given["decision"] == PREVIEW:
        shown = _preview(request, found, given["statement"])
        return _show(request, found, preview=shown, **kept)
    if given["decision"] == "approve" and _edited(found, given["statement"]):
        error = "you changed the text, so which one do you approve? Analyse the change, or undo it"
        shown = _preview(request, found, given["statement"])
        return _show(request, found, error=error, preview=shown, status=400, **kept)
    try:
        at = request.session.get(SESSION_KEY)
        decided = _decide(found, signed_in(request), given, form.reach(), token=token, authenticated_at=at)
    except Refusal as refused:
        found.refresh_from_db()
        if _edited(found, given["statement"]):
            kept["preview"] = _preview(request, found, given["statement"])
        return _show(request, found, error=refused.reason, status=403, **kept)
    messages.success(request, _DONE.get(decided.status, ""))
    return _see_other(decided)


def _decide(
    found: Review,
    user: AbstractUser,
    given: dict[str, Any],
    reach: Reach,
    *,
    token: str,
    authenticated_at: float | None,
) -> Review:
    """Decide, and spend the link that led here with it: both or neither."""
    with transaction.atomic():
        decided = decide_review(
            review=found,
            reviewer=user,
            decision=given["decision"],
            reason=given["reason"],
            statement=given["statement"] if given["decision"] == "modify" else None,
            seen_round=given["round"],
            reach=reach,
            authenticated_at=authenticated_at,
        )
        if token:
            spend_link(token=token, user=user, review=decided)
    return decided


def _edited(found: Review, statement: str) -> bool:
    return bool(statement) and statement != line_feeds(current_statement(found))


def _preview(request: HttpRequest, found: Review, statement: str) -> Preview:
    outcome: Reanalysis | Refusal
    try:
        eligible_groups(found, signed_in(request))  # analysing a text asks the database about it: for reviewers only
        outcome = reanalyse(review=found, statement=statement)
    except Refusal as refused:
        outcome = refused
    return preview(found, statement, outcome)


def _note_reading(request: HttpRequest, found: Review) -> None:
    """Record that the text was read: once per sign-in and text, the page renews itself often."""
    read: list[list[Any]] = request.session.get("read_reviews", [])
    mark = [str(found.pk), found.round]
    if request.method != "HEAD" and mark not in read:
        record_view(found, viewer=signed_in(request).get_username(), through="page")
        request.session["read_reviews"] = [*read, mark][-MAX_READ_KEPT:]


def _show(request: HttpRequest, found: Review, *, status: int = 200, **more: Any) -> HttpResponse:
    _note_reading(request, found)
    needs = not is_fresh(request.session.get(SESSION_KEY), limit_of(found))
    context = {**review_page(found, signed_in(request)), "needs_step_up": needs, **more}
    return render(request, "approvals/review.html", context, status=status)


def _see_other(found: Review) -> HttpResponseRedirect:
    response = redirect(found.get_absolute_url())
    response.status_code = 303
    return response


def _readable(request: HttpRequest, review_id: UUID) -> Review:
    found = Review.objects.filter(pk=review_id).first()
    if found is None or not may_read(found, signed_in(request)):
        raise Http404
    return found
