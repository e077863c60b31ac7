"""What every evidence page shares: nothing to add, change or delete, 403 before 404, the damage banner."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ShowFacets
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator

from audit.domain.damage import current_damage

PAGE_ROWS = 100


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Nothing here is added, changed or deleted by anybody: evidence is written by the log alone."""

    list_per_page = 50
    # Counting millions of rows for a page of fifty: neither all of them, nor those that are found, nor each choice.
    show_full_result_count = False
    paginator = InfinitePaginator
    show_facets = ShowFacets.NEVER
    actions = None
    list_disable_select_all = True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def found(model_admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The object, or 403 for who may not see it, or 404."""
    row = model_admin.get_object(request, object_id)
    if not model_admin.has_view_permission(request, row):
        raise PermissionDenied
    if row is None:
        raise Http404("no such record")
    return row


def require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


def offset_of(request: HttpRequest) -> int:
    raw = request.POST.get("offset", "0")
    return int(raw) if raw.isascii() and raw.isdecimal() and len(raw) < 12 else 0


def context_of(model_admin: ModelAdmin, request: HttpRequest, row: Model | None, *, title: str) -> dict[str, Any]:
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": f"{title} {row.pk}" if row is not None else title,
        "damage": current_damage()[:20],
    }
    return context if row is None else {**context, "original": row}
