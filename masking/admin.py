"""Masking in the console. Every change tells the data path through `rules_changed`, in the same transaction."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from masking.domain.hooks import rules_changed
from masking.models import ColumnTag, DataClass, MaskingRule


class RuleChangingAdmin(ModelAdmin):  # type: ignore[misc]
    """Django's admin runs each of these inside one transaction."""

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        rules_changed()

    def save_by_action(self, request: HttpRequest, obj: Model) -> None:
        """Save what an action changed; the site mixes in what records it."""
        obj.save()
        rules_changed()

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        super().delete_model(request, obj)
        rules_changed()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        rules_changed()


@admin.register(MaskingRule)
class MaskingRuleAdmin(RuleChangingAdmin):
    list_display = ["name", "priority", "technique", "inference", "connections", "columns", "exempt_groups"]
    list_filter = ["technique", "inference"]
    search_fields = ["name", "data_class"]


@admin.register(DataClass)
class DataClassAdmin(RuleChangingAdmin):
    list_display = ["name", "title", "source"]
    search_fields = ["name", "title"]


@admin.register(ColumnTag)
class ColumnTagAdmin(RuleChangingAdmin):
    list_display = ["connection", "column", "data_class", "source", "evidence"]
    list_filter = ["source", "data_class", "connection"]
    list_select_related = ["data_class"]
    search_fields = ["connection", "column"]
    actions = ["confirm", "dismiss"]

    @admin.action(description="Confirm: these columns hold this data class", permissions=["change"])
    def confirm(self, request: HttpRequest, queryset: QuerySet[ColumnTag]) -> None:
        self._become(request, queryset, ColumnTag.Source.CONFIRMED)

    @admin.action(description="Dismiss: these columns hold no such thing", permissions=["change"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[ColumnTag]) -> None:
        self._become(request, queryset, ColumnTag.Source.DISMISSED)

    def _become(self, request: HttpRequest, queryset: QuerySet[ColumnTag], source: ColumnTag.Source) -> None:
        with transaction.atomic():
            for tag in queryset:
                tag.source = source
                self.save_by_action(request, tag)
