"""Policies in the console: conditions written as in `apply`, said back in words, tried before they hold."""

from __future__ import annotations

from typing import Any

import yaml
from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextareaWidget

from approvals.domain.hooks import rules_changed
from approvals.domain.parse import PARTS, ConditionProblem, parse_condition
from approvals.domain.policies import FIELDS, delete_policy, save_policy
from approvals.domain.wording import condition_words
from approvals.models import Policy, PolicyVersion

MAX_CHARS = 100_000
_WRITTEN = {"rows": 8, "class": "font-mono", "spellcheck": "false", "autocapitalize": "off"}


class DocumentField(forms.CharField):
    """A piece of a configuration document, in YAML (and so in JSON): what `apply` takes and `export` gives."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_CHARS, required=False, **options)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, str) or value is None:
            return value
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True) if value else ""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        try:
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
                raise forms.ValidationError("holds an alias (*name), expected it written out")
            return yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f" (line {mark.line + 1})" if mark is not None else ""
            raise forms.ValidationError(f"is not YAML{place}") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool((self.to_python(data) or None) != (initial or None))
        except forms.ValidationError:
            return True


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]  # Django's is not subscriptable
    when = DocumentField(
        widget=UnfoldAdminTextareaWidget(attrs=_WRITTEN),
        help_text="conditions, one a line as in a configuration document; all must hold, empty means always. "
        "Combine with all, any (lists) and not. There are: " + ", ".join(PARTS),
    )
    reviewers = DocumentField(
        widget=UnfoldAdminTextareaWidget(attrs=_WRITTEN | {"rows": 4}),
        help_text="a list of group names, or of {group: …, quorum: …}",
    )

    class Meta:
        model = Policy
        fields = list(FIELDS)
        labels = {
            "decide_within_s": "Seconds to decide",
            "execute_within_s": "Seconds to run what was approved",
            "grant_for_s": "Seconds a wider approval lasts",
            "grace_s": "Seconds of grace",
            "escalate_before_s": "Seconds before the end",
            "grants": "Approvals may reach",
            "step_up_s": "Seconds since they proved who they are",
        }

    def clean_when(self) -> Any:
        return self.cleaned_data["when"] or {}

    def clean_reviewers(self) -> Any:
        return self.cleaned_data["reviewers"] or []


@admin.register(Policy)
class PolicyAdmin(ModelAdmin):  # type: ignore[misc]
    form = PolicyForm
    list_display = ["name", "action", "connections", "in_words", "asks", "enabled", "try_it"]
    list_filter = ["action", "enabled"]
    search_fields = ["name", "description"]
    readonly_fields = ["in_words", "version", "created_at", "updated_at"]
    list_display_links = ["name"]
    # One at a time: a bulk delete would bypass delete_model and leave the data planes with the old rules.
    actions = None
    fieldsets = [
        (None, {"fields": ["name", "description", "enabled", "version"]}),
        ("What it is about", {"fields": ["connections", "when", "in_words", "skip_groups", "action"]}),
        ("Who decides", {"fields": ["reviewers", "reviewers_needed", "quorum", "separation", "step_up_s"]}),
        ("How long, and who then", {"fields": [
            "decide_within_s", "execute_within_s", "escalate_to", "escalate_before_s",
        ]}),
        ("How far an approval reaches", {"fields": ["grants", "grant_for_s", "max_uses", "max_rows", "grace_s"]}),
    ]  # fmt: skip

    @admin.display(description="in words")
    def in_words(self, policy: Policy) -> str:
        try:
            return condition_words(parse_condition(policy.when))
        except ConditionProblem as problem:
            return f"cannot be read: {problem}"

    @admin.display(description="asks")
    def asks(self, policy: Policy) -> str:
        named = [
            group if isinstance(group, str) else str(dict(group).get("group", "")) for group in policy.reviewers or ()
        ]
        return (" or " if policy.reviewers_needed == Policy.Needed.ANY else ", ").join(named)

    @admin.display(description="version")
    def version(self, policy: Policy) -> str:
        latest = PolicyVersion.objects.filter(policy=policy.name).order_by("-number").defer("document").first()
        return f"{latest}, by {latest.author or 'nobody known'}" if latest is not None else "not kept yet"

    @admin.display(description="simulator")
    def try_it(self, policy: Policy) -> str:
        return format_html('<a href="{}?policy={}">Try a change</a>', reverse("approvals:simulator"), policy.name)

    def save_model(self, request: HttpRequest, obj: Policy, form: Any, change: bool) -> None:
        save_policy(policy=obj, author=request.user.get_username())
        rules_changed()

    def delete_model(self, request: HttpRequest, obj: Policy) -> None:
        delete_policy(policy=obj, author=request.user.get_username())
        rules_changed()
