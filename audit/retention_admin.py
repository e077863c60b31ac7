"""How long evidence is kept, and legal holds, in the console. The site records every change of both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from audit.domain.holds import place_hold, release_hold
from audit.domain.purges import kept_since
from audit.domain.retention import days_of, what_is_due
from audit.models_retention import LegalHold, RetentionPolicy


class RetentionPolicyAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["record_class", "days", "purges_before", "purged_before"]
    list_display_links = ["record_class"]
    readonly_fields = ["record_class"]
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="tonight purges what is before")
    def purges_before(self, policy: RetentionPolicy) -> str:
        return f"{datetime.now(UTC) - timedelta(days=days_of(policy.record_class)):%Y-%m-%d}"

    @admin.display(description="purged before")
    def purged_before(self, policy: RetentionPolicy) -> str:
        since = kept_since(policy.record_class)
        return f"{since:%Y-%m-%d}" if since is not None else "nothing yet"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        dues = [due for due in what_is_due() if due.count or due.held]
        said = ", ".join(
            f"{due.count} {due.record_class}" + (f" ({due.held} held)" if due.held else "") for due in dues
        )
        messages.info(request, f"Due tonight: {said}." if said else "Nothing is past its retention.")
        page: HttpResponse = super().changelist_view(request, extra_context)
        return page


class LegalHoldAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "subject", "connection", "session", "since", "until", "placed_by", "released_at"]
    list_filter = ["released_at"]
    search_fields = ["name", "subject", "connection", "session"]
    fields = ["name", "reason", "subject", "connection", "session", "since", "until", "placed_by", "placed_at"]
    fields += ["released_by", "released_at"]
    actions = ["release"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """What a hold covers is not changed afterwards: release it and place another."""
        kept = ["placed_by", "placed_at", "released_by", "released_at"]
        return kept if obj is None else self.fields

    def save_model(self, request: HttpRequest, obj: LegalHold, form: Any, change: bool) -> None:
        if not change:
            place_hold(hold=obj, by=request.user.get_username())

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Release", permissions=["change"])
    def release(self, request: HttpRequest, queryset: QuerySet[LegalHold]) -> None:
        for hold in queryset.filter(released_at=None):
            release_hold(hold=hold, by=request.user.get_username())
