"""The console's view of policies, reviews and grants. Decisions are taken on the review pages, never here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline

from approvals import channel_admin, policy_admin  # noqa: F401  register their pages
from approvals.domain.clock import AHEAD
from approvals.domain.grant import revoke_grant
from approvals.models import EmergencyRoster, Grant, GrantUse, PolicyVersion, Review, Vote


class ReadOnly:
    """Evidence of decisions: looked at, never typed into."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    """Every policy as it ever stood; what a decision's `name@version` refers to."""

    list_display = ["__str__", "author", "at", "enabled"]
    list_filter = ["policy"]
    search_fields = ["policy", "author"]
    date_hierarchy = "at"

    @admin.display(boolean=True)
    def enabled(self, version: PolicyVersion) -> bool:
        return bool(version.document and version.document["enabled"])


@admin.register(EmergencyRoster)
class EmergencyRosterAdmin(ModelAdmin):  # type: ignore[misc]
    """Who may break the glass, where, and who looks at it afterwards."""

    list_display = ["name", "connections", "members", "reviewers", "lasts_s", "lifts_masks", "enabled"]
    list_filter = ["enabled"]
    search_fields = ["name"]


class VoteInline(ReadOnly, TabularInline):  # type: ignore[misc]
    model = Vote
    fields = readonly_fields = ["reviewer", "groups", "decision", "round", "counts", "cast_at"]
    extra = 0


@admin.register(Review)
class ReviewAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ["opened_at", "status", "connection", "subject", "owner", "rule", "risk"]
    list_filter = ["status", "connection"]
    search_fields = ["id", "subject", "owner", "session_id", "rule"]
    inlines = [VoteInline]
    exclude = ["sealed_binding", "sealed_modified", "binding_digest"]
    readonly_fields = ["page"]

    @admin.display(description="review page")
    def page(self, review: Review) -> str:
        return format_html('<a href="{}">Open</a>', reverse("approvals:review", args=[review.pk]))


class GrantUseInline(ReadOnly, TabularInline):  # type: ignore[misc]
    model = GrantUse
    fields = readonly_fields = ["statement_id", "session_id", "state", "at", "ended_at", "rows"]
    extra = 0


@admin.register(Grant)
class GrantAdmin(ReadOnly, ModelAdmin):  # type: ignore[misc]
    list_display = ["created_at", "what", "state", "scope", "uses_left", "rows_used", "expires_at"]
    list_filter = ["revoked", "scope"]
    list_select_related = ["review"]
    inlines = [GrantUseInline]
    exclude = ["review", "digest", "modified_digest", "requester", "sealed_reach", "revoked"]
    readonly_fields = ["what", "state", "page"]
    actions = ["revoke"]

    @admin.display(description="for", ordering="review__connection")
    def what(self, grant: Grant) -> str:
        """Who may run what, where: the id of a review tells nobody anything."""
        return str(grant.review)

    @admin.display(description="state")
    def state(self, grant: Grant) -> str:
        if grant.revoked:
            return "revoked"
        if grant.uses_left == 0:
            return "used up"
        now = timezone.now()
        return "over" if grant.expires_at <= now or grant.created_at > now + AHEAD else "usable"

    @admin.display(description="review page")
    def page(self, grant: Grant) -> str:
        return format_html('<a href="{}">Open</a>', grant.review.get_absolute_url())

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Grant]) -> None:
        revoked = sum(revoke_grant(grant=grant, by=request.user.get_username()) for grant in queryset)
        self.message_user(request, f"{revoked} revoked", messages.SUCCESS)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("approvals.change_grant")
